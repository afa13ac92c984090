"""JSON bodies of the vendor APIs, decoded into typed records with errors that name the member at fault."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*) - at `\$(?P<path>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)


class BodyError(Exception):
    """A body that is not what the schema says: ``path`` as ``messages.0.content``, ``what`` in words.

    ``kind`` is ``unknown`` or ``missing`` for members that may not or must be there, with the name in ``what``.
    """

    def __init__(self, kind: str, path: str, what: str) -> None:
        self.kind = kind
        self.path = path
        self.what = what
        words = {"unknown": f"unknown member {what!r}", "missing": f"member {what!r} is required"}.get(kind, what)
        super().__init__(f"{path}: {words}" if path else words)


def decode(body: bytes, into: type[T]) -> T:
    """``body`` as ``into``, or a ``BodyError``."""
    try:
        return msgspec.json.decode(body, type=into)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BodyError("json", "", f"the body is not valid JSON ({error})") from None


def convert(value: Any, into: type[T]) -> T:
    """A document already decoded, as ``into``, or a ``BodyError``."""
    try:
        return msgspec.convert(value, type=into)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None


def _explain(text: str) -> BodyError:
    path = ""
    if match := _AT.match(text):
        text = match["what"]
        path = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", match["path"]).strip(".")
    if match := _UNKNOWN.match(text):
        return BodyError("unknown", path, match["name"])
    if match := _MISSING.match(text):
        return BodyError("missing", path, match["name"])
    return BodyError("value", path, text)
