"""The models of one data directory: the bundled ones, and those imported from Hugging Face directories.

``import_directory`` checks a directory, copies it to a hidden staging folder, checks the copy, and renames it into
place. The rename is the registration: before it nothing is listed, after it everything is on the disk. A staging
folder whose importer has died is swept by the next ``ModelRegistry``.

An imported model may have an owner: an opaque text that the registry keeps and hands back, and that others decide by
who may see it. Its weights may be sealed by ``SealedFiles``: then no plain copy of them is ever in ``root``, and they
are read into memory instead of mapped. Everything else of a sealed model (configuration, tokenizer, template, card) is
plain.

Layout of ``root``: one folder for each imported model (its id with ``+`` for ``:``) with the files of the original
and ``outcrop.json``; ``aliases.json``; ``.staging-*`` and ``.removed-*`` folders in passing; ``.lock``.

Not covered: somebody with write access to ``root`` can replace models at will, and change their owners. Model ids are
one name space for all owners.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from outcrop.base.blobs import SealedFiles
from outcrop.base.errors import AlreadyExists, ModelRefused, NotFound, TemplateRefused, UserError
from outcrop.base.files import sync_directory, write_atomic
from outcrop.models.chat import ChatTemplate
from outcrop.models.checkpoint import weight_files
from outcrop.models.config import DecoderConfig
from outcrop.models.files import read_json_object
from outcrop.models.importing import Progress, Sealed, check_model, copy_model, describe, no_progress, source_files
from outcrop.models.names import check_alias, check_model_id, default_model_id, model_name
from outcrop.models.sourced import Opener
from outcrop.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from outcrop.models.decoder import Decoder

BUNDLED = Path(__file__).with_name("bundled")
RECORD_FILE = "outcrop.json"
ALIASES_FILE = "aliases.json"

_STAGING, _REMOVED = ".staging-", ".removed-"
_FREE_BYTES_KEPT = 64 * 2**20
_STAMP_SETTLES_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One model as it is listed."""

    model_id: str
    name: str
    provider: str
    architecture: str
    parameters: int
    max_positions: int
    dtype: str
    """Of the stored weights: ``float32``, ``bfloat16`` or ``float16``."""
    source: Literal["bundled", "imported"]
    directory: Path
    size_bytes: int
    license: str
    owner: str | None = None
    """Whose it is; none for a model that is for everybody."""
    resource_id: str | None = None
    """Twelve characters that name this import of an owned model, and no other."""
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model in memory. ``template`` is ``None`` for a model that knows no conversations."""

    info: ModelInfo
    config: DecoderConfig
    decoder: Decoder
    tokenizer: Tokenizer
    template: ChatTemplate | None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What ``root`` held at one moment."""

    stamp: int
    imported: dict[str, ModelInfo]
    aliases: dict[str, str]


