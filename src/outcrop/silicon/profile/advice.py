"""What to change, and what the clock says it gives: each change is made to the trace and replayed.

Nothing is promised that was not replayed. A change is told only where it gains at least a hundredth. ``try`` marks one
that an edit of the kernel can bring about; ``bound`` an ideal that shows how much there is to gain in a direction.
Gains do not add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from outcrop.base.errors import InvariantError
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.profile.base import ENGINES, Advice, Profile, Row
from outcrop.silicon.profile.clock import Clock, Traces
from outcrop.silicon.profile.rewrite import buffered, by_hardware, in_bf16, may_run_on, moved
from outcrop.silicon.profile.transfers import kept, merged

LEAST_GAIN = 0.01
SMALL_BYTES = 2048  # per descriptor: below, the fixed cost of each shows
_WIDE_BYTES = 4096


class _Change(NamedTuple):
    change: str
    title: str
    reason: str
    traces: Traces
    clock: Clock
    lines: tuple[int, ...] = ()
    verdict: str = "try"


def advice_of(traces: Traces, clock: Clock, profile: Profile) -> tuple[Advice, ...]:
    """Changes that gain something, the largest gain first."""
    now, expected = clock.total_ns(traces), profile.estimate.expected_ns
    found = []
    for each in _changes(traces, clock, profile):
        try:
            predicted = each.clock.total_ns(each.traces)
        except InvariantError:
            continue  # what it keeps on chip does not fit in this order
        if predicted <= now * (1.0 - LEAST_GAIN):
            found.append(
                Advice(each.change, each.title, each.reason, predicted / now * expected, each.lines, each.verdict)
            )
    return tuple(sorted(found, key=lambda each: each.predicted_ns))


def _changes(traces: Traces, clock: Clock, profile: Profile) -> Iterator[_Change]:
    yield from _loads(traces, clock, profile)
    hardware = by_hardware(traces) if "hardware_dge" in clock.limits.features else None
    if hardware is not None:
        yield _Change(
            "two-triggers",
            "Trigger transfers from the sync and scalar engines in turn",
            "Give dma_copy dge_mode=nisa.dge_mode.hwdge with engine=nisa.engine.sync and nisa.engine.scalar in turn: "
            "each queue then triggers half, and hardware makes the descriptors.",
            hardware,
            clock,
            _lines(profile, _is_transfer),
        )
    yield from _engines(traces, clock, profile)
    spare = {
        MemoryRegion.sbuf: clock.limits.sbuf_row_bytes - _peak(profile, "sbuf"),
        MemoryRegion.psum: clock.limits.psum_row_bytes - _peak(profile, "psum"),
    }
    doubled = buffered(traces, spare)
    if doubled is not None:
        yield _Change(
            "one-more-buffer",
            "One more buffer for tensors that are filled again and again",
            "The next filling waits until the last has been read. Allocate inside the loop, or alternate between two.",
            doubled,
            clock,
        )
    narrow = in_bf16(traces)
    if narrow is not None:
        yield _Change(
            "bf16-operands",
            "Matmul operands in bfloat16 instead of float32",
            "float32 takes four times the passes of bfloat16, and twice the bytes. It changes the result's precision.",
            narrow,
            clock,
            _lines(profile, _is_wide),
        )
    if clock.laws.throttle is not None and any(profile.limited.values()):
        yield _Change(
            "no-throttle",
            "A tensor engine that is never limited",
            "It runs at reduced speed after a stretch with little to do: keep matmuls coming, in long runs.",
            traces,
            clock.under(replace(clock.laws, throttle=None)),
            verdict="bound",
        )


def _loads(traces: Traces, clock: Clock, profile: Profile) -> Iterator[_Change]:
    limit = {MemoryRegion.sbuf: clock.limits.sbuf_row_bytes}
    once = kept(traces, limit)
    base = traces
    if once is not None:
        base = once.traces
        repeats = once.repeats
        share = "all" if once.dropped == repeats.again else f"{once.dropped}"
        yield _Change(
            "load-once",
            "Keep what is loaded instead of loading it again",
            f"{repeats.again} of {repeats.loads} loads ({repeats.bytes_again / 1e6:.1f} MB) fetch what an earlier one "
            f"fetched; {share} of them fit in SBUF. Hoist the load out of the loop, or block the loops.",
            base,
            clock,
            _lines(profile, _is_load),
        )
    for change, start, prefix in (("merge-loads", traces, ""), ("load-once-merged", base, "Load once, and ")):
        if change == "load-once-merged" and once is None:
            continue
        wide = merged(start, limit, _WIDE_BYTES, SMALL_BYTES)
        if wide is None:
            continue
        after = ""
        if prefix and once is not None:
            after = f"Without the {once.dropped} loads of what was fetched before, "
        title = f"{prefix}fetch neighbouring tiles with one transfer"
        yield _Change(
            change,
            title[0].upper() + title[1:],
            f"{after}{wide.before} loads with descriptors down to {wide.least_bytes} bytes become {wide.after} with "
            f"up to {_WIDE_BYTES}: fewer triggers, and the fixed cost of a descriptor is spread over more bytes.",
            wide.traces,
            clock,
            _lines_of(profile, wide.lines),
        )


def _engines(traces: Traces, clock: Clock, profile: Profile) -> Iterator[_Change]:
    busy = {
        engine: sum(row.busy_until - row.start for row in profile.rows if row.queue == engine and not row.is_dma)
        for engine in ENGINES
    }
    names = ("vector", "scalar", "gpsimd")
    for source in names:
        if busy[source] < LEAST_GAIN * profile.estimate.expected_ns:
            continue
        for target in names:
            if target == source:
                continue
            for every in (1, 2):
                made = moved(traces, Engine[source], Engine[target], clock.limits.features, every)
                if made is None:
                    continue
                movable = [
                    each
                    for trace in traces
                    for each in trace
                    if each.engine is Engine[source] and may_run_on(each, Engine[target], clock.limits.features)
                ]
                names_of = " and ".join(sorted({each.op for each in movable}))
                yield _Change(
                    f"move-{source}-{target}-{every}",
                    f"Run {names_of if every == 1 else f'every second {names_of}'} on the {target} engine, "
                    f"not on {source}",
                    f"Pass engine=nisa.engine.{target}. Now {source} is busy for {busy[source] / 1e3:.1f} us and "
                    f"{target} for {busy[target] / 1e3:.1f}.",
                    made,
                    clock,
                    _lines_of(profile, movable),
                )


def _peak(profile: Profile, memory: str) -> int:
    return max((getattr(each, memory) for core in profile.occupied.values() for each in core), default=0)


def _is_transfer(row: Row) -> bool:
    return row.is_dma


def _is_load(row: Row) -> bool:
    return row.is_dma and row.read.hbm > 0


def _is_wide(row: Row) -> bool:
    return row.flops > 0 and row.bf16_flops > row.flops


def _lines(profile: Profile, wanted: Callable[[Row], bool], most: int = 3) -> tuple[int, ...]:
    """The lines that spend most time in rows that are ``wanted``."""
    time: dict[int, float] = {}
    for row in profile.rows:
        if wanted(row):
            time[row.line] = time.get(row.line, 0.0) + row.duration
    return tuple(sorted(time, key=lambda line: -time[line])[:most])


def _lines_of(profile: Profile, instructions: Iterable[Instruction], most: int = 3) -> tuple[int, ...]:
    """The lines of these instructions, those with most of them first."""
    places = {(line.file, line.line): index for index, line in enumerate(profile.lines)}
    found = Counter(places[each.source.file, each.source.line] for each in instructions)
    return tuple(line for line, _ in found.most_common(most))
