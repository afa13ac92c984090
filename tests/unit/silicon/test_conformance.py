"""The conformance runner on small suites of our own: outcomes, limits, resuming, causes and tables."""

from __future__ import annotations

import json
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outcrop.base.errors import UserError
from outcrop.silicon.conformance import Options, Suite, document, find_suites, markdown, run_suite, text
from outcrop.silicon.conformance.causes import cause, first_line
from outcrop.silicon.conformance.isolation import run_isolated
from outcrop.silicon.conformance.table import Case, Result, reasons

TESTS = """
    import os, time
    import numpy as np
    import pytest
    import nki

    def test_passes():
        assert nki.jit is not None

    def test_fails():
        assert 1 + 1 == 3

    @pytest.mark.skip(reason="needs a device")
    def test_is_skipped():
        pass

    def test_hangs():
        time.sleep(60)

    def test_crashes():
        os.abort()

    def test_is_greedy():
        np.ones(1 << 40, np.uint8)

    def test_leaves_nothing_for_others():
        os.environ["LEFT"] = "1"

    def test_finds_nothing_of_others():
        assert "LEFT" not in os.environ
"""
PROGRAM = """
    import sys
    from beside import VALUE
    if __name__ == "__main__":
        assert VALUE == 3
        sys.exit(0)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("suite")
    files = {
        "tests/test_a.py": TESTS,
        "tests/test_broken.py": "import module_that_is_not_there\n",
        "programs/good.py": PROGRAM,
        "programs/beside.py": "VALUE = 3\n",
        "programs/bad.py": "raise ValueError('as expected')\n",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(content), encoding="utf-8")
    return root


SMALL = Suite("small", "A suite of our own", ("tests",), tests=("tests",), programs=("programs/*.py",))


@pytest.fixture(scope="module")
def result(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    lines = tmp_path_factory.mktemp("results") / "lines.jsonl"
    before = sorted(checkout.rglob("*"))
    yield run_suite(SMALL, checkout, Options(timeout_s=3, memory_bytes=8 << 30, jobs=2, results=lines))
    assert sorted(checkout.rglob("*")) == before, "nothing is written into a checkout"


def outcomes(result: Result) -> dict[str, tuple[str, str]]:
    return {each.case.rpartition("::")[2]: (each.outcome, each.reason) for each in result.cases}


def test_every_kind_of_end_is_told(result: Result) -> None:
    found = outcomes(result)
    assert found["test_passes"] == ("passed", "")
    assert found["test_fails"] == ("failed", "assert (1 + 1) == 3")
    assert found["test_is_skipped"] == ("skipped", "needs a device")
    assert found["test_hangs"] == ("too slow", "not done after 3 s")
    assert found["test_crashes"] == ("failed", "the process was ended by SIGABRT")
    assert found["test_is_greedy"][0] == "too large"
    assert found["test_finds_nothing_of_others"] == ("passed", "")
    assert found["tests/test_broken.py"] == (
        "not collected",
        "ModuleNotFoundError: No module named 'module_that_is_not_there'",
    )


def test_programs_run_from_their_own_folder(result: Result) -> None:
    found = {each.case: (each.outcome, each.reason) for each in result.cases}
    assert found["programs/good.py::run"] == ("passed", "")
    assert found["programs/bad.py::run"] == ("failed", "ValueError: as expected")
    assert found["programs/beside.py::run"][0] == "skipped"


def test_an_interrupted_run_goes_on_where_it_stopped(checkout: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    done = {"case": "tests/test_a.py::test_fails", "outcome": "passed", "reason": "from before", "seconds": 1.0}
    lines.write_text(json.dumps(done) + '\n{"case": "tests/te', encoding="utf-8")
    options = Options(expression="test_fails or test_passes", results=lines)
    found = outcomes(run_suite(SMALL, checkout, options))
    assert found["test_fails"] == ("passed", "from before")
    assert found["test_passes"] == ("passed", "")
    assert "test_hangs" not in found


def test_a_suite_that_pytest_cannot_start_is_an_error_with_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text("raise RuntimeError('no luck')\n", encoding="utf-8")
    with pytest.raises(UserError, match="no luck"):
        run_suite(SMALL, tmp_path, Options())


def test_tables_count_and_group(result: Result) -> None:
    assert result.count("passed") == 4
    assert result.count("failed") == 3
    assert result.share_passed == 4 / 7
    for page in (text([result]), markdown([result])):
        assert "tests/test_a.py" in page
        assert "ended by SIGABRT" in page
        assert "57.1%" in page
    (shown,) = document([result])
    assert json.loads(json.dumps(shown))["counts"]["too slow"] == 1
    assert sum(shown["counts"].values()) == len(shown["cases"])


@pytest.mark.parametrize("name", ["trnfft", "trnrand", "trnsolver", "trnsparse", "trntensor"])
def test_each_library_of_trnsci_is_a_suite_that_asks_for_its_simulator(name: str, tmp_path: Path) -> None:
    (tmp_path / name / "nki").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_nki_sim.py").touch()
    (suite,) = find_suites(tmp_path)
    assert suite.name == name
    assert suite.tests[0] == "tests/test_nki_sim.py"
    assert dict(suite.environment) == {f"{name.upper()}_USE_SIMULATOR": "1"}


def test_suites_are_found_by_what_is_in_the_checkout(tmp_path: Path) -> None:
    for mark in ("nki/test/test_nki_simulate_kernel.py", "nki/examples/simulate/x.py"):
        path = tmp_path / mark
        path.parent.mkdir(parents=True)
        path.touch()
    assert [suite.name for suite in find_suites(tmp_path)] == ["sdk-test", "sdk-examples"]
    assert [suite.name for suite in find_suites(tmp_path, "sdk-test")] == ["sdk-test"]
    with pytest.raises(UserError, match="no suite 'x'"):
        find_suites(tmp_path, "x")
    with pytest.raises(UserError, match="not a checkout with nki-library"):
        find_suites(tmp_path, "nki-library")
    with pytest.raises(UserError, match="no suite that Outcrop knows"):
        find_suites(tmp_path / "nki" / "test")
    with pytest.raises(UserError, match="not a folder"):
        find_suites(tmp_path / "missing")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("AssertionError: 3 of 128 elements differ", "AssertionError: 4 of 64 elements differ", True),
        ("ValueError: shapes (1, 2) and (3,)", "ValueError: shapes (4,) and (5, 6)", True),
        ("KernelRefused: [operand-dtype] nc_matmul got x", "KernelRefused: [operand-dtype] nc_matmul got y", True),
        ("KernelRefused: [operand-dtype] nc_matmul got x", "KernelRefused: [operand-dtype] dma_copy got x", False),
        ("KeyError: 'a'", "TypeError: 'a'", False),
    ],
)
def test_causes_leave_out_what_differs_from_case_to_case(one: str, two: str, same: bool) -> None:
    assert (cause(one) == cause(two)) is same


def test_causes_are_listed_by_frequency() -> None:
    cases = [Case(f"f::{at}", "failed", "A: 1" if at % 3 else "B: 2") for at in range(9)]
    made = Result("s", "t", "r", "trn2", tuple(cases), 9, 0)
    assert [(name, count) for name, count, _ in reasons(made, ["failed"])] == [("A: #", 6), ("B: #", 3)]
    assert first_line("\n\nE   ValueError: x\nmore") == "ValueError: x"


def test_isolated_work_runs_side_by_side_and_is_cut_off() -> None:
    def wait(seconds: float) -> Callable[[], bytes]:
        return lambda: (time.sleep(seconds), b"done")[1]

    start = time.monotonic()
    cases = [("a", wait(0.5)), ("b", wait(0.5)), ("c", wait(30)), ("d", wait(0.1))]
    ended = {each.case: each for each in run_isolated(cases, jobs=4, timeout_s=1.5, memory_bytes=8 << 30)}
    assert time.monotonic() - start < 10
    assert [ended[name].reply for name in "abd"] == [b"done"] * 3
    assert ended["c"].timed_out
    assert not any(ended[name].timed_out for name in "abd")
    assert os.WIFSIGNALED(ended["c"].status)
    assert ended["a"].peak_bytes > 1 << 20


def test_isolated_work_ends_with_the_process_that_started_it() -> None:
    cases = [("a", lambda: b"done")]
    assert [each.case for each in run_isolated(cases, jobs=1, timeout_s=5, memory_bytes=8 << 30)] == ["a"]
    gone = os.getppid() + 1  # not our parent: it went while cases were collected
    assert not list(run_isolated(cases, jobs=1, timeout_s=5, memory_bytes=8 << 30, starter=gone))
