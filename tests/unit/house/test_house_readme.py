"""What the README tells people to type exists: make targets, verbs of the command, Python that compiles.

``tests/contract/test_contract_readme.py`` runs the Python blocks against a running service.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
from readme_blocks import blocks

from outcrop.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[3]
SHELL_LINES = [line for block in blocks("bash") for line in block.splitlines() if line and not line.startswith("#")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("line", SHELL_LINES)
def test_a_shell_line_names_something_that_exists(line: str):
    program, *words = shlex.split(line)
    if program == "make":
        assert set(words) <= make_targets()
    elif program == "outcrop":
        assert isinstance(build_parser().parse_args(words), argparse.Namespace)
    else:
        assert (program, words) == (".", [".venv/bin/activate"])


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_a_python_block_compiles(number: int):
    compile(blocks("python")[number], f"README block {number}", "exec")


def test_the_readme_shows_the_two_commands_and_says_who_made_it():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in SHELL_LINES
    assert "outcrop up" in SHELL_LINES
    assert "not made, endorsed or supported by Amazon, Anthropic or OpenAI" in text


def test_every_make_target_in_the_help_exists_and_every_public_target_is_in_the_help():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    told = set(re.findall(r'"make ([a-z-]+)', text))
    assert told == {target for target in make_targets() if target != "help" and not target.startswith("setup-")}
