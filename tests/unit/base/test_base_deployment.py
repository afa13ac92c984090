"""Partition, region and account are chosen once, kept, and refused when they could not stand in an ARN."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from outcrop.base.deployment import Deployment
from outcrop.base.errors import AlreadyExists, NotFound, UserError


def test_what_was_made_is_found_again(tmp_path: Path) -> None:
    made = Deployment.create(tmp_path / "data", "aws-us-gov", "us-gov-west-1", "123456789012")
    assert Deployment.load(tmp_path / "data") == made
    assert json.loads((tmp_path / "data" / "deployment.json").read_text()) == {
        "partition": "aws-us-gov",
        "region": "us-gov-west-1",
        "account": "123456789012",
    }
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert str(made.scope.arn("bedrock", "x")) == "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:x"


def test_without_an_account_a_random_one_is_made(tmp_path: Path) -> None:
    accounts = {Deployment.create(tmp_path / str(index)).account for index in range(5)}
    assert len(accounts) == 5
    assert all(re.fullmatch("[1-9][0-9]{11}", account) for account in accounts)


def test_a_deployment_is_never_overwritten(tmp_path: Path) -> None:
    made = Deployment.create(tmp_path)
    with pytest.raises(AlreadyExists, match="exists already"):
        Deployment.create(tmp_path, region="eu-west-1")
    assert Deployment.load(tmp_path) == made


def test_a_missing_deployment_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Run `outcrop up` first"):
        Deployment.load(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"partition": "aws", "region": "us-east-1", "account": 123456789012}']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "deployment.json").write_text(text)
    with pytest.raises(UserError, match=r"deployment\.json"):
        Deployment.load(tmp_path)


@pytest.mark.parametrize(
    ("partition", "region", "account"),
    [
        ("gcp", "us-east-1", "123456789012"),
        ("aws:x", "us-east-1", "123456789012"),
        ("aws", "US-EAST-1", "123456789012"),
        ("aws", "us east", "123456789012"),
        ("aws", "", "123456789012"),
        ("aws", "us-east-1\n", "123456789012"),
        ("aws", "us-east-1", "12345678901"),
        ("aws", "us-east-1", "12345678901\u0662"),
    ],
)
def test_what_cannot_stand_in_an_arn_is_refused(tmp_path: Path, partition: str, region: str, account: str) -> None:
    with pytest.raises(UserError):
        Deployment.create(tmp_path, partition, region, account)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "eusc-de-east-1", "us-isob-east-1", "onprem-1"])
def test_regions_of_every_partition_are_taken(region: str) -> None:
    assert Deployment("aws", region, "123456789012").region == region
