"""`make demo`: starts the service with the default model and talks to it with real, unmodified clients.

Everything lives in a temporary directory and on free ports; nothing is left running, whichever way the demo ends.

Not covered: a demo that is killed outright (SIGKILL) cannot remove its temporary directory.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import boto3
import botocore.exceptions
import openai

OUTCROP = [sys.executable, "-m", "outcrop.cli.main"]
# util-linux, in every Debian: the service gets SIGTERM when the demo dies, even if the demo was killed outright.
WITH_PARENT = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
STOP_TIMEOUT_S = 30

# Credentials, endpoints and proxies of the person who runs the demo: its clients must not pick them up.
FOREIGN_PREFIXES = ("AWS_", "ANTHROPIC_", "OPENAI_", "BOTO", "OUTCROP_")
PROXY_NAMES = ("http_proxy", "https_proxy", "all_proxy")

PROMPT = """[1] The harbour of Port Ellis was dredged in 1931 to a depth of nine metres.
[2] A lighthouse is a tower that carries a bright light to guide ships at night.
[3] The archive holds the minutes of every council meeting since 1874.

Question: What is a lighthouse?"""


@contextmanager
def running_service(data: Path) -> Iterator[dict[str, Any]]:
    """`outcrop up` on free ports; gives what it reports once it is ready."""
    command = [*OUTCROP, "up", "--data", str(data), "--port", "0", "--https-port", "0", "--json"]
    process = subprocess.Popen([*WITH_PARENT, *command], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(f"`{' '.join(command)}` ended with code {process.wait()}")
        yield json.loads(line)
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stream(title: str, pieces: Iterable[str]) -> None:
    """Print text as it arrives, then how long it took."""
    print(f"\n{title}\n  ", end="")
    start_s = time.perf_counter()
    first_s: float | None = None
    count = 0
    for piece in pieces:
        first_s = first_s or time.perf_counter() - start_s
        count += 1
        print(piece, end="", flush=True)
    total_s = time.perf_counter() - start_s
    print(f"\n  ({count} events, first after {(first_s or 0) * 1000:.0f} ms, all after {total_s * 1000:.0f} ms)")


def converse(service: dict[str, Any], secret: str) -> Iterator[str]:
    """boto3: ConverseStream."""
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=service["endpoint"],
        region_name=service["region"],
        aws_access_key_id=service["access_key_id"],
        aws_secret_access_key=secret,
    )
    reply = client.converse_stream(
        modelId=service["models"][0],
        messages=[{"role": "user", "content": [{"text": PROMPT}]}],
        inferenceConfig={"maxTokens": 120},
    )
    for event in reply["stream"]:
        if "contentBlockDelta" in event:
            yield event["contentBlockDelta"]["delta"]["text"]


def messages(service: dict[str, Any]) -> Iterator[str]:
    """The Anthropic SDK's Bedrock client: InvokeModelWithResponseStream."""
    client = anthropic.AnthropicBedrock(
        base_url=service["endpoint"],
        aws_region=service["region"],
        aws_access_key=service["access_key_id"],
        aws_secret_key=service["secret_access_key"],
    )
    question = [{"role": "user", "content": PROMPT}]
    with client.messages.stream(model=service["models"][0], max_tokens=120, messages=question) as reply:  # type: ignore[arg-type]
        yield from reply.text_stream


def chat(service: dict[str, Any], api_key: str) -> Iterator[str]:
    """The OpenAI SDK: chat completions."""
    client = openai.OpenAI(base_url=f"{service['endpoint']}/openai/v1", api_key=api_key)
    reply = client.chat.completions.create(
        model=service["models"][0],
        messages=[{"role": "user", "content": PROMPT}],
        max_tokens=120,
        stream=True,
    )
    for chunk in reply:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


def refusal(ask: Callable[[], Iterator[str]]) -> str:
    """How the service answers a wrong key."""
    try:
        list(ask())
    except botocore.exceptions.ClientError as error:
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
    sys.exit("A request signed with a wrong key was answered: that must not happen.")


def forget_settings_of_the_user() -> None:
    """Leave the clients with what the demo gives them: no variables, no configuration files, no proxies."""
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES) or name.lower() in PROXY_NAMES:
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def main() -> None:
    forget_settings_of_the_user()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    with tempfile.TemporaryDirectory(prefix="outcrop-demo-") as folder:
        data = Path(folder) / "data"
        start_s = time.perf_counter()
        with running_service(data) as service:
            print(f"Outcrop is up at {service['endpoint']} after {time.perf_counter() - start_s:.1f} s.")
            print(f"Model: {service['models'][0]}. The question, with its passages:\n")
            print("\n".join(f"  {line}" for line in PROMPT.splitlines()))
            stream("boto3, ConverseStream:", converse(service, service["secret_access_key"]))
            stream("Anthropic SDK, AnthropicBedrock client:", messages(service))
            command = [*OUTCROP, "key", "bearer", "--data", str(data)]
            api_key = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            stream("OpenAI SDK, chat completions with an API key:", chat(service, api_key))
            print(f"\nboto3 with a wrong key:\n  {refusal(lambda: converse(service, 'wrong' + 'x' * 35))}")
    print("\nStopped; nothing is left running. To go on: .venv/bin/outcrop up")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; nothing is left running.")