class ModelRegistry:
    """Names to models. Several processes may use one ``root`` at the same time.

    ``root`` is the models folder of the data directory; it is made where it is missing. Looking a name up costs one
    ``stat`` while nothing changes. ``sealed_files`` is needed to seal models and to load sealed ones.
    """

    def __init__(self, root: Path, bundled: Path = BUNDLED, *, sealed_files: SealedFiles | None = None) -> None:
        self._root = root
        self._sealed_files = sealed_files
        infos = [_read_info(record.parent, "bundled") for record in sorted(bundled.glob(f"*/{RECORD_FILE}"))]
        self._bundled = {info.model_id: info for info in infos}
        self._cached: _Snapshot | None = None
        root.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def import_directory(
        self,
        source: Path,
        model_id: str | None = None,
        *,
        owner: str | None = None,
        seal: bool = False,
        progress: Progress = no_progress,
    ) -> ModelInfo:
        """Take in the Hugging Face directory ``source`` as ``model_id`` (by default ``local.<its name>-v1:0``).

        Raises ``ModelRefused`` or ``TemplateRefused`` naming the file that will not do, ``AlreadyExists`` for a name
        that is taken. After any error nothing is registered and nothing stays behind. ``seal`` is for models with an
        ``owner``.
        """
        if seal and (owner is None or self._sealed_files is None):
            raise UserError("Only a model with an owner can be sealed, and only where there are keys.")
        model_id = default_model_id(source) if model_id is None else check_model_id(model_id)
        self._refuse_taken(model_id)
        files = source_files(source)
        check_model(source, scan=False)
        self._refuse_full(sum(file.stat().st_size for file in files.values()))
        with self._staging() as staging:
            owned = {} if owner is None else {"owner": owner, "resource_id": uuid.uuid4().hex[:12], "sealed": seal}
            labels = _labels(model_id, owned)
            copy_model(files, staging, progress, self._sealed(labels) if seal else None)
            try:
                opener = self._opener(labels) if seal else None
                facts = check_model(staging, scan=True, progress=progress, opener=opener)
            except (ModelRefused, TemplateRefused) as error:
                what = error.what.replace(str(staging), str(source))  # name the file that the caller knows
                raise type(error)(what, error.remedy) from error
            names = {"model_id": model_id, "name": model_name(source), "provider": model_id.partition(".")[0]}
            write_atomic(staging / RECORD_FILE, _json(names | facts | owned))
            progress("register", 0, 1)
            self._register(staging, model_id)
        progress("register", 1, 1)
        return self.get(model_id)

    def list(self) -> list[ModelInfo]:
        """Every model, the bundled ones first, each group by id."""
        imported = self._snapshot().imported
        return [self._bundled[i] for i in sorted(self._bundled)] + [imported[i] for i in sorted(imported)]

    def find(self, name: str) -> ModelInfo | None:
        """The model that this id or alias names, if there is one."""
        snapshot = self._snapshot()
        model_id = snapshot.aliases.get(name, name)
        return self._bundled.get(model_id) or snapshot.imported.get(model_id)

    def get(self, model_id: str) -> ModelInfo:
        """The model that this id or alias names, or ``NotFound``."""
        info = self.find(model_id)
        if info is None:
            raise NotFound(f"There is no model {model_id!r}.", "`outcrop models list` shows what there is.")
        return info

    def resolve(self, model_id_or_alias: str) -> str:
        """The model id behind a model id or an alias, or ``NotFound``."""
        return self.get(model_id_or_alias).model_id

    def load(self, model_id: str, dtype: torch.dtype | None = None) -> LoadedModel:
        """The model in memory, its weights mapped from disk, or read where they are sealed.

        They were scanned when they were imported.
        """
        from outcrop.models.weights import load_decoder  # noqa: PLC0415 - listing models needs no PyTorch

        info = self.get(model_id)
        opener = self._opener_of(info) if info.sealed else None
        decoder = load_decoder(info.directory, dtype, scan=False, opener=opener)
        tokenizer = Tokenizer.load(info.directory)
        return LoadedModel(info, decoder.config, decoder, tokenizer, ChatTemplate.load(info.directory))

    def check_unsealed(self, info: ModelInfo) -> None:
        """Raise what opening a sealed model's weights raises, for instance because a key was taken away."""
        self._opener_of(info)(weight_files(info.directory)[0]).close()

    def remove(self, model_id: str) -> None:
        """Forget an imported model and delete its files. Who has it loaded may go on using it."""
        with self._locked():
            info = self.check_removable(model_id)
            doomed = self._root / f"{_REMOVED}{uuid.uuid4().hex}"
            info.directory.rename(doomed)
            sync_directory(self._root)
        shutil.rmtree(doomed, ignore_errors=True)  # what stays is swept by the next start

    def check_removable(self, model_id: str) -> ModelInfo:
        """What ``remove`` would delete, or the error that it would raise."""
        aliases = self.aliases()
        if model_id in aliases:
            raise UserError(f"{model_id} is an alias.", f"Remove it with `outcrop models unalias {model_id}`.")
        info = self.get(model_id)
        if info.source == "bundled":
            raise UserError(f"{model_id} is part of Outcrop and cannot be removed.", "Only imported models can be.")
        pointing = sorted(alias for alias, target in aliases.items() if target == model_id)
        if pointing:
            raise UserError(
                f"{model_id} has aliases: {', '.join(pointing)}.",
                f"Remove them first, for example with `outcrop models unalias {pointing[0]}`.",
            )
        return info

    def aliases(self) -> dict[str, str]:
        """Alias to model id."""
        return dict(self._snapshot().aliases)

    def set_alias(self, alias: str, target: str) -> None:
        """Let ``alias`` stand for the model ``target``; an alias that exists is pointed elsewhere."""
        check_alias(alias)
        with self._locked():
            aliases = self.aliases()
            if self._is_model(alias):
                raise AlreadyExists(f"{alias} is the id of a model.", "An alias cannot stand before it.")
            if not self._is_model(target):
                raise NotFound(f"There is no model {target!r}.", "An alias stands for a model id, not for an alias.")
            self._write_aliases({**aliases, alias: target})

    def remove_alias(self, alias: str) -> None:
        """Forget an alias, or ``NotFound``."""
        with self._locked():
            aliases = self.aliases()
            if alias not in aliases:
                raise NotFound(f"There is no alias {alias!r}.", "`outcrop models list` shows them.")
            del aliases[alias]
            self._write_aliases(aliases)

    def _sealed(self, labels: Mapping[str, str]) -> Sealed:
        sealed_files = self._sealed_files
        assert sealed_files is not None
        return lambda path, size_bytes: sealed_files.create(path, {**labels, "file": path.name}, size_bytes)

    def _opener_of(self, info: ModelInfo) -> Opener:
        return self._opener(_labels(info.model_id, {"owner": info.owner, "resource_id": info.resource_id}))

    def _opener(self, labels: Mapping[str, str]) -> Opener:
        sealed_files = self._sealed_files
        if sealed_files is None:
            raise ModelRefused(
                f"The weights of {labels['model']} are sealed, and there are no keys here.",
                "Open them with the key store that they were sealed with.",
            )
        return lambda path: sealed_files.open(path, {**labels, "file": path.name})

    def _snapshot(self) -> _Snapshot:
        """Models and aliases as they are now; every change to them changes the time stamp of ``root``."""
        stamp = self._root.stat().st_mtime_ns
        if self._cached is not None and self._cached.stamp == stamp:
            return self._cached
        snapshot = _Snapshot(stamp, self._read_imported(), self._read_aliases())
        # File times are coarse: a second change right after the first might leave the stamp as it is.
        settled = time.time_ns() - stamp > _STAMP_SETTLES_NS
        self._cached = snapshot if settled else None
        return snapshot

    def _read_imported(self) -> dict[str, ModelInfo]:
        found: dict[str, ModelInfo] = {}
        for record in self._root.glob(f"[!.]*/{RECORD_FILE}"):
            try:
                info = _read_info(record.parent, "imported")
            except ModelRefused:
                if record.exists():
                    raise
                continue  # removed between the listing and the reading
            found[info.model_id] = info
        return found

    def _read_aliases(self) -> dict[str, str]:
        path = self._root / ALIASES_FILE
        return {alias: str(target) for alias, target in read_json_object(path).items()} if path.exists() else {}

    def _write_aliases(self, aliases: dict[str, str]) -> None:
        write_atomic(self._root / ALIASES_FILE, _json(dict(sorted(aliases.items()))))

    def _is_model(self, model_id: str) -> bool:
        return model_id in self._bundled or model_id in self._snapshot().imported

    def _refuse_taken(self, model_id: str) -> None:
        if self._is_model(model_id):
            raise AlreadyExists(
                f"There is a model {model_id} already.", "Give another id with --id, or remove that one first."
            )
        if model_id in self.aliases():
            raise AlreadyExists(f"{model_id} is an alias.", f"Free it with `outcrop models unalias {model_id}`.")

    def _refuse_full(self, size_bytes: int) -> None:
        free = shutil.disk_usage(self._root).free - _FREE_BYTES_KEPT
        if size_bytes > free:
            raise UserError(
                f"{self._root} has room for {max(free, 0) // 2**20} MiB, but the model has {size_bytes // 2**20} MiB.",
                "Free space there, or choose another place with --data.",
            )

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A fresh hidden folder, locked while it is in use, gone afterwards unless it was renamed."""
        staging = self._root / f"{_STAGING}{uuid.uuid4().hex}"
        with self._locked():  # a sweep cannot come between the folder and its lock
            staging.mkdir()
            descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield staging
        finally:
            os.close(descriptor)
            shutil.rmtree(staging, ignore_errors=True)

    def _register(self, staging: Path, model_id: str) -> None:
        with self._locked():
            self._refuse_taken(model_id)  # again: somebody may have been faster
            staging.rename(self._root / _folder_name(model_id))
            sync_directory(self._root)

    def _sweep(self) -> None:
        """Delete what dead importers and removers left."""
        with self._locked():
            for folder in [*self._root.glob(f"{_STAGING}*"), *self._root.glob(f"{_REMOVED}*")]:
                if not _in_use(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone in ``root`` for a moment; waits for others, whose moments are short."""
        descriptor = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _in_use(folder: Path) -> bool:
    """Whether a living process holds the lock of a staging folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read_info(folder: Path, source: Literal["bundled", "imported"]) -> ModelInfo:
    path = folder / RECORD_FILE
    record = read_json_object(path)
    if source == "bundled":
        record = describe(folder) | record
    try:
        return ModelInfo(
            model_id=str(record["model_id"]),
            name=str(record["name"]),
            provider=str(record["provider"]),
            architecture=str(record["architecture"]),
            parameters=int(record["parameters"]),
            max_positions=int(record["max_positions"]),
            dtype=str(record["dtype"]),
            source=source,
            directory=folder,
            size_bytes=int(record["size_bytes"]),
            license=str(record["license"]),
            owner=_text_or_none(record, "owner"),
            resource_id=_text_or_none(record, "resource_id"),
            sealed=record.get("sealed", False) is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelRefused(f"{path} is damaged: {error!r}.", f"Delete {folder} and import the model again.") from error


def _text_or_none(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if value is not None and not isinstance(value, str):  # never read as a model for everybody
        raise TypeError(f"{key} is not a text")
    return value


def _labels(model_id: str, owned: Mapping[str, Any]) -> dict[str, str]:
    """What a sealed file of a model is sealed for, but for the file's name."""
    return {"model": model_id, "owner": str(owned.get("owner")), "import": str(owned.get("resource_id"))}


def _folder_name(model_id: str) -> str:
    """``model_id`` as a folder's name; ``+`` never stands in an id."""
    return model_id.replace(":", "+")


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
