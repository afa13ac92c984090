"""What the README shows is what happens: its Python blocks run, and the demo and `outcrop up` print what it says.

Not covered: the answers themselves, which depend on the default model, and the times.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
SHOWN = re.findall(r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
EXPORT = re.compile(r"export (\w+)=(\S+)")


@pytest.fixture(scope="module")
def pasted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user who started the service and pasted the `export` lines it printed."""
    folder = tmp_path_factory.mktemp("readme")
    outcrop = [sys.executable, "-m", "outcrop.cli.main"]
    data = ["--data", str(folder / "data")]
    command = [*outcrop, "up", *data, "--port", "0", "--https-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
            for line in service.stdout:
                if export := EXPORT.match(line):
                    environment[export[1]] = export[2]
                if line.startswith("models:"):  # the last line that the service prints
                    break
            key = subprocess.run([*outcrop, "key", "bearer", *data], capture_output=True, text=True, check=True)
            yield {**environment, "OPENAI_API_KEY": key.stdout.strip()}
        finally:
            service.terminate()


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_readme_prints_an_answer(number: int, pasted: dict[str, str], tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]], cwd=tmp_path, env=pasted, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def without_numbers_and_answers(text: str) -> list[str]:
    """The lines of the demo that are the same on every machine and with every model."""
    return [re.sub(r"[\d.]+", "N", line) for line in text.splitlines() if line.strip() and not line.startswith("  > ")]


def test_the_demo_prints_what_the_readme_shows(tmp_path: Path):
    hostile = {"AWS_PROFILE": "missing", "OPENAI_BASE_URL": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    environment = {**os.environ, **hostile, "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "tools" / "demo.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert without_numbers_and_answers(done.stdout) == without_numbers_and_answers(SHOWN[0])
    assert list(tmp_path.glob("outcrop-demo-*")) == []


def test_the_service_prints_the_export_lines_that_the_readme_shows(pasted: dict[str, str]):
    shown = [name for name, _ in EXPORT.findall(SHOWN[1])]
    assert shown == [name for name in pasted if name.startswith("AWS_")]
