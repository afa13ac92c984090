"""What people act on: utilisation, what binds, where the time goes, line by line.

* MFU: operations of matmuls, moves of data left out, over what the tensor engine could do in bfloat16 in the kernel's
  time, launch included. The vendor's definition from instructions (``mfu_inst_estimated_percent``).
* HFU: the same with the transposes that run on the tensor engine (``hfu_estimated_percent``).
* MFU of the data type: the same as MFU, over what the engine could do in the data types that the kernel uses.
* MBU: bytes read from and written to HBM over what one HBM stack could move in that time (``mbu_estimated_percent``).
* DMA share: those bytes over what the core's DMA engines can move in practice, which is less than the stack can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from outcrop.silicon.profile.base import ENGINES, Profile, Row, Traffic


class QueueTime(NamedTuple):
    """One queue of the busiest core."""

    queue: str
    instructions: int
    busy_ns: float
    share: float  # of the kernel's body


class OpTime(NamedTuple):
    """All instructions of one kind on one engine."""

    queue: str
    op: str
    instructions: int
    total_ns: float  # overlaps added up
    active_ns: float  # at least one under way


class LineTime(NamedTuple):
    """One source line. ``critical_ns`` is the part of the kernel's time that it decides."""

    line: int
    instructions: int
    busy_ns: float
    critical_ns: float
    hbm_bytes: int


@dataclass(frozen=True)
class Summary:
    """Figures of a whole profile; shares are of 1."""

    mfu: float
    mfu_of_type: float
    hfu: float
    mbu: float
    dma_share: float
    flops: int
    transpose_flops: int
    bf16_flops: int
    read: Traffic
    written: Traffic
    transfers: int
    descriptors: int
    median_descriptor_bytes: int
    small_descriptor_share: float  # of the bytes, in descriptors below 2 KiB
    intensity: float  # operations per byte of HBM
    roof_flops_per_ns: float  # what the roofline allows at this intensity
    throttle_share: float  # of the body
    dma_engine_share: float  # of the DMA engines' time
    spilled_bytes: int
    peak_sbuf: int
    peak_psum: int
    queues: tuple[QueueTime, ...]
    ops: tuple[OpTime, ...]
    lines: tuple[LineTime, ...]


SMALL_BYTES = 2048


def summarise(profile: Profile) -> Summary:
    """All figures of a profile."""
    chip, rows = profile.chip, profile.rows
    total = max(profile.estimate.expected_ns, 1e-9) * profile.cores
    flops, transposes = sum(row.flops for row in rows), sum(row.transpose_flops for row in rows)
    as_bf16 = sum(row.bf16_flops for row in rows)
    read, written = _summed([row.read for row in rows]), _summed([row.written for row in rows])
    hbm = read.hbm + written.hbm
    sizes = Counter[int]()
    for row in rows:
        if row.is_dma:
            sizes[row.descriptor_bytes] += row.descriptors
    moved = sum(size * count for size, count in sizes.items())
    scale = as_bf16 / (flops + transposes) if flops + transposes else 1.0
    peak = chip.peak_flops_per_ns / scale if scale else chip.peak_flops_per_ns
    intensity = flops / hbm if hbm else 0.0
    memory = min(chip.hbm_bytes_per_ns, chip.dma_bytes_per_ns)
    body = max(profile.body_ns, 1e-9)
    limited = sum(each.end - each.start for core in profile.limited.values() for each in core)
    return Summary(
        mfu=flops / (chip.peak_flops_per_ns * total),
        mfu_of_type=flops / (peak * total),
        hfu=(flops + transposes) / (chip.peak_flops_per_ns * total),
        mbu=hbm / (chip.hbm_bytes_per_ns * total),
        dma_share=hbm / (chip.dma_bytes_per_ns * total),
        flops=flops,
        transpose_flops=transposes,
        bf16_flops=as_bf16,
        read=read,
        written=written,
        transfers=sum(row.is_dma for row in rows),
        descriptors=sum(sizes.values()),
        median_descriptor_bytes=_median(sizes),
        small_descriptor_share=sum(s * n for s, n in sizes.items() if s < SMALL_BYTES) / moved if moved else 0.0,
        intensity=intensity,
        roof_flops_per_ns=min(peak, intensity * memory),
        throttle_share=limited / (body * profile.cores),
        dma_engine_share=profile.dma_busy_ns / (body * chip.dma_engines * profile.cores),
        spilled_bytes=0,  # the kernel language has none: what does not fit is refused
        peak_sbuf=max((each.sbuf for core in profile.occupied.values() for each in core), default=0),
        peak_psum=max((each.psum for core in profile.occupied.values() for each in core), default=0),
        queues=_queues(profile, body),
        ops=_ops(rows),
        lines=_line_times(profile),
    )


