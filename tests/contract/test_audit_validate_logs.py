"""The AWS CLI's own ``validate-logs`` code reads what the trail delivers, and refuses what was done to it.

Its classes run unmodified over a client that answers from the folder as S3 and CloudTrail would.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from awscli.customizations.cloudtrail import validation
from botocore.exceptions import ClientError

from audit_rig import ACCOUNT, NOON, event, trail
from outcrop.base.clock import FakeClock
from outcrop.trust.audit.digests import METADATA_SUFFIX, Delivery, Destination, string_to_sign
from outcrop.trust.audit.keys import PublicKeys
from outcrop.trust.crypto.signatures import SigningKey

DESTINATION = Destination(ACCOUNT, "us-east-1")


class Folder:
    """What the validator needs of an S3 client and of a CloudTrail client, over one folder."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get_client(self, bucket: str) -> Folder:
        return self

    def get_paginator(self, name: str) -> Folder:
        assert name == "list_objects"
        return self

    def paginate(self, **request: str) -> Folder:
        self._request = request
        return self

    def search(self, expression: str) -> Iterator[str]:
        assert expression == "Contents[*].Key"
        bucket = self._directory / "delivered" / self._request["Bucket"]
        keys = sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())
        wanted = (key for key in keys if key.startswith(self._request["Prefix"]))
        return (key for key in wanted if key > self._request["Marker"])

    def get_object(self, **request: str) -> dict[str, object]:
        path = self._directory / "delivered" / request["Bucket"] / request["Key"]
        if not path.exists():
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": ""}}, "GetObject")
        metadata = Path(f"{path}{METADATA_SUFFIX}")
        found = json.loads(metadata.read_bytes()) if metadata.exists() else {}
        return {"Body": io.BytesIO(path.read_bytes()), "Metadata": found}

    def list_public_keys(self, **request: object) -> dict[str, object]:
        keys = PublicKeys.load(self._directory).digest_keys()
        return {
            "PublicKeyList": [
                {
                    "Fingerprint": key.cloudtrail_fingerprint,
                    "Value": base64.b64encode(key.cloudtrail_value).decode(),
                }
                for key in keys
            ]
        }


def validate(directory: Path) -> tuple[int, int, int, int]:
    """Valid and invalid digests, valid and invalid log files, by the CLI's command object."""
    command = validation.CloudTrailValidateLogs.__new__(validation.CloudTrailValidateLogs)
    for name in ("_valid", "_invalid"):
        for kind in ("_digests", "_logs", "_backfill_digests"):
            setattr(command, name + kind, 0)
    command._is_last_status_double_space = True
    command._found_start_time = command._found_end_time = None
    command.is_verbose = False
    folder = Folder(directory)
    command.trail_arn = DESTINATION.trail_arn
    command.cloudtrail_client = command.s3_client_provider = folder
    command.organization_client = None
    command._source_region = command.account_id = command.s3_prefix = None
    command.s3_bucket = DESTINATION.bucket
    command.start_time = validation.normalize_date(NOON - timedelta(hours=2))
    command.end_time = validation.normalize_date(NOON + timedelta(hours=3))
    command._call()
    return command._valid_digests, command._invalid_digests, command._valid_logs, command._invalid_logs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "audit"
    clock = FakeClock(NOON)
    with trail(directory, clock) as log:
        delivery = Delivery(log, DESTINATION, clock)
        for hour in range(3):
            clock.set(NOON + timedelta(hours=hour))
            for number in range(5):
                log.append(event(f"Create{hour}{number}", at=clock.now()))
            delivery.deliver_digests()
            if hour == 1:
                log.rotate_keys()
    return directory


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "audit")
    return tmp_path / "audit"


def files(directory: Path, kind: str) -> list[Path]:
    return sorted(directory.glob(f"delivered/*/AWSLogs/{ACCOUNT}/{kind}/**/*.json.gz"))


def test_chained_digests_are_accepted_across_a_change_of_keys(made: Path) -> None:
    assert validate(made) == (3, 0, 3, 0)


def change_a_byte(directory: Path) -> tuple[int, int, int, int]:
    path = files(directory, "CloudTrail")[0]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"Create00", b"Create09", 1)))
    return (3, 0, 2, 1)


def change_a_digest(directory: Path) -> tuple[int, int, int, int]:
    path = files(directory, "CloudTrail-Digest")[1]
    content = gzip.decompress(path.read_bytes())
    changed = content.replace(b'Time":"2026-01-01T12', b'Time":"2026-01-01T11', 1)
    assert changed != content
    path.write_bytes(gzip.compress(changed))
    return (2, 1, 2, 0)


def remove_a_log_file(directory: Path) -> tuple[int, int, int, int]:
    files(directory, "CloudTrail")[1].unlink()
    return (3, 0, 2, 1)


def remove_a_digest(directory: Path) -> tuple[int, int, int, int]:
    files(directory, "CloudTrail-Digest")[1].unlink()
    return (2, 1, 2, 0)


def sign_a_digest_anew(directory: Path) -> tuple[int, int, int, int]:
    path = files(directory, "CloudTrail-Digest")[2]
    digest = json.loads(gzip.decompress(path.read_bytes()))
    digest["logFiles"] = []
    content = json.dumps(digest).encode()
    path.write_bytes(gzip.compress(content))
    signature = SigningKey.generate("rsa-2048").sign(string_to_sign(digest, content)).hex()
    metadata = {"signature": signature, "signature-algorithm": "SHA256withRSA"}
    Path(f"{path}{METADATA_SUFFIX}").write_text(json.dumps(metadata))
    return (2, 1, 2, 0)


@pytest.mark.parametrize(
    "tamper",
    [change_a_byte, change_a_digest, remove_a_log_file, remove_a_digest, sign_a_digest_anew],
    ids=lambda tamper: tamper.__name__,
)
def test_the_validator_refuses(copy: Path, tamper: Callable[[Path], tuple[int, int, int, int]]) -> None:
    expected = tamper(copy)
    assert validate(copy) == expected
