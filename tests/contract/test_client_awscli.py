"""The AWS CLI, unmodified, in a process of its own as a person runs it: settings by environment and options.

Not covered: streaming operations, which this CLI cannot call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving import TINY_MODEL_ID, Running

AWS = [sys.executable, str(Path(sys.executable).with_name("aws"))]  # its first line fails in a path with spaces


def aws(service: Running, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = {
        "AWS_ENDPOINT_URL": service.http_url,
        "AWS_DEFAULT_REGION": service.region,
        "AWS_ACCESS_KEY_ID": service.access_key_id,
        "AWS_SECRET_ACCESS_KEY": service.secret_access_key,
        "AWS_MAX_ATTEMPTS": "1",
    }
    command = [*AWS, *arguments, "--output", "json"]
    return subprocess.run(
        command, env={**os.environ, **settings, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_converse(service: Running) -> None:
    messages = json.dumps([{"role": "user", "content": [{"text": "hi"}]}])
    reply = document(aws(service, "bedrock-runtime", "converse", "--model-id", TINY_MODEL_ID, "--messages", messages))
    assert reply["output"]["message"]["content"] == [{"text": "Hello, world!"}]
    assert reply["usage"] == {"inputTokens": 5, "outputTokens": 4, "totalTokens": 9}


def test_list_foundation_models_over_tls(service: Running) -> None:
    done = aws(
        service,
        "bedrock",
        "list-foundation-models",
        AWS_ENDPOINT_URL=service.https_url,
        AWS_CA_BUNDLE=str(service.ca_certificate),
    )
    assert TINY_MODEL_ID in [row["modelId"] for row in document(done)["modelSummaries"]]


def test_get_caller_identity(service: Running) -> None:
    assert document(aws(service, "sts", "get-caller-identity"))["Account"] == service.account


def test_invoke_endpoint_writes_the_body_to_a_file(service: Running, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"inputs": "Say"}))
    reply = document(
        aws(
            service,
            "sagemaker-runtime",
            "invoke-endpoint",
            "--endpoint-name",
            "local-tiny-v1-0",
            "--body",
            f"fileb://{body}",
            str(out),
        )
    )
    assert reply["InvokedProductionVariant"] == "AllTraffic"
    assert json.loads(out.read_text()) == {"generated_text": "Hello, world!"}


def test_a_wrong_secret_ends_with_the_typed_error(service: Running) -> None:
    done = aws(service, "bedrock", "list-foundation-models", AWS_SECRET_ACCESS_KEY="x" * 40)
    assert done.returncode != 0
    assert "(InvalidSignatureException)" in done.stderr
