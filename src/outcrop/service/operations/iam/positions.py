"""Where the statements of a policy stand in its text: line and column, counted from one."""

from __future__ import annotations

import json
from collections.abc import Iterator

from outcrop.service.wire.generated import iam as shapes

_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"

Span = tuple[int, int]


def statement_spans(text: str) -> list[Span]:
    """Start and end (one past it) of each statement of a document that was understood before."""
    for key, start, end in _members(text):
        if key == "Statement":
            return [*_elements(text, start)] if text[start] == "[" else [(start, end)]
    return []


def position(text: str, offset: int) -> shapes.Position:
    """The place of a character in ``text``."""
    line_start = text.rfind("\n", 0, offset) + 1
    return shapes.Position(line=text.count("\n", 0, offset) + 1, column=offset - line_start + 1)


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """Key, start and end of the value, for each member of the object that ``text`` is."""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)  # past the colon
        _, end = _DECODER.raw_decode(text, start)
        yield key, start, end
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _elements(text: str, start: int) -> Iterator[Span]:
    """Start and end of each element of the list that begins at ``start``."""
    at = _skip(text, start + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield at, end
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
