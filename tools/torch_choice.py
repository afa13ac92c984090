"""Which build of PyTorch to install: never gigabytes of CUDA on a machine without a GPU, if there is a way round.

In order: what is installed already; with a GPU, the installer's default; without one, a CPU build from the links that
pip is set up with, else from PyTorch's own CPU index, else the default with a line that says what that costs.
``choose`` decides and touches nothing; ``Probes.of_machine`` looks at this machine.

PyTorch is the one package that no hash pins, because the right file differs from machine to machine.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ANSWER_WITHIN_S = 3.0
# Sum of the CPython 3.11 x86-64 Linux wheels of torch 2.13.0 and all it requires: 3.03 GB.
DEFAULT_DOWNLOAD = "about 3 GB to download, twice that on disk"


@dataclass(frozen=True)
class Probes:
    """What ``choose`` may ask about a machine. Each is asked at most once, and only when it matters."""

    installed: Callable[[], str | None]
    """The version already in the environment, when it is one that the requirement accepts."""
    has_gpu: Callable[[], bool]
    linked: Callable[[], str | None]
    """The version pip would take from its configured links alone, without any index."""
    cpu_index_answers: Callable[[], bool]

    @classmethod
    def of_machine(cls, python: Path, requirement: str) -> Probes:
        """Probes of this machine and of the environment that ``python`` belongs to."""
        return cls(
            installed=lambda: _installed_version(python, requirement),
            has_gpu=lambda: shutil.which("nvidia-smi") is not None or Path("/dev/nvidia0").exists(),
            linked=lambda: _linked_version(python, requirement),
            cpu_index_answers=lambda: _answers(f"{CPU_INDEX}/torch/", ANSWER_WITHIN_S),
        )


@dataclass(frozen=True)
class Choice:
    """What to tell the user, and what follows ``pip install``; no arguments mean nothing is to be installed."""

    line: str
    pip_arguments: tuple[str, ...] = ()


def choose(requirement: str, probes: Probes) -> Choice:
    """The build to install for ``requirement``. CPU builds need ``--no-deps`` only: the lock holds the rest."""
    if version := probes.installed():
        return Choice(f"PyTorch {version} is already here")
    if probes.has_gpu():
        return Choice("PyTorch: a GPU is present, so the installer's default build", (requirement,))
    version = probes.linked()
    if version and version.endswith("+cpu"):
        arguments = ("--no-deps", "--no-index", f"torch=={version}")
        return Choice(f"PyTorch {version} from the links pip is set up with", arguments)
    if probes.cpu_index_answers():
        return Choice(f"PyTorch for CPU from {CPU_INDEX}", ("--no-deps", "--index-url", CPU_INDEX, requirement))
    return Choice(
        "PyTorch: no CPU build is within reach, so the installer's default build; "
        f"on Linux that brings CUDA libraries ({DEFAULT_DOWNLOAD})",
        (requirement,),
    )


def _installed_version(python: Path, requirement: str) -> str | None:
    # pip itself is the judge of the range: with the requirement met, it has nothing to install.
    if _torch_in_report(python, ["--no-index", requirement]) != "":
        return None
    program = "import importlib.metadata as m; print(m.version('torch'))"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _linked_version(python: Path, requirement: str) -> str | None:
    return _torch_in_report(python, ["--no-index", "--ignore-installed", requirement]) or None


def _torch_in_report(python: Path, arguments: list[str]) -> str | None:
    """The version of torch that pip would install; empty when it would install none, None when it cannot."""
    command = [str(python), "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--report", "-", *arguments]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        return None
    installs = json.loads(done.stdout)["install"]
    return str(installs[0]["metadata"]["version"]) if installs else ""


def _answers(url: str, within_s: float) -> bool:
    """Whether ``url`` answers in time. In a thread, because looking up a name has no timeout of its own."""
    answers: list[int] = []

    def ask() -> None:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=within_s) as response,
        ):
            answers.append(response.status)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(within_s)
    return bool(answers)
