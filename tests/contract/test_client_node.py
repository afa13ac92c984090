"""The AWS SDK for JavaScript, unmodified, on Node: HTTP/2 without TLS and with it, signatures and API keys.

Not covered: browsers, other JavaScript runtimes, and the bidirectional stream, which is not built.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from serving import TINY_MODEL_ID, Running
from signing import api_key

FOLDER = Path(__file__).parent / "node"


def node() -> str:
    """The node program; without it, or without the SDK, the test is skipped at home and fails in CI."""
    program = shutil.which("node")
    if program is None:
        missing = "Node is missing: install nodejs 20 or later."
    elif not (FOLDER / "node_modules" / "@aws-sdk").is_dir():
        missing = "The AWS SDK for JavaScript is missing: run `npm ci` in tests/contract/node."
    else:
        return program
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def received(service: Running, endpoint: str, **environment: str) -> dict[str, Any]:
    """What the script got from ``endpoint``."""
    settings = {
        "PATH": os.environ["PATH"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "NODE_EXTRA_CA_CERTS": str(service.ca_certificate),
        "ENDPOINT": endpoint,
        "MODEL": TINY_MODEL_ID,
        "REGION": service.region,
        **environment,
    }
    command = [node(), str(FOLDER / "client.mjs")]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def check(got: dict[str, Any]) -> None:
    whole = got["whole"]
    assert whole["output"]["message"]["content"] == [{"text": "Hello, world!"}]
    assert whole["usage"] == {"inputTokens": 5, "outputTokens": 4, "totalTokens": 9}
    assert whole["additionalModelResponseFields"] == {"delta": {"stop_sequence": None}}
    assert [next(iter(event)) for event in got["converseEvents"]] == [
        "messageStart",
        *["contentBlockDelta"] * 4,
        "contentBlockStop",
        "messageStop",
        "metadata",
    ]
    texts = [event["contentBlockDelta"]["delta"]["text"] for event in got["converseEvents"][1:5]]
    assert texts == ["Hello", ", ", "world", "!"]
    assert got["invoked"]["content"] == [{"type": "text", "text": "Hello, world!"}]
    assert [event["type"] for event in got["invokeEvents"]] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert got["counted"]["inputTokens"] == 5
    assert got["together"] == ["Hello, world!"] * 8
    refusals = {name: (refusal["name"], refusal["status"]) for name, refusal in got["refusals"].items()}
    assert refusals == {
        "model": ("ValidationException", 400),
        "image": ("ValidationException", 400),
        "stream": ("ValidationException", 400),
        "unbuilt": ("NotImplementedException", 501),
        "secret": ("InvalidSignatureException", 403),
    }
    assert "ApplyGuardrail" in got["refusals"]["unbuilt"]["message"]


def test_over_http2_without_tls(service: Running) -> None:
    keys = {"AWS_ACCESS_KEY_ID": service.access_key_id, "AWS_SECRET_ACCESS_KEY": service.secret_access_key}
    check(received(service, service.http_url, **keys))


def test_over_tls_with_the_private_ca(service: Running) -> None:
    keys = {"AWS_ACCESS_KEY_ID": service.access_key_id, "AWS_SECRET_ACCESS_KEY": service.secret_access_key}
    check(received(service, service.https_url, **keys))


def test_with_an_api_key(service: Running) -> None:
    keys = {"AWS_BEARER_TOKEN_BEDROCK": api_key(service), "AWS_ACCESS_KEY_ID": service.access_key_id}
    got = received(service, service.https_url, **keys)
    assert got["whole"]["output"]["message"]["content"] == [{"text": "Hello, world!"}]
    assert got["together"] == ["Hello, world!"] * 8
