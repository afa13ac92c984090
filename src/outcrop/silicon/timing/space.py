"""On-chip space over time: handed out in program order at the first use of a tensor, given back after its last.

Because the order is the program's, whatever fits when the kernel runs one instruction at a time never deadlocks here,
and how far a load can run ahead of its use is decided by how much space is left, as double buffering decides it.

Not covered: fragmentation, and tensors of fewer partitions sharing rows; explicit addresses take no part.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import MemoryRegion

_Need = tuple[int, int]  # which memory, and bytes of each partition


class Space:
    """Grants of one core's memories. ``granted_at[i]`` is when instruction i has the space of what it uses first."""

    def __init__(self, trace: Sequence[Instruction], capacity: Mapping[MemoryRegion, int]) -> None:
        regions = list(capacity)
        self.capacity = [capacity[region] for region in regions]
        self.live = [0] * len(regions)
        self.granted_at = [0.0] * len(trace)
        self._next = 0
        self._blocked = False  # the next one waits for a release
        self._first: list[list[_Need]] = [[] for _ in trace]
        self._last: list[list[_Need]] = [[] for _ in trace]
        self._freed: list[list[tuple[float, int]]] = [[] for _ in regions]
        self._time = [0.0] * len(regions)
        number = {region.value: at for at, region in enumerate(regions)}
        seen: dict[int, tuple[_Need, int]] = {}
        for index, instruction in enumerate(trace):
            for access in (*instruction.writes, *instruction.reads):
                allocation = access.allocation
                known = seen.get(allocation.index)
                if known is not None:
                    seen[allocation.index] = (known[0], index)
                elif allocation.on_chip and not allocation.explicit:
                    need = (number[allocation.region.value], allocation.row_bytes)
                    self._first[index].append(need)
                    seen[allocation.index] = (need, index)
        for need, index in seen.values():
            self._last[index].append(need)

    def grant(self) -> list[int]:
        """Instructions that now have their space, in program order, until one must wait for a release."""
        found: list[int] = []
        if self._blocked:
            return found
        first, index = self._first, self._next
        while index < len(first):
            wanted = first[index]
            if wanted:
                at = self._take(wanted)
                if at is None:
                    self._blocked = True
                    break
                self.granted_at[index] = at
            found.append(index)
            index += 1
        self._next = index
        return found

    def force(self, now_ns: float) -> int | None:
        """Hand out the next instruction's space although it is not free, and give its index; ``None`` at the end.

        For kernels that do not fit and run with that rule relaxed: the compiler would spill, which is not modelled.
        """
        if self._next == len(self._first):
            return None
        index = self._next
        for region, size in self._first[index]:
            self.live[region] += size
        self.granted_at[index] = now_ns
        self._next += 1
        self._blocked = False
        return index

    def release(self, index: int, at_ns: float) -> None:
        """Instruction ``index`` finishes at ``at_ns``: what it used last is free then."""
        for region, size in self._last[index]:
            heapq.heappush(self._freed[region], (at_ns, size))
            self._blocked = False

    def _take(self, wanted: Sequence[_Need]) -> float | None:
        """When there is room for all of ``wanted``, which then counts as taken; ``None`` if not yet known."""
        needs: dict[int, int] = {}
        for region, size in wanted:
            needs[region] = needs.get(region, 0) + size
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
        return max([self._time[region] for region in needs])
