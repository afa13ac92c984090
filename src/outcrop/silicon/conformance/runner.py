"""Starts a suite in a pytest process of its own, follows it, and goes on where an interrupted run stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outcrop import silicon
from outcrop.base.errors import UserError
from outcrop.silicon.conformance.suites import Suite
from outcrop.silicon.conformance.table import Case, Result
from outcrop.silicon.conformance.wire import VARIABLE, Plan

_POLL_S = 0.5
_SOURCES = Path(silicon.__file__).resolve().parents[2]


@dataclass(frozen=True)
class Options:
    """Limits are for each case. ``expression`` is pytest's ``-k``; ``stride`` runs one case of so many."""

    target: str = "trn2"
    expression: str = ""
    paths: tuple[str, ...] = ()  # instead of all of the suite
    timeout_s: float = 60.0
    memory_bytes: int = 16 << 30
    jobs: int = 1
    stride: int = 1
    relaxed: tuple[str, ...] = ()
    collect_only: bool = False
    results: Path | None = None  # keep the lines here; what they have is not run again


def run_suite(
    suite: Suite, checkout: Path, options: Options, progress: Callable[[str], None] = lambda line: None
) -> Result:
    """Run the suite's cases; the lines that the process wrote are read again at the end."""
    with tempfile.TemporaryDirectory(prefix="outcrop-conformance-") as folder:
        scratch = Path(folder)
        lines = scratch / "results.jsonl" if options.results is None else options.results
        _end_last_line(lines)
        plan = Plan(
            results=str(lines.resolve()),
            target=options.target,
            jobs=options.jobs,
            timeout_s=options.timeout_s,
            memory_bytes=options.memory_bytes,
            programs=tuple(str(each) for each in _programs(suite, checkout, options.paths)),
            mistakes=tuple(str((checkout / each).resolve()) for each in suite.mistakes),
            done=tuple(case.case for case in _read(lines)[0] if case.outcome != "not collected"),
            stride=options.stride,
            relaxed=options.relaxed,
            absent=suite.absent,
            collect_only=options.collect_only,
        )
        (scratch / "plan.json").write_text(plan.to_json(), encoding="utf-8")
        command = _command(suite, checkout, scratch, plan, options)
        log = scratch / "log.txt"
        with log.open("wb") as output:
            started = subprocess.Popen(  # noqa: S603  (our own interpreter)
                command, cwd=scratch, env=_environment(suite, checkout, scratch, plan), stdout=output, stderr=output
            )
            try:
                _follow(started, lines, progress)
            finally:
                if started.poll() is None:
                    started.terminate()
                    started.wait()
        cases, collected, deselected = _read(lines)
        if collected is None:
            tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise UserError(f"pytest did not come to run {suite.name}.", f"It said:\n{tail}")
    return Result(
        suite.name,
        suite.title,
        _revision(checkout),
        options.target,
        tuple(cases),
        collected,
        deselected,
        options.relaxed,
    )


def _end_last_line(lines: Path) -> None:
    """A run that was killed while it wrote leaves half a line, to which ours must not be glued."""
    if lines.is_file() and (written := lines.read_bytes()) and not written.endswith(b"\n"):
        with lines.open("ab") as file:
            file.write(b"\n")


def _programs(suite: Suite, checkout: Path, paths: tuple[str, ...]) -> list[Path]:
    chosen = sorted({each.resolve() for pattern in suite.programs for each in checkout.glob(pattern)})
    chosen = [each for each in chosen if not each.name.startswith(("test_", "conftest"))]
    if not paths:
        return chosen
    roots = [(checkout / each).resolve() for each in paths]
    return [each for each in chosen if any(each.is_relative_to(root) for root in roots)]


def _command(suite: Suite, checkout: Path, scratch: Path, plan: Plan, options: Options) -> list[str]:
    where = checkout.resolve()
    values = {"checkout": str(where), "scratch": str(scratch), "platform": options.target}
    tests = [each for each in (options.paths or suite.tests) if suite.tests or not options.paths]
    paths = [str(where / each) for each in tests] if suite.tests else []
    arguments = [each.format_map(values) for each in suite.arguments]
    if "-c" not in arguments:
        arguments = ["-c", os.devnull, f"--rootdir={where}", *arguments]
    expression = ["-k", options.expression] if options.expression else []
    return [
        sys.executable, "-m", "pytest", "-p", "outcrop.silicon.conformance.plugin", "-p", "no:cacheprovider",
        "-p", "no:randomly", "-s", "-q", "--continue-on-collection-errors",
        *arguments, *expression, *dict.fromkeys([*paths, *plan.programs]),
    ]  # fmt: skip


def _environment(suite: Suite, checkout: Path, scratch: Path, plan: Plan) -> dict[str, str]:
    environment = dict(os.environ)
    imports = [str((checkout / each).resolve()) for each in suite.imports]
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([*imports, str(_SOURCES), *([before] if before else [])])
    environment |= {
        "PYTHONDONTWRITEBYTECODE": "1",  # nothing is written into the checkout
        "PYTHONHASHSEED": "0",  # suites that choose cases by chance choose the same each time
        "OMP_NUM_THREADS": "1",
        "NEURON_PLATFORM_TARGET_OVERRIDE": plan.target,
        VARIABLE: str(scratch / "plan.json"),
        **suite.environment,
    }
    return environment


def _follow(started: subprocess.Popen[bytes], lines: Path, progress: Callable[[str], None]) -> None:
    shown = 0.0
    while started.poll() is None:
        time.sleep(_POLL_S)
        if time.monotonic() - shown > 2:
            shown = time.monotonic()
            cases, collected, _ = _read(lines)
            passed = sum(case.outcome == "passed" for case in cases)
            progress(f"{len(cases)} of {'?' if collected is None else collected} cases, {passed} passed")


def _read(lines: Path) -> tuple[list[Case], int | None, int]:
    """Cases with their last outcome, how many were collected (None before that) and how many deselected."""
    cases: dict[str, Case] = {}
    collected: int | None = None
    deselected = 0
    if not lines.exists():
        return [], None, 0
    for line in lines.read_text(encoding="utf-8").splitlines():
        try:
            read = json.loads(line)
        except ValueError:
            continue  # the line that an interrupted run did not finish
        if "case" in read:
            cases[read["case"]] = Case(**read)
        elif "collected" in read:
            collected = len(read["collected"])
        elif "deselected" in read:
            deselected = read["deselected"]
    return list(cases.values()), collected, deselected


def _revision(checkout: Path) -> str:
    """The commit of the checkout and its date."""
    git = shutil.which("git")
    if git is None:
        return "unknown commit"
    command = [git, "-C", str(checkout), "log", "-1", "--format=%h of %cs"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (reads only)
    return told.stdout.strip() or "no commit"
