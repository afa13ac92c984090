"""safetensors files read through a ``ByteSource``: the header, then one tensor at a time into memory of its own.

The plain files of a model are mapped by the safetensors library (``checkpoint``, ``weights``); this reader is for files
that have no plain form on the disk. It accepts what the library accepts: a header of at most 100 MB of JSON, tensors
without overlaps or holes that end where the file ends. Source: the format's description in the safetensors repository.

Not covered: memory. A tensor read here is this process's own copy, not shared with others as mapped pages are.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from outcrop.base.blobs import ByteSource
from outcrop.base.errors import ModelRefused, check

if TYPE_CHECKING:
    from torch import Tensor

Opener = Callable[[Path], ByteSource]

_LENGTH_BYTES = 8
_HEADER_BYTES_MAX = 100_000_000
_READ_BYTES = 16 * 2**20
_DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: its dtype as safetensors spells it, its shape, and where in the source it lies."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(source: ByteSource, file: Path) -> dict[str, Entry]:
    """The tensors of ``source``, or ``ModelRefused`` naming ``file``."""
    length = int.from_bytes(source.read(0, _LENGTH_BYTES), "little")
    first = _LENGTH_BYTES + length
    if length > _HEADER_BYTES_MAX or first > source.size:
        raise _damaged(file, f"its header would have {length} bytes")
    entries: dict[str, Entry] = {}
    for name, value in _header_object(source.read(_LENGTH_BYTES, length), file).items():
        if name != "__metadata__":
            entries[name] = _entry(name, value, first, file)
    at = first
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise _damaged(file, f"{name} overlaps another tensor or leaves a hole")
        at = entry.end
    if at != source.size:
        raise _damaged(file, f"its tensors end at byte {at} of {source.size}")
    return entries


def read_tensor(source: ByteSource, entry: Entry, dtype: Any) -> Tensor:
    """The tensor at ``entry``, of the PyTorch ``dtype`` that the entry names."""
    import torch  # noqa: PLC0415 - reading headers needs no PyTorch

    raw = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
    view = raw.numpy().data
    for at in range(entry.begin, entry.end, _READ_BYTES):
        count = min(_READ_BYTES, entry.end - at)
        piece = source.read(at, count)
        check(len(piece) == count, "a source holds the bytes that its size promised")
        view[at - entry.begin : at - entry.begin + count] = piece
    return raw.view(dtype).view(entry.shape)


def _header_object(raw: bytes, file: Path) -> Mapping[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if twice:
            raise _damaged(file, f"its header has {twice[0]!r:.200} twice")
        return dict(pairs)

    def no_constant(text: str) -> NoReturn:
        raise _damaged(file, f"its header holds {text}")

    try:
        header = json.loads(raw.decode(), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise _damaged(file, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(file, "its header is not a JSON object")
    return header


def _entry(name: str, value: object, first: int, file: Path) -> Entry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(file, f"{name!r:.200} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not (isinstance(dtype, str) and _sizes(shape) and _sizes(offsets) and len(offsets) == 2):
        raise _damaged(file, f"{name!r:.200} is not described by a dtype, sizes and two offsets")
    begin, end = offsets
    known = _DTYPE_BYTES.get(dtype)
    if end < begin or (known is not None and math.prod(shape) * known != end - begin):
        raise _damaged(file, f"{name!r:.200} has {end - begin} bytes, not what its shape and dtype take")
    return Entry(dtype, tuple(shape), first + begin, first + end)


def _sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _damaged(file: Path, why: str) -> ModelRefused:
    return ModelRefused(f"{file} is not a whole safetensors file ({why}).", "Import the model again.")
