"""Whether two access patterns touch a common byte: exactly, for any strides."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from outcrop.silicon.device.record import Access

Runs = tuple[int, int, tuple[tuple[int, int], ...]]  # first byte, bytes per dense run, ((step in bytes, count), …)

_MOST_RUNS = 1 << 20  # beyond this, overlapping spans count as overlapping bytes


def runs_of(access: Access) -> Runs:
    """The dense runs of an access within a partition (in HBM, within the tensor), at its address if it has one."""
    first, run, outer = access.runs()
    return first + (access.allocation.address or 0), run, tuple(outer)


def span_of(runs: Runs) -> tuple[int, int]:
    """The half-open interval from the first byte to the last."""
    first, run, outer = runs
    low = high = first
    for step, count in outer:
        reach = step * (count - 1)
        if reach < 0:
            low += reach
        else:
            high += reach
    return low, high + run


def bytes_overlap(one: Runs, two: Runs) -> bool:
    """Whether two patterns over the same memory share a byte."""
    one_low, one_high = span_of(one)
    two_low, two_high = span_of(two)
    if one_high <= two_low or two_high <= one_low:
        return False
    if not one[2] and not two[2]:
        return True
    shift = min(one_low, two_low)  # neighbours in a loop differ by a shift only: they share an answer
    return _strided_overlap((one[0] - shift, *one[1:]), (two[0] - shift, *two[1:]))


@lru_cache(maxsize=1 << 16)
def _strided_overlap(one: Runs, two: Runs) -> bool:
    if _count(one) > _MOST_RUNS or _count(two) > _MOST_RUNS:
        return True
    a, b = _starts(one), _starts(two)
    # The run of b that starts last before the end of each run of a must end before that run of a starts.
    at = np.searchsorted(b, a + one[1], side="left") - 1
    found = at >= 0
    return bool(np.any(b[at[found]] + two[1] > a[found]))


def _count(runs: Runs) -> int:
    total = 1
    for _, count in runs[2]:
        total *= count
    return total


def _starts(runs: Runs) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    starts = np.array([runs[0]], np.int64)
    for step, count in runs[2]:
        starts = (starts[:, None] + np.arange(count, dtype=np.int64) * step).reshape(-1)
    starts.sort()
    return starts


def partitions_overlap(one: Access, two: Access) -> bool:
    if not one.allocation.on_chip:
        return True
    start, other = one.start_partition, two.start_partition
    return start < other + two.partitions and other < start + one.partitions
