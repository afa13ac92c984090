"""The peer: a LiteLLM proxy, pinned, in an environment of its own, in front of the null upstream.

Its leanest honest mode: one worker, no database, no cache, no logging callbacks, log level ERROR, no look-up of
prices over the network; the check of the caller's key is on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from gateway_rig.process import BENCH, ROOT, BenchFailed, Server, pinned, stop
from gateway_rig.requests import MASTER_KEY

REQUIREMENTS = BENCH / "requirements-litellm.txt"
VENV = ROOT / ".venv-litellm"
START_S = 120.0

_ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}


def version() -> str:
    """The pinned version, such as ``1.106.2``."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1].split(" ")[0] for line in lines if line.startswith("litellm=="))


def install() -> None:
    """Make ``.venv-litellm`` hold the pinned packages; ``BenchFailed`` where they cannot be had."""
    stamp = VENV / "outcrop-bench-installed"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="ascii") == digest:
        return
    print(f"installing LiteLLM {version()} in {VENV.name} (a minute the first time)", file=sys.stderr, flush=True)
    python = str(VENV / "bin" / "python")
    pinned_only = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(REQUIREMENTS)]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned_only],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
            raise BenchFailed(f"LiteLLM cannot be installed: {reason}")
    stamp.write_text(digest, encoding="ascii")


@contextlib.contextmanager
def running(core: int, upstream: Server, scratch: Path) -> Iterator[Server]:
    """The proxy on ``core`` in front of ``upstream``."""
    settings = {
        "model_list": [
            {
                "model_name": "null-model",
                "litellm_params": {
                    "model": "openai/null-model",
                    "api_base": f"http://{upstream.host}:{upstream.port}/v1",
                    "api_key": "none",
                },
            }
        ],
        "general_settings": {"master_key": MASTER_KEY},
        "litellm_settings": {"telemetry": False, "set_verbose": False, "num_retries": 0},
    }
    config = scratch / "litellm.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    port = _free_port()
    command = [str(VENV / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    log = scratch / "litellm.log"
    with log.open("wb") as output, pinned(core):
        process = subprocess.Popen(
            [*command, "--num_workers", "1"],
            env={**os.environ, **_ENVIRONMENT},
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait(process, port, log)
        yield Server(process.pid, "127.0.0.1", port, {})
    finally:
        process.terminate()
        stop(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {MASTER_KEY}"})
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    tail = log.read_text(encoding="utf-8", errors="replace")[-1000:]
    raise BenchFailed(f"LiteLLM did not start. The end of what it said: {tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
