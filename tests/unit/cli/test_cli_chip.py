"""``outcrop chip``: what it prints for known chips and for a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outcrop.cli.main import main
from outcrop.silicon import chip

MINE = """
name = "mine"
title = "Mine"
extends = "trn2"
[sources]
what-if = "an assumption"
[core.vector]
clock = { value = 2, unit = "GHz", source = "what-if", confidence = "estimated", note = "doubled" }
"""


@pytest.fixture(autouse=True)
def no_target_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(chip.TARGET_VARIABLE, raising=False)


def test_list_names_every_chip_and_the_default(capsys: pytest.CaptureFixture[str]):
    assert main(["chip", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rstrip(",") for line in lines] == chip.names()
    assert [line for line in lines if "default target" in line] == [line for line in lines if line.startswith("trn2")]


def test_list_as_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(chip.TARGET_VARIABLE, "gen4")
    assert main(["chip", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert [name for name, row in rows.items() if row["default"]] == ["trn3"]
    assert rows["trn3"]["aliases"] == ["gen4"]


def test_show_prints_every_number_with_confidence_and_source(capsys: pytest.CaptureFixture[str]):
    assert main(["chip", "show"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("trn2: ")
    for key, figure in chip.walk(chip.load("trn2")):
        line = next(line for line in out.splitlines() if line.startswith(f"{key} "))
        assert f"{figure}  {figure.confidence.value} [" in line
        assert figure.source in out


def test_show_as_json_is_complete(capsys: pytest.CaptureFixture[str]):
    assert main(["chip", "show", "trn3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    shown = chip.load("trn3")
    assert set(document["figures"]) == {key for key, _ in chip.walk(shown)}
    assert set(document["totals"]) == {total.key for total in chip.totals(shown)}
    assert document["figures"]["core.tensor.clock"]["value"] == 2.4
    assert document["absent"] == list(chip.absent(shown))


def test_show_takes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    assert main(["chip", "show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "extends trn2" in out
    assert "2 GHz  estimated" in out


def test_show_tells_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["chip", "show", "trn9"]) == 1
    assert "Known: inf2, trn1, trn2, trn3" in capsys.readouterr().err
    (tmp_path / "mine.toml").write_text(MINE.replace("GHz", "KiB"))
    assert main(["chip", "show", str(tmp_path / "mine.toml")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "core.vector.clock" in err
