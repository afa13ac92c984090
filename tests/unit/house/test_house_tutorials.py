"""The tutorials do what they say: files are written, commands typed, and what is printed is compared."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TUTORIALS = [ROOT / "docs" / "tutorials" / "first-kernel.md"]  # the other one: kernels/test_tune.py
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    printed: str | None = None
    for language, body in FENCED.findall(path.read_text(encoding="utf-8")):
        if language == "python":
            name = re.match(r"# (\S+\.py)\n", body)
            assert name, f"a Python block of {path.name} does not start with the name of its file"
            (tmp_path / name.group(1)).write_text(body, encoding="utf-8")
        elif language == "bash":
            printed = "".join(typed(line, tmp_path) for line in body.splitlines())
        elif language == "text":
            assert printed is not None, f"{path.name} shows output before any command"
            assert printed.rstrip() == body.rstrip()


def typed(line: str, folder: Path) -> str:
    program, *words = shlex.split(line)
    assert program == "outcrop"
    environment = os.environ | {"PYTHONWARNINGS": "default"}
    environment.pop("NEURON_PLATFORM_TARGET_OVERRIDE", None)
    done = subprocess.run([program, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
