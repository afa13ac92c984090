"""Reading a model directory's small files without trusting them.

Every refusal is a ``ModelRefused`` that names the file. JSON is bounded in size and may not repeat a key.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from outcrop.base.errors import ModelRefused

JSON_BYTES_MAX = 8 * 2**20
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_bytes(path: Path, bytes_max: int = JSON_BYTES_MAX) -> bytes:
    """The whole of ``path``, which must be a regular file of at most ``bytes_max`` bytes."""
    if not path.exists():
        raise ModelRefused(f"{path} is missing.", f"A model directory needs {path.name}; copy it from the original.")
    if not path.is_file():
        raise ModelRefused(f"{path} is not a regular file.", f"Put the real {path.name} there.")
    size = path.stat().st_size
    if size > bytes_max:
        raise ModelRefused(f"{path} has {size} bytes, more than the {bytes_max} taken in.", "Check what the file is.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if content.startswith(_LFS_POINTER):
        raise lfs_pointer(path)
    return content


def unreadable(path: Path, error: OSError) -> ModelRefused:
    """The refusal of a file that the operating system will not let us read."""
    return ModelRefused(f"{path} cannot be read ({error.strerror}).", "Check its permissions and the disk.")


def lfs_pointer(path: Path) -> ModelRefused:
    """The refusal of a Git LFS pointer that stands where the file itself should."""
    return ModelRefused(f"{path} is a Git LFS pointer, not the file itself.", "Run `git lfs pull` in its directory.")


def is_lfs_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


def read_text(path: Path, bytes_max: int = JSON_BYTES_MAX) -> str:
    """The text of ``path`` in UTF-8."""
    try:
        return read_bytes(path, bytes_max).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelRefused(f"{path} is not UTF-8 text: {error}.", "Copy it again from the original.") from error


def read_json_object(path: Path, bytes_max: int = JSON_BYTES_MAX) -> dict[str, Any]:
    """The JSON object in ``path``; repeated keys and numbers that JSON lacks (NaN) are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ModelRefused(f"{path} has the key {twice!r} twice.", "Keep one of them.")
        return seen

    def no_constant(text: str) -> NoReturn:
        raise ModelRefused(f"{path} holds {text}, which is not JSON.", "Write a finite number.")

    text = read_text(path, bytes_max)
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelRefused(f"{path} is not JSON: {error}.", "Copy it again from the original.") from error
    if not isinstance(value, dict):
        raise ModelRefused(f"{path} holds a JSON {type(value).__name__}, not an object.", "Check what the file is.")
    return value
