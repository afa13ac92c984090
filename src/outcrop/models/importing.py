"""From somebody's directory to a checked copy: which files count, what they must fulfil, and the copying itself."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from outcrop.base.blobs import ByteSink
from outcrop.base.errors import ModelRefused, UserError
from outcrop.base.files import sync_directory
from outcrop.models.chat import EXTRA_TEMPLATES, TEMPLATE_FILE, ChatTemplate
from outcrop.models.checkpoint import INDEX_FILE, Checkpoint, read_checkpoint, weight_files
from outcrop.models.config import DecoderConfig
from outcrop.models.files import read_json_object, read_text
from outcrop.models.hf_config import CONFIG_FILE, read_config
from outcrop.models.sourced import Opener
from outcrop.models.tokenizer import GENERATION_CONFIG_FILE, TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, Tokenizer

Progress = Callable[[str, int, int], None]
"""Told the stage (``copy``, ``scan``, ``register``), how much of it is done, and how much there is."""

Sealed = Callable[[Path, int], AbstractContextManager[ByteSink]]
"""Opens a path for writing so many bytes in another form than the plain one."""

WEIGHTS_SUFFIX = ".safetensors"

_REQUIRED = (CONFIG_FILE, TOKENIZER_FILE)
_OPTIONAL = (
    TOKENIZER_CONFIG_FILE,
    GENERATION_CONFIG_FILE,
    TEMPLATE_FILE,
    "special_tokens_map.json",
    *("README.md", "MODEL_CARD.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "USE_POLICY.md"),
)
_DTYPE_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_PROBE = [{"role": "user", "content": "Hello"}]
_COPY_BYTES = 8 * 2**20
_LICENSE_LINE = re.compile(r"^license:\s*[\"']?([A-Za-z0-9.+_-]{1,64})", re.MULTILINE)


def no_progress(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def source_files(source: Path) -> dict[str, Path]:
    """The files of ``source`` that make up the model: name in the copy to real path.

    Symbolic links may lead within ``source``, or from a Hugging Face cache's snapshot into its own ``blobs``; any
    other is refused, since a downloaded directory must not pick files of this machine.
    """
    weights = [path.name for path in weight_files(source)]
    index = [INDEX_FILE] if len(weights) > 1 or weights[0] != "model.safetensors" else []
    extra = sorted(f"{EXTRA_TEMPLATES}/{path.name}" for path in (source / EXTRA_TEMPLATES).glob("*.jinja"))
    optional = [name for name in (*_OPTIONAL, *extra) if os.path.lexists(source / name)]
    return {name: _real_file(source, name) for name in (*_REQUIRED, *weights, *index, *optional)}


def check_model(
    directory: Path, *, scan: bool, progress: Progress = no_progress, opener: Opener | None = None
) -> dict[str, Any]:
    """Refuse what could not be served: configuration, weights, tokenizer and template, and how they fit together.

    ``scan`` also reads every weight for NaN and infinity. The answer is what ``describe`` says. ``opener`` is for
    weight files that are not plain ones.
    """
    from outcrop.models.weights import inspect_weights, load_decoder  # noqa: PLC0415 - listing needs no PyTorch

    config = read_config(directory)
    checkpoint = inspect_weights(directory, config, opener)
    tokenizer = Tokenizer.load(directory)
    highest = max(tokenizer.vocab_size - 1, *tokenizer.eos_token_ids, 0)
    if highest >= config.vocab_size:
        raise ModelRefused(
            f"{directory / TOKENIZER_FILE} has token ids up to {highest}, but {CONFIG_FILE} has a vocab_size of "
            f"{config.vocab_size}.",
            "Use the tokenizer that belongs to these weights.",
        )
    _check_generation_defaults(directory)
    template = ChatTemplate.load(directory)
    if template is not None:
        template.render(_PROBE)
    if scan:
        load_decoder(directory, progress=lambda done, total: progress("scan", done, total), opener=opener)
    return _facts(directory, config, checkpoint)


def describe(directory: Path) -> dict[str, Any]:
    """What a listing says of the model in ``directory``, from its small files and headers alone."""
    return _facts(directory, read_config(directory), read_checkpoint(directory))


def copy_model(
    files: Mapping[str, Path], target: Path, progress: Progress = no_progress, sealed: Sealed | None = None
) -> None:
    """Copy ``files`` into the directory ``target`` and flush each to the disk; weights by way of ``sealed``."""
    total = sum(path.stat().st_size for path in files.values())
    done = 0
    for name, path in files.items():
        (target / name).parent.mkdir(exist_ok=True)
        try:
            with _open_regular(path) as source, _sink(target / name, path.stat().st_size, sealed) as copy:
                while piece := source.read(_COPY_BYTES):
                    copy.write(piece)
                    done += len(piece)
                    progress("copy", done, total)
        except OSError as error:
            raise UserError(
                f"{path} was not copied ({error.strerror}).", "Check its permissions and the disk."
            ) from error
    for folder in {(target / name).parent for name in files}:
        sync_directory(folder)


def _sink(path: Path, size_bytes: int, sealed: Sealed | None) -> AbstractContextManager[ByteSink]:
    if sealed is not None and path.suffix == WEIGHTS_SUFFIX:
        return sealed(path, size_bytes)
    return _plain(path)


@contextmanager
def _plain(path: Path) -> Iterator[ByteSink]:
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _open_regular(path: Path) -> BinaryIO:
    """``path`` for reading; neither a link nor a pipe that came in its place since it was looked at."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _check_generation_defaults(directory: Path) -> None:
    """Refuse ``generation_config.json`` where a request that leaves these settings open could not be served."""
    path = directory / GENERATION_CONFIG_FILE
    defaults = read_json_object(path) if path.exists() else {}
    for key, kind, most in (("temperature", float, 1e6), ("top_p", float, 1.0), ("top_k", int, 2**31)):
        value = defaults.get(key)
        if value is None:
            continue
        if not isinstance(value, int | kind) or isinstance(value, bool) or not 0 <= value <= most:
            what = "a whole number" if kind is int else "a number"
            raise ModelRefused(
                f"{path}: {key} should be {what} from 0 to {most:g}, but is {value!r:.200}.",
                "Mend it, or remove the key.",
            )


