"""First fit: byte ranges for tensors with known lifetimes, around those that lie somewhere already.

Knows nothing of capacity: ``placement`` asked before whether the tensors can fit at all.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from outcrop.silicon.device.record import Allocation
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.settings import Limits

ALIGNMENT = 32  # bytes; DMA and fast engine modes like it, and no documented minimum is larger
_Ranges = list[tuple[int, int]]


class Lived(NamedTuple):
    """An allocation with its lifetime: the half-open range of instructions ``[first, end)``."""

    allocation: Allocation
    first: int
    end: int


def quadrants_of(limits: Limits, partitions: int) -> int:
    """How many quadrants an automatic tensor closes to others: 1, 2 or all. Beyond half it starts at partition 0."""
    count = limits.partitions // limits.quadrant
    height = -(-partitions // limits.quadrant)
    return height if height <= count // 2 else count


def first_fit(limits: Limits, region: MemoryRegion, lived: list[Lived]) -> list[Allocation]:
    """Set ``address`` of the automatic tensors; those that no hole was found for."""
    automatic = [each for each in lived if not each.allocation.explicit]
    fixed = _Fixed(each for each in lived if each.allocation.explicit)
    psum = region is MemoryRegion.psum
    limit = limits.psum_row_bytes if psum else limits.sbuf_row_bytes
    bank = limits.psum_bank_bytes if psum else limit
    unplaced = _fit(limits, automatic, fixed, limit, bank, spread=False)
    if unplaced and any(each.allocation.partitions <= limits.partitions // 2 for each in automatic):
        unplaced = _fit(limits, automatic, fixed, limit, bank, spread=True)
    return unplaced


def _fit(
    limits: Limits, automatic: list[Lived], fixed: _Fixed, limit: int, bank: int, *, spread: bool
) -> list[Allocation]:
    """Place tensors in the order of their first use: all from partition 0 on, or ``spread`` over the quadrants."""
    quadrant = limits.quadrant
    count = limits.partitions // quadrant if spread else 1
    holes: list[_Ranges] = [[(0, limit)] for _ in range(count)]
    ends: list[tuple[int, int, int, tuple[int, ...]]] = []  # (end of life, low, high, quadrants)
    unplaced = []
    for each in automatic:
        while ends and ends[0][0] <= each.first:
            _, low, high, quadrants = heapq.heappop(ends)
            for at in quadrants:
                _give_back(holes[at], low, high)
        size = -(-each.allocation.row_bytes // ALIGNMENT) * ALIGNMENT
        height = quadrants_of(limits, each.allocation.partitions) if spread else 1
        each.allocation.start_partition, each.allocation.address = 0, 0
        for start in range(0, count, height):
            quadrants = tuple(range(start, start + height))
            free = holes[start]
            for at in quadrants[1:]:
                free = _both(free, holes[at])
            blocked = fixed.during(each, start * quadrant)
            place = _hole(free, blocked, size, bank)
            if place is not None:
                each.allocation.start_partition, each.allocation.address = start * quadrant, place
                for at in quadrants:
                    _take(holes[at], place, place + size)
                heapq.heappush(ends, (each.end, place, place + size, quadrants))
                break
        else:
            unplaced.append(each.allocation)
    return unplaced


def _both(one: _Ranges, two: _Ranges) -> _Ranges:
    """What is in both of two sorted lists of ranges."""
    found: _Ranges = []
    at, to = 0, 0
    while at < len(one) and to < len(two):
        low, high = max(one[at][0], two[to][0]), min(one[at][1], two[to][1])
        if low < high:
            found.append((low, high))
        if one[at][1] < two[to][1]:
            at += 1
        else:
            to += 1
    return found


def _hole(holes: _Ranges, blocked: _Ranges, size: int, bank: int) -> int | None:
    """The lowest aligned address with ``size`` free bytes that does not straddle banks needlessly."""
    for low, high in holes:
        at = _aligned(low, size, bank)
        if at + size > high:
            continue
        if not blocked:
            return at
        for start, end in blocked:
            if start >= at + size:
                break
            if end > at:
                at = _aligned(end, size, bank)
        if at + size <= high:
            return at
    return None


def _take(holes: _Ranges, low: int, high: int) -> None:
    """Cut a free range out of the hole that contains it."""
    index = bisect_right(holes, (low, 1 << 62)) - 1
    start, end = holes[index]
    holes[index : index + 1] = [each for each in ((start, low), (high, end)) if each[0] < each[1]]


def _give_back(holes: _Ranges, low: int, high: int) -> None:
    """Make a range free again, and one with the holes next to it."""
    index = bisect_left(holes, (low, high))
    if index < len(holes) and holes[index][0] == high:
        high = holes.pop(index)[1]
    if index and holes[index - 1][1] == low:
        low = holes.pop(index - 1)[0]
        index -= 1
    holes.insert(index, (low, high))


def _aligned(at: int, size: int, bank: int) -> int:
    at = -(-at // ALIGNMENT) * ALIGNMENT
    within = at % bank
    return at if within == 0 or within + size <= bank else at - within + bank


class _Fixed:
    """Explicit tensors, those at one place merged: a place counts as taken from its first to its last use."""

    def __init__(self, lived: Iterable[Lived]) -> None:
        places: dict[tuple[int, int], tuple[int, int, int, int]] = {}
        for each in lived:
            at = each.allocation
            assert at.address is not None
            key = (at.address, at.address + at.row_bytes)
            rows = (at.start_partition, at.start_partition + at.partitions)
            first, end, low, high = places.get(key, (each.first, each.end, *rows))
            places[key] = (min(first, each.first), max(end, each.end), min(low, rows[0]), max(high, rows[1]))
        self.ranges = list(places)
        self.first, self.end, self.low, self.high = np.array(list(places.values()), np.int64).reshape(-1, 4).T

    def during(self, lived: Lived, start: int) -> _Ranges:
        """Byte ranges that are taken at some time in a tensor's life, in one of its partitions from ``start`` on."""
        if not self.ranges:
            return []
        met = (self.first < lived.end) & (lived.first < self.end)
        met &= (self.low < start + lived.allocation.partitions) & (start < self.high)
        return sorted(self.ranges[index] for index in np.flatnonzero(met))
