"""Members of an operation's input, found by the names that ``operations.toml`` has for them."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import msgspec

from outcrop.base.errors import check
from outcrop.service.wire.base import is_structure, members_of

Texts = str | list[str] | None


def member(value: Any, path: str) -> Any:
    """What stands at ``path`` (wire names and dots; ``.`` is the input itself); ``None`` where it is absent."""
    if path == ".":
        return value
    for name in path.split("."):
        if value is None:
            return None
        structure: Any = type(value)
        value = getattr(value, _attributes(structure)[name])
    return value


def has_member(structure: Any, path: str) -> bool:
    """Whether an input type has a member at ``path``."""
    for name in path.split("."):
        if not is_structure(structure):
            return False
        found = next((each for each in members_of(structure) if each.wire == name), None)
        if found is None:
            return False
        structure = found.kind
    return True


def text(value: Any) -> str:
    """A scalar as a condition key has it."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def texts(value: Any) -> Texts:
    """A scalar or list as a condition key's values; ``None`` where it is absent."""
    if value is None:
        return None
    return [text(item) for item in value] if isinstance(value, list) else text(value)


def tag_pairs(value: Iterable[Any] | Mapping[str, str] | None) -> dict[str, str]:
    """Tags in any service's spelling: a map, or structures whose members end in ``Key`` and ``Value``."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    pairs: dict[str, str] = {}
    for tag in value:
        structure: Any = type(tag)
        key, content = _pair(structure)
        pairs[getattr(tag, key)] = getattr(tag, content) or ""
    return pairs


@cache
def _attributes(structure: type) -> Mapping[str, str]:
    check(is_structure(structure), f"{structure.__name__} has members")
    return types.MappingProxyType({field.encode_name: field.name for field in msgspec.structs.fields(structure)})


@cache
def _pair(structure: type) -> tuple[str, str]:
    names = list(_attributes(structure).values())
    key = next(name for name in names if name.endswith("key"))
    return key, next(name for name in names if name.endswith("value"))
