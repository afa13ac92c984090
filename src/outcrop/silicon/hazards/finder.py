"""All hazards of a run: which searches a mode needs, and one report for what happens again and again between two lines.

``compiler`` mode: conflicts within a core are ordered by the compiler, so that only the order of the program, declared
waits that contradict it, and other cores can go wrong. The graph of instructions is built only where one of the last
two may matter. ``manual`` mode: every conflict within a core must be ordered by a queue, a declaration or a meeting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from outcrop.base.errors import UserError
from outcrop.silicon import chip as chips
from outcrop.silicon.chip import Chip
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.device.settings import limits_of
from outcrop.silicon.hazards.cores import core_races, shared_between
from outcrop.silicon.hazards.hazard import Hazard, Kind, Mode, Severity, bytes_of
from outcrop.silicon.hazards.order import Clocks, Order, Traces, is_transfer, queue_of
from outcrop.silicon.hazards.transfers import self_overlaps, small_descriptors
from outcrop.silicon.hazards.uses import uses
from outcrop.silicon.timing.dependence import Kind as Wait
from outcrop.silicon.timing.overlap import bytes_overlap, partitions_overlap, runs_of

_SEVERITIES = list(Severity)
_CONFLICTS = {
    Wait.FLOW: ("reads", "wrote", "reads what was there before"),
    Wait.ANTI: ("overwrites", "reads", "the reader gets the new bytes"),
    Wait.OUTPUT: ("overwrites", "wrote", "the bytes keep whichever write lands last"),
}


def find_hazards(
    machine: Machine | Traces, *, mode: Mode | str = Mode.compiler, chip: Chip | None = None
) -> list[Hazard]:
    """The hazards of everything that ran on a machine, or of the traces of cores that ran together; worst first.

    ``chip`` tells of traces which chip they are for; a machine knows. A hazard between two lines is told once, with
    how often it occurs.
    """
    try:
        chosen = Mode(mode)
    except ValueError:
        raise UserError(f"There is no mode {mode!r} of hazards.", "It is 'compiler' or 'manual'.") from None
    if isinstance(machine, Machine):
        traces: Traces = [core.trace for core in machine.cores]
        chip = machine.settings.target if chip is None else chip
    else:
        traces = machine
    found: dict[tuple[object, ...], Hazard] = {}
    for each in _all(traces, chosen, chip):
        before = found.get(each.key)
        found[each.key] = each if before is None else before.again(each.count)
    return sorted(
        found.values(), key=lambda each: (_SEVERITIES.index(each.severity), each.first.core, each.first.index)
    )


def _all(traces: Traces, mode: Mode, chip: Chip | None) -> Iterator[Hazard]:
    shared = shared_between(traces)
    if mode is Mode.manual or shared or _declares_forward(traces):
        order = Order(traces, mode)
        cycle = order.cycle()
        if cycle:
            yield _cyclic(cycle, mode)
        else:
            yield from core_races(traces, order, shared)
            if mode is Mode.manual:
                yield from _races(order)
    features = None if chip is None else limits_of(chip).features
    advised = chips.load() if chip is None else chip
    for trace in traces:
        yield from uses(trace, shared, features)
        yield from self_overlaps(trace)
        yield from small_descriptors(trace, advised)


def _declares_forward(traces: Traces) -> bool:
    """Whether anything waits for what the program has later; other waits keep the program's order and cannot cycle."""
    return any(each.index >= one.index for trace in traces for one in trace if one.after for each in one.after)


def _cyclic(cycle: Sequence[Instruction], mode: Mode) -> Hazard:
    first, second = cycle[0], cycle[1] if len(cycle) > 1 else None
    chain = " waits for ".join(
        f"{each.name or each.op} (instruction {each.index} of core {each.core}, line {each.source.line})"
        for each in (*cycle, first)
    )
    reasons = "the bytes they share or what is declared" if mode is Mode.compiler else "what is declared or their queue"
    return Hazard(
        Kind.cyclic_wait,
        Severity.error,
        first,
        second,
        "Instructions wait for each other.",
        f"Every order stops here: {chain}. They wait because of {reasons}.",
        "Take back the declared order (depends_on or with_schedule) that goes against the data.",
    )


def _races(order: Order) -> Iterator[Hazard]:
    """Conflicts within a core that nothing declared orders."""
    clocks = Clocks(order)
    found: dict[tuple[object, ...], tuple[Instruction, Instruction, Wait]] = {}
    times: Counter[tuple[object, ...]] = Counter()
    for number, mine in enumerate(order.conflicts):
        base = order.bases[number]
        second = order.instructions[number]
        for edge in mine:
            if edge.kind is Wait.DECLARED or edge.producer >= second.index:
                continue
            if not clocks.ordered(base + edge.producer, number):
                first = order.instructions[base + edge.producer]
                key: tuple[object, ...] = (first.source, second.source, edge.kind)
                found.setdefault(key, (first, second, edge.kind))
                times[key] += 1
    for seen, each in found.items():
        yield replace(_race(*each), count=times[seen])


def _race(first: Instruction, second: Instruction, kind: Wait) -> Hazard:
    mine, theirs = _common(first, second, kind)
    does, did, outcome = _CONFLICTS[kind]
    aliased = mine.allocation is not theirs.allocation
    named = Kind.race
    if aliased:
        named = Kind.alias_race
    elif is_transfer(first) and is_transfer(second):
        named = Kind.dma_overlap
    elif is_transfer(first):
        named = Kind.unwaited_dma
    late = "the transfer is over" if is_transfer(first) else f"the {first.op} is over"
    queues = (
        f"both on the queue of {queue_of(first)}, which does not wait for transfers"
        if queue_of(first) == queue_of(second)
        else f"on the queues of {queue_of(first)} and {queue_of(second)}"
    )
    return Hazard(
        named,
        Severity.error,
        first,
        second,
        f"The {second.op} {does} {bytes_of(theirs)}, which the {first.op} {did}, and nothing declared orders them.",
        f"The {second.op} runs before {late}, {queues}: {outcome}.",
        "Declare it: second.depends_on(first), a name of each in with_schedule, or both in a no_reorder block.",
    )


def _common(first: Instruction, second: Instruction, kind: Wait) -> tuple[Access, Access]:
    """The operands over which two instructions conflict."""
    mine = first.reads if kind is Wait.ANTI else first.writes
    theirs = second.reads if kind is Wait.FLOW else second.writes
    for one in mine:
        for two in theirs:
            same = one.allocation is two.allocation
            if same and (one.indirect or two.indirect):
                return one, two
            both_explicit = one.allocation.explicit and two.allocation.explicit
            if (same or (both_explicit and one.allocation.region is two.allocation.region)) and (
                partitions_overlap(one, two) and bytes_overlap(runs_of(one), runs_of(two))
            ):
                return one, two
    return mine[0], theirs[0]
