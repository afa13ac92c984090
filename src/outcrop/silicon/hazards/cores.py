"""Races between the cores of a logical core: the same bytes of shared HBM, one writing, and no meeting in between.

Accesses of a core that come from the same line and lie between the same meetings are compared as one group. A barrier
orders what happened to its tensor: one on another tensor stands between two accesses in the program, but the engine it
blocks may not be theirs; that is told as a warning. So is a conflict that depends on run-time indices, and bytes that
both cores write from the same line, which is harmless where they write the same values.

Not covered: which elements run-time indices really picked. Where the tensor's first dimension is picked, columns that
differ are taken as different bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.source import Source
from outcrop.silicon.hazards.hazard import Hazard, Kind, Severity, bytes_of
from outcrop.silicon.hazards.order import Meetings, Order, Traces
from outcrop.silicon.timing.overlap import bytes_overlap, runs_of

_MOST_COMPARED = 1 << 14  # pairs of strided accesses of two groups that are compared exactly
_MOST_SPANS = 1 << 22  # pairs of accesses of two groups whose spans are compared at once
_MEETS_ITSELF = frozenset({"core_barrier"})  # names a tensor to order accesses to it, and touches none of its bytes


Passed = list[dict[int, int]]  # by core: where in its trace each meeting is


class _Group:
    """Accesses of one core to one tensor, from one line, between the same meetings."""

    def __init__(self, writes: bool, over: int, waiting: int) -> None:
        self.writes = writes
        self.over = over
        self.waiting = waiting
        self.found: dict[Access, Instruction] = {}
        self._spans: tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...] | None = None

    def spans(self) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...]:
        if self._spans is None:
            made = [(0, each.allocation.row_bytes) if each.indirect else each.span() for each in self.found]
            low, high = np.array(made, np.int64).T
            self._spans = low, high
        return self._spans


_Groups = dict[tuple[Source, bool, int, int], _Group]


class _Pair(NamedTuple):
    """``one`` writes; ``cores`` are the positions of their traces."""

    cores: tuple[int, int]
    one: Instruction
    one_access: Access
    two: Instruction
    two_access: Access


def shared_between(traces: Traces) -> set[int]:
    """The HBM tensors that one core writes and another one touches, by the index of their allocation."""
    users: dict[int, set[int]] = {}
    writers: dict[int, set[int]] = {}
    for at, trace in enumerate(traces):
        for instruction in trace:
            if instruction.op in _MEETS_ITSELF:
                continue
            for each in instruction.reads:
                if each.allocation.region is MemoryRegion.shared_hbm:
                    users.setdefault(each.allocation.index, set()).add(at)
            for each in instruction.writes:
                if each.allocation.region is MemoryRegion.shared_hbm:
                    users.setdefault(each.allocation.index, set()).add(at)
                    writers.setdefault(each.allocation.index, set()).add(at)
    return {index for index in writers if len(users[index]) > 1}


def core_races(traces: Traces, order: Order, shared: set[int]) -> Iterator[Hazard]:
    """Each pair of lines of two cores that race."""
    if not shared:
        return
    meetings = Meetings(order)
    tensors: dict[int, list[_Groups]] = {index: [{} for _ in traces] for index in shared}
    number = 0
    for at, trace in enumerate(traces):
        for instruction in trace:
            over, waiting = meetings.over[number], meetings.waiting[number]
            number += 1
            if instruction.op in _MEETS_ITSELF:
                continue
            for writes, operands in ((True, instruction.writes), (False, instruction.reads)):
                for each in operands:
                    if each.allocation.index in tensors and not each.allocation.on_chip:
                        groups = tensors[each.allocation.index][at]
                        key = (instruction.source, writes, over, waiting)
                        group = groups.get(key)
                        if group is None:
                            group = groups[key] = _Group(writes, over, waiting)
                        group.found.setdefault(each, instruction)
    passed = _passed(traces)
    for by_core in tensors.values():
        for at in range(len(traces)):
            for other in range(at + 1, len(traces)):
                for one in by_core[at].values():
                    for two in by_core[other].values():
                        if not (one.writes or two.writes) or one.waiting & two.over or two.waiting & one.over:
                            continue
                        pair = _common(one, two, (at, other)) if one.writes else _common(two, one, (other, at))
                        if pair is not None:
                            yield _told(pair, passed)


def _common(one: _Group, two: _Group, cores: tuple[int, int]) -> _Pair | None:
    """Two accesses of the groups that share a byte; ones that surely do, where there are such."""
    (low, high), (its_low, its_high) = one.spans(), two.spans()
    mine, theirs = list(one.found.items()), list(two.found.items())
    maybe: _Pair | None = None
    compared = 0
    step = max(1, _MOST_SPANS // len(its_low))
    for start in range(0, len(low), step):
        stop = start + step
        near = (low[start:stop, None] < its_high) & (its_low < high[start:stop, None])
        for at, other in np.argwhere(near):
            a, b = mine[start + int(at)], theirs[int(other)]
            if a[0].indirect or b[0].indirect:
                if maybe is None and _columns_meet(a[0], b[0]):
                    maybe = _Pair(cores, a[1], a[0], b[1], b[0])
            elif bytes_overlap(runs_of(a[0]), runs_of(b[0])):
                return _Pair(cores, a[1], a[0], b[1], b[0])
            compared += 1
            if compared > _MOST_COMPARED:
                return maybe
    return maybe


def _columns_meet(one: Access, two: Access) -> bool:
    a, b = _columns(one), _columns(two)
    return a is None or b is None or (a[0] < b[1] and b[0] < a[1])


def _columns(access: Access) -> tuple[int, int] | None:
    """The bytes within a row of the tensor's first dimension that an access stays in, whichever rows it picks."""
    row = access.allocation.row_bytes // access.allocation.shape[0]
    first, run, outer = access.runs()
    low = first % row
    high = low + run
    for step, count in outer:
        if step % row:
            if step < 0:
                return None
            high += step * (count - 1)
    return (low, high) if high <= row else None


