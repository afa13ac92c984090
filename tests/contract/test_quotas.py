"""Quotas as clients meet them: 429 before any work, one account's limit not another's, and tokens given back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.inference.null import NullEngine
from outcrop.service.admission import Quota, QuotaStore
from outcrop.service.trusted import Trust
from serving import TINY_MODEL_ID, Running, running_service

OTHER = "999999999999"
MESSAGES = [{"role": "user", "content": [{"text": "Hello"}]}]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    with running_service(tmp_path / "data", lambda loaded: NullEngine(hang_after=2)) as running:
        yield running


@pytest.fixture
def trust(service: Running) -> Iterator[Trust]:
    """The same deployment opened by another process's means: what it changes holds with the next request."""
    opened = Trust.open(service.data, Deployment.load(service.data), SystemClock())
    yield opened
    opened.close()


def runtime(service: Running) -> Any:
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=service.http_url,
        region_name=service.region,
        aws_access_key_id=service.access_key_id,
        aws_secret_access_key=service.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


def status_of(call: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def stream(client: Any, max_tokens: int = 50) -> Any:
    config = {"maxTokens": max_tokens}
    return client.converse_stream(modelId=TINY_MODEL_ID, messages=MESSAGES, inferenceConfig=config)["stream"]


def test_what_runs_counts_until_it_is_left(service: Running, trust: Trust) -> None:
    QuotaStore(trust.database).put(service.account, "*", Quota(concurrent_requests=1))
    client = runtime(service)
    running = stream(client)
    next(iter(running))
    assert status_of(lambda: stream(client)) == (429, "ThrottlingException")

    key = trust.identity.ensure_account("aws", OTHER)
    assert key is not None
    second = replace(service, access_key_id=key.access_key_id, secret_access_key=key.secret_access_key)
    theirs = stream(runtime(second))  # another account is not held up
    next(iter(theirs))
    theirs.close()

    running.close()  # the client goes away: its turn is free again
    for _ in range(200):
        try:
            stream(client).close()
            break
        except ClientError:
            continue
    else:
        pytest.fail("an abandoned stream never gave its turn back")


def test_tokens_a_minute_are_reserved_before_work_and_given_back(service: Running, trust: Trust) -> None:
    QuotaStore(trust.database).put(service.account, TINY_MODEL_ID, Quota(tokens_per_minute=500))
    client = runtime(service)
    assert status_of(lambda: stream(client, max_tokens=1000)) == (429, "ThrottlingException")
    assert not service.engines or service.engines[0].stats().running == 0
    for _ in range(4):  # each reserves most of the quota, uses two tokens, and is left
        for _ in range(200):
            try:
                running = stream(client, max_tokens=300)
                break
            except ClientError:
                continue
        next(iter(running))
        running.close()


def test_requests_a_minute(service: Running, trust: Trust) -> None:
    QuotaStore(trust.database).put("*", TINY_MODEL_ID, Quota(requests_per_minute=2))
    client = runtime(service)
    for _ in range(2):
        client.count_tokens(modelId=TINY_MODEL_ID, input={"converse": {"messages": MESSAGES}})
    count = lambda: client.count_tokens(modelId=TINY_MODEL_ID, input={"converse": {"messages": MESSAGES}})  # noqa: E731
    assert status_of(count) == (429, "ThrottlingException")
    QuotaStore(trust.database).delete("*", TINY_MODEL_ID)
    count()  # the operator lifted it: the next request passes
