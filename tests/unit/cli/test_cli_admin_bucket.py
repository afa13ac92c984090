"""``outcrop admin bucket`` and what ``outcrop logs`` says where there is no log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.cli.main import main
from outcrop.service.trusted import Trust
from outcrop.trust.audit.spool import Spool

OTHER = "444455556666"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with two accounts."""
    directory = tmp_path / "data"
    deployment = Deployment.create(directory, region="us-east-1")
    trust = Trust.open(directory, deployment, SystemClock())
    for account in (deployment.account, OTHER):
        trust.identity.ensure_account("aws", account)
    trust.close()
    return directory


def run(data: Path, *words: str) -> int:
    return main([*words, "--data", str(data)])


def test_a_bucket_is_made_listed_and_deleted(data: Path, capsys: pytest.CaptureFixture[str]):
    own = Deployment.load(data).account
    assert run(data, "admin", "bucket", "create", "logs", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["name"], made["account"], made["kms_key"]) == ("logs", own, "")
    assert run(data, "admin", "bucket", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [made]
    assert run(data, "admin", "bucket", "delete", "logs") == 0
    assert "deleted" in capsys.readouterr().out
    assert run(data, "admin", "bucket", "list") == 0
    assert "No buckets" in capsys.readouterr().out


def test_a_bucket_is_its_accounts_and_under_its_key(data: Path, capsys: pytest.CaptureFixture[str]):
    trust = Trust.open(data, Deployment.load(data), SystemClock())
    key = trust.keys.lifecycle.create(OTHER, trust.keys.policies.initial(OTHER))
    trust.close()
    assert run(data, "admin", "bucket", "create", "theirs", "--key", str(key.arn)) == 1
    assert "is of another account" in capsys.readouterr().err
    assert run(data, "admin", "bucket", "create", "theirs", "--account", OTHER, "--key", str(key.arn)) == 0
    capsys.readouterr()
    assert run(data, "admin", "bucket", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(data, "admin", "bucket", "delete", "theirs") == 1
    assert run(data, "admin", "bucket", "create", "theirs") == 1
    assert "taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["create", "No_Name"],
        ["create", "logs", "--account", "123"],
        ["create", "logs", "--account", "999988887777"],
        ["create", "logs", "--key", "alias/none"],
        ["delete", "logs"],
    ],
)
def test_what_cannot_be_is_told_in_one_line(data: Path, words: list[str], capsys: pytest.CaptureFixture[str]):
    assert run(data, "admin", "bucket", *words) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_who_changes_buckets_or_reads_a_log_is_recorded_before(data: Path):
    assert run(data, "admin", "bucket", "list") == 0
    spool = Spool(data / "audit")
    assert spool.waiting() == []
    for words in (["admin", "bucket", "create", "logs"], ["logs", "show", "--bucket", "logs"], ["logs", "show"]):
        run(data, *words)
    told = [json.loads(path.read_bytes())["serviceEventDetails"]["command"] for path in spool.waiting()]
    assert told == ["admin bucket create", "logs show", "logs show"]


def test_an_account_without_a_log_is_told_so(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(data, "logs", "show") == 1
    assert "logs no invocations" in capsys.readouterr().err
    assert run(data, "logs", "export", str(tmp_path / "out"), "--bucket", "none-such") == 1
    assert run(data, "logs", "export", str(tmp_path / "none" / "out")) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    run(data, "admin", "bucket", "create", "empty")
    assert run(data, "logs", "show", "--bucket", "empty") == 0
    assert "empty" in capsys.readouterr().out
