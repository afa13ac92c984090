"""What docs/security/operations.md tells operators to type works, in its order, with the AWS CLI and our own command.

Blocks marked ``sh`` need root, hardware, another server or a restart by hand: their syntax is checked, and every line
of ``outcrop`` in them is one that the command line takes. Not covered: what those blocks do.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from outcrop.cli.main import build_parser
from outcrop.service.settings import Settings

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "security" / "operations.md"
AT_REST = "Back up and restore"

pytestmark = pytest.mark.timeout(400)  # some forty commands, each a process that starts Python
EXPORT = re.compile(r"export (\w+)=(\S+)")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", GUIDE.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def run(script: str, folder: Path, environment: dict[str, str]) -> str:
    command = ["bash", "-euo", "pipefail", "-x", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What all the blocks printed, run against one service; those that want it stopped, after it was."""
    folder = tmp_path_factory.mktemp("guide")
    data = folder / "data"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "OUTCROP_DATA": str(data),
        "AWS_PAGER": "",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-m", "outcrop.cli.main", "up", "--data", str(data), "--port", "0", "--https-port", "0"]
    while_up = "\n".join(b for title, text in sections().items() if title != AT_REST for b in blocks(text, "bash"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            for line in service.stdout:
                if export := EXPORT.match(line):
                    environment[export[1]] = export[2]
                if line.startswith("models:"):  # the last line that the service prints
                    break
            told = run(while_up, folder, environment)
        finally:
            service.terminate()
    return told + run("\n".join(blocks(sections()[AT_REST], "bash")), folder, environment)


def test_the_commands_of_the_guide_work(printed: str):
    assert ":user/ana" in printed
    assert "PutRolePolicy" in printed
    assert printed.count("The trail holds") == 3


def test_what_is_not_run_is_at_least_meant():
    parser = build_parser()
    for block in blocks(GUIDE.read_text("utf-8"), "sh"):
        subprocess.run(["bash", "-n", "-c", block], check=True)
        for line in block.splitlines():
            program, *words = shlex.split(line)
            if program == "outcrop":
                parser.parse_args(words)


def test_settings_of_the_guide_are_understood(tmp_path: Path):
    shown = blocks(GUIDE.read_text("utf-8"), "toml")
    assert len(shown) == 4
    for block in shown:
        (tmp_path / "outcrop.toml").write_text(block)
        settings = Settings.load(tmp_path)
        kind = tomllib.loads(block).get("key_store", {}).get("kind", "passphrase")
        assert settings.key_store.kind == kind
