"""What the kernels of the library are predicted to take, and how far that is from the roofline.

    OMP_NUM_THREADS=1 python bench/silicon_kernels.py [--targets trn1 trn2 trn3] [--quick] [--tune] [--json]

For each kernel at its large sizes: the expected time with its bracket (our scheduler's order and the kernel's own), the
least time of the roofline, their ratio, and the resource that is busiest with its share of the time. ``--tune``
searches each kernel's declared choices too, and tells what the best of them gains over those picked by hand.
``--quick`` takes a quarter of each large size. Not covered: values (the tests hold them against references), and
hardware: these are predictions, whose errors are in docs/reference/accuracy.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from outcrop.silicon import chip, kernels
from outcrop.silicon.chip import Chip
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.kernels.base import KernelCase
from outcrop.silicon.kernels.trial import Task
from outcrop.silicon.kernels.tune import tune
from outcrop.silicon.timing.predict import predict
from outcrop.silicon.timing.timeline import QUEUES, Timeline

_LARGE = 1024  # a size from which --quick takes a quarter


@dataclass(frozen=True)
class Row:
    """One kernel on one chip: times in microseconds."""

    kernel: str
    target: str
    sizes: dict[str, int]
    dtype: str
    instructions: int = 0
    expected_us: float | None = None
    low_us: float = 0.0
    high_us: float = 0.0
    floor_us: float = 0.0
    share: float = 0.0  # of the floor in the expected time
    kind: str = ""
    busiest: str = ""
    busiest_share: float = 0.0
    is_calibrated: bool = True  # the laws of the chip, on profiles of it
    refused: str = ""
    tuned_us: float | None = None
    gain: float | None = None
    tuning: dict[str, Any] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=["trn2"], metavar="CHIP")
    parser.add_argument("--only", default="", help="kernels whose name contains this")
    parser.add_argument("--quick", action="store_true", help="a quarter of each large size")
    parser.add_argument("--tune", action="store_true", help="search each kernel's choices as well")
    parser.add_argument("--trials", type=int, default=64, help="variants to try of a kernel")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds to search a kernel")
    parser.add_argument("--jobs", type=int, default=1, help="processes of a search")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    wanted = [(chip.load(name), case) for name in given.targets for case in kernels.cases().values()]
    wanted = [each for each in wanted if given.only in each[1].name]
    rows: list[Row] = []
    started = time.perf_counter()
    for done, (target, case) in enumerate(wanted):
        show(f"{done} of {len(wanted)}, {time.perf_counter() - started:.0f} s: {case.name} on {target.name}")
        rows.append(measure(case, target, given))
    show("")
    if given.json:
        print(json.dumps({**conditions(), "quick": given.quick, "rows": [asdict(each) for each in rows]}))
        return
    told = conditions()
    print(f"{told['date']}, Python {told['python']}, {time.perf_counter() - started:.0f} s\n")
    print("\n\n".join(table([each for each in rows if each.target == name]) for name in given.targets))


def conditions() -> dict[str, Any]:
    return {
        "date": str(datetime.now(UTC).date()),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


def show(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def measure(case: KernelCase, target: Chip, given: argparse.Namespace) -> Row:
    """Predict one kernel, and search its choices where that was asked for."""
    sizes = {name: size // 4 if given.quick and size >= _LARGE else size for name, size in case.large.items()}
    dtype = "bf16" if "bf16" in case.tolerance else next(iter(case.tolerance))
    try:
        run = case.timing_run(sizes, dtype, target)
    except KernelRefused as refusal:
        return Row(case.name, target.name, sizes, dtype, refused=refusal.rule.name)
    made = predict(run)
    floor = case.floor_us(sizes, dtype, target)
    busiest, share = busiest_of(made.listed, run.traces)
    found: dict[str, Any] = {}
    if given.tune:
        task = Task(case.name, target.name, sizes, dtype)
        best = tune(task, trials=given.trials, jobs=given.jobs, limit_s=given.limit)
        found = {"tuned_us": best.best.expected_us, "gain": best.gain(best.best), "tuning": dict(best.best.tuning)}
    return Row(
        kernel=case.name,
        target=target.name,
        sizes=sizes,
        dtype=dtype,
        instructions=sum(map(len, run.traces)),
        expected_us=made.expected_ns / 1e3,
        low_us=made.low_ns / 1e3,
        high_us=made.high_ns / 1e3,
        floor_us=floor,
        share=floor / (made.expected_ns / 1e3),
        kind=made.kind,
        busiest=busiest,
        busiest_share=share,
        is_calibrated=made.calibrated,
        **found,
    )


def busiest_of(timeline: Timeline, traces: Sequence[Sequence[Instruction]]) -> tuple[str, float]:
    """The queue of an engine, or the DMA engines together, that is busy for the largest share of the time."""
    total = timeline.total_ns
    alike = Counter(trace[0].core for trace in traces if trace)  # ranks' cores have the same number
    shares = {name: max(timeline.busy_ns(name, core) / alike[core] for core in alike) / total for name in QUEUES[:4]}
    shares["DMA"] = timeline.dma_busy_ns / timeline.dma_engines / total
    name = max(shares, key=lambda each: shares[each])
    return name, shares[name]


def table(rows: list[Row]) -> str:
    """One chip's rows as Markdown, those furthest from their floor first."""
    is_tuned = any(each.tuned_us is not None for each in rows)
    heads = ["kernel", "sizes", "type", "instructions", "predicted us", "bracket", "floor us", "of floor", "busiest"]
    heads += ["tuned us", "gain", "choices"] if is_tuned else []
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for each in sorted(rows, key=lambda row: row.share):
        if each.expected_us is None:
            continue
        cells = [
            each.kernel,
            " ".join(f"{name}={size}" for name, size in each.sizes.items()),
            each.dtype,
            f"{each.instructions:,}",
            f"{each.expected_us:,.1f}",
            f"{each.low_us:,.0f} to {each.high_us:,.0f}",
            f"{each.floor_us:,.1f}",
            f"{each.share:.0%}",
            f"{each.busiest} {each.busiest_share:.0%}",
        ]
        if each.tuned_us is not None and each.gain is not None and each.tuning is not None:
            choices = " ".join(f"{name}={value}" for name, value in each.tuning.items()) if each.gain else "as picked"
            cells += [f"{each.tuned_us:,.1f}", f"{each.gain:+.1%}", choices]
        lines.append(f"| {' | '.join(cells)} |")
    name = rows[0].target if rows else ""
    refused = [f"{each.kernel} ({each.refused})" for each in rows if each.refused]
    notes = [f"Not on this chip: {', '.join(refused)}."] if refused else []
    if not all(each.is_calibrated for each in rows):
        notes.append("The laws of this chip are not calibrated on profiles of it.")
    return "\n\n".join([f"## {name}", "\n".join(lines), *notes])


if __name__ == "__main__":
    main()
