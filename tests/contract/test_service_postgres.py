"""The whole service over PostgreSQL: the same calls, the same answers, and two services over one database agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from outcrop.base import tables
from serving import TINY_MODEL_ID, Running, running_service

MESSAGES = [{"role": "user", "content": [{"text": "Hello"}]}]


def client(service: Running, name: str) -> Any:
    return boto3.client(
        name,
        endpoint_url=service.http_url,
        region_name=service.region,
        aws_access_key_id=service.access_key_id,
        aws_secret_access_key=service.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def data(tmp_path: Path, postgres_url: str) -> Path:
    url_file = tmp_path / "database-url"
    url_file.write_text(postgres_url)
    url_file.chmod(0o600)
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "outcrop.toml").write_text(f'database_url_file = "{url_file}"\n')
    return folder


def test_the_service_runs_over_postgresql_and_starts_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "VERSION_KNOWN_FOR_S", 0.0)
    with running_service(data) as service:
        assert not list(data.glob("*.db*"))  # nothing of it is in SQLite
        answer = client(service, "bedrock-runtime").converse(modelId=TINY_MODEL_ID, messages=MESSAGES)
        assert answer["stopReason"] == "end_turn"
        kms = client(service, "kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        sealed = kms.encrypt(KeyId=key, Plaintext=b"hello")["CiphertextBlob"]
        kms.disable_key(KeyId=key)
        with pytest.raises(ClientError, match="DisabledException"):
            kms.decrypt(CiphertextBlob=sealed)
        kms.enable_key(KeyId=key)
        token = client(service, "sts").get_session_token()["Credentials"]
    with running_service(data) as service:
        assert client(service, "kms").decrypt(CiphertextBlob=sealed)["Plaintext"] == b"hello"
        again = boto3.client(
            "sts",
            endpoint_url=service.http_url,
            region_name=service.region,
            aws_access_key_id=token["AccessKeyId"],
            aws_secret_access_key=token["SecretAccessKey"],
            aws_session_token=token["SessionToken"],
        )
        assert again.get_caller_identity()["Account"] == service.account
        events = client(service, "cloudtrail").lookup_events(
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CreateKey"}]
        )["Events"]
        assert len(events) == 1
