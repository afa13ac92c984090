"""Scalars as text: in labels, query strings, headers, forms and XML. Timestamps in the three formats of the protocols.

Formats: ``iso8601`` (RFC 3339), ``unixTimestamp`` (epoch seconds, milliseconds kept), ``rfc822`` (IMF-fixdate).
"""

from __future__ import annotations

import base64
import math
import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from outcrop.service.wire.base import BadValue, note, split

SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

_INTEGER = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_QUOTED_ITEM = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|\Z)')


def read_text(text: str, annotation: Any, path: str) -> Any:
    """``text`` as a value that the annotation's type accepts; ``BadValue`` where it is of another kind."""
    kind, meta = split(annotation)
    if kind is str:
        return text
    if kind is int:
        if _INTEGER.fullmatch(text) is None:
            raise BadValue(path, "STRING_VALUE can not be converted to Integer")
        return int(text)
    if kind is float:
        if text in SPECIAL_FLOATS:
            return SPECIAL_FLOATS[text]
        if _NUMBER.fullmatch(text) is None or math.isinf(float(text)):
            raise BadValue(path, "STRING_VALUE can not be converted to Float")
        return float(text)
    if kind is bool:
        if text not in ("true", "false"):
            raise BadValue(path, "STRING_VALUE can not be converted to Boolean")
        return text == "true"
    if kind is datetime:
        return read_moment(text, note(meta, "format") or "iso8601", path)
    return text


def write_text(value: Any, annotation: Any) -> str:
    """``value`` as the text that ``read_text`` reads back; a list as comma-separated items."""
    kind, meta = split(annotation)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return write_float(value)
    if isinstance(value, datetime):
        return str(write_moment(value, note(meta, "format") or "iso8601"))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, list):
        return ", ".join(_quoted(write_text(item, kind.__args__[0])) for item in value)
    return str(value)


def split_header(text: str, annotation: Any) -> list[str]:
    """The items of a list in one header: split at commas, quotes honoured; HTTP dates keep their own comma."""
    kind, meta = split(annotation)
    if kind is datetime and note(meta, "format") == "rfc822":
        parts = text.split(",")
        return [",".join(parts[i : i + 2]).strip() for i in range(0, len(parts), 2)]
    if not text:
        return []
    items, position = [], 0
    while position < len(text):
        found = _QUOTED_ITEM.match(text, position)
        if found is None:
            return [item.strip() for item in text.split(",")]
        items.append(found[2].strip() if found[1] is None else re.sub(r"\\(.)", r"\1", found[1]))
        position = found.end()
    return [*items, ""] if text.endswith(",") else items


def read_moment(value: object, wire_format: str, path: str) -> datetime:
    """A timestamp in one of the three formats, as an aware datetime; a datetime stays as it is."""
    try:
        if isinstance(value, datetime):
            return value
        if wire_format == "unixTimestamp":
            if isinstance(value, str) and _NUMBER.fullmatch(value):
                value = float(value)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return datetime.fromtimestamp(value, UTC)
        elif isinstance(value, str):
            moment = datetime.fromisoformat(value) if wire_format == "iso8601" else parsedate_to_datetime(value)
            if moment.tzinfo is not None:
                return moment
    except (ValueError, OverflowError, OSError):
        pass
    raise BadValue(path, f"The value is not a timestamp in the format {wire_format}")


def write_moment(moment: datetime, wire_format: str) -> str | int | float:
    """A timestamp as text, or as a number where the format is epoch seconds."""
    if wire_format == "unixTimestamp":
        seconds = round(moment.timestamp(), 3)
        return int(seconds) if seconds.is_integer() else seconds
    moment = moment.astimezone(UTC)
    if wire_format == "rfc822":
        return format_datetime(moment.replace(microsecond=0), usegmt=True)
    return moment.isoformat().replace("+00:00", "Z")


def write_float(value: float) -> str:
    """A float as text, with the protocols' names for the values that JSON has no literal for."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _quoted(item: str) -> str:
    if ("," in item and not re.match(r"[A-Z][a-z]{2}, \d", item)) or '"' in item:
        return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return item
