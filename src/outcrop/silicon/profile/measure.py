"""From a run to its profile: the clock's timeline as rows, with source lines, occupancy and the activity limit.

Not covered: single descriptors (a transfer is served as a whole) and stalls within an instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from outcrop.silicon.chip import Chip as ChipData
from outcrop.silicon.chip.totals import core_totals
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.source import Source
from outcrop.silicon.profile.base import Chip, Edge, Estimate, Occupied, Profile, Row, SourceLine, Window
from outcrop.silicon.profile.clock import Clock, Replayed
from outcrop.silicon.profile.work import flops_of, operands_of, traffic
from outcrop.silicon.timing.laws import Laws
from outcrop.silicon.timing.predict import Prediction
from outcrop.silicon.timing.program import Program
from outcrop.silicon.timing.tensor_engine import Throttle
from outcrop.silicon.timing.timeline import Span

if TYPE_CHECKING:
    from outcrop.silicon.nki.run import Run


_REACTION_NS = 60.0  # from an end to the start that waited for it, about: a semaphore raised and seen


def chip_of(target: ChipData, dma_bytes_per_ns: float | None = None) -> Chip:
    """The figures that a core of ``target`` is judged by."""
    totals = core_totals(target.core)
    core, hbm = target.core, target.device.hbm
    practical = totals.dma_practical_bandwidth or totals.dma_bandwidth
    assert practical is not None
    return Chip(
        name=target.name,
        peak_flops_per_ns=totals.peak["bf16"].value_in("TFLOP/s") * 1e3,
        hbm_bytes_per_ns=hbm.bandwidth.value_in("GB/s") / hbm.stacks.value_in("count"),
        dma_bytes_per_ns=dma_bytes_per_ns or practical.value_in("GB/s"),
        dma_engines=core.dma.engines.int_in("count"),
        sbuf_row_bytes=core.sbuf.bytes_per_partition.int_in("B"),
        psum_row_bytes=core.psum.banks.int_in("count") * core.psum.bytes_per_bank.int_in("B"),
        psum_bank_bytes=core.psum.bytes_per_bank.int_in("B"),
        partitions=core.sbuf.partitions.int_in("count"),
    )


def measure(run: Run, clock: Clock) -> Profile:
    """The profile of a run, as the clock expects it; without bounds and advice."""
    prediction = clock.predict(run)
    return profile_of(
        run.name,
        chip_of(run.target),
        clock,
        clock.replay(run.traces),
        estimate=estimate_of(prediction),
        warnings=tuple(str(each) for each in run.warnings),
    )


def estimate_of(prediction: Prediction) -> Estimate:
    """The bracket and what is known of its error."""
    known = prediction.validation
    if known is not None:
        error = (
            f"predictions of {known.kind}-bound kernels on {known.chip} were {known.error:.0%} off on average "
            f"({known.samples} kernels: {known.source})"
        )
    else:
        error = f"no measurement of a {prediction.kind}-bound kernel on {prediction.chip} is known to us"
    if not prediction.calibrated:
        error += "; the laws of this chip are not calibrated on profiles of it"
    return Estimate(
        expected_ns=prediction.expected_ns,
        low_ns=prediction.low_ns,
        high_ns=prediction.high_ns,
        launch_ns=prediction.listed.launch_ns,
        kind=prediction.kind,
        basis=f"{prediction.listed.launch_ns / 1e3:.1f} us of it are the launch, before and after what is shown; "
        "expected in our scheduler's order; the bracket holds it and the order as written",
        error=error,
    )


def profile_of(
    name: str, chip: Chip, clock: Clock, replayed: Replayed, *, estimate: Estimate, warnings: tuple[str, ...] = ()
) -> Profile:
    """Rows and everything that follows from one replay."""
    program, timeline, phase = replayed
    at = {id(each): index for index, each in enumerate(program.instructions)}
    place = {at[id(span.instruction)]: position for position, span in enumerate(timeline.spans)}
    lines = _Lines()
    finishes = [0.0] * len(program.instructions)
    starts = [0.0] * len(program.instructions)
    for span in timeline.spans:
        index = at[id(span.instruction)]
        finishes[index], starts[index] = span.finish, span.start
    free: dict[tuple[int, str], float] = {}  # when each queue was done with what it took before
    rows = []
    for span in timeline.spans:
        index = at[id(span.instruction)]
        queue = program.core_of[index], span.queue
        made = _row(program, clock.laws, span, index=index, line=lines.index(span.instruction.source))
        rows.append(made._replace(waited_for=_decided(program, span, place, finishes, free.get(queue, 0.0))))
        free[queue] = max(free.get(queue, 0.0), span.busy_until)
    cores = range(program.cores)
    return Profile(
        kernel=name,
        chip=chip,
        cores=program.cores,
        rows=tuple(rows),
        lines=lines.made(),
        estimate=estimate,
        edges=_edges(program, place),
        occupied={core: _occupied(program, core, starts, finishes) for core in cores},
        limited={core: _limited(program, clock.laws, core, timeline.spans, at=at, phase_ns=phase) for core in cores},
        warnings=warnings,
        dma_busy_ns=timeline.dma_busy_ns,
    )


class _Lines:
    """Source lines, each once."""

    def __init__(self) -> None:
        self.at: dict[Source, int] = {}

    def index(self, source: Source) -> int:
        return self.at.setdefault(source, len(self.at))

    def made(self) -> tuple[SourceLine, ...]:
        return tuple(SourceLine(each.file, each.line, each.function, each.text) for each in self.at)


def _row(program: Program, laws: Laws, span: Span, *, index: int, line: int) -> Row:
    instruction, transfer = span.instruction, program.works[index].transfer
    flops = flops_of(instruction)
    moving, dma_queue, pieces, size = span.start, "", 0, 0
    if transfer is not None:
        moving = span.busy_until + (laws.dma.load_dispatch_ns if transfer.load else laws.dma.store_dispatch_ns)
        dma_queue = f"{span.queue} {transfer.path} {'in' if transfer.load else 'out'}"
        pieces, size = transfer.descriptors.pieces, transfer.descriptors.size_bytes
    return Row(
        number=index - program.bounds[program.core_of[index]],
        core=program.core_of[index],
        op=instruction.op,
        queue=span.queue,
        start=span.start,
        busy_until=span.busy_until,
        finish=span.finish,
        moving=min(moving, span.finish),
        dma_queue=dma_queue,
        waited_for=-1,
        line=line,
        name=instruction.name or "",
        operands=operands_of(instruction),
        read=traffic(instruction.reads),
        written=traffic(instruction.writes),
        flops=flops.useful,
        transpose_flops=flops.transposes,
        bf16_flops=flops.as_bf16,
        descriptors=pieces,
        descriptor_bytes=size,
    )


def _decided(program: Program, span: Span, place: dict[int, int], finishes: Sequence[float], free_ns: float) -> int:
    """The row whose end let the instruction start, or -1 where its queue was busy for longer."""
    if span.waited_for is None:
        return -1
    producer = program.bounds[span.waited_for[0]] + span.waited_for[1]
    return place[producer] if finishes[producer] + _REACTION_NS >= free_ns else -1


def _edges(program: Program, place: dict[int, int]) -> tuple[Edge, ...]:
    """Between queues; of several producers on one queue the last, and every DMA, since they end in any order."""
    found: list[Edge] = []
    for index, waits in enumerate(program.waits):
        mine = program.works[index].queue
        newest: dict[int, int] = {}
        for edge in waits:
            work = program.works[edge.producer]
            key = -1 - edge.producer if work.transfer is not None else work.queue
            if key != mine:
                newest[key] = max(newest.get(key, -1), edge.producer)
        found.extend(Edge(place[producer], place[index]) for producer in sorted(newest.values()))
    return tuple(found)


def _occupied(program: Program, core: int, starts: Sequence[float], finishes: Sequence[float]) -> tuple[Occupied, ...]:
    """Bytes per partition of the tensors alive, from the start of their first use to the end of their last."""
    lives: dict[int, tuple[MemoryRegion, int, float, float]] = {}
    for index in range(program.bounds[core], program.bounds[core + 1]):
        for access in program.instructions[index].accesses():
            allocation = access.allocation
            if allocation.on_chip:
                seen = lives.get(allocation.index)
                first = min(seen[2], starts[index]) if seen else starts[index]
                last = max(seen[3], finishes[index]) if seen else finishes[index]
                lives[allocation.index] = (allocation.region, allocation.row_bytes, first, last)
    changes: dict[float, list[int]] = {}
    for region, row_bytes, first, last in lives.values():
        which = 0 if region is MemoryRegion.sbuf else 1
        changes.setdefault(first, [0, 0])[which] += row_bytes
        changes.setdefault(last, [0, 0])[which] -= row_bytes
    sbuf = psum = 0
    found: list[Occupied] = []
    for at in sorted(changes):
        sbuf, psum = sbuf + changes[at][0], psum + changes[at][1]
        found.append(Occupied(at, sbuf, psum))
    return tuple(found)


def _limited(
    program: Program, laws: Laws, core: int, spans: Sequence[Span], *, at: dict[int, int], phase_ns: float
) -> tuple[Window, ...]:
    """Where the tensor engine was limited: the grid judged again from what the replay ran on it, and when."""
    if laws.throttle is None:
        return ()
    throttle, end = Throttle(laws.throttle, phase_ns), 0.0
    for span in spans:
        index = at[id(span.instruction)]
        end = max(end, span.finish)
        passes = program.works[index].passes
        if program.core_of[index] == core and passes is not None:
            throttle.run(span.start, passes.stream_ns)
    if not any(work.passes for work in program.works):
        return ()  # a kernel without matmuls is not slowed by it
    found: list[Window] = []
    for window in sorted(set(throttle.slow_windows)):
        first = max(0.0, throttle.phase_ns + window * laws.throttle.window_ns)
        last = min(end, throttle.phase_ns + (window + 1) * laws.throttle.window_ns)
        if last <= first:
            continue
        if found and abs(found[-1].end - first) < 1.0:
            found[-1] = Window(found[-1].start, last, laws.throttle.slow_rate)
        else:
            found.append(Window(first, last, laws.throttle.slow_rate))
    return tuple(found)
