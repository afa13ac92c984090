"""Percent-encoding, query strings and forms, read strictly: a broken escape is an error, never a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

FORM_BYTES_MAX = 512 * 1024
PAIRS_MAX = 2000

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_FORM_TYPE = b"application/x-www-form-urlencoded"


def percent_decode(raw: bytes) -> str:
    """``raw`` decoded once; ``ValueError`` for a broken escape or for bytes that are not UTF-8."""
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise ValueError("a percent sign is not followed by two hexadecimal digits")
        raw = unquote_to_bytes(raw)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def pairs(raw: bytes, *, form: bool = False) -> list[tuple[str, str]]:
    """Names and values of a query string in order; with ``form``, ``+`` means a space. ``ValueError`` as above."""
    if not raw:
        return []
    if form:
        raw = raw.replace(b"+", b" ")
    pieces = raw.split(b"&")
    if len(pieces) > PAIRS_MAX:
        raise ValueError(f"it has more than {PAIRS_MAX} parameters")
    found = []
    for piece in pieces:
        if piece:
            name, _, value = piece.partition(b"=")
            found.append((percent_decode(name), percent_decode(value)))
    return found


def query_pairs(raw_query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> list[tuple[str, str]]:
    """All parameters of a query-protocol request: those of the query string, then those of the form body."""
    found = pairs(raw_query)
    if body and is_form(headers):
        if len(body) > FORM_BYTES_MAX:
            raise ValueError(f"its form is larger than {FORM_BYTES_MAX} bytes")
        found += pairs(body, form=True)
    return found


def query_action(
    raw_query: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> tuple[str | None, str | None]:
    """``Action`` and ``Version`` of a query-protocol request; ``None`` for what is absent or cannot be read."""
    try:
        found = query_pairs(raw_query, headers, body)
    except ValueError:
        return None, None
    named: dict[str, str] = {}
    for name, value in found:
        named.setdefault(name, value)
    return named.get("Action"), named.get("Version")


def is_form(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the body is declared as a form."""
    return any(name == b"content-type" and value.lower().startswith(_FORM_TYPE) for name, value in headers)
