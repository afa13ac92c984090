"""The part that runs inside pytest: our import names first, then each case in a process of its own, a line for each.

Loaded with ``-p outcrop.silicon.conformance.plugin`` by the runner, which passes a ``Plan`` through the environment.
Results are JSON lines: what was collected, then one line for each case as it ends.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import runpy
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from outcrop.silicon.conformance import several_ranks, stand_ins
from outcrop.silicon.conformance.causes import first_line
from outcrop.silicon.conformance.isolation import Finished, run_isolated
from outcrop.silicon.conformance.wire import VARIABLE, Plan
from outcrop.silicon.device.rules import KernelRefused, relaxed_names
from outcrop.silicon.nki.frontend import preload

_STARTER = os.getppid()  # read before anything slow: who kills the runner while cases are collected means us too


class _Session:
    """The plan of this process and the file that results go to."""

    plan: Plan
    names: AbstractContextManager[None]  # Outcrop under the vendor's import names

    @classmethod
    def write(cls, **line: Any) -> None:
        with Path(cls.plan.results).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class _HooksOfXdist:
    """A suite's conftest may implement this hook of pytest-xdist, which need not be installed."""

    @pytest.hookspec()
    def pytest_configure_node(self, node: object) -> None:
        """Not called."""


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Before any file of the suite is imported."""
    if not early_config.pluginmanager.hasplugin("xdist"):
        early_config.pluginmanager.add_hookspecs(_HooksOfXdist)
    _Session.plan = Plan.from_json(Path(os.environ[VARIABLE]).read_text(encoding="utf-8"))
    stand_ins.install()
    from outcrop.silicon.nki.activate import activate  # noqa: PLC0415  (heavy, and only wanted in this process)

    _Session.names = activate(
        target=_Session.plan.target, relaxed=relaxed_names(_Session.plan.relaxed)
    )  # kept: its end would take the names away again
    _Session.names.__enter__()


class Program(pytest.Item):
    """A script that is run as its authors run it: by itself, from its own folder."""

    def runtest(self) -> None:
        os.chdir(self.path.parent)
        sys.path.insert(0, str(self.path.parent))
        sys.argv = [str(self.path)]
        try:
            idle = not runs_something(self.path.read_text(encoding="utf-8"))
        except SyntaxError as error:
            pytest.skip(f"is not Python: {error.msg}")
        if idle:
            pytest.skip("defines kernels and runs none; other programs do")
        if str(self.path) in _Session.plan.mistakes:
            with pytest.raises(KernelRefused):
                self._run()
            return
        try:
            self._run()
        except ModuleNotFoundError as error:
            name = (error.name or "").partition(".")[0]
            if name in sys.modules or name in ("nki", "neuronxcc"):
                raise
            pytest.skip(f"needs the package {name}, which is not installed")

    def _run(self) -> None:
        try:
            runpy.run_path(str(self.path), run_name="__main__")
        except SystemExit as end:
            if end.code not in (None, 0):
                raise


class ProgramFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        program: Program = Program.from_parent(self, name="run")
        program.add_marker("simulation")
        yield program


def runs_something(source: str) -> bool:
    """Whether a script does anything beyond imports, definitions and constants."""
    passive = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    for each in ast.parse(source).body:
        if isinstance(each, passive) or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)):
            continue
        return True
    return False


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Programs are run, not searched for tests."""
    collectors = yield
    if str(file_path) not in _Session.plan.programs:
        return collectors
    file: ProgramFile = ProgramFile.from_parent(parent, path=file_path)
    return [file]


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _Session.write(case=report.nodeid, outcome="not collected", reason=_reason(report.longrepr), seconds=0.0)
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _Session.write(case=report.nodeid, outcome="skipped", reason=first_line(reason), seconds=0.0)


def pytest_collection_finish() -> None:
    """Several ranks, and attributes that a suite reads in its simulation mode and sets in others only."""
    for module, owner, attribute in _Session.plan.absent:
        found = getattr(sys.modules.get(module), owner, None)
        if found is not None and not hasattr(found, attribute):
            setattr(found, attribute, None)
    several_ranks.install()


