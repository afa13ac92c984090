"""Which earlier instructions each instruction must wait for: those that touched the same bytes, one of the two writing.

Tensors that the compiler places never conflict with each other: reusing their space is a matter of capacity, not of
order. Tensors at explicit addresses conflict wherever their bytes do. ``Instruction.after`` adds what is declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from outcrop.silicon.device.record import Access, Allocation, Instruction
from outcrop.silicon.timing.overlap import Runs, bytes_overlap, runs_of, span_of

_BUCKET_BYTES = 4096


class Kind(IntEnum):
    """Why an instruction waits for an earlier one."""

    FLOW = 0  # it reads what the earlier one wrote
    ANTI = 1  # it overwrites what the earlier one read
    OUTPUT = 2  # it overwrites what the earlier one wrote
    DECLARED = 3  # the kernel said so


class Edge(NamedTuple):
    """One thing to wait for; ``producer`` is an index into the trace."""

    producer: int
    kind: Kind


class _Touch(NamedTuple):
    at: int  # in the trace
    runs: Runs
    low: int
    high: int
    first_partition: int
    last_partition: int


class _Memory:
    """What was read and written so far, by tensor (or by memory, for explicit addresses) and by bucket of bytes."""

    def __init__(self) -> None:
        self.writes: dict[tuple[object, int], list[_Touch]] = {}
        self.reads: dict[tuple[object, int], list[_Touch]] = {}

    def find(self, place: object, touch: _Touch, table: dict[tuple[object, int], list[_Touch]]) -> set[int]:
        found: set[int] = set()
        for bucket in range(touch.low // _BUCKET_BYTES, (touch.high - 1) // _BUCKET_BYTES + 1):
            for other in table.get((place, bucket), ()):
                if other.at not in found and _conflict(touch, other):
                    found.add(other.at)
        return found

    def add(self, place: object, touch: _Touch, table: dict[tuple[object, int], list[_Touch]]) -> None:
        for bucket in range(touch.low // _BUCKET_BYTES, (touch.high - 1) // _BUCKET_BYTES + 1):
            table.setdefault((place, bucket), []).append(touch)

    def forget_covered(self, place: object, touch: _Touch) -> None:
        """A dense write hides what lies wholly below it: later instructions wait for the write instead."""
        if touch.runs[2]:
            return
        for bucket in range(touch.low // _BUCKET_BYTES, (touch.high - 1) // _BUCKET_BYTES + 1):
            for table in (self.writes, self.reads):
                entries = table.get((place, bucket))
                if entries:
                    table[place, bucket] = [each for each in entries if not _covers(touch, each)]


def _conflict(one: _Touch, two: _Touch) -> bool:
    if one.first_partition > two.last_partition or two.first_partition > one.last_partition:
        return False
    return bytes_overlap(one.runs, two.runs)


def _covers(outer: _Touch, inner: _Touch) -> bool:
    return (
        outer.low <= inner.low
        and inner.high <= outer.high
        and outer.first_partition <= inner.first_partition
        and inner.last_partition <= outer.last_partition
    )


def edges(trace: Sequence[Instruction]) -> list[tuple[Edge, ...]]:
    """For each instruction of one core's trace, what it waits for; transitive waits are not all listed."""
    shared = _conflicting_hbm(trace)
    memory = _Memory()
    found: list[tuple[Edge, ...]] = []
    for index, instruction in enumerate(trace):
        mine: dict[int, Kind] = {each.index: Kind.DECLARED for each in instruction.after}
        reads = [_touch(index, each) for each in instruction.reads if _matters(each, shared)]
        writes = [_touch(index, each) for each in instruction.writes if _matters(each, shared)]
        for place, touch in reads:
            for producer in memory.find(place, touch, memory.writes):
                mine[producer] = Kind.FLOW
        for place, touch in writes:
            for producer in memory.find(place, touch, memory.writes):
                mine.setdefault(producer, Kind.OUTPUT)
            for producer in memory.find(place, touch, memory.reads):
                mine.setdefault(producer, Kind.ANTI)
        for place, touch in writes:
            memory.forget_covered(place, touch)
            memory.add(place, touch, memory.writes)
        for place, touch in reads:
            memory.add(place, touch, memory.reads)
        mine.pop(index, None)
        found.append(tuple(Edge(producer, kind) for producer, kind in sorted(mine.items())))
    return found


def _conflicting_hbm(trace: Sequence[Instruction]) -> set[int]:
    """HBM tensors that the kernel both reads and writes, or writes twice in one place: the others order nothing."""
    read = {each.allocation.index for one in trace for each in one.reads if not each.allocation.on_chip}
    written = {each.allocation.index for one in trace for each in one.writes if not each.allocation.on_chip}
    return read & written


def _matters(access: Access, shared_hbm: set[int]) -> bool:
    return access.allocation.on_chip or access.allocation.index in shared_hbm


def _place(allocation: Allocation) -> object:
    return allocation.region if allocation.explicit else allocation.index


def _touch(index: int, access: Access) -> tuple[object, _Touch]:
    allocation = access.allocation
    if access.indirect:
        runs: Runs = (allocation.address or 0, allocation.row_bytes, ())
        first, last = allocation.start_partition, allocation.start_partition + allocation.partitions - 1
    else:
        runs = runs_of(access)
        first = access.start_partition if allocation.on_chip else 0
        last = first + access.partitions - 1
    low, high = span_of(runs)
    return _place(allocation), _Touch(index, runs, low, high, first, last)
