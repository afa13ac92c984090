"""The clock and randomness ports, each with its twin for tests.

Code that needs the time takes a ``Clock``; nothing below the service calls ``time.time`` itself.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall-clock and monotonic time."""

    def now(self) -> datetime:
        """The current time, timezone-aware, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary origin that never step back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, at: datetime) -> None:
        self._at = at
        self._elapsed_s = 0.0

    def now(self) -> datetime:
        return self._at

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def set(self, at: datetime) -> None:
        """Move the wall clock to ``at``; monotonic time stays."""
        self._at = at
