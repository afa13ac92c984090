"""Texts with ``*`` and ``?``, compiled to tests whose time is bounded by pattern length times text length.

A pattern is a tuple of parts: literal text, ``Wild.ANY`` and ``Wild.ONE``. Regular expressions are built from parts
only, with atomic groups, so that no pattern makes them backtrack without bound. Not covered: case (callers fold it) and
policy variables (``variables``), whose values arrive here as literal text and are therefore never wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TypeVar

ARN_COMPONENTS = 6


class Wild(Enum):
    ANY = "*"
    """Any text, also none."""
    ONE = "?"
    """Any one character."""


Part = str | Wild
Parts = tuple[Part, ...]
Test = Callable[[str], bool]
T = TypeVar("T")

_WILD = re.compile(r"([*?])")


def parse(text: str) -> Parts:
    """``text`` as parts, ``*`` and ``?`` being wildcards."""
    return join(Wild(piece) if piece in ("*", "?") else piece for piece in _WILD.split(text))


def join(parts: Iterable[Part]) -> Parts:
    """The same pattern in its shortest form: no empty text, no neighbouring texts, no ``ANY`` beside another."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        elif part and not (part is Wild.ANY and last is Wild.ANY):
            joined.append(part)
    return tuple(joined)


def components(parts: Sequence[T | str], most: int = ARN_COMPONENTS) -> list[tuple[T | str, ...]]:
    """``parts`` split at the colons of their literal texts, into at most ``most``: the last one keeps the rest."""
    found: list[list[T | str]] = [[]]
    for part in parts:
        if not isinstance(part, str):
            found[-1].append(part)
            continue
        for index, piece in enumerate(part.split(":", most - len(found))):
            if index:
                found.append([])
            if piece:
                found[-1].append(piece)
    return [tuple(component) for component in found]


def shortest(parts: Parts) -> int:
    """The length of the shortest text that can match: what is longer than a text need not be compiled for it."""
    return sum(len(part) if isinstance(part, str) else part is Wild.ONE for part in parts)


def like(parts: Parts) -> Test:
    """Whether a whole text matches ``parts``; wildcards match every character."""
    if not any(isinstance(part, Wild) for part in parts):
        return "".join(part for part in parts if isinstance(part, str)).__eq__
    if parts == (Wild.ANY,):
        return lambda text: True
    if len(parts) == 2 and isinstance(parts[0], str) and parts[1] is Wild.ANY:
        prefix = parts[0]
        return lambda text: text.startswith(prefix)
    fullmatch = re.compile(_expression(parts), re.DOTALL).fullmatch
    return lambda text: fullmatch(text) is not None


def like_resource(parts: Parts) -> Test:
    """Whether a resource matches the pattern of a ``Resource`` element.

    A wildcard stays within its component of the ARN, except a ``*`` that ends one: that may run on across colons (IAM
    User Guide, "IAM JSON policy elements: Resource"). In the last component wildcards match every character.
    """
    pieces = components(parts)
    confined = 0
    while confined < min(len(pieces), ARN_COMPONENTS) - 1 and pieces[confined][-1:] != (Wild.ANY,):
        confined += 1
    if not any(isinstance(part, Wild) for piece in pieces[:confined] for part in piece):
        return like(parts)
    *head, tail = (like(join(piece)) for piece in components(parts, confined + 1))

    def test(text: str) -> bool:
        found = text.split(":", confined)
        return len(found) > confined and tail(found[-1]) and all(map(_apply, head, found))

    return test


def like_arn(parts: Parts) -> Test:
    """Whether an ARN matches, its six components one by one (``ArnLike``); a text that is no ARN never does."""
    if parts == (Wild.ANY,):
        return lambda text: text.startswith("arn:") and text.count(":") >= ARN_COMPONENTS - 1
    tests = [like(join(piece)) for piece in components(parts)]
    if len(tests) < ARN_COMPONENTS:
        return lambda text: False

    def test(text: str) -> bool:
        found = text.split(":", ARN_COMPONENTS - 1)
        return len(found) == ARN_COMPONENTS and all(map(_apply, tests, found))

    return test


def _apply(test: Test, text: str) -> bool:
    return test(text)


def _expression(parts: Parts) -> str:
    """The runs between ``ANY`` have fixed lengths, so taking each at its first place, for good, loses no match."""
    runs = [""]
    for part in parts:
        if part is Wild.ANY:
            runs.append("")
        else:
            runs[-1] += "." if part is Wild.ONE else re.escape(str(part))
    first, *between, last = runs if len(runs) > 1 else (*runs, None)
    if last is None:
        return str(first)
    return f"{first}{''.join(f'(?>.*?{run})' for run in between)}.*{last}"
