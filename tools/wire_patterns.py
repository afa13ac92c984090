"""Patterns of the service models (Java's dialect) as Python patterns with the same meaning.

A model's pattern must match the whole string, its character classes are ASCII unless they name a Unicode property, and
its POSIX classes are spelt ``\\p{Print}``. Python's ``re`` knows no ``\\p``: the POSIX ones become ranges, and a
pattern that names a real Unicode property is marked for the ``regex`` package. Two escapes that are a surrogate pair in
Java's UTF-16 become the one character they stand for.
"""

from __future__ import annotations

import re
import warnings

import regex  # type: ignore[import-untyped]

POSIX = {
    "ASCII": r"\x00-\x7F",
    "Alnum": "0-9A-Za-z",
    "Alpha": "A-Za-z",
    "Blank": r" \t",
    "Cntrl": r"\x00-\x1F\x7F",
    "Digit": "0-9",
    "Graph": r"!-~",
    "Lower": "a-z",
    "Print": r" -~",
    "Punct": r"!-/:-@\[-`{-~",
    "Space": r" \t\n\x0B\f\r",
    "Upper": "A-Z",
    "XDigit": "0-9A-Fa-f",
}
PREFIX = r"(?a)\A(?:"
SUFFIX = r")\Z"

_SURROGATES = re.compile(r"\\u([Dd][89ABab][0-9A-Fa-f]{2})\\u([Dd][C-Fc-f][0-9A-Fa-f]{2})")


def translate(pattern: str) -> tuple[str, bool]:
    """The pattern for Python, and whether it needs the ``regex`` package; ``ValueError`` where neither can read it."""
    text = PREFIX + _without_posix(_SURROGATES.sub(_one_character, pattern)) + SUFFIX
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            re.compile(text)
        except re.error:
            text = text.replace("(?a)", "", 1)
        else:
            return text, False
        try:
            regex.compile(text)
        except regex.error as error:
            raise ValueError(f"pattern {pattern!r} cannot be read: {error}") from None
    return text, True


def _one_character(pair: re.Match[str]) -> str:
    """The escape of the character that a surrogate pair stands for."""
    code = 0x10000 + ((int(pair[1], 16) - 0xD800) << 10) + int(pair[2], 16) - 0xDC00
    return f"\\U{code:08X}"


def _without_posix(pattern: str) -> str:
    """``pattern`` with ``\\p{Posix}`` written as ranges and ``\\z`` as Python's ``\\Z``."""
    pieces = []
    inside_class = False
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\":
            escape = re.compile(r"\\(?:p\{(\w+)\}|(.))", re.DOTALL).match(pattern, position)
            if escape is None:
                raise ValueError(f"pattern {pattern!r} ends in a backslash")
            ranges = POSIX.get(escape[1] or "")
            if ranges is not None:
                pieces.append(ranges if inside_class else f"[{ranges}]")
            else:
                pieces.append(r"\Z" if escape[2] == "z" else escape[0])
            position = escape.end()
            continue
        if character == "[":
            inside_class = True
        elif character == "]":
            inside_class = False
        pieces.append(character)
        position += 1
    return "".join(pieces)
