"""``outcrop up`` killed, stopped and started again: what it keeps, what it lets go of, and what it refuses.

Not covered: power loss (nothing here cuts writes off below the file system), and a full disk.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import torch
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EventStreamError
from urllib3.exceptions import HTTPError

from outcrop.models.config import LayerConfig
from outcrop.models.decoder import Decoder
from outcrop.models.hf_config import read_config
from outcrop.models.registry import ModelRegistry
from outcrop.models.weights import save_decoder
from serving import SPECIAL, TINY_MODEL_ID, write_tiny_model

OUTCROP = [sys.executable, "-m", "outcrop.cli.main"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
MESSAGES = [{"role": "user", "content": [{"text": "hi"}]}]
STOP_TIMEOUT_S = 30


def outcrop(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*OUTCROP, *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)


class Process:
    """One ``outcrop up`` that is ready, and what it reported."""

    def __init__(self, data: Path, *options: object) -> None:
        command = [*OUTCROP, "up", "--data", str(data), "--port", "0", "--https-port", "0", "--json"]
        self.popen = subprocess.Popen(
            [*command, *map(str, options)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            assert self.popen.stderr is not None
            pytest.fail(f"outcrop up ended with {self.popen.wait()}: {self.popen.stderr.read()}")
        self.report: dict[str, Any] = json.loads(line)

    def end(self, signum: int) -> int:
        """The exit code after ``signum``."""
        self.popen.send_signal(signum)
        return self.popen.wait(STOP_TIMEOUT_S)

    def port(self, name: str = "endpoint") -> int:
        port = urlsplit(self.report[name]).port
        assert port is not None
        return port


@contextmanager
def up(data: Path, *options: object) -> Iterator[Process]:
    """A running service that is gone afterwards, whatever happened."""
    process = Process(data, *options)
    try:
        yield process
    finally:
        process.popen.kill()
        process.popen.communicate()


def runtime(report: dict[str, Any], secret: str) -> Any:
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=report["endpoint"],
        region_name=report["region"],
        aws_access_key_id=report["access_key_id"],
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=30),
    )


def stream(client: Any, max_tokens: int) -> Iterator[Any]:
    reply = client.converse_stream(modelId=TINY_MODEL_ID, messages=MESSAGES, inferenceConfig={"maxTokens": max_tokens})
    return iter(reply["stream"])


ENDLESS = 100_000
"""Tokens that the model needs longer for than any test here waits."""


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a small model that never ends its answer by itself."""
    folder = tmp_path_factory.mktemp("talkative")
    source = write_tiny_model(folder / "tiny")
    torch.manual_seed(0)
    config = replace(
        read_config(source), hidden_size=256, layers=(LayerConfig(),) * 8, max_positions=16_384, tie_embeddings=False
    )
    decoder = Decoder(config)
    with torch.no_grad():
        decoder.lm_head.weight[-len(SPECIAL) :] = 0  # the special tokens are the last of the vocabulary
    save_decoder(decoder, source)
    ModelRegistry(folder / "data" / "models").import_directory(source, TINY_MODEL_ID)
    return folder / "data"


@pytest.fixture
def data(tmp_path: Path, talkative: Path) -> Path:
    """A copy of that directory, not yet started."""
    return shutil.copytree(talkative, tmp_path / "data")


def test_a_service_killed_in_the_middle_of_a_stream_comes_back_with_all_it_had(data: Path) -> None:
    with up(data) as first:
        secret = first.report["secret_access_key"]
        assert secret
        assert TINY_MODEL_ID in first.report["models"]
        events = stream(runtime(first.report, secret), ENDLESS)
        assert "messageStart" in next(events)
        assert "contentBlockDelta" in next(events)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        with pytest.raises((BotoCoreError, HTTPError)):
            list(events)
    ports = ("--port", first.port(), "--https-port", first.port("https_endpoint"))
    with up(data, *ports) as second:
        kept = ("endpoint", "https_endpoint", "region", "account", "access_key_id", "models")
        assert {name: second.report[name] for name in kept} == {name: first.report[name] for name in kept}
        assert second.report["secret_access_key"] is None
        reply = runtime(second.report, secret).converse(
            modelId=TINY_MODEL_ID, messages=MESSAGES, inferenceConfig={"maxTokens": 4}
        )
        assert reply["usage"]["outputTokens"] == 4
        with pytest.raises(ClientError):
            runtime(second.report, "x" * 40).converse(modelId=TINY_MODEL_ID, messages=MESSAGES)
        assert second.end(signal.SIGTERM) == 0


