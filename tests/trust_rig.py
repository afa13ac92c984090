"""Users, roles and policies of a running service, made through a second process's door; clients that act as them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.deployment import Deployment
from outcrop.service.trusted import Trust
from outcrop.trust.identity import IssuedKey
from serving import TINY_MODEL_ID, Running

MESSAGES = [{"role": "user", "content": [{"text": "hi"}]}]
ANSWER = "Hello, world!"
MODEL_ARN = f"arn:aws:bedrock:*::foundation-model/{TINY_MODEL_ID}"


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials as a client is given them."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    @classmethod
    def issued(cls, key: IssuedKey) -> Keys:
        return cls(key.access_key_id, key.secret_access_key)

    @classmethod
    def of(cls, reply: Mapping[str, Any]) -> Keys:
        """Those in the answer of an STS operation."""
        made = reply["Credentials"]
        return cls(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])

    def environment(self, service: Running) -> dict[str, str]:
        """The settings under which AWS's programs use these keys against ``service``."""
        return {
            "AWS_ENDPOINT_URL": service.http_url,
            "AWS_DEFAULT_REGION": service.region,
            "AWS_REGION": service.region,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_MAX_ATTEMPTS": "1",
            **({"AWS_SESSION_TOKEN": self.session_token} if self.session_token else {}),
        }


@contextmanager
def opened(data: Path, clock: Clock | None = None) -> Iterator[Trust]:
    """The trust rooms of ``data`` as a second process of the deployment has them open."""
    trust = Trust.open(data, Deployment.load(data), clock or SystemClock())
    try:
        yield trust
    finally:
        trust.close()


def root_keys(service: Running) -> Keys:
    return Keys(service.access_key_id, service.secret_access_key)


def client(service: Running, name: str, keys: Keys, region: str | None = None) -> Any:
    return boto3.client(
        name,
        endpoint_url=service.http_url,
        region_name=region or service.region,
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key,
        aws_session_token=keys.session_token,
        config=Config(retries={"total_max_attempts": 1}),
    )


def say(service: Running, keys: Keys, **more: Any) -> str:
    """What the model answers to these credentials."""
    runtime = client(service, "bedrock-runtime", keys)
    reply = runtime.converse(modelId=TINY_MODEL_ID, messages=MESSAGES, **more)
    return str(reply["output"]["message"]["content"][0]["text"])


def refused(code: str, text: str = "") -> Any:
    """The refusal of a call by a boto3 client, by its code and a part of its message."""

    def fits(error: ClientError) -> bool:
        found = error.response["Error"]
        return found["Code"] == code and text in found["Message"]

    return pytest.raises(ClientError, check=fits)


def document(*statements: Mapping[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: str | list[str], resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: str | list[str], resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, **more}


def trusting(principal: Mapping[str, Any], action: str | list[str] = "sts:AssumeRole", **more: Any) -> str:
    """A trust policy."""
    return document({"Effect": "Allow", "Principal": dict(principal), "Action": action, **more})


BEARER = allow("bedrock:CallWithBearerToken")
INVOKE = allow(["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"])


def make_user(trust: Trust, account: str, name: str, *statements: Mapping[str, Any]) -> Keys:
    """A user with an access key and one inline policy of ``statements`` (none without)."""
    trust.identity.users.create(account, name)
    if statements:
        trust.identity.holdings.put_inline(account, "user", name, "own", document(*statements))
    return Keys.issued(trust.identity.keys.create(account, name))


def make_role(trust: Trust, account: str, name: str, trust_policy: str, *statements: Mapping[str, Any]) -> str:
    """The ARN of a new role with one inline policy of ``statements`` (none without)."""
    role = trust.identity.roles.create(account, name, trust_policy)
    if statements:
        trust.identity.holdings.put_inline(account, "role", name, "own", document(*statements))
    return str(role.arn)


def user_arn(account: str, name: str) -> str:
    return f"arn:aws:iam::{account}:user/{name}"


def next_second() -> None:
    """Wait for the next full second: sessions know their times to the second."""
    time.sleep(1.01 - time.time() % 1)


# Fixtures: a test file imports those that it needs.


@pytest.fixture(scope="module")
def trust(service: Running) -> Iterator[Trust]:
    with opened(service.data) as found:
        yield found


@pytest.fixture(scope="module")
def alice(service: Running, trust: Trust) -> Keys:
    """A user without any policy: what she can do, she does in roles that trust her by name."""
    return make_user(trust, service.account, "alice")


@pytest.fixture(scope="module")
def by_alice(service: Running, alice: Keys) -> str:
    """A trust policy for her, with tags."""
    return trusting({"AWS": user_arn(service.account, "alice")}, ["sts:AssumeRole", "sts:TagSession"])


@pytest.fixture(scope="module")
def reader(service: Running, trust: Trust, by_alice: str) -> str:
    """A role that may use models, which alice may take on."""
    return make_role(trust, service.account, "reader", by_alice, INVOKE, BEARER)


def assume(service: Running, keys: Keys, role: str, name: str = "s1", **more: Any) -> Keys:
    return Keys.of(client(service, "sts", keys).assume_role(RoleArn=role, RoleSessionName=name, **more))
