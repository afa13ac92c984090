"""One event on its way to the disk, and telling whoever waits for it.

Callers wait on event loops or in threads. Those of one loop are told together, with one wake-up for each commit.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from outcrop.base.errors import AuditUnavailable

log = logging.getLogger("outcrop.audit")

Told = Callable[[AuditUnavailable | None], None]


@dataclass(slots=True)
class Entry:
    """An event as JSON; ``told`` is called once it is on the disk, or with the reason why it is not."""

    event: bytes
    told: Told | None = None
    queued_s: float = field(default_factory=time.monotonic)


class LoopTold:
    """Tells a future on its event loop; calls for one loop are bundled, see ``tell``."""

    __slots__ = ("loop", "settle")

    def __init__(self, loop: asyncio.AbstractEventLoop, settle: Told) -> None:
        self.loop = loop
        self.settle = settle

    def __call__(self, error: AuditUnavailable | None) -> None:
        _on_loop(self.loop, [self.settle], error)


def tell(batch: Sequence[Entry], error: AuditUnavailable | None) -> None:
    """Tell everyone who waits for an event of ``batch``."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Told]] = {}
    for entry in batch:
        if isinstance(entry.told, LoopTold):
            by_loop.setdefault(entry.told.loop, []).append(entry.told.settle)
        elif entry.told is not None:
            entry.told(error)
    for loop, settles in by_loop.items():
        _on_loop(loop, settles, error)


def _on_loop(
    loop: asyncio.AbstractEventLoop,
    settles: list[Told],
    error: AuditUnavailable | None,
) -> None:
    def settle_all() -> None:
        for settle in settles:
            settle(error)

    try:
        loop.call_soon_threadsafe(settle_all)
    except RuntimeError:
        log.debug("an event loop ended before its events were on the disk")
