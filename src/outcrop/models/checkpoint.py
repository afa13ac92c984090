"""What a model directory's weight files hold, read from their headers alone; needs no PyTorch.

Only safetensors are opened. Formats that can run code when opened (pickle) are refused by name. The length of a file
and the offsets of its tensors are checked by the safetensors library, which allows neither overlaps nor holes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from outcrop.base.errors import ModelRefused
from outcrop.models.files import is_lfs_pointer, lfs_pointer, read_json_object, unreadable
from outcrop.models.sourced import Opener, read_header

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
COPY_AGAIN = "Copy the model again from its source."

_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_INDEX_BYTES_MAX = 64 * 2**20
_NAME_BYTES_MAX = 255


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor: where it lies, its dtype as safetensors spells it (``F32``, ``BF16``), and its shape."""

    file: Path
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weight files of one directory and the tensors in them."""

    files: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]
    index: Path | None
    """The file that says which shard has which tensor; none for a single file."""

    @property
    def parameters(self) -> int:
        """Elements of all tensors; a tied embedding counts once."""
        return sum(info.elements for info in self.tensors.values())

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files of ``directory``, or ``ModelRefused`` where there are none.

    A single ``model.safetensors`` goes before shards with an index, as in transformers; pickles beside either are
    left alone.
    """
    if not directory.is_dir():
        raise ModelRefused(f"{directory} is not a directory.", "Point to a Hugging Face model directory.")
    if (directory / WEIGHTS_FILE).exists():
        return (directory / WEIGHTS_FILE,)
    if (directory / INDEX_FILE).exists():
        return tuple(sorted({directory / name for name in _weight_map(directory / INDEX_FILE).values()}))
    pickles = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLE_SUFFIXES)
    if pickles:
        raise ModelRefused(
            f"{directory / pickles[0]} is a pickle file, which can run code when it is opened.",
            "Get this model's safetensors files; or, where nothing can be harmed, load it with transformers and save "
            "it again with save_pretrained.",
        )
    raise ModelRefused(
        f"{directory} has neither {WEIGHTS_FILE} nor {INDEX_FILE}.", "Point to a Hugging Face model directory."
    )


def read_checkpoint(directory: Path, opener: Opener | None = None) -> Checkpoint:
    """Names, dtypes and shapes of all tensors, each of which stands exactly where the index says.

    ``opener`` gives the bytes of weight files that are not plain ones.
    """
    files = weight_files(directory)
    index = None if files[0].name == WEIGHTS_FILE else directory / INDEX_FILE
    tensors: dict[str, TensorInfo] = {}
    for file in files:
        for name, info in _header(file, opener).items():
            if name in tensors:
                raise ModelRefused(f"{file} repeats {name}, which {tensors[name].file.name} has.", COPY_AGAIN)
            tensors[name] = info
    if index is not None:
        _check_index(index, tensors)
    return Checkpoint(files, tensors, index)


def open_safetensors(file: Path, framework: Literal["pt", "np"]) -> Any:
    """``file`` opened by the safetensors library for PyTorch or NumPy tensors, or ``ModelRefused``."""
    if not file.exists():
        raise ModelRefused(f"{file} is missing.", f"A shard did not arrive: {COPY_AGAIN[0].lower()}{COPY_AGAIN[1:]}")
    if not file.is_file():
        raise ModelRefused(f"{file} is not a regular file.", COPY_AGAIN)
    try:
        if is_lfs_pointer(file):
            raise lfs_pointer(file)
        return safe_open(file, framework=framework)
    except OSError as error:
        raise unreadable(file, error) from error
    except SafetensorError as error:
        raise ModelRefused(f"{file} is not a whole safetensors file ({error}).", COPY_AGAIN) from error


def _header(file: Path, opener: Opener | None) -> dict[str, TensorInfo]:
    if opener is not None:
        with closing(opener(file)) as source:
            return {name: TensorInfo(file, e.dtype, e.shape) for name, e in read_header(source, file).items()}
    with open_safetensors(file, "np") as opened:
        slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        return {name: TensorInfo(file, s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name to shard name, from an index whose shards are plain safetensors names beside it."""
    weight_map = read_json_object(index, _INDEX_BYTES_MAX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelRefused(f"{index} has no weight_map.", COPY_AGAIN)
    for name in weight_map.values():
        if not _is_shard_name(name):
            raise ModelRefused(
                f"{index} points to {str(name)[:200]!r}.", "Shards must be *.safetensors files beside the index."
            )
    return weight_map


def _is_shard_name(name: Any) -> bool:
    """Whether ``name`` is a plain file name, without NUL and lone surrogates, that a file system could have."""
    if not isinstance(name, str) or not name.endswith(".safetensors"):
        return False
    return name.isprintable() and len(name.encode()) <= _NAME_BYTES_MAX and not {"/", "\\"} & set(name)


def _check_index(index: Path, tensors: Mapping[str, TensorInfo]) -> None:
    promised = _weight_map(index)
    for name, file in promised.items():
        if name not in tensors:
            raise ModelRefused(f"{index.parent / file} lacks {name}, which {index.name} promises.", COPY_AGAIN)
        if tensors[name].file.name != file:
            raise ModelRefused(f"{index} places {name} in {file}, but {tensors[name].file.name} has it.", COPY_AGAIN)
    for name, info in tensors.items():
        if name not in promised:
            raise ModelRefused(f"{info.file} has {name}, which {index.name} does not list.", COPY_AGAIN)
