"""Run by test_audit_validate_logs: the AWS CLI's validation over one folder, its counts as JSON on the last line.

In a process of its own, because importing ``awscli`` puts its own copy of botocore in the place of everybody's.
Usage: validate_logs_child.py AUDIT_DIRECTORY
"""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from awscli.customizations.cloudtrail import validation
from botocore.exceptions import ClientError

from audit_rig import ACCOUNT, NOON
from outcrop.trust.audit.digests import METADATA_SUFFIX, Destination
from outcrop.trust.audit.keys import PublicKeys

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


if __name__ == "__main__":
    print("\n" + json.dumps(validate(Path(sys.argv[1]))))
