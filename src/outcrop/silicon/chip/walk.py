"""Every figure of a chip or of one of its parts, with the key under which its file has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from outcrop.silicon.chip.quantity import Figure
from outcrop.silicon.chip.reader import joined
from outcrop.silicon.chip.spec import Kind, Spec, spec_of


def walk(part: Any, where: str = "") -> Iterator[tuple[str, Figure]]:
    """Key and figure of everything below ``part``, in the order of the schema; what is absent is left out."""
    for name, spec, value in _fields(part):
        key = joined(where, name)
        if spec.kind is Kind.FIGURE and value is not None:
            yield key, value
        elif spec.kind is Kind.FIGURES:
            yield from ((joined(key, each), figure) for each, figure in value.items())
        elif spec.kind is Kind.PART:
            yield from walk(value, key)
        elif spec.kind is Kind.PARTS:
            for each, below in value.items():
                yield from walk(below, joined(key, each))


def absent(part: Any, where: str = "") -> Iterator[str]:
    """Keys that the schema knows and that no source gave for ``part``; documented totals are not counted."""
    for name, spec, value in _fields(part):
        key = joined(where, name)
        if spec.kind in (Kind.FIGURE, Kind.FIGURES) and not value:
            yield key
        elif spec.kind is Kind.PART and name != "totals":
            yield from absent(value, key)


def _fields(part: Any) -> Iterator[tuple[str, Spec, Any]]:
    for field in dataclasses.fields(part):
        if spec := spec_of(field.metadata):
            yield field.name, spec, getattr(part, field.name)
