"""Maps of memories by the smallest stretch of bytes that a trace tells apart, so that access patterns become slices.

Most kernels touch a tensor in tiles: all of a tile's bytes have the same history. A ``Ground`` finds the largest
stretch that divides every access of the trace to a place, and the partitions at which accesses begin and end; a map
then has one entry for each stretch and each range of partitions, often a single one.

A place is a tensor, or tensors whose explicit addresses overlap.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.silicon.device.record import Access, Allocation

_MOST_ENTRIES = 1 << 21
# Where the entries of an access are in a map: two slices, or first entry, shape and strides in entries.
Cells = tuple[slice, slice] | tuple[int, tuple[int, ...], tuple[int, ...]]


class Ground:
    """One place: its tensors, and what its maps are divided into. ``closed`` once all accesses are known."""

    def __init__(self, allocations: list[Allocation]) -> None:
        self.allocations = allocations
        self.low = min((each.address or 0 for each in allocations), default=0) if len(allocations) > 1 else 0
        self.shared = len(allocations) > 1
        self._stretch = 0
        self._cuts: set[int] = set()
        self._seen: set[Access] = set()
        self._cells: dict[Access, Cells] = {}
        self._rows: dict[int, int] = {}
        self.rows = 0
        self.columns = 0

    def add(self, access: Access) -> None:
        if access in self._seen:
            return
        self._seen.add(access)
        first, last, start, run, outer = self._place(access)
        stretch = gcd(self._stretch, start, run)
        for step, _ in outer:
            stretch = gcd(stretch, step)
        self._stretch = stretch
        self._cuts.update((first, last + 1))

    def close(self) -> bool:
        """Fix the division; whether a map of it is small enough to keep."""
        end = max(_address(each, shared=self.shared) + each.row_bytes for each in self.allocations) - self.low
        stretch = self._stretch or end
        self.columns = -(-end // stretch)
        self._rows = {cut: at for at, cut in enumerate(sorted(self._cuts))}
        self.rows = max(1, len(self._rows) - 1)
        return self.rows * self.columns <= _MOST_ENTRIES

    def cells(self, access: Access) -> Cells:
        """Where the entries of an access lie in a map."""
        found = self._cells.get(access)
        if found is None:
            first, last, start, run, outer = self._place(access)
            stretch = self._stretch
            row, rows = self._rows[first], self._rows[last + 1] - self._rows[first]
            start //= stretch
            run //= stretch
            if not outer:
                found = slice(row, row + rows), slice(start, start + run)
            elif len(outer) == 1 and run == 1 and outer[0][0] > 0:
                step = outer[0][0] // stretch
                found = slice(row, row + rows), slice(start, start + step * (outer[0][1] - 1) + 1, step)
            else:
                shape = (rows, *[count for _, count in outer], run)
                strides = (self.columns, *[step // stretch for step, _ in outer], 1)
                found = row * self.columns + start, shape, strides
            self._cells[access] = found
        return found

    def _place(self, access: Access) -> tuple[int, int, int, int, list[tuple[int, int]]]:
        """First and last partition, and the pattern of bytes within the place."""
        allocation = access.allocation
        base = _address(allocation, shared=self.shared) - self.low
        if access.indirect:
            first = allocation.start_partition
            return first, first + allocation.partitions - 1, base, allocation.row_bytes, []
        start, run, outer = access.runs()
        if not allocation.on_chip:
            return 0, 0, start, run, outer
        first = access.start_partition
        return first, first + (access.shape[0] - 1) * _partition_step(access), base + start, run, outer


def view(map_: NDArray[Any], cells: Cells) -> NDArray[Any]:
    """The entries of an access in a map ``[rows, columns]``."""
    if len(cells) == 2:
        return map_[cells]
    first, shape, strides = cells
    item = map_.itemsize
    return np.ndarray(shape, map_.dtype, map_, first * item, tuple([each * item for each in strides]))


def is_partial(access: Access) -> bool:
    """Whether an access touches perhaps not all entries of its cells."""
    return access.indirect or (access.allocation.on_chip and access.shape[0] > 1 and _partition_step(access) != 1)


def _partition_step(access: Access) -> int:
    return max(1, access.strides[0] // access.row_elements)


def _address(allocation: Allocation, *, shared: bool) -> int:
    return (allocation.address or 0) if shared else 0


def grounds_of(allocations: Iterable[Allocation]) -> dict[Allocation, Ground]:
    """The place of each tensor: explicit addresses of one core and memory that overlap share one."""
    found: dict[Allocation, Ground] = {}
    explicit: dict[object, list[Allocation]] = {}
    for each in allocations:
        if each.explicit and each.on_chip:
            explicit.setdefault((each.core, each.region), []).append(each)
        else:
            found[each] = Ground([each])
    for each_memory in explicit.values():
        end = -1
        together: list[Allocation] = []
        for each in sorted(each_memory, key=lambda one: one.address or 0):
            start = each.address or 0
            if start >= end and together:
                _group(together, found)
                together = []
            together.append(each)
            end = max(end, start + each.row_bytes)
        _group(together, found)
    return found


def _group(together: list[Allocation], found: dict[Allocation, Ground]) -> None:
    ground = Ground(together)
    for each in together:
        found[each] = ground