def _passed(traces: Traces) -> Passed:
    return [
        {meeting: each.index for each in trace if isinstance(meeting := each.params.get("meeting"), int)}
        for trace in traces
    ]


def _separated(pair: _Pair, passed: Passed) -> bool:
    """Whether both cores meet after the one access and before the other, as the program is written."""
    mine, theirs = (passed[each] for each in pair.cores)
    one, two = pair.one.index, pair.two.index
    return any(
        (one < at and theirs[meeting] < two) or (at < one and two < theirs[meeting])
        for meeting, at in mine.items()
        if meeting in theirs
    )


def _told(pair: _Pair, passed: Passed) -> Hazard:
    one, two = pair.one, pair.two
    name = pair.one_access.allocation.name
    writes_two = pair.two_access in two.writes
    verb = "writes" if writes_two else "reads"
    what = (
        f"Core {two.core} {verb} {bytes_of(pair.two_access)}, which core {one.core} writes, and nothing orders the two."
    )
    order = f"Core {two.core} comes to its {two.op} before core {one.core} has finished its {one.op}: " + (
        "the bytes keep whichever write lands last." if writes_two else "it reads what was there before."
    )
    remedy = (
        f"On both cores, call nisa.core_barrier({name}, (0, 1)) after the one and before the other; or let the cores "
        "work on different bytes."
    )
    severity = Severity.error
    if pair.one_access.indirect or pair.two_access.indirect:
        severity = Severity.warning
        what += " Indices known only at run time decide whether the bytes are the same."
    elif _separated(pair, passed):
        severity = Severity.warning
        what += " The cores meet in between, but in an instruction that does not wait for these two."
    elif writes_two and one.source == two.source and pair.one_access == pair.two_access:
        severity = Severity.warning
        what += " Harmless only if both write the same values."
        remedy = "Let one core write (if nl.program_id(0) == 0), or each its part: writing twice takes time, too."
    return Hazard(Kind.core_race, severity, one, two, what, order, remedy)
