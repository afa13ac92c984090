"""The pages of docs/reference are what their generators write today, and the generators say so when not."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import generate_errors
from generated_page import write_or_check
from outcrop.base.errors import OutcropError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", ["errors", "cli", "chips", "kernel-rules", "controls"])
def test_a_reference_page_is_fresh(name: str):
    generator = importlib.import_module(f"generate_{name.replace('-', '_')}")
    assert (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8") == generator.page()


def test_error_ids_are_unique():
    ids = [error.id for error, _ in generate_errors.families(OutcropError)]
    assert len(ids) == len(set(ids))


def test_a_stale_page_is_told_and_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.md"
    assert write_or_check(page, "new\n", "generate_page.py", []) == 0
    assert write_or_check(page, "new\n", "generate_page.py", ["--check"]) == 0
    page.write_text("old\n")
    assert write_or_check(page, "new\n", "generate_page.py", ["--check"]) == 1
    assert "make docs" in capsys.readouterr().out
    assert page.read_text() == "old\n"


def test_every_generator_can_check_because_the_make_targets_rely_on_it():
    generators = sorted((ROOT / "tools").glob("generate_*.py"))
    assert generators
    for generator in generators:
        done = subprocess.run([sys.executable, generator, "--help"], capture_output=True, text=True, check=False)
        assert "--check" in done.stdout, generator.name
