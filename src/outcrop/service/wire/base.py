"""What every protocol offers: one codec per operation, and the member list of a structure that codecs are made from.

To add a protocol, write a class with the two methods of ``OperationCodec`` and name it in ``codec.PROTOCOLS``.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Protocol, Union, get_args, get_origin, get_type_hints

import msgspec

from outcrop.service.wire.model import Operation

HeaderList = Sequence[tuple[bytes, bytes]]
Reply = tuple[int, list[tuple[bytes, bytes]], bytes]


class OperationCodec(Protocol):
    """Reads one operation's input from a request and writes its output to a response."""

    operation: Operation

    def decode(self, labels: Mapping[str, str], raw_query: bytes, headers: HeaderList, body: bytes) -> msgspec.Struct:
        """The typed input. Every failure is an ``AwsError`` with a 4xx status."""
        ...

    def encode(self, output: msgspec.Struct, request_id: str) -> Reply:
        """Status, headers and body. The body of a streamed output is empty: its frames follow."""
        ...


class BadValue(Exception):
    """A value that cannot stand at ``path``.

    ``constraint`` tells a broken rule of the shape from a value that could not be read at all.
    """

    def __init__(self, path: str, text: str, *, constraint: bool = False) -> None:
        self.path = path
        self.text = text
        self.constraint = constraint
        super().__init__(f"{path}: {text}")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a structure: attribute, name on the wire, annotation without ``| None``, and whether it must be."""

    attribute: str
    wire: str
    annotation: Any
    required: bool

    @property
    def kind(self) -> Any:
        """The member's bare type: ``str``, ``list[...]``, a structure, ``Literal[...]``."""
        return split(self.annotation)[0]


@cache
def members_of(structure: type[msgspec.Struct]) -> tuple[Member, ...]:
    """The members of a structure in their order."""
    hints = get_type_hints(structure, include_extras=True)
    return tuple(
        Member(field.name, field.encode_name, without_none(hints[field.name]), field.required)
        for field in msgspec.structs.fields(structure)
    )


def without_none(annotation: Any) -> Any:
    """``annotation`` with ``| None`` taken off."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(argument for argument in get_args(annotation) if argument is not type(None))
    return annotation


@cache
def split(annotation: Any) -> tuple[Any, msgspec.Meta]:
    """The bare type of an annotation and its constraints."""
    annotation = without_none(annotation)
    if get_origin(annotation) is Annotated:
        bare, *notes = get_args(annotation)
        return bare, notes[0]
    return annotation, _NO_META


def note(meta: msgspec.Meta, name: str) -> Any:
    """The generator's note ``name`` on an annotation, ``None`` where there is none."""
    return (meta.extra or {}).get(name)


def is_structure(kind: Any) -> bool:
    """Whether a bare type is a structure."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


_NO_META = msgspec.Meta()
