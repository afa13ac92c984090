"""Which earlier instructions each instruction must wait for: those that touched the same bytes, one of the two writing.

Tensors that the compiler places never conflict with each other: reusing their space is a matter of capacity, not of
order. Tensors at explicit addresses conflict wherever their bytes do. ``Instruction.after`` adds what is declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.timing.overlap import bytes_overlap, span_of

_BUCKET_BITS = 14  # touches are kept by stretches of 16 KiB, so that a large memory is not searched as a whole


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


# One operand in memory: (index in the trace, first byte, end, first partition, last partition, start of the first
# run, bytes per run, outer dimensions). A plain tuple: there are millions.
_Touch = tuple[int, int, int, int, int, int, int, tuple[tuple[int, int], ...]]
_Shape = tuple[int, tuple[tuple[int, int], ...], int, int]  # bytes per run, outer dimensions, reach below and above


class _Place:
    """What was read and written so far of one tensor, or of one memory for explicit addresses, by stretch of bytes."""

    __slots__ = ("reads", "writes")

    def __init__(self) -> None:
        self.reads: dict[int, list[_Touch]] = {}
        self.writes: dict[int, list[_Touch]] = {}


class _Finder:
    """Turns operands into touches; patterns of the same shape share what can be computed without their position."""

    def __init__(self, trace: Sequence[Instruction]) -> None:
        self.shapes: dict[tuple[object, ...], _Shape] = {}
        self.places: dict[object, _Place] = {}
        self.shared = hbm_of(trace, "reads") & hbm_of(trace, "writes")  # others order nothing

    def touch(self, index: int, access: Access) -> tuple[_Place, _Touch] | None:
        allocation = access.allocation
        region = allocation.region
        on_chip = region is MemoryRegion.sbuf or region is MemoryRegion.psum
        if not on_chip and allocation.index not in self.shared:
            return None
        where: object = region if allocation.explicit else allocation.index
        place = self.places.get(where)
        if place is None:
            place = self.places[where] = _Place()
        address = allocation.address or 0 if allocation.explicit else 0
        first = last = 0
        if access.indirect:
            if on_chip:
                first = allocation.start_partition
                last = first + allocation.partitions - 1
            return place, (
                index, address, address + allocation.row_bytes, first, last, address, allocation.row_bytes, (),
            )  # fmt: skip
        key = (access.shape, access.strides, access.dtype.itemsize, on_chip)
        shape = self.shapes.get(key)
        if shape is None:
            _, run, outer = access.runs()
            low, high = span_of((0, run, tuple(outer)))
            shape = self.shapes[key] = (run, tuple(outer), low, high)
        run, outer_dims, low, high = shape
        item = access.dtype.itemsize
        start = access.offset
        if on_chip:
            partition, start = divmod(start, allocation.row_bytes // item)
            first = allocation.start_partition + partition
            last = first + access.shape[0] - 1
        start = start * item + address
        return place, (index, start + low, start + high, first, last, start, run, outer_dims)


def _find(touch: _Touch, table: dict[int, list[_Touch]], into: list[int]) -> None:
    """Add the indices of the instructions in ``table`` that share a byte with ``touch``."""
    _, low, high, first, last, start, run, outer = touch
    for bucket in range(low >> _BUCKET_BITS, ((high - 1) >> _BUCKET_BITS) + 1):
        for other in table.get(bucket, ()):
            at, its_low, its_high, its_first, its_last, its_start, its_run, its_outer = other
            if its_low >= high or low >= its_high or its_first > last or first > its_last:
                continue
            if (not outer and not its_outer) or bytes_overlap((start, run, outer), (its_start, its_run, its_outer)):
                into.append(at)


def _add(touch: _Touch, table: dict[int, list[_Touch]]) -> None:
    for bucket in range(touch[1] >> _BUCKET_BITS, ((touch[2] - 1) >> _BUCKET_BITS) + 1):
        entries = table.get(bucket)
        if entries is None:
            table[bucket] = [touch]
        else:
            entries.append(touch)


def _forget_covered(touch: _Touch, place: _Place) -> None:
    """A dense write hides what lies wholly below it: later instructions wait for the write instead."""
    _, low, high, first, last, _, _, outer = touch
    if outer:
        return
    for bucket in range(low >> _BUCKET_BITS, ((high - 1) >> _BUCKET_BITS) + 1):
        for table in (place.writes, place.reads):
            entries = table.get(bucket)
            if entries:
                kept = [e for e in entries if not (low <= e[1] and e[2] <= high and first <= e[3] and e[4] <= last)]
                if len(kept) != len(entries):
                    table[bucket] = kept


def hbm_of(trace: Sequence[Instruction], side: str) -> set[int]:
    """The HBM tensors that a trace ``reads`` or ``writes``."""
    found: dict[int, bool] = {}
    for one in trace:
        for access in getattr(one, side):
            allocation = access.allocation
            if allocation.index not in found:
                found[allocation.index] = not allocation.on_chip
    return {index for index, outside in found.items() if outside}


def edges(trace: Sequence[Instruction]) -> list[tuple[Edge, ...]]:
    """For each instruction of one core's trace, what it waits for; transitive waits are not all listed."""
    finder = _Finder(trace)
    touch_of = finder.touch
    found: list[tuple[Edge, ...]] = []
    flow, anti, output = Kind.FLOW, Kind.ANTI, Kind.OUTPUT
    for index, instruction in enumerate(trace):
        mine: dict[int, Kind] = {}
        if instruction.after:
            mine = {each.index: Kind.DECLARED for each in instruction.after}
        hits: list[int] = []
        reads = [made for made in [touch_of(index, each) for each in instruction.reads] if made is not None]
        for place, touch in reads:
            if place.writes:
                _find(touch, place.writes, hits)
        for producer in hits:
            mine[producer] = flow
        writes = [made for made in [touch_of(index, each) for each in instruction.writes] if made is not None]
        for place, touch in writes:
            if place.writes:
                hits = []
                _find(touch, place.writes, hits)
                for producer in hits:
                    mine.setdefault(producer, output)
            if place.reads:
                hits = []
                _find(touch, place.reads, hits)
                for producer in hits:
                    mine.setdefault(producer, anti)
            _forget_covered(touch, place)
            _add(touch, place.writes)
        for place, touch in reads:
            _add(touch, place.reads)
        if not mine:
            found.append(())
        elif len(mine) == 1:
            [(producer, kind)] = mine.items()
            found.append((Edge(producer, kind),) if producer != index else ())
        else:
            mine.pop(index, None)
            found.append(tuple([Edge(producer, mine[producer]) for producer in sorted(mine)]))
    return found