def _facts(directory: Path, config: DecoderConfig, checkpoint: Checkpoint) -> dict[str, Any]:
    embedding = checkpoint.tensors["model.embed_tokens.weight"]
    return {
        "architecture": config.architecture,
        "parameters": checkpoint.parameters,
        "max_positions": config.max_positions,
        "dtype": _DTYPE_NAMES[embedding.dtype],
        "size_bytes": checkpoint.bytes,
        "license": _license(directory),
    }


def _license(directory: Path) -> str:
    """The licence that the model card's front matter names, as Hugging Face repositories have it."""
    card = directory / "README.md"
    if not card.exists():
        return "unknown"
    text = read_text(card)
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") >= 2 else ""
    named = _LICENSE_LINE.search(front)
    return named[1] if named else "unknown"


def _real_file(source: Path, name: str) -> Path:
    """The regular file behind ``source/name``, links followed as far as they may lead."""
    path = source / name
    if not os.path.lexists(path):
        raise ModelRefused(f"{path} is missing.", f"A model directory needs {name}; copy it from the original.")
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError before Python 3.13
        raise ModelRefused(f"{path} is a link that leads nowhere.", "Download the model again.") from error
    root = source.resolve()
    roots = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    if not any(real.is_relative_to(allowed) for allowed in roots):
        raise ModelRefused(
            f"{path} is a link to {real}, outside the model directory.", "Replace the link by the file itself."
        )
    if not stat.S_ISREG(real.stat().st_mode):
        raise ModelRefused(f"{path} is not a regular file.", "Download the model again.")
    return real
