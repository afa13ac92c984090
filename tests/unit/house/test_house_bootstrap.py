"""The set-up script: when it has nothing to do, when it starts over, what it says when it cannot go on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the set-up reads, with a stand-in environment and every outside effect recorded, not done."""
    for name in ("pyproject.toml", "requirements-demo.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tools").mkdir()
    for name in ("bootstrap.py", "torch_choice.py"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    node = tmp_path / "tests" / "contract" / "node"
    node.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "contract" / "node" / "package-lock.json", node)
    venv = tmp_path / ".venv"
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(bootstrap, "UNFINISHED", venv / "outcrop-setup-unfinished")
    monkeypatch.setattr(bootstrap, "NODE_TESTS", node)
    return tmp_path


@pytest.fixture
def calls(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the steps taken, in order; each step is a stand-in."""
    taken: list[str] = []

    def make_environment() -> None:
        taken.append("environment")
        (checkout / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
        (checkout / ".venv" / "bin" / "python").touch()

    monkeypatch.setattr(bootstrap, "make_environment", make_environment)
    monkeypatch.setattr(bootstrap, "install_torch", lambda: taken.append("torch"))
    monkeypatch.setattr(bootstrap, "install_node_packages", lambda: taken.append("node"))
    monkeypatch.setattr(bootstrap, "pip", lambda *arguments: taken.append(f"pip {arguments[-1]}"))
    return taken


def test_a_first_run_takes_every_step_and_a_second_run_none(calls: list[str]):
    assert bootstrap.main(["dev"]) == 0
    assert calls == ["environment", "pip requirements-dev.lock", "torch", "pip .", "node"]
    calls.clear()
    assert bootstrap.main(["dev"]) == 0
    assert calls == []


def test_the_demo_needs_no_node(calls: list[str]):
    assert bootstrap.main(["demo"]) == 0
    assert calls == ["environment", "pip requirements-demo.lock", "torch", "pip ."]


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements-demo.lock", "tools/torch_choice.py"])
def test_a_changed_input_runs_the_set_up_again(calls: list[str], checkout: Path, changed: str):
    bootstrap.main(["demo"])
    calls.clear()
    with (checkout / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    bootstrap.main(["demo"])
    assert "pip requirements-demo.lock" in calls


def test_an_interrupted_run_leaves_no_stamp_and_a_mark_that_starts_the_next_one_over(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
):
    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bootstrap, "install_torch", interrupted)
        assert bootstrap.main(["demo"]) == 130
    assert bootstrap.UNFINISHED.exists()
    assert not bootstrap.is_current("demo")
    assert bootstrap.main(["demo"]) == 0
    assert not bootstrap.UNFINISHED.exists()
    assert bootstrap.is_current("demo")


def test_a_step_that_fails_is_told_in_one_line_and_tried_again_next_time(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def failing() -> None:
        raise bootstrap.SetupFailed("no way to go on: do this")

    with monkeypatch.context() as patched:
        patched.setattr(bootstrap, "install_torch", failing)
        assert bootstrap.main(["demo"]) == 1
    assert capsys.readouterr().err == "setup: no way to go on: do this\n"
    assert not bootstrap.UNFINISHED.exists()
    assert not bootstrap.is_current("demo")


@pytest.mark.usefixtures("checkout")
def test_an_environment_that_was_interrupted_is_made_anew(monkeypatch: pytest.MonkeyPatch):
    bootstrap.VENV.mkdir()
    bootstrap.UNFINISHED.touch()
    left_over = bootstrap.VENV / "half-installed"
    left_over.touch()
    monkeypatch.setattr(bootstrap.subprocess, "run", _only_makes_the_folder)
    bootstrap.make_environment()
    assert not left_over.exists()


@pytest.mark.usefixtures("checkout")
def test_a_copied_environment_does_not_count_as_working():
    bin_folder = bootstrap.VENV / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to(sys.executable)
    (bin_folder / "pip").write_text("#!/some/other/place/.venv/bin/python\n")
    assert not bootstrap.environment_works()


def test_without_root_a_missing_debian_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    with pytest.raises(bootstrap.SetupFailed, match=r"sudo apt-get install python3-venv"):
        bootstrap.install_debian_packages(["python3-venv"], "this Python cannot make virtual environments")


def test_a_failing_npm_is_told_with_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho 'no registry' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path)
    with pytest.raises(bootstrap.SetupFailed, match="no registry"):
        bootstrap.install_node_packages()


def test_without_npm_the_rest_goes_on_at_home_and_nothing_does_in_ci(
    calls: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def failing() -> None:
        raise bootstrap.SetupFailed("npm ci failed: no registry")

    monkeypatch.setattr(bootstrap, "install_node_packages", failing)
    monkeypatch.setenv("CI", "true")
    assert bootstrap.main(["dev"]) == 1
    monkeypatch.delenv("CI")
    assert bootstrap.main(["dev"]) == 0
    assert "Node contract tests will be skipped" in capsys.readouterr().out
    assert not bootstrap.is_current("dev")
    assert calls.count("pip .") == 2


def test_the_range_of_pytorch_is_read_from_the_project_file():
    assert bootstrap.torch_requirement() == "torch>=2.11,<2.14"


def test_an_unknown_profile_is_wrong_usage(capsys: pytest.CaptureFixture[str]):
    assert bootstrap.main(["everything"]) == 2
    assert "demo|dev" in capsys.readouterr().err


def test_the_launcher_says_what_to_install_when_there_is_no_python():
    command = ["/bin/sh", str(ROOT / "tools" / "setup.sh"), "demo"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": "no-such-python"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "apt-get install python3" in done.stderr


def _only_makes_the_folder(command: list[object], **_: object) -> subprocess.CompletedProcess[str]:
    if "--clear" in command:
        shutil.rmtree(bootstrap.VENV)
        bootstrap.VENV.mkdir()
    return subprocess.CompletedProcess(command, 0, "", "")
