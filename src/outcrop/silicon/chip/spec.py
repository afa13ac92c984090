"""What each field of a chip's parts may hold, told to the reader by metadata of the dataclass field.

A part is a frozen dataclass whose fields are made by the functions here; the reader (``reader.py``) and everything
that walks over a chip (``walk.py``) learn the schema from them, so that it is written down once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from outcrop.silicon.chip.quantity import Dimension

_SPEC = "outcrop.chip"


class Kind(Enum):
    """The shapes a field can have."""

    FIGURE = "a figure"
    FIGURES = "a table of figures"
    PART = "a table"
    PARTS = "a table of tables"
    TEXT = "a text"


@dataclass(frozen=True, slots=True)
class Spec:
    """One field: its shape, what its figures measure, the class of its parts, and whether a chip can lack it."""

    kind: Kind
    dimension: Dimension | None = None
    part: type[Any] | None = None
    required: bool = True
    whole: bool = False


def _made(spec: Spec, **more: Any) -> Any:
    return field(metadata={_SPEC: spec}, **more)


def figure(dimension: Dimension) -> Any:
    """A figure that every chip has; counts and sizes must be whole."""
    return _made(Spec(Kind.FIGURE, dimension, whole=dimension is Dimension.COUNT))


def optional_figure(dimension: Dimension) -> Any:
    """A figure that is ``None`` where no source gives it or the chip has no such thing."""
    return _made(Spec(Kind.FIGURE, dimension, required=False, whole=dimension is Dimension.COUNT), default=None)


def figures(dimension: Dimension) -> Any:
    """Figures by name, such as one for each data type; empty where no source gives any."""
    whole = dimension is Dimension.COUNT
    return _made(
        Spec(Kind.FIGURES, dimension, required=False, whole=whole), default_factory=lambda: MappingProxyType({})
    )


def part(cls: type[Any]) -> Any:
    """A part that every chip has."""
    return _made(Spec(Kind.PART, part=cls))


def optional_part(cls: type[Any]) -> Any:
    """A part whose every field may be lacking, and which may be lacking itself."""
    return _made(Spec(Kind.PART, part=cls, required=False), default_factory=cls)


def parts(cls: type[Any]) -> Any:
    """Parts by name."""
    return _made(Spec(Kind.PARTS, part=cls, required=False), default_factory=lambda: MappingProxyType({}))


def text() -> Any:
    """A name that every chip has."""
    return _made(Spec(Kind.TEXT))


def optional_text() -> Any:
    """A name, empty where there is none."""
    return _made(Spec(Kind.TEXT, required=False), default="")


def spec_of(metadata: Any) -> Spec | None:
    """The spec behind a field's metadata; ``None`` for fields that files do not fill."""
    found: Spec | None = metadata.get(_SPEC)
    return found
