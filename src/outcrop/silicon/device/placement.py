"""Where tensors without an address lie: decided from their lifetimes, once the run is over.

A tensor is alive from the first to the last instruction that names it; one that a dynamic loop carries from one
iteration to the next, for the whole loop. Two questions are kept apart:

* Does it fit? At every instruction the bytes of all tensors alive are summed for each partition. Where the sum exceeds
  the memory no compiler can place them, and the kernel is refused with the peak set.
* Where does it lie? First fit in the order of first use, around explicit addresses. Where only holes of the wrong sizes
  stand in the way the kernel is not refused (a compiler may reorder, or find a better packing): such tensors are named
  in ``Usage.unplaced`` and get an address that overlaps others.

Not covered: tensors of few partitions could share bytes by lying in different quadrants; all automatic ones start at
partition 0 here, which is also where the start-partition rules saw them.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.record import Allocation, Instruction
from outcrop.silicon.device.refusal import refuse, relaxing
from outcrop.silicon.device.regions import MemoryRegion

SBUF_CAPACITY = rules.rule(
    "sbuf-capacity", "The tensors alive at any one instruction fit into SBUF together.", rules.ARCHITECTURE
)
PSUM_CAPACITY = rules.rule(
    "psum-capacity", "The tensors alive at any one instruction fit into the banks of PSUM.", rules.ARCHITECTURE
)
ALIGNMENT = 32  # bytes; DMA and fast engine modes like it, and no documented minimum is larger
_SHOWN = 12  # tensors of the peak set that a message lists


@dataclass(frozen=True)
class Usage:
    """The fullest moment of one on-chip memory. ``holders`` are the tensors alive then, largest first."""

    region: MemoryRegion
    peak_bytes_per_partition: int
    limit_bytes_per_partition: int
    peak_index: int  # of the instruction in the core's trace; -1 where the memory was not used
    holders: tuple[Allocation, ...]
    unplaced: tuple[Allocation, ...] = ()  # fit by size, but first fit found no hole for them


class _Lived(NamedTuple):
    """An allocation with its lifetime: the half-open range of instructions ``[first, end)``."""

    allocation: Allocation
    first: int
    end: int


def place(core: Core) -> tuple[Usage, ...]:
    """Give every automatic allocation its address; refuses what cannot fit, with the peak set and its lines."""
    lifetimes = _lifetimes(core)
    made = []
    for region in (MemoryRegion.sbuf, MemoryRegion.psum):
        lived = [each for each in lifetimes if each.allocation.region is region]
        usage = _usage(core, region, lived)
        if region is MemoryRegion.psum:
            _require_banks(core, lived)
        unplaced = _first_fit(core, region, lived)
        made.append(Usage(*usage, tuple(unplaced)))
    return tuple(made)


# -- lifetimes --------------------------------------------------------------------------------------------------------


def _lifetimes(core: Core) -> list[_Lived]:
    spans = _loop_spans(core.trace)
    starts = [span.start for span in spans]
    made = []
    for each in core.allocations:
        first, last = each.first_use, each.last_use
        if first < 0:
            continue
        if spans:
            first, last = _carried(spans, starts, first, last)
        made.append(_Lived(each, first, last + 1))
    made.sort(key=lambda lived: (lived.first, lived.allocation.index))
    return made


class _Span(NamedTuple):
    """Instructions of one dynamic loop, ``[start, end)``, and where each of its iterations starts."""

    start: int
    end: int
    iterations: list[int]


def _loop_spans(trace: Sequence[Instruction]) -> list[_Span]:
    """Stretches of the trace inside dynamic loops. Loops directly after one another count as one: longer lifetimes."""
    spans: list[_Span] = []
    before = -1
    start = 0
    iterations: list[int] = []
    for index, each in enumerate(trace):
        loop = each.loop
        if loop == before:
            continue
        if before < 0:
            start, iterations = index, []
        if loop < 0:
            spans.append(_Span(start, index, iterations))
        else:
            iterations.append(index)
        before = loop
    if before >= 0:
        spans.append(_Span(start, len(trace), iterations))
    return spans


def _carried(spans: list[_Span], starts: list[int], first: int, last: int) -> tuple[int, int]:
    """Extend a lifetime that enters, leaves or goes around a loop to the whole of the loop."""
    for index in {bisect_right(starts, first) - 1, bisect_right(starts, last) - 1}:
        if index < 0:
            continue
        span = spans[index]
        within_first = span.start <= first < span.end
        within_last = span.start <= last < span.end
        if within_first and within_last:
            if bisect_right(span.iterations, first) != bisect_right(span.iterations, last):
                return span.start, span.end - 1
        elif within_first:
            first = span.start
        elif within_last:
            last = span.end - 1
    return first, last


# -- whether it fits --------------------------------------------------------------------------------------------------


def _usage(
    core: Core, region: MemoryRegion, lived: list[_Lived]
) -> tuple[MemoryRegion, int, int, int, tuple[Allocation, ...]]:
    """The fullest moment; refused where it needs more than there is."""
    limit = core.limits.sbuf_row_bytes if region is MemoryRegion.sbuf else core.limits.psum_row_bytes
    if not lived:
        return region, 0, limit, -1, ()
    peak, at, partition = _peak(lived, len(core.trace))
    alive = [
        each.allocation
        for each in lived
        if each.first <= at < each.end and _rows(each.allocation)[0] <= partition < _rows(each.allocation)[1]
    ]
    alive.sort(key=lambda each: (-each.row_bytes, each.index))
    if peak > limit:
        rule = SBUF_CAPACITY if region is MemoryRegion.sbuf else PSUM_CAPACITY
        _refuse(core, rule, at, _sizes(alive, peak, limit, region), _advice(region))
    return region, peak, limit, at, tuple(alive)


def _rows(allocation: Allocation) -> tuple[int, int]:
    return allocation.start_partition, allocation.start_partition + allocation.partitions


def _peak(lived: list[_Lived], length: int) -> tuple[int, int, int]:
    """``(bytes, instruction, partition)`` of the fullest moment of the fullest partition."""
    first = np.array([each.first for each in lived])
    end = np.array([each.end for each in lived])
    low = np.array([each.allocation.start_partition for each in lived])
    high = low + np.array([each.allocation.partitions for each in lived])
    size = np.array([each.allocation.row_bytes for each in lived])
    explicit = np.array([each.allocation.explicit for each in lived])
    best = (-1, 0, 0)
    for partition in np.unique(low).tolist():  # usage only grows where a tensor starts
        here = (low <= partition) & (partition < high)
        automatic = here & ~explicit
        change = np.zeros(length + 1, np.int64)
        np.add.at(change, first[automatic], size[automatic])
        np.add.at(change, end[automatic], -size[automatic])
        total = np.cumsum(change)
        fixed = here & explicit
        if fixed.any():
            total += _covered([lived[index] for index in np.flatnonzero(fixed)], length)
        at = int(np.argmax(total))
        if total[at] > best[0]:
            best = (int(total[at]), at, partition)
    return best


def _covered(lived: list[_Lived], length: int) -> Array:
    """Bytes that explicit tensors occupy at each instruction; those that overlap count once."""
    edges = sorted({edge for each in lived for edge in _bytes(each.allocation)})
    sizes = np.diff(np.array(edges))
    holders = np.zeros(len(sizes), np.int64)
    change = np.zeros(length + 1, np.int64)
    events = sorted([(each.first, 1, each.allocation) for each in lived] + [(e.end, -1, e.allocation) for e in lived],
                    key=lambda event: (event[0], event[1]))  # fmt: skip
    for at, step, allocation in events:
        low, high = _bytes(allocation)
        part = slice(bisect_left(edges, low), bisect_left(edges, high))
        held = holders[part]
        flips = held == (0 if step > 0 else 1)
        change[at] += step * int(sizes[part][flips].sum())
        held += step
    return np.cumsum(change)


def _bytes(allocation: Allocation) -> tuple[int, int]:
    assert allocation.address is not None
    return allocation.address, allocation.address + allocation.row_bytes


def _require_banks(core: Core, lived: list[_Lived]) -> None:
    """Tensors of more than half a bank cannot share one: their count is bounded by the number of banks."""
    bank = core.limits.psum_bank_bytes
    large = [each for each in lived if each.allocation.row_bytes * 2 > bank]
    if not large:
        return
    change = np.zeros(len(core.trace) + 1, np.int64)
    fixed = [each for each in large if each.allocation.explicit]
    for each in large:
        if not each.allocation.explicit:
            banks = -(-each.allocation.row_bytes // bank)
            change[each.first] += banks
            change[each.end] -= banks
    total = np.cumsum(change)
    if fixed:
        total += -(-_covered(fixed, len(core.trace)) // bank)
    at = int(np.argmax(total))
    if total[at] <= core.limits.psum_banks:
        return
    alive = [each.allocation for each in large if each.first <= at < each.end]
    alive.sort(key=lambda each: (-each.row_bytes, each.index))
    seen = f"{len(alive)} tensors alive at once need {total[at]} banks of PSUM, and there are {core.limits.psum_banks}:"
    _refuse(core, PSUM_CAPACITY, at, seen + _listed(alive), _advice(MemoryRegion.psum))


def _sizes(alive: list[Allocation], peak: int, limit: int, region: MemoryRegion) -> str:
    return (
        f"{len(alive)} tensors alive at once need {peak} bytes of each partition of {region.value.upper()}, and there "
        f"are {limit}:{_listed(alive)}"
    )


def _listed(alive: list[Allocation]) -> str:
    lines = [
        f"\n  {each.row_bytes:>7} bytes per partition: {each.name} {list(each.shape)} {each.dtype.name}, "
        f"allocated at {each.source.file}:{each.source.line}"
        for each in alive[:_SHOWN]
    ]
    rest = alive[_SHOWN:]
    if rest:
        lines.append(f"\n  {sum(each.row_bytes for each in rest):>7} bytes per partition: {len(rest)} others")
    return "".join(lines) + "\n "


def _advice(region: MemoryRegion) -> str:
    if region is MemoryRegion.sbuf:
        return (
            "Use smaller tiles, allocate a tile inside the loop that uses it, end the use of large ones before this "
            "line, or keep what is needed later in HBM."
        )
    return "Copy results to SBUF (nisa.tensor_copy) before starting the next ones, so that their banks are free again."


def _refuse(core: Core, rule: rules.Rule, at: int, message: str, remedy: str) -> None:
    with relaxing(core.settings.relaxed, core.warned):
        refuse(rule, message, remedy, core.trace[at].source)


# -- where it lies ----------------------------------------------------------------------------------------------------


def _first_fit(core: Core, region: MemoryRegion, lived: list[_Lived]) -> list[Allocation]:
    """Set ``address`` of the automatic tensors; those that no hole was found for."""
    automatic = [each for each in lived if not each.allocation.explicit]
    if not automatic:
        return []
    fixed = _Fixed(each for each in lived if each.allocation.explicit)
    psum = region is MemoryRegion.psum
    limit = core.limits.psum_row_bytes if psum else core.limits.sbuf_row_bytes
    bank = core.limits.psum_bank_bytes if psum else limit
    unplaced = []
    holes = [(0, limit)]
    ends: list[tuple[int, int, int]] = []  # (end of life, low, high)
    for each in automatic:
        while ends and ends[0][0] <= each.first:
            _, low, high = heapq.heappop(ends)
            _give_back(holes, low, high)
        size = -(-each.allocation.row_bytes // ALIGNMENT) * ALIGNMENT
        at = _hole(holes, fixed.during(each), size, bank)
        if at is None:
            unplaced.append(each.allocation)
            each.allocation.address = 0
            continue
        each.allocation.address = at
        _take(holes, at, at + size)
        heapq.heappush(ends, (each.end, at, at + size))
    return unplaced


def _hole(holes: list[tuple[int, int]], blocked: list[tuple[int, int]], size: int, bank: int) -> int | None:
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


def _take(holes: list[tuple[int, int]], low: int, high: int) -> None:
    """Cut a free range out of the hole that contains it."""
    index = bisect_right(holes, (low, 1 << 62)) - 1
    start, end = holes[index]
    holes[index : index + 1] = [each for each in ((start, low), (high, end)) if each[0] < each[1]]


def _give_back(holes: list[tuple[int, int]], low: int, high: int) -> None:
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

    def __init__(self, lived: Iterable[_Lived]) -> None:
        places: dict[tuple[int, int], tuple[int, int, int]] = {}
        for each in lived:
            key = _bytes(each.allocation)
            low = each.allocation.start_partition
            first, end, start = places.get(key, (each.first, each.end, low))
            places[key] = (min(first, each.first), max(end, each.end), min(start, low))
        self.ranges = list(places)
        self.first, self.end, self.start = np.array(list(places.values()), np.int64).reshape(-1, 3).T

    def during(self, lived: _Lived) -> list[tuple[int, int]]:
        """Byte ranges that are taken at some time in a tensor's life, in one of its partitions."""
        if not self.ranges:
            return []
        met = (self.first < lived.end) & (lived.first < self.end) & (self.start < lived.allocation.partitions)
        return sorted(self.ranges[index] for index in np.flatnonzero(met))