def _summed(parts: Sequence[Traffic]) -> Traffic:
    return Traffic(sum(each.hbm for each in parts), sum(each.sbuf for each in parts), sum(each.psum for each in parts))


def _median(sizes: Counter[int]) -> int:
    half, seen = sum(sizes.values()) / 2, 0
    for size in sorted(sizes):
        seen += sizes[size]
        if seen >= half:
            return size
    return 0


def _queues(profile: Profile, body_ns: float) -> tuple[QueueTime, ...]:
    found = []
    for queue in ENGINES:
        by_core = [
            [row for row in profile.rows if row.queue == queue and row.core == core] for core in range(profile.cores)
        ]
        rows = max(by_core, key=lambda rows: sum(row.busy_until - row.start for row in rows), default=[])
        busy = union([(row.start, row.busy_until) for row in rows])
        found.append(QueueTime(queue, len(rows), busy, busy / body_ns))
    names = sorted({row.dma_queue for row in profile.rows if row.is_dma})
    for name in names:
        rows = [row for row in profile.rows if row.dma_queue == name and row.core == 0]
        active = union([(row.moving, row.finish) for row in rows])
        found.append(QueueTime(f"dma {name}", len(rows), active, active / body_ns))
    return tuple(found)


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Rows, without those that were done together with one before as a single instruction."""
    seen: set[tuple[int, str, str, float, float]] = set()
    found = []
    for row in rows:
        key = (row.core, row.queue, row.op, row.start, row.finish)
        if key not in seen or row.is_dma:
            seen.add(key)
            found.append(row)
    return found


def union(spans: Sequence[tuple[float, float]]) -> float:
    """Time covered by at least one."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        if last > end:
            total += last - max(first, end)
            end = last
    return total


def _ops(rows: Sequence[Row]) -> tuple[OpTime, ...]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.queue, row.op), []).append(row)
    found = [
        OpTime(
            queue,
            op,
            len(group),
            sum(row.duration for row in distinct(group)),
            union([(row.start, row.finish) for row in group]),
        )
        for (queue, op), group in groups.items()
    ]
    return tuple(sorted(found, key=lambda each: -each.active_ns))


def _line_times(profile: Profile) -> tuple[LineTime, ...]:
    count, hbm = Counter[int](), Counter[int]()
    busy: dict[int, float] = {}
    for row in profile.rows:
        count[row.line] += 1
        busy[row.line] = busy.get(row.line, 0.0) + row.busy_until - row.start
        hbm[row.line] += row.read.hbm + row.written.hbm
    critical = critical_times(profile)
    found = [LineTime(line, count[line], busy[line], critical.get(line, 0.0), hbm[line]) for line in count]
    return tuple(sorted(found, key=lambda each: (-each.critical_ns, -each.busy_ns)))


def critical_path(profile: Profile) -> tuple[int, ...]:
    """Rows that decide the end, last first: from each to what it waited for, or to its predecessor on its queue."""
    if not profile.rows:
        return ()
    before: list[int] = []
    last: dict[tuple[int, str], int] = {}
    for at, row in enumerate(profile.rows):
        before.append(last.get((row.core, row.queue), -1))
        last[row.core, row.queue] = at
    at = max(range(len(profile.rows)), key=lambda each: profile.rows[each].finish)
    path = []
    while at >= 0:
        path.append(at)
        following = profile.rows[at].waited_for
        at = following if 0 <= following < len(profile.rows) and following != at else before[at]
        if len(path) > len(profile.rows):
            break  # a measured profile may hold what looks like a circle
    return tuple(path)


def critical_times(profile: Profile) -> dict[int, float]:
    """By source line, its share of the path that decides the end; the parts add up to the body's time."""
    found: dict[int, float] = {}
    until = profile.body_ns
    for at in critical_path(profile):
        row = profile.rows[at]
        if row.start < until:
            found[row.line] = found.get(row.line, 0.0) + until - row.start
            until = row.start
    return found
