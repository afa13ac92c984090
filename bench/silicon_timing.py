"""How far predicted times are off: against device profiles, and against every published time of a kernel we can run.

    python bench/silicon_timing.py --profiles PROFILES --sources SOURCES [--write]

PROFILES is a folder with neuron-profile JSON of the trn2 attention kernels at sequence length 512 (allenkchau/
trainium-kernel-fusion at d709ddf, ``profiling/artifacts``). SOURCES holds checkouts, by their repositories' names, of
that repository, aws-neuron-sdk at 49ee15c5, AccelOpt at 47e29a7c, nki-autotune at d57bcc3 and autocomp at dd26a56. What
is missing is left out and said. Each kernel runs without values in a process of its own, for at most ``--seconds``.

``--write`` renews docs/reference/accuracy.md and the errors that predictions are told with. Not covered: values (that
is the conformance runner), and hardware.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from outcrop.silicon.device.settings import limits_of
from outcrop.silicon.nki import language as nl
from outcrop.silicon.nki.run import run
from outcrop.silicon.timing.laws import load
from outcrop.silicon.timing.predict import predict
from outcrop.silicon.timing.profile_json import read_profile
from outcrop.silicon.timing.profile_replay import replay_profile
from outcrop.silicon.timing.program import prepare
from outcrop.silicon.timing.replay import collector_paused, replay_program
from silicon_functional import matmul_kernel
from silicon_timing_cases import CASES, Case, run_case

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "accuracy.md"
VALIDATION = PAGE.parents[2] / "src" / "outcrop" / "silicon" / "timing" / "data" / "validation.toml"
NOT_MODELLED = """\
- The order and allocation of the vendor's compiler. Ours is a list scheduler with the merging that the profiles show;
  loop-invariant code is not moved, work is not shared out again between Vector, Scalar and GpSimd where the kernel
  leaves the engine open, and nothing is spilled.
- Ports: VectorE and GpSimdE sharing SBUF, two engines on one PSUM bank, DVE fast modes against GpSimd.
- HBM as more than a rate per core: channels, pages, refresh, two cores on one stack. Reads come back unevenly in the
  profiles; the law has their mean.
