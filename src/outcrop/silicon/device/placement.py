"""Where tensors without an address lie: decided from their lifetimes, once the run is over.

A tensor is alive from the first to the last instruction that names it; one that a dynamic loop carries from one
iteration to the next, for the whole loop. Two questions are kept apart:

* Does it fit? At every instruction the bytes of all tensors alive are summed for each partition. Where the sum exceeds
  the memory, it is taken again with loads as late as can be: a compiler chooses when it fetches what nothing on the
  chip computes, and kernels that load all their weights first count on that. Where it still exceeds the memory the
  tensors cannot be placed, and the kernel is refused with the peak set.
* Where does it lie? First fit in the order of first use, around explicit addresses. Where only holes of the wrong sizes
  stand in the way the kernel is not refused (a compiler may reorder, or find a better packing): such tensors are named
  in ``Usage.unplaced`` and get an address that overlaps others.

Tensors of few partitions start at partition 0, which is also where the start-partition rules saw them, unless they fit
only side by side in different quadrants.

Not covered: a compiler may reorder other instructions so that fewer tensors are alive at once, or move some to HBM and
back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.dynamic_loops import loops_of
from outcrop.silicon.device.packing import Lived, first_fit, quadrants_of
from outcrop.silicon.device.record import Allocation, Instruction
from outcrop.silicon.device.refusal import advise, refuse, relaxing
from outcrop.silicon.device.regions import Engine, MemoryRegion

SBUF_CAPACITY = rules.rule(
    "sbuf-capacity",
    "The tensors alive at any one instruction fit into SBUF together, with loads as late as can be.",
    rules.ARCHITECTURE + "; that the compiler chooses when loads start: aws-neuron/nki-library, "
    "core/output_projection/output_projection_tkg.py",
)
SBUF_SPILL = rules.rule(
    "sbuf-spill",
    "Older language: tensors alive at once beyond SBUF are saved to HBM and loaded again, which costs time.",
    "AWS Neuron SDK 2.26, NKI performance guide: compiler generated spilling of intermediate data",
    advisory=True,
)
PSUM_CAPACITY = rules.rule(
    "psum-capacity", "The tensors alive at any one instruction fit into the banks of PSUM.", rules.ARCHITECTURE
)
PSUM_ADDRESS = rules.rule(
    "psum-address",
    "A PSUM tensor at an explicit address starts at the beginning of a bank.",
    "AWS Neuron, NKI migration guide: improved allocation API",
)
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


def place(core: Core, *, spills: bool = False) -> tuple[Usage, ...]:
    """Give every automatic allocation its address; refuses what cannot fit, with the peak set and its lines.

    With ``spills`` what does not fit into SBUF is only warned of: the compiler of the older language saves tensors to
    HBM for a while. Those moves are not in the trace; the tensors have no address.
    """
    lifetimes = _lifetimes(core, [each.first_use for each in core.allocations])
    made = []
    for region in (MemoryRegion.sbuf, MemoryRegion.psum):
        lived = [each for each in lifetimes if each.allocation.region is region]
        usage = _usage(core, region, lived, spills)
        if region is MemoryRegion.psum:
            _require_bank_starts(core, lived)
            _require_banks(core, lived)
        unplaced = first_fit(core.limits, region, lived)
        made.append(Usage(*usage, tuple(unplaced)))
    return tuple(made)


# -- lifetimes --------------------------------------------------------------------------------------------------------


def _lifetimes(core: Core, firsts: list[int]) -> list[Lived]:
    """``firsts`` are the instructions that each allocation is needed from, -1 where it is not used."""
    spans = _loop_spans(core.trace, loops_of(core).outside)
    starts = [span.start for span in spans]
    made = []
    for each, needed in zip(core.allocations, firsts, strict=True):
        first, last = needed, each.last_use
        if first < 0:
            continue
        if spans:
            first, last = _carried(spans, starts, first, last)
        made.append(Lived(each, first, last + 1))
    made.sort(key=lambda lived: (lived.first, lived.allocation.index))
    return made


def _latest_firsts(core: Core) -> list[int]:
    """For each allocation its first instruction that is no load, or of its loads one that cannot wait.

    A load may wait for the first instruction that uses what it loads, unless the kernel writes to where it comes from.
    """
    computed = {
        access.allocation.index for each in core.trace for access in each.writes if not access.allocation.on_chip
    }
    needed: dict[int, int] = {}
    for each in core.trace:
        waits = each.engine is Engine.dma and not any(
            access.allocation.on_chip or access.allocation.index in computed for access in each.reads
        )
        for access in each.reads if waits else (*each.reads, *each.writes):
            needed.setdefault(access.allocation.index, each.index)
    return [needed.get(each.index, each.first_use) for each in core.allocations]


class _Span(NamedTuple):
    """Instructions of one dynamic loop, ``[start, end)``, and where each of its iterations starts."""

    start: int
    end: int
    iterations: list[int]


def _loop_spans(trace: Sequence[Instruction], outside: Mapping[int, int]) -> list[_Span]:
    """Stretches of the trace inside outermost dynamic loops, of which ``outside`` tells the run around each run.

    Loops directly after one another count as one (longer lifetimes); what an inner loop carries only is not extended.
    """
    spans: list[_Span] = []
    before = -1
    start = 0
    iterations: list[int] = []
    for index, each in enumerate(trace):
        loop = each.loop
        while outside.get(loop, -1) >= 0:
            loop = outside[loop]
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
    core: Core, region: MemoryRegion, lived: list[Lived], spills: bool
) -> tuple[MemoryRegion, int, int, int, tuple[Allocation, ...]]:
    """The fullest moment; refused where it needs more than there is."""
    limit = core.limits.sbuf_row_bytes if region is MemoryRegion.sbuf else core.limits.psum_row_bytes
    if not lived:
        return region, 0, limit, -1, ()
    peak, at = _peak(core, [_held(core, each) for each in lived])
    if peak > limit and region is MemoryRegion.sbuf:
        lived = [each for each in _lifetimes(core, _latest_firsts(core)) if each.allocation.region is region]
        peak, at = _peak(core, [_held(core, each) for each in lived])
    alive = _alive(lived, at)
    if peak > limit:
        rule = SBUF_CAPACITY if region is MemoryRegion.sbuf else PSUM_CAPACITY
        if rule is SBUF_CAPACITY and spills:
            rule = SBUF_SPILL
        _refuse(core, rule, at, _sizes(alive, peak, limit, region), _advice(region))
    return region, peak, limit, at, tuple(alive)


def _require_bank_starts(core: Core, lived: list[Lived]) -> None:
    bank = core.limits.psum_bank_bytes
    for each in (lived.allocation for lived in lived):
        if each.explicit and each.address is not None and each.address % bank:
            with relaxing(core.settings.relaxed, core.warned):
                refuse(
                    PSUM_ADDRESS,
                    f"{each} starts {each.address % bank} bytes into a bank.",
                    f"Banks start every {bank} bytes: the nearest before it is at {each.address // bank * bank}. "
                    "Allocate a whole bank and slice it.",
                    each.source,
                )


def _require_banks(core: Core, lived: list[Lived]) -> None:
    """Tensors of more than half a bank cannot share one: their count is bounded by the number of banks."""
    large = [each for each in lived if each.allocation.row_bytes * 2 > core.limits.psum_bank_bytes]
    if not large:
        return
    needed, at = _peak(core, [_held(core, each, core.limits.psum_bank_bytes) for each in large])
    if needed <= core.limits.psum_banks:
        return
    alive = _alive(large, at)
    seen = f"{len(alive)} tensors alive at once need {needed} banks of PSUM, and there are {core.limits.psum_banks}:"
    _refuse(core, PSUM_CAPACITY, at, seen + _listed(alive), _advice(MemoryRegion.psum))


def _alive(lived: list[Lived], at: int) -> list[Allocation]:
    """Tensors alive at an instruction, largest first."""
    alive = [each.allocation for each in lived if each.first <= at < each.end]
    return sorted(alive, key=lambda each: (-each.row_bytes, each.index))


class _Held(NamedTuple):
    """What one tensor takes of each of some quadrants: units of one or more bytes, from a known one or anywhere."""

    first: int
    end: int
    size: int
    low: int | None
    quadrants: tuple[int, ...]


def _held(core: Core, lived: Lived, unit: int = 1) -> _Held:
    each = lived.allocation
    quadrant = core.limits.quadrant
    if each.explicit:
        assert each.address is not None
        low, high = each.address // unit, -(-(each.address + each.row_bytes) // unit)
        rows = each.start_partition, each.start_partition + each.partitions
        return _Held(
            lived.first, lived.end, high - low, low, tuple(range(rows[0] // quadrant, -(-rows[1] // quadrant)))
        )
    height = quadrants_of(core.limits, each.partitions)
    return _Held(lived.first, lived.end, -(-each.row_bytes // unit), None, tuple(range(height)))


def _peak(core: Core, held: list[_Held]) -> tuple[int, int]:
    """``(units of each partition, instruction)`` of the fullest moment.

    Tensors of few partitions may lie in any quadrant, so two bounds are taken: the units of all quadrants together, and
    in each quadrant those of explicit tensors with those of tensors that lie in all quadrants.
    """
    length = len(core.trace)
    count = core.limits.partitions // core.limits.quadrant
    automatic = [each for each in held if each.low is None]
    starts = np.array([each.first for each in automatic], np.int64)
    ends = np.array([each.end for each in automatic], np.int64)
    sizes = np.array([each.size for each in automatic], np.int64)
    heights = np.array([len(each.quadrants) for each in automatic], np.int64)
    anywhere, everywhere = np.zeros(length + 1, np.int64), np.zeros(length + 1, np.int64)
    for change, units in ((anywhere, sizes * heights), (everywhere, sizes * (heights == count))):
        np.add.at(change, starts, units)
        np.subtract.at(change, ends, units)
    area, columns = np.cumsum(anywhere), np.cumsum(everywhere)
    fullest = columns
    known: dict[tuple[int, ...], Array] = {}
    for quadrant in range(count):
        here = tuple(at for at, each in enumerate(held) if each.low is not None and quadrant in each.quadrants)
        if not here:
            continue
        if here not in known:
            known[here] = _covered([held[at] for at in here], length)
        area = area + known[here]
        fullest = np.maximum(fullest, columns + known[here])
    needed = np.maximum(fullest, -(-area // count))
    at = int(np.argmax(needed))
    return int(needed[at]), at


def _covered(held: list[_Held], length: int) -> Array:
    """Units that explicit tensors occupy at each instruction; those that overlap count once."""
    places = [(each.low or 0, (each.low or 0) + each.size) for each in held]
    edges = sorted({edge for place in places for edge in place})
    sizes = np.diff(np.array(edges))
    holders = np.zeros(len(sizes), np.int64)
    change = np.zeros(length + 1, np.int64)
    events = [(each.first, 1, place) for each, place in zip(held, places, strict=True)]
    events += [(each.end, -1, place) for each, place in zip(held, places, strict=True)]
    for at, step, (low, high) in sorted(events):
        part = slice(bisect_left(edges, low), bisect_left(edges, high))
        taken = holders[part]
        flips = taken == (0 if step > 0 else 1)
        change[at] += step * int(sizes[part][flips].sum())
        taken += step
    return np.cumsum(change)


def _sizes(alive: list[Allocation], peak: int, limit: int, region: MemoryRegion) -> str:
    return (
        f"{len(alive)} tensors alive at once need {peak} bytes of each partition of {region.value.upper()}, wherever "
        f"those of few partitions lie, and there are {limit}:{_listed(alive)}"
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
        (advise if rule.advisory else refuse)(rule, message, remedy, core.trace[at].source)
