"""On-chip space over time: handed out in program order at the first use of a tensor, given back after its last.

Because the order is the program's, whatever fits when the kernel runs one instruction at a time never deadlocks here,
and how far a load can run ahead of its use is decided by how much space is left, as double buffering decides it.

Not covered: fragmentation, and tensors of fewer partitions sharing rows; explicit addresses take no part.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence

from outcrop.silicon.device.record import Allocation, Instruction
from outcrop.silicon.device.regions import MemoryRegion


class Space:
    """Grants of one core's memories. ``granted_at[i]`` is when instruction i has the space of what it uses first."""

    def __init__(self, trace: Sequence[Instruction], capacity: Mapping[MemoryRegion, int]) -> None:
        self.capacity = capacity
        self.live = dict.fromkeys(capacity, 0)
        self.granted_at = [0.0] * len(trace)
        self._next = 0
        self._first: list[list[Allocation]] = [[] for _ in trace]
        self._last: list[list[Allocation]] = [[] for _ in trace]
        self._freed: dict[MemoryRegion, list[tuple[float, int]]] = {region: [] for region in capacity}
        self._time = dict.fromkeys(capacity, 0.0)
        seen: dict[int, tuple[Allocation, int]] = {}
        for index, instruction in enumerate(trace):
            for access in instruction.accesses():
                allocation = access.allocation
                if allocation.on_chip and not allocation.explicit:
                    if allocation.index not in seen:
                        self._first[index].append(allocation)
                    seen[allocation.index] = (allocation, index)
        for allocation, index in seen.values():
            self._last[index].append(allocation)

    def grant(self) -> Iterator[int]:
        """Instructions that now have their space, in program order, until one must wait for a release."""
        while self._next < len(self._first):
            index = self._next
            at = self._take(self._first[index])
            if at is None:
                return
            self.granted_at[index] = at
            self._next += 1
            yield index

    def force(self, now_ns: float) -> int | None:
        """Hand out the next instruction's space although it is not free, and give its index; ``None`` at the end.

        For kernels that do not fit and run with that rule relaxed: the compiler would spill, which is not modelled.
        """
        if self._next == len(self._first):
            return None
        index = self._next
        for allocation in self._first[index]:
            self.live[allocation.region] += allocation.row_bytes
        self.granted_at[index] = now_ns
        self._next += 1
        return index

    def release(self, index: int, at_ns: float) -> None:
        """Instruction ``index`` finishes at ``at_ns``: what it used last is free then."""
        for allocation in self._last[index]:
            heapq.heappush(self._freed[allocation.region], (at_ns, allocation.row_bytes))

    def _take(self, wanted: Sequence[Allocation]) -> float | None:
        """When there is room for all of ``wanted``, which then counts as taken; ``None`` if not yet known."""
        if not wanted:
            return 0.0
        needs: dict[MemoryRegion, int] = {}
        for allocation in wanted:
            needs[allocation.region] = needs.get(allocation.region, 0) + allocation.row_bytes
        for region, size in needs.items():
            while self.live[region] + size > self.capacity[region]:
                if not self._freed[region]:
                    if self.live[region] == 0:
                        break  # larger than the memory: placement has refused it, or its rule is relaxed
                    return None
                freed_at, freed = heapq.heappop(self._freed[region])
                self.live[region] -= freed
                self._time[region] = max(self._time[region], freed_at)
        for region, size in needs.items():
            self.live[region] += size
        return max(self._time[region] for region in needs)