- Instruction fetch, which is DMA traffic of its own, and the time of a launch beyond a constant.
- Strides within a partition, which slow engines by up to two; matmuls on part of the rows counting less activity.
- Function tables of ScalarE that serve several functions: every change of function loads a table (1.28 us on trn2).
- Networks between servers; collectives follow one formula by size and number of ranks.
- trn1: cycle formulas of the documents. The older measurements of the vendor's matmul tutorial need a DMA rate of
  7 B/ns an engine where loads are short; later ones of the same kernel (autocomp's first step) agree with 18.
- trn3 and inf2: no measurement at all.
"""


@dataclass(frozen=True)
class Row:
    """One kernel: measured and predicted, in microseconds."""

    case: Case
    expected_us: float
    low_us: float
    high_us: float
    kind: str
    instructions: int
    failure: str = ""

    @property
    def error(self) -> float:
        return self.expected_us / self.case.measured_us - 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", type=Path)
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0, help="for each kernel")
    parser.add_argument("--only", default="", help="kernels whose name contains this")
    parser.add_argument("--results", type=Path, help="folder that keeps results: what is there is not run again")
    parser.add_argument("--no-run", action="store_true", help="only what --results holds")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measure(next(each for each in CASES if each.name == given.case), given.sources)))
        return
    parts = [heading()]
    rows: list[Row] = []
    if given.profiles:
        parts.append(profiles(given.profiles, given.sources))
    if given.sources:
        chosen = [each for each in CASES if given.only in each.name]
        rows = [kept(each, given) for each in chosen]
        parts.append(kernels(rows))
    if not given.only:
        parts.append(speed())
    parts.append("## Not modelled\n\n" + NOT_MODELLED)
    page = "\n".join(parts)
    print(page)
    if given.write:
        if given.sources and not given.only:
            VALIDATION.write_text(validation([each for each in rows if not each.failure]), encoding="utf-8")
        PAGE.write_text(page, encoding="utf-8")


def heading() -> str:
    return f"""\
<!-- Generated by `python bench/silicon_timing.py --write`. Do not edit. -->
# Accuracy of predicted times

*{datetime.now(UTC).date()}, Python {platform.python_version()}, {os.cpu_count()} cores of {platform.machine()}.*

Errors are predicted over measured, minus one. trn2 is calibrated on the four profiles below and on published laws of
single instructions, and on nothing else; trn1 follows documents. No constant belongs to one kernel.
"""


# -- profiles ---------------------------------------------------------------------------------------------------------


def profiles(folder: Path, sources: Path | None) -> str:
    """The profiles in their compiled order, and the same kernels in ours."""
    laws = load("trn2")
    lines = [
        "## Device profiles in their compiled order (trn2, calibration)",
        "",
        "Queues, waits and order are the profile's; every duration is a law's. Where the grid of the tensor engine's",
        "activity limit lies is taken from the profile. The last column is the kernel's text in our scheduler's order,",
        "against the same measured body.",
        "",
        "| profile | measured us | error | without the activity limit | in our order |",
        "|---|---:|---:|---:|---:|",
    ]
    errors: list[float] = []
    ours: list[float] = []
    classes: dict[str, list[float]] = {}
    for path in sorted(folder.glob("*.json*")):
        profile = read_profile(path)
        made, free = replay_profile(profile, laws), replay_profile(profile, laws, throttled=False)
        errors.append(abs(made.error))
        scheduled = in_our_order(made.name, sources)
        told = "not run"
        if scheduled is not None:
            ours.append(abs(scheduled / made.measured_ns - 1.0))
            told = f"{scheduled / made.measured_ns - 1.0:+.1%}"
        lines.append(f"| {made.name} | {made.measured_ns / 1e3:.2f} | {made.error:+.1%} | {free.error:+.1%} | {told} |")
        for name, found in made.duration_errors().items():
            classes.setdefault(name, []).extend(found)
    every = [abs(each) for found in classes.values() for each in found]
    lines += [
        "",
        f"**Mean absolute error {statistics.mean(errors):.1%} in the compiled order"
        + (f", {statistics.mean(ours):.1%} in our scheduler's" if ours else "")
        + ".** Instructions, start to result: median absolute error "
        + f"{statistics.median(every):.1%} over {len(every)}.",
        "",
        "| queue and operation | samples | median error | worst |",
        "|---|---:|---:|---:|",
    ]
    for name, found in sorted(classes.items(), key=lambda item: -statistics.median(map(abs, item[1]))):
        off = [abs(each) for each in found]
        lines.append(f"| {name} | {len(off)} | {statistics.median(off):.1%} | {max(off):.0%} |")
    return "\n".join(lines) + "\n"


def in_our_order(profile: str, sources: Path | None) -> float | None:
    """The body in ns that we predict for the kernel of a profile such as ``fused_fp32_s512``."""
    kind, dtype, length = profile.split("_")[:3]
    found = [each for each in CASES if each.name == f"{kind} attention {dtype} {length[1:]}"]
    if sources is None or not found:
        return None
    made = predict(run_case(found[0], sources))
    return made.expected_ns - load("trn2").launch_ns


# -- kernels ----------------------------------------------------------------------------------------------------------


def measure(case: Case, sources: Path) -> dict[str, object]:
    ran = run_case(case, sources)
    made = predict(ran)
    return {
        "expected_us": made.expected_ns / 1e3,
        "low_us": made.low_ns / 1e3,
        "high_us": made.high_ns / 1e3,
        "kind": made.kind,
        "instructions": sum(map(len, ran.traces)),
    }


def kept(case: Case, given: argparse.Namespace) -> Row:
    """A case's row, from the folder of results or by running it."""
    place = given.results / f"{re.sub('[^a-z0-9]+', '-', case.name.lower())}.json" if given.results else None
    if place is not None and place.is_file():
        return Row(case=case, **json.loads(place.read_text()))
    if given.no_run:
        return Row(case, 0.0, 0.0, 0.0, "", 0, "not run this time")
    row = in_process(case, given.sources, given.seconds)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(
            json.dumps({each.name: getattr(row, each.name) for each in fields(Row) if each.name != "case"})
        )
    return row


def in_process(case: Case, sources: Path, seconds: float) -> Row:
    command = [sys.executable, "-W", "ignore", __file__, "--case", case.name, "--sources", str(sources)]
    nothing = {"expected_us": 0.0, "low_us": 0.0, "high_us": 0.0, "kind": "", "instructions": 0}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else nothing
        failure = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1][:160]
    except subprocess.TimeoutExpired:
        found, failure = nothing, f"longer than {seconds:.0f} s"
    row = Row(case=case, failure=failure, **found)
    print(f"{case.name}: {row.failure or f'{row.error:+.1%}'}", file=sys.stderr, flush=True)
    return row


