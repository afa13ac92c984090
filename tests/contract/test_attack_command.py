"""``outcrop attack`` on a live service: the outsider's view and the one from within, in the words of the command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from outcrop.cli.main import main
from serving import Running, running_service


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_service(tmp_path_factory.mktemp("command") / "data") as running:
        yield running


def test_an_outsider_finds_nothing(attacked: Running, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["attack", attacked.http_url, "--quick", "--json", "--only", "signatures", "--only", "headers"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["passed"], told["totals"]["SUCCEEDED"]) == (0, True, 0)
    assert told["totals"]["refused"] > 150


def test_over_tls_with_the_deployments_own_ca(attacked: Running, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["attack", attacked.https_url, "--data", str(attacked.data), "--quick", "--only", "tags", "--json"]
    assert main(arguments) == 0, capsys.readouterr()
    assert json.loads(capsys.readouterr().out)["totals"]["refused"] > 10


def test_another_tenant_finds_nothing_and_nothing_is_left(
    attacked: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["attack", attacked.http_url, "--data", str(attacked.data), "--quick", "--only", "foreign"]
    assert main(arguments) == 0, capsys.readouterr()
    told = capsys.readouterr().out
    assert told.startswith("foreign ")
    assert "0 SUCCEEDED" in told
    assert "No attack succeeded." in told
    assert not list(Path(attacked.data / "models").glob("**/*attack*"))
