"""What a queue takes next: in the order of the kernel, or by urgency among what can start."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Protocol

Candidate = tuple[float, int] | None  # when it could start, and which instruction


class Queues(Protocol):
    """All queues of all cores. ``known`` and the others are the replay's own lists, which change under them."""

    def come(self, index: int) -> None:
        """The inputs of an instruction are known now."""

    def head(self, queue: int) -> Candidate:
        """What a queue would start next."""

    def gone(self, index: int) -> None:
        """An instruction has been started."""


class InOrder:
    """Every queue takes its instructions as the kernel wrote them; a meeting waits for all its cores."""

    def __init__(
        self, queue_of: Sequence[int], known: Sequence[float], free_at: Sequence[float], meets: Mapping[int, list[int]]
    ) -> None:
        self.queue_of, self.known, self.free_at, self.meets = queue_of, known, free_at, meets
        self.following: list[list[int]] = [[] for _ in free_at]
        for index in range(len(queue_of) - 1, -1, -1):
            self.following[queue_of[index]].append(index)

    def come(self, index: int) -> None:
        """Nothing to do: the order is fixed."""

    def head(self, queue: int) -> Candidate:
        mine = self.following[queue]
        if not mine:
            return None
        index = mine[-1]
        at = self.known[index]
        if at < 0.0:
            return None
        for each in self.meets.get(index, ()):
            if self.known[each] < 0.0 or self.following[self.queue_of[each]][-1] != each:
                return None
        free = self.free_at[queue]
        return (at if at > free else free), index

    def gone(self, index: int) -> None:
        self.following[self.queue_of[index]].pop()


class ByUrgency:
    """Of the instructions whose inputs are there when a queue is free, the one on the longest path to the end."""

    def __init__(
        self,
        queue_of: Sequence[int],
        known: Sequence[float],
        free_at: Sequence[float],
        done: Sequence[bool],
        priority: Sequence[float],
    ) -> None:
        self.queue_of, self.known, self.free_at, self.done, self.priority = queue_of, known, free_at, done, priority
        self.waiting: list[list[tuple[float, int]]] = [[] for _ in free_at]  # by when their inputs are there
        self.ready: list[list[tuple[float, int]]] = [[] for _ in free_at]  # inputs there, by urgency

    def come(self, index: int) -> None:
        heapq.heappush(self.waiting[self.queue_of[index]], (self.known[index], index))

    def head(self, queue: int) -> Candidate:
        done, waiting, ready = self.done, self.waiting[queue], self.ready[queue]
        while ready and done[ready[0][1]]:
            heapq.heappop(ready)
        while waiting and done[waiting[0][1]]:
            heapq.heappop(waiting)
        now = self.free_at[queue]
        if not ready:
            if not waiting:
                return None
            now = max(now, waiting[0][0])
        while waiting and waiting[0][0] <= now:
            index = heapq.heappop(waiting)[1]
            if not done[index]:
                heapq.heappush(ready, (-self.priority[index], index))
        chosen = ready[0][1]
        return max(now, self.known[chosen]), chosen

    def gone(self, index: int) -> None:
        """Nothing to do: what is done is skipped."""
