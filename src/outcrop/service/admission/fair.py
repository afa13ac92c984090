"""Turns at a bounded resource, fair by weight: start-time fair queueing over accounts.

Each account's requests carry a start tag; the smallest goes next. An account that asks for much moves its own tags on
and so waits behind those who ask for little, however many requests it has in the queue. Source: P. Goyal, H. Vin and
H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FairTurns:
    """``slots`` may be held at once; others wait in a queue of at most ``queue_max``."""

    def __init__(self, slots: int, queue_max: int) -> None:
        self.slots_free = slots
        self._queue_max = queue_max
        self._virtual = 0.0
        self._finish: dict[str, float] = {}
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return sum(not future.done() for _, _, future in self._waiting)

    async def enter(self, account: str, cost: float, wait_max_s: float) -> bool:
        """Wait for a turn; False, and nothing held, where the queue is full or the wait would be too long."""
        start = max(self._virtual, self._finish.get(account, 0.0))
        if self.slots_free > 0 and not self.waiting:
            self._begin(account, start, cost)
            return True
        if self.waiting >= self._queue_max:
            return False
        self._finish[account] = start + cost
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (start, next(self._order), future))
        try:
            async with asyncio.timeout(wait_max_s):
                await future
        except TimeoutError:
            self._abandon(future)
            return False
        except asyncio.CancelledError:
            self._abandon(future)
            raise
        return True

    def leave(self) -> None:
        """Give a turn back; the next in line gets it."""
        self.slots_free += 1
        self._serve()

    def _begin(self, account: str, start: float, cost: float) -> None:
        self.slots_free -= 1
        self._virtual = max(self._virtual, start)
        self._finish[account] = start + cost
        if len(self._finish) > 10_000:  # accounts whose tags lie in the past stand no worse without an entry
            self._finish = {name: tag for name, tag in self._finish.items() if tag > self._virtual}

    def _serve(self) -> None:
        while self.slots_free > 0 and self._waiting:
            start, _, future = heapq.heappop(self._waiting)
            if not future.done():
                self.slots_free -= 1
                self._virtual = max(self._virtual, start)
                future.set_result(None)

    def _abandon(self, future: asyncio.Future[None]) -> None:
        """Whoever gives up in the same moment as it is served hands its turn on."""
        if future.done() and not future.cancelled():
            self.leave()
        else:
            future.cancel()
