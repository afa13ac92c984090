"""The Python blocks of the README run as they stand, each in a process of its own, against a running service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_bedrock_token_generator import BedrockTokenGenerator
from botocore.credentials import Credentials

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user who started the service and pasted what it printed, and nothing else from ours."""
    folder = tmp_path_factory.mktemp("readme")
    command = [sys.executable, "-m", "outcrop.cli.main", "up"]
    command += ["--data", str(folder / "data"), "--port", "0", "--https-port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        try:
            report = json.loads(service.stdout.readline())
            key = Credentials(report["access_key_id"], report["secret_access_key"])
            yield {
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "AWS_ENDPOINT_URL": report["endpoint"],
                "AWS_REGION": report["region"],
                "AWS_DEFAULT_REGION": report["region"],
                "AWS_ACCESS_KEY_ID": key.access_key,
                "AWS_SECRET_ACCESS_KEY": key.secret_key,
                "OPENAI_API_KEY": BedrockTokenGenerator().get_token(key, report["region"]),
            }
        finally:
            service.terminate()


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_readme_prints_an_answer(number: int, exported: dict[str, str], tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[number]], cwd=tmp_path, env=exported, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
