"""A pytest plugin that writes one JSON line for each test to the file that ``OUTCROP_EVIDENCE_RECORD`` names.

It is loaded by name in the child that ``run`` starts (``-p``), and does nothing anywhere else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Protocol

RECORD = "OUTCROP_EVIDENCE_RECORD"
RANK = {"passed": 0, "skipped": 1, "failed": 2}


class Report(Protocol):
    """The part of pytest's ``TestReport`` that is read here."""

    nodeid: str
    outcome: str
    duration: float
    when: str


class Recorder:
    """Joins the phases of each test (set-up, call, tear-down) to one outcome: the worst of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, tuple[str, float]] = {}

    def pytest_runtest_logreport(self, report: Report) -> None:
        outcome, duration_s = self._outcomes.get(report.nodeid, ("passed", 0.0))
        worst = max(outcome, report.outcome, key=lambda one: RANK.get(one, 2))
        self._outcomes[report.nodeid] = (worst, duration_s + report.duration)
        if report.when == "teardown":
            outcome, duration_s = self._outcomes.pop(report.nodeid)
            line = json.dumps({"test": report.nodeid, "outcome": outcome, "duration_s": round(duration_s, 4)})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


class _Plugins(Protocol):
    def register(self, plugin: object, name: str) -> object: ...


class _Config(Protocol):
    pluginmanager: _Plugins


def pytest_configure(config: _Config) -> None:
    """Register the recorder where a record is asked for."""
    if path := os.environ.get(RECORD):
        config.pluginmanager.register(Recorder(Path(path)), "outcrop-evidence-recorder")
