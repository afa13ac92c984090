"""Run tests by node id in a child process and gather what came of each.

One pytest process runs them all, without workers and without the checkout's cache. Not covered: a time limit for the
whole run (each test has the checkout's own), and tests that a platform cannot run: they are told as skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.assurance.evidence.recorder import RECORD
from outcrop.base.errors import NotFound, UserError

POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Execution:
    """What came of one test with all its parameters."""

    test: str
    outcome: str
    """``passed``, ``failed``, ``skipped`` (any of its parameters was), or ``not run``."""
    cases: int
    duration_s: float


def run_tests(root: Path, tests: Sequence[str], tell: Callable[[int], None] = lambda done: None) -> list[Execution]:
    """Run ``tests`` (node ids without parameters) of the checkout ``root``; ``tell`` is given the cases done so far.

    ``NotFound`` where pytest is not installed, ``UserError`` where it ran nothing. A test that never ended is ``not
    run``.
    """
    if importlib.util.find_spec("pytest") is None:
        raise NotFound(
            "Evidence is made with pytest, which is not installed here.",
            "Run `make test` in the checkout once, then .venv/bin/outcrop evidence run.",
        )
    with tempfile.TemporaryDirectory() as scratch:
        record, output = Path(scratch) / "record.jsonl", Path(scratch) / "output.txt"
        record.touch()
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "outcrop.assurance.evidence.recorder",
            "-p",
            "no:cacheprovider",
        ]
        command += ["-m", "", "-q", "--no-header", "--continue-on-collection-errors", *tests]
        environment = {**os.environ, RECORD: str(record)}
        with (
            output.open("wb") as sink,
            subprocess.Popen(  # noqa: S603 - pytest, with node ids of the control map
                command, cwd=root, env=environment, stdout=sink, stderr=subprocess.STDOUT
            ) as child,
        ):
            while True:
                try:
                    child.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    tell(_lines(record))
                    continue
                break
        tell(_lines(record))
        if tests and not _lines(record):
            last = output.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise UserError(f"pytest ran none of {len(tests)} tests: {' '.join(last)}", "Run `make test` to see why.")
        return _gathered(tests, record)


def _lines(record: Path) -> int:
    return record.read_bytes().count(b"\n")


def _gathered(tests: Sequence[str], record: Path) -> list[Execution]:
    cases: dict[str, list[tuple[str, float]]] = {test: [] for test in tests}
    for line in record.read_text("utf-8").splitlines():
        row = json.loads(line)
        test = row["test"].partition("[")[0]
        if test in cases:
            cases[test].append((row["outcome"], row["duration_s"]))
    return [_joined(test, found) for test, found in cases.items()]


def _joined(test: str, found: Sequence[tuple[str, float]]) -> Execution:
    outcomes = {outcome for outcome, _ in found}
    worst = next((one for one in ("failed", "skipped", "passed") if one in outcomes), "not run")
    return Execution(test, worst, len(found), round(sum(duration_s for _, duration_s in found), 3))
