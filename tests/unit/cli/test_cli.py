"""The command line as a surface: its verbs, its help, its errors and exit codes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from outcrop.cli.main import build_parser, main

VERBS = {
    "outcrop attack",
    "outcrop admin",
    "outcrop admin account",
    "outcrop admin account close",
    "outcrop admin account create",
    "outcrop admin account list",
    "outcrop admin account reopen",
    "outcrop admin bucket",
    "outcrop admin bucket create",
    "outcrop admin bucket delete",
    "outcrop admin bucket list",
    "outcrop admin oidc",
    "outcrop admin oidc add",
    "outcrop admin ou",
    "outcrop admin ou create",
    "outcrop admin ou list",
    "outcrop admin ou move",
    "outcrop admin policy",
    "outcrop admin policy attach",
    "outcrop admin quota",
    "outcrop admin quota delete",
    "outcrop admin quota list",
    "outcrop admin quota set",
    "outcrop admin rcp",
    "outcrop admin rcp attach",
    "outcrop admin rcp delete",
    "outcrop admin rcp detach",
    "outcrop admin rcp list",
    "outcrop admin rcp put",
    "outcrop admin revoke",
    "outcrop admin role",
    "outcrop admin role create",
    "outcrop admin rotate-session-keys",
    "outcrop admin scp",
    "outcrop admin scp attach",
    "outcrop admin scp delete",
    "outcrop admin scp detach",
    "outcrop admin scp list",
    "outcrop admin scp put",
    "outcrop admin user",
    "outcrop admin user create",
    "outcrop admin user list",
    "outcrop audit",
    "outcrop audit head",
    "outcrop audit keys",
    "outcrop audit prove",
    "outcrop audit show",
    "outcrop audit verify",
    "outcrop chip",
    "outcrop chip list",
    "outcrop chip show",
    "outcrop conformance",
    "outcrop doctor",
    "outcrop evidence",
    "outcrop evidence run",
    "outcrop evidence verify",
    "outcrop explain",
    "outcrop kernel",
    "outcrop kernel calibrate",
    "outcrop kernel diff",
    "outcrop kernel profile",
    "outcrop kernel run",
    "outcrop kernel tune",
    "outcrop key",
    "outcrop key bearer",
    "outcrop key create",
    "outcrop key delete",
    "outcrop key disable",
    "outcrop key enable",
    "outcrop key list",
    "outcrop logs",
    "outcrop logs export",
    "outcrop logs show",
    "outcrop models",
    "outcrop models alias",
    "outcrop models import",
    "outcrop models list",
    "outcrop models remove",
    "outcrop models show",
    "outcrop models unalias",
    "outcrop policy",
    "outcrop policy check",
    "outcrop policy explain",
    "outcrop policy simulate",
    "outcrop trust",
    "outcrop tune",
    "outcrop tune inspect",
    "outcrop up",
}


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child
                yield from parsers(child)


def test_the_verbs_are_these_and_change_on_purpose_only():
    assert {parser.prog for parser in parsers(build_parser())} == VERBS


def test_every_verb_that_runs_shows_an_example():
    lacking = [p.prog for p in parsers(build_parser()) if p.get_default("run") and "outcrop" not in (p.epilog or "")]
    assert lacking == []


def test_an_error_is_one_line_with_its_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["key", "list", "--data", str(tmp_path / "none")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("outcrop: ")
    assert err.rstrip().endswith("[OC-1404]")


@pytest.mark.parametrize("arguments", [["up", "--port", "80000"], ["up", "--port", "-1"], ["frobnicate"], []])
def test_wrong_usage_exits_with_2(arguments: list[str]):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_explain_tells_what_an_id_means(capsys: pytest.CaptureFixture[str]):
    assert main(["explain", "OC-2100", "--json"]) == 0
    assert "model directory" in json.loads(capsys.readouterr().out)["OC-2100"]
    assert main(["explain", "OC-0815"]) == 1


def test_doctor_finds_nothing_to_mend_before_the_first_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--data", str(tmp_path / "none"), "--json"]) == 0
    findings = {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings["default model"]["status"] == "ok"
    assert "outcrop up" in findings["data directory"]["found"]


def test_doctor_fails_where_others_can_read_the_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tmp_path.chmod(0o755)
    assert main(["doctor", "--data", str(tmp_path)]) == 1
    assert f"chmod 700 {tmp_path}" in capsys.readouterr().out


def test_listing_models_makes_a_private_data_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = tmp_path / "data"
    assert main(["models", "list", "--data", str(data)]) == 0
    assert data.stat().st_mode & 0o777 == 0o700
    assert "outcrop.pebble-v1:0" in capsys.readouterr().out
