"""Denied decisions, kept for administrators: what was asked, by whom, and which statements bore on it.

Two files of JSON lines in the data directory, each bounded; when the newer one is full it replaces the older, so the
last ``RECORDS_MAX`` denials at least are there. A denial is found by the id of its request, which every answer carries
in ``x-amzn-requestid``: callers are told no other id, and no more than AWS tells them. Other processes may read.

Not covered: permissions that were given (the audit trail has those); durability, since a denial is not worth waiting
for the disk; and several nodes, each of which has its own file.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from outcrop.base.errors import NotFound
from outcrop.trust.policy import ContextValue, Decision, Request

FILE = "denials.jsonl"
RECORDS_MAX = 2000
VALUE_CHARS_MAX = 512
"""Condition values above this are cut: a user agent may be as long as a header."""
RESOURCE_CHARS_MAX = 2048
CONTEXT_CHARS_MAX = 32_768
"""Condition keys beyond this are left out of a record: an encryption context may be as long as a body."""


class Denials:
    """The denials of one service; any thread may keep one."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._lock = threading.Lock()
        self._written = _count(self._path)

    def keep(self, request_id: str, moment: str, request: Request, decision: Decision) -> None:
        """Remember a denial. A disk that refuses costs the record, not the answer."""
        record = {
            "id": request_id,
            "time": moment,
            "principal": request.requester.arn or request.requester.kind.value,
            "action": request.action,
            "resource": request.resource[:RESOURCE_CHARS_MAX],
            "reason": decision.reason.value,
            "matched": [
                {"policy": each.policy, "role": each.role, "statement": each.statement, "effect": each.effect}
                for each in decision.matched
            ],
            "missing_keys": decision.missing_keys,
            "context": _shown(request.context),
        }
        line = msgspec.json.encode(record) + b"\n"
        with self._lock:
            try:
                if self._written >= RECORDS_MAX:
                    os.replace(self._path, _older(self._path))
                    self._written = 0
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                try:
                    os.write(descriptor, line)
                finally:
                    os.close(descriptor)
            except OSError:
                return
            self._written += 1


def find(directory: Path, request_id: str) -> Mapping[str, object]:
    """The denial of a request, or ``NotFound``; the last one where it was denied more than once."""
    for path in (directory / FILE, _older(directory / FILE)):
        for line in reversed(_lines(path)):
            if request_id in line:
                record: dict[str, object] = json.loads(line)
                if record.get("id") == request_id:
                    return record
    raise NotFound(
        f"No denial of the request {request_id!r} is kept.",
        f"The id is the answer's x-amzn-requestid; the last {RECORDS_MAX} denials are kept.",
    )


def _older(path: Path) -> Path:
    return path.with_suffix(".1.jsonl")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.split("\n")[:-1] if line.startswith("{") and line.endswith("}")]


def _count(path: Path) -> int:
    return len(_lines(path))


def _shown(context: Mapping[str, ContextValue]) -> dict[str, str | list[str]]:
    """The condition keys in order, up to the room there is for them."""
    shown: dict[str, str | list[str]] = {}
    room = CONTEXT_CHARS_MAX
    for key, value in sorted(context.items()):
        kept = value[:VALUE_CHARS_MAX] if isinstance(value, str) else _kept(value, room)
        room -= len(key) + (len(kept) if isinstance(kept, str) else sum(map(len, kept)))
        if room < 0:
            break
        shown[key] = kept
    return shown


def _kept(values: Sequence[str], room: int) -> list[str]:
    """The first of ``values``, cut, that have room."""
    kept: list[str] = []
    for value in values:
        kept.append(value[:VALUE_CHARS_MAX])
        room -= len(kept[-1]) + 1
        if room < 0:
            return kept[:-1]
    return kept
