"""``additionalModelResponseFieldPaths``: JSON pointers (RFC 6901) into the model's own response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outcrop.service.faults import invalid


def check(paths: Sequence[str] | None) -> None:
    """Refuse what is not a JSON pointer."""
    for path in paths or ():
        if not path.startswith("/"):
            raise invalid(
                f"The additionalModelResponseFieldPaths value {path} is not a valid JSON Pointer. "
                "A JSON Pointer starts with a slash."
            )


def select(paths: Sequence[str] | None, native: dict[str, Any]) -> dict[str, Any] | None:
    """The parts of ``native`` that ``paths`` point at, nested as they were there; ``None`` where none exist."""
    selected: dict[str, Any] = {}
    for path in paths or ():
        keys = [key.replace("~1", "/").replace("~0", "~") for key in path[1:].split("/")]
        value: Any = native
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                break
            value = value[key]
        else:
            into = selected
            for key in keys[:-1]:
                into = into.setdefault(key, {})
            into[keys[-1]] = value
    return selected or None