def test_killed_before_it_is_ready_leaves_a_directory_that_starts(data: Path) -> None:
    for pause_s in (0.5, 1.5):
        command = [*OUTCROP, "up", "--data", str(data), "--port", "0", "--https-port", "0"]
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(pause_s)  # somewhere in the start, wherever this machine is by then
        process.kill()
        process.wait()
    with up(data) as service:
        assert TINY_MODEL_ID in service.report["models"]
        listed = outcrop("key", "list", "--data", data, "--json")
        keys = json.loads(listed.stdout)
        assert [key["access_key_id"] for key in keys] == [service.report["access_key_id"]]


def test_told_to_stop_it_lets_a_short_stream_end(data: Path) -> None:
    with up(data) as service:
        events = stream(runtime(service.report, service.report["secret_access_key"]), 50)
        next(events)
        service.popen.send_signal(signal.SIGINT)
        assert "metadata" in list(events)[-1]
        assert service.popen.wait(STOP_TIMEOUT_S) == 0
        assert service.popen.stderr is not None
        assert "Traceback" not in service.popen.stderr.read()


def test_told_to_stop_it_ends_a_long_stream_in_words_within_seconds(data: Path) -> None:
    with up(data) as service:
        events = stream(runtime(service.report, service.report["secret_access_key"]), ENDLESS)
        assert "messageStart" in next(events)
        assert service.popen.poll() is None
        service.popen.send_signal(signal.SIGTERM)
        with pytest.raises(EventStreamError, match="serviceUnavailableException"):
            list(events)
        assert service.popen.wait(STOP_TIMEOUT_S) == 0
        assert service.popen.stderr is not None
        assert "Traceback" not in service.popen.stderr.read()


def test_two_services_on_one_data_directory_are_refused_in_one_line(data: Path) -> None:
    with up(data) as first:
        other = outcrop("up", "--data", data, "--port", "0", "--https-port", "0")
        assert other.returncode == 1
        assert other.stdout == ""
        (line,) = other.stderr.splitlines()
        assert "is in use by another Outcrop process" in line
        reply = runtime(first.report, first.report["secret_access_key"]).converse(
            modelId=TINY_MODEL_ID, messages=MESSAGES, inferenceConfig={"maxTokens": 2}
        )
        assert reply["usage"]["outputTokens"] == 2


def test_a_port_that_is_taken_is_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    with up(data) as first:
        other = outcrop("up", "--data", tmp_path / "other", "--port", first.port(), "--https-port", "0")
        assert other.returncode == 1
        (line,) = other.stderr.splitlines()
        assert f"Cannot listen on 127.0.0.1 port {first.port()}" in line


def test_a_key_made_or_disabled_while_it_runs_counts_at_once(data: Path) -> None:
    with up(data) as service:
        made = json.loads(outcrop("key", "create", "--data", data, "--json").stdout)
        report = {**service.report, "access_key_id": made["access_key_id"]}
        ask = {"modelId": TINY_MODEL_ID, "messages": MESSAGES, "inferenceConfig": {"maxTokens": 1}}
        client = runtime(report, made["secret_access_key"])
        assert client.converse(**ask)["usage"]["outputTokens"] == 1
        assert outcrop("key", "disable", made["access_key_id"], "--data", data).returncode == 0
        with pytest.raises(ClientError, match="UnrecognizedClientException"):
            client.converse(**ask)
