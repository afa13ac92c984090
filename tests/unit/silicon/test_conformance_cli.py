"""``outcrop conformance`` on a checkout that looks like a public suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outcrop.cli.main import main

SUITE = """
import neuronxcc.nki.language as nl
import nki

def test_both_languages_import():
    assert nl.float32 == nki.language.float32

def test_fails():
    raise ValueError("as expected")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    file = tmp_path / "checkout" / "nki" / "test" / "test_nki_simulate_kernel.py"
    file.parent.mkdir(parents=True)
    file.write_text(SUITE, encoding="utf-8")
    return tmp_path / "checkout"


def test_a_run_prints_a_table_and_writes_what_it_is_asked_to(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, found = tmp_path / "page.md", tmp_path / "found.json"
    arguments = ["conformance", str(checkout), "--markdown", str(page), "--json-file", str(found), "--memory", "8G"]
    assert main([*arguments, "--relaxed", "uninitialized-read"]) == 0
    shown = capsys.readouterr().out
    assert "50.0% of the cases that ran within the limits passed" in shown
    assert "ValueError: as expected" in shown
    assert "with uninitialized-read relaxed" in shown
    assert "## sdk-test" in page.read_text(encoding="utf-8")
    (suite,) = json.loads(found.read_text(encoding="utf-8"))
    assert (suite["counts"]["passed"], suite["counts"]["failed"], suite["target"]) == (1, 1, "trn2")
    assert main(["conformance", str(checkout), "--json", "--filter", "import"]) == 0
    (suite,) = json.loads(capsys.readouterr().out)
    assert [each["outcome"] for each in suite["cases"]] == ["passed"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory", "much"], "not an amount of memory"),
        (["--suite", "nki-library"], "not a checkout with nki-library"),
        (["--relaxed", "no-such-rule"], "no rule 'no-such-rule'"),
        (["--markdown", "/no/such/page.md"], "/no/such/page.md cannot be written"),
    ],
)
def test_mistakes_are_told_in_a_line(
    checkout: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conformance", str(checkout), *arguments]) == 1
    assert said in capsys.readouterr().err
