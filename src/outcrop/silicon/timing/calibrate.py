"""Laws from real profiles: latency and occupancy of each kind of instruction by robust linear fits, with their errors.

An instruction's duration in a profile is its latency. Its occupancy is what follows from the next start on the same
queue where that came at once; elsewhere a wait is in between, so the least of what was seen at a size counts. Only what
the reader of profiles knows by name is fitted (``profile_replay.OPS``).

Not covered: the tensor engine, DMA, semaphores and the activity limit, whose laws are not lines. Their constants are
those of the chip that the written file extends.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.base.errors import UserError
from outcrop.silicon.timing.laws import Law, Laws, Line
from outcrop.silicon.timing.profile_json import DeviceProfile, ProfiledInstruction
from outcrop.silicon.timing.profile_replay import ENGINES, OPS, law_key

_AT_ONCE_NS = 12.0  # a start this soon after the least gap of its size was not delayed by a wait


@dataclass(frozen=True)
class Fit:
    """One class of instructions: the fitted law, and how far the chip's own law was off on the same samples."""

    law: Law
    sizes: tuple[int, ...]
    error_before: float  # median, relative, of latencies under the laws that the fit started from


@dataclass(frozen=True)
class _Sample:
    elements: int
    duration_ns: float
    gap_ns: float  # to the next start on the queue


Key = tuple[str, str, str, str, str]  # operation, engine, memory, data types, variant


def calibrate(profiles: Sequence[DeviceProfile], laws: Laws) -> list[Fit]:
    """Fit a law to each kind of instruction in the profiles, most samples first."""
    samples: dict[Key, list[_Sample]] = {}
    for profile in profiles:
        for row, following in _with_next(profile):
            key, elements = law_key(row)
            gap = float(following.start - row.start) if following is not None else float("inf")
            samples.setdefault(key, []).append(_Sample(elements, float(row.duration), gap))
    if not samples:
        raise UserError("The profiles have no instruction that laws could be fitted to.", "Give profiles of a kernel.")
    fits = [_fit(key, found, laws) for key, found in samples.items()]
    return sorted(fits, key=lambda each: -each.law.samples)


def _with_next(profile: DeviceProfile) -> list[tuple[ProfiledInstruction, ProfiledInstruction | None]]:
    queues: dict[str, list[ProfiledInstruction]] = {}
    for row in profile.instructions:
        queues.setdefault(row.queue, []).append(row)
    found: list[tuple[ProfiledInstruction, ProfiledInstruction | None]] = []
    for name, rows in queues.items():
        for at, row in enumerate(rows):
            if name in ENGINES and row.opcode in OPS:
                following = rows[at + 1] if at + 1 < len(rows) else None
                found.append((row, following if following is not None and following.opcode in OPS else None))
    return found


def _fit(key: Key, samples: Sequence[_Sample], laws: Laws) -> Fit:
    before = laws.find(*key)
    latency = fit_line([(each.elements, each.duration_ns) for each in samples], before.latency)
    occupancy = fit_line(_undelayed(samples, latency), before.occupancy)
    off = [abs(latency.at(each.elements) / each.duration_ns - 1.0) for each in samples]
    off_before = [abs(before.latency.at(each.elements) / each.duration_ns - 1.0) for each in samples]
    op, engine, memory, dtypes, variant = key
    law = Law(
        op=op, engine=engine, memory=memory, dtypes=dtypes, variant=variant, latency=latency, occupancy=occupancy,
        source="calibration", samples=len(samples), error=round(statistics.median(off), 4),
    )  # fmt: skip
    return Fit(law, tuple(sorted({each.elements for each in samples})), statistics.median(off_before))


def _undelayed(samples: Sequence[_Sample], latency: Line) -> list[tuple[int, float]]:
    """Gaps that are occupancies: near the least of their size, and between streaming alone and the whole latency."""
    possible = [
        each
        for each in samples
        if latency.per_element * each.elements <= each.gap_ns <= latency.at(each.elements) and each.elements > 1
    ]
    least: dict[int, float] = {}
    for each in possible:
        least[each.elements] = min(least.get(each.elements, float("inf")), each.gap_ns)
    return [(e.elements, e.gap_ns) for e in possible if e.gap_ns <= least[e.elements] + _AT_ONCE_NS]


def fit_line(points: Sequence[tuple[int, float]], fallback: Line) -> Line:
    """A line through points by the median of slopes between sizes (Theil and Sen), which outliers do not move.

    With one size the slope is the fallback's and the base is fitted; with no point the fallback is the answer.
    """
    if not points:
        return fallback
    middle = {size: statistics.median(y for x, y in points if x == size) for size in {x for x, _ in points}}
    sizes = sorted(middle)
    slopes = [(middle[b] - middle[a]) / (b - a) for at, a in enumerate(sizes) for b in sizes[at + 1 :]]
    slope = max(0.0, statistics.median(slopes)) if slopes else fallback.per_element
    base = statistics.median(y - slope * x for x, y in points)
    return Line(round(base, 1), round(slope, 4))


def report(fits: Sequence[Fit]) -> str:
    """A table for people: each class with its law, samples, and errors before and after."""
    lines = ["operation              engine  memory dtypes variant   samples  latency ns          error  before"]
    for fit in fits:
        law = fit.law
        shape = f"{law.latency.base:.0f} + {law.latency.per_element:.3f} N"
        lines.append(
            f"{law.op:22} {law.engine:7} {law.memory:6} {law.dtypes:6} {law.variant:9} {law.samples:7}  {shape:18} "
            f"{law.error:6.1%}  {fit.error_before:6.1%}"
        )
    return "\n".join(lines)


def to_toml(fits: Sequence[Fit], chip: str, extends: str, source: str) -> str:
    """A file of laws that extends those of a chip; ``laws.load_file`` reads it beside that chip's file."""
    lines = [
        f"# Fitted by outcrop kernel calibrate; extends the laws of {extends}.",
        "",
        f"chip = {_text(chip)}",
        f"extends = {_text(extends)}",
        "calibrated = true",
        "",
        "[sources]",
        f"calibration = {_text(source)}",
    ]
    for fit in fits:
        law = fit.law
        lines += ["", "[[law]]"]
        lines += [f"{name} = {_text(getattr(law, name))}" for name in ("op", "engine", "memory", "dtypes", "variant")]
        for name in ("latency", "occupancy"):
            line: Line = getattr(law, name)
            lines.append(f"{name} = {{ base = {line.base}, per_element = {line.per_element} }}")
        lines += ['source = "calibration"', f"samples = {law.samples}", f"error = {law.error}"]
    return "\n".join(lines) + "\n"


def write(fits: Sequence[Fit], path: Path, *, chip: str, extends: str, source: str) -> None:
    """Write the fitted laws to a file."""
    path.write_text(to_toml(fits, chip, extends, source), encoding="utf-8")


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
