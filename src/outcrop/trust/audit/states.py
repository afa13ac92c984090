"""What state a trail is in, what an operator may set, and the words for refusing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from outcrop.base.errors import AuditUnavailable

SEGMENT_BYTES = 64 << 20


class State(StrEnum):
    OPEN = "open"
    FULL = "full"
    """The disk is full; the reserve takes what must be said."""
    EXHAUSTED = "exhausted"
    """The reserve is used up as well."""
    FAILED = "failed"
    CLOSED = "closed"


_WHY = {
    State.FULL: "the disk of the audit trail is full",
    State.EXHAUSTED: "the disk of the audit trail is full, and so is its reserve",
    State.FAILED: "the audit trail's disk failed",
    State.CLOSED: "the audit trail is closed",
}


@dataclass(frozen=True, slots=True)
class TrailConfig:
    """What an operator may set. ``reads_when_full`` lets calls that change nothing go on while the reserve lasts."""

    account: str
    region: str
    reads_when_full: bool = True
    segment_bytes: int = SEGMENT_BYTES


def unavailable(state: State) -> AuditUnavailable:
    return AuditUnavailable(
        f"Nothing can be recorded now: {_WHY[state]}.",
        "Make room on the disk; the trail goes on by itself." if "full" in _WHY[state] else "Restart the service.",
    )