def kernels(rows: Sequence[Row]) -> str:
    made = [each for each in rows if not each.failure]
    lines = [
        "## Kernels in our scheduler's order",
        "",
        "Published times of kernels whose text is public, with the launch where the published figure has it. *Blind*",
        "means that neither a constant nor a modelling choice was made after seeing it; *seen*, that one was, or that",
        "the figure is from a run whose profile was used. Worst first.",
        "",
        "| kernel | chip | measured us | predicted us | bracket us | error | bound by | seen | source |",
        "|---|---|---:|---:|---:|---:|---|---|---|",
    ]
    for row in sorted(made, key=lambda each: -abs(each.error)):
        lines.append(
            f"| {row.case.name} | {row.case.chip} | {row.case.measured_us:,.1f} | {row.expected_us:,.1f} | "
            f"{row.low_us:,.1f} to {row.high_us:,.1f} | {row.error:+.1%} | {row.kind} | "
            f"{'blind' if row.case.blind else 'seen'} | {row.case.source} |"
        )
    lines += ["", "| set | kernels | mean absolute error | median | rank correlation |", "|---|---:|---:|---:|---:|"]
    sets = sorted({(row.case.chip, row.case.blind) for row in made})
    for chip, blind in sets:
        these = [row for row in made if (row.case.chip, row.case.blind) == (chip, blind)]
        lines.append(summary(f"{chip}, {'blind' if blind else 'seen'}", these))
    groups = sorted({row.case.group for row in made if row.case.group})
    lines += [summary(group, [row for row in made if row.case.group == group]) for group in groups]
    missing = [row for row in rows if row.failure]
    if missing:
        lines += ["", "Not predicted:", ""]
        lines += [f"- {row.case.name} ({row.case.measured_us:,.0f} us measured): {row.failure}" for row in missing]
    return "\n".join(lines) + "\n"


def summary(name: str, rows: Sequence[Row]) -> str:
    off = [abs(each.error) for each in rows]
    ranks = rank_correlation([each.case.measured_us for each in rows], [each.expected_us for each in rows])
    told = "" if ranks is None else f"{ranks:.2f}"
    return f"| {name} | {len(rows)} | {statistics.mean(off):.1%} | {statistics.median(off):.1%} | {told} |"


def validation(rows: Sequence[Row]) -> str:
    """What ``timing.predict`` tells of its error: by chip and by what binds, over all kernels that were predicted."""
    lines = [
        "# How far predictions were off, by chip and class of kernel: mean absolute error against published times.",
        "# Generated by `python bench/silicon_timing.py --write`; see docs/reference/accuracy.md.",
    ]
    for chip, kind in sorted({(row.case.chip, row.kind) for row in rows}):
        these = [row for row in rows if (row.case.chip, row.kind) == (chip, kind)]
        error = round(statistics.mean(abs(each.error) for each in these), 3)
        blind = sum(each.case.blind for each in these)
        lines += [
            "",
            "[[class]]",
            f'chip = "{chip}"',
            f'kind = "{kind}"',
            f"error = {error}",
            f"samples = {len(these)}",
            f'source = "{blind} blind and {len(these) - blind} seen kernels of docs/reference/accuracy.md"',
        ]
    return "\n".join(lines) + "\n"


def rank_correlation(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Spearman's, ties sharing their mean rank; ``None`` below three values."""
    if len(one) < 3:
        return None
    return statistics.correlation(_ranks(one), _ranks(two))


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(other < each for other in values) + (sum(other == each for other in values) - 1) / 2 for each in values]


# -- speed ------------------------------------------------------------------------------------------------------------


def speed() -> str:
    """The matmul of bench/silicon_functional.py, made deeper until it has about 100,000 instructions."""

    def kernel(lhs_t: Any, rhs: Any) -> Any:
        out = nl.ndarray((lhs_t.shape[1], rhs.shape[1]), dtype=nl.bfloat16, buffer=nl.shared_hbm)
        matmul_kernel(lhs_t, rhs, out)
        return out

    zero = np.zeros((), ml_dtypes.bfloat16)
    left, right = np.broadcast_to(zero, (8192, 8192)), np.broadcast_to(zero, (8192, 11776))
    made = run(kernel, (left, right), target="trn2", timing_only=True)
    laws, limits = load("trn2"), limits_of(made.target)
    times: list[tuple[float, float]] = []
    for _ in range(3):  # the best of them: other work on the machine takes from caches and clock
        started = time.process_time()
        with collector_paused():
            ready = prepare([made.trace], laws)
            prepared = time.process_time() - started
            replay_program(ready, limits, 16)
        times.append((time.process_time() - started, prepared))
        del ready
    took, prepared = min(times)
    count = len(made.trace)
    return (
        "## Speed\n\n"
        f"A replay of {count:,} instructions (a bf16 matmul of 8192 x 8192 x 11776) in our scheduler's order took "
        f"{took:.1f} s of processor time on one core (best of three), {prepared:.1f} s of it for dependences and "
        f"prices: {1e5 * took / count:.1f} s for 100,000.\n"
    )


if __name__ == "__main__":
    main()