def pytest_deselected(items: list[pytest.Item]) -> None:
    _Session.write(deselected=len(items))


def pytest_runtestloop(session: pytest.Session) -> bool:
    plan = _Session.plan
    _Session.write(collected=[item.nodeid for item in session.items])
    if plan.collect_only:
        return True
    done = set(plan.done)
    items = {item.nodeid: item for item in session.items[:: plan.stride] if item.nodeid not in done}
    if len(items) > _FEW:
        preload(_kernel_files(session.config.rootpath))
    gc.collect()
    gc.freeze()  # children share these pages
    cases = ((case, lambda item=item: _run(item)) for case, item in items.items())
    ended = run_isolated(
        cases, jobs=plan.jobs, timeout_s=plan.timeout_s, memory_bytes=plan.memory_bytes, starter=_STARTER
    )
    for each in ended:
        line = outcome_of(each, plan.timeout_s)
        session.testsfailed += line["outcome"] != "passed" and line["outcome"] != "skipped"
        _Session.write(case=each.case, seconds=round(each.seconds, 3), peak_bytes=each.peak_bytes, **line)
    return True


_FEW = 4  # cases, for which sources are not read in advance


def _kernel_files(root: Path) -> list[str]:
    """Sources that were imported from the checkout, other than tests."""
    files = {getattr(module, "__file__", None) for module in sys.modules.values()}
    inside = [each for each in files if each is not None and each.endswith(".py") and Path(each).is_relative_to(root)]
    return sorted(each for each in inside if not Path(each).name.startswith(("test_", "conftest")))


def _run(item: pytest.Item) -> bytes:
    """In the child: the whole protocol of one test, and how it ended."""
    outcome, reason, where = "passed", "", ""
    for report in runtestprotocol(item, log=False, nextitem=None):
        if report.failed:
            outcome, reason, where = "failed", _reason(report.longrepr), _where(report.longrepr)
            break
        if report.skipped:
            told = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
            outcome, reason = "skipped", first_line(str(told).removeprefix("Skipped: "))
    return json.dumps({"outcome": outcome, "reason": reason, "where": where}).encode()


def outcome_of(ended: Finished, timeout_s: float) -> dict[str, str]:
    """The line for a case: what it said itself, or what its end says."""
    if ended.timed_out:
        return {"outcome": "too slow", "reason": f"not done after {timeout_s:g} s", "where": ""}
    if os.WIFSIGNALED(ended.status):
        name = signal.Signals(os.WTERMSIG(ended.status)).name
        return {"outcome": "failed", "reason": f"the process was ended by {name}", "where": ""}
    try:
        line: dict[str, str] = json.loads(ended.reply)
    except ValueError:
        return {"outcome": "failed", "reason": "the process ended without a result", "where": ""}
    if line["outcome"] == "failed" and any(word in line["reason"] for word in _MEMORY_WORDS):
        line["outcome"] = "too large"
    return line


_MEMORY_WORDS = ("MemoryError", "Unable to allocate", "can't allocate memory", "Cannot allocate memory")


def _reason(longrepr: Any) -> str:
    crash = _crash(longrepr)
    if crash is not None:
        return first_line(crash.message)
    lines = str(longrepr).splitlines()
    marked = [line for line in lines if line.startswith("E ")]  # the error itself, in a report of a failed import
    return first_line((marked or lines or [""])[-1])


def _crash(longrepr: Any) -> Any:
    """Of exceptions that were raised from one another, the first."""
    chain = getattr(longrepr, "chain", None)
    if not chain:
        return getattr(longrepr, "reprcrash", None)
    at = len(chain) - 1
    while at and "direct cause" in (chain[at - 1][2] or ""):
        at -= 1
    return chain[at][1]


def _where(longrepr: Any) -> str:
    """Where it was raised."""
    crash = _crash(longrepr)
    return f"{crash.path}:{crash.lineno}" if crash is not None else ""
