"""JSON trees that msgspec cannot decode or encode by their types alone, walked by the annotations.

Most structures need none of this: ``reader_of`` and ``writer_of`` return ``None`` and msgspec does all the work. The
walk is for what the generator left as a note: epoch and HTTP-date timestamps, floats that may be NaN or infinite
(written as strings), and patterns with Unicode properties.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, get_args, get_origin

import msgspec
import regex  # type: ignore[import-untyped]

from outcrop.service.wire.base import BadValue, is_structure, members_of, note, split
from outcrop.service.wire.text import SPECIAL_FLOATS, read_moment, write_float, write_moment

Reader = Callable[[Any, str], Any]
Writer = Callable[[Any], Any]


def reader_of(annotation: Any) -> Reader | None:
    """A function from a parsed JSON value and its path to the value that ``msgspec.convert`` takes, or ``None``."""
    return _reader(annotation, {}) if _is_special(annotation, set()) else None


def writer_of(annotation: Any) -> Writer | None:
    """A function from a typed value to what ``msgspec.json.encode`` writes correctly, or ``None``."""
    return _writer(annotation, {}) if _is_special(annotation, set()) else None


def _is_special(annotation: Any, seen: set[Any]) -> bool:
    """Whether a value that needs the walk can be reached from ``annotation``."""
    kind, meta = split(annotation)
    if kind is float:
        return meta.ge is None and meta.le is None
    if is_structure(kind):
        if kind in seen:
            return False
        seen.add(kind)
        return any(_is_special(member.annotation, seen) for member in members_of(kind))
    if get_origin(kind) in (list, dict):
        return any(_is_special(argument, seen) for argument in get_args(kind))
    return bool(note(meta, "format") or note(meta, "unicode_pattern"))


def _reader(annotation: Any, structures: dict[Any, Reader]) -> Reader:
    kind, meta = split(annotation)
    if is_structure(kind):
        if kind not in structures:
            _structure_reader(kind, structures)
        return structures[kind]
    if get_origin(kind) is list:
        item = _reader(get_args(kind)[0], structures)
        return lambda value, path: (
            [item(entry, f"{path}[{i}]") for i, entry in enumerate(value)] if isinstance(value, list) else value
        )
    if get_origin(kind) is dict:
        key, entry = (_reader(argument, structures) for argument in get_args(kind))
        return lambda value, path: (
            {key(k, path): entry(v, f"{path}[...]") for k, v in value.items()} if isinstance(value, dict) else value
        )
    if kind is datetime and note(meta, "format"):
        return lambda value, path: value if value is None else read_moment(value, note(meta, "format"), path)
    if kind is float:
        return lambda value, _: SPECIAL_FLOATS.get(value, value) if isinstance(value, str) else value
    if note(meta, "unicode_pattern"):
        return _pattern_reader(note(meta, "unicode_pattern"))
    return lambda value, _: value


def _structure_reader(kind: type[msgspec.Struct], structures: dict[Any, Reader]) -> None:
    readers: dict[str, Reader] = {}

    def read(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: readers[name](entry, f"{path}.{name}") if name in readers else entry for name, entry in value.items()
        }

    structures[kind] = read
    readers.update({member.wire: _reader(member.annotation, structures) for member in members_of(kind)})


def _pattern_reader(pattern: str) -> Reader:
    compiled = _compiled(pattern)

    def read(value: Any, path: str) -> Any:
        if isinstance(value, str) and compiled.search(value) is None:
            raise BadValue(path, f"Member must satisfy regular expression pattern: {pattern}", constraint=True)
        return value

    return read


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> Any:
    return regex.compile(pattern)


def _writer(annotation: Any, structures: dict[Any, Writer]) -> Writer:
    kind, meta = split(annotation)
    if is_structure(kind):
        if kind not in structures:
            _structure_writer(kind, structures)
        return structures[kind]
    if get_origin(kind) is list:
        item = _writer(get_args(kind)[0], structures)
        return lambda value: [item(entry) for entry in value]
    if get_origin(kind) is dict:
        entry = _writer(get_args(kind)[1], structures)
        return lambda value: {key: entry(item) for key, item in value.items()}
    if kind is datetime and note(meta, "format"):
        return lambda value: write_moment(value, note(meta, "format"))
    if kind is float:
        return lambda value: value if math.isfinite(value) else write_float(value)
    return lambda value: value


def _structure_writer(kind: type[msgspec.Struct], structures: dict[Any, Writer]) -> None:
    writers: list[tuple[str, str, Writer]] = []

    def write(value: Any) -> dict[str, Any]:
        found = ((wire, getattr(value, attribute), writer) for attribute, wire, writer in writers)
        return {wire: writer(entry) for wire, entry, writer in found if entry is not None}

    structures[kind] = write
    writers.extend((m.attribute, m.wire, _writer(m.annotation, structures)) for m in members_of(kind))
