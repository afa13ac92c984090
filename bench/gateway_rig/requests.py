"""The requests of the bench as bytes ready for a socket.

Those for Outcrop are made and signed by boto3, the unmodified client, and caught just before it would send them. That
is done beforehand, so that signing does not slow the client down while it measures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import boto3
from botocore.config import Config

from gateway_rig.process import Server

MASTER_KEY = "sk-bench-0123456789"

SYSTEM = (
    "You answer questions about the works schedule of a small quarry. Be brief, give the day and the part number, "
    "and say so when the passages do not contain the answer."
)
PASSAGE = (
    "Delivery note {number}: the crusher liner was ordered on the second of the month and ships in four parts. Part "
    "one and part two came by rail and were checked against the drawing. Part three waits at the depot until the "
    "weighbridge is repaired; the fitter expects this on Wednesday. Part four left the foundry this morning and will "
    "be a day behind it. The old liner has about sixty running hours left, so the line can work through the week if "
    "the feed stays below two hundred tonnes an hour. The safety officer asks that nobody enters the feed chute "
    "before the belt is locked out and tagged.\n\nQuestion: will all parts be here before the weekend?"
)


class _Caught(Exception):
    def __init__(self, request: Any) -> None:
        self.request = request


class Signer:
    """boto3 aimed at a running service, used for what it would send."""

    def __init__(self, server: Server) -> None:
        self._client = boto3.client(
            "bedrock-runtime",
            endpoint_url=f"http://{server.host}:{server.port}",
            region_name=server.facts["region"],
            aws_access_key_id=server.facts["access_key_id"],
            aws_secret_access_key=server.facts["secret_access_key"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        self._client.meta.events.register("before-send.bedrock-runtime.*", self._catch)

    def converse(self, model_id: str, count: int) -> list[bytes]:
        """``count`` different Converse requests with bodies of about 1 KB."""
        return [self._bytes(self._client.converse, model_id, number) for number in range(count)]

    def converse_stream(self, model_id: str, count: int, max_tokens: int) -> list[bytes]:
        """The same as ConverseStream, each answer cut at ``max_tokens``."""
        return [self._bytes(self._client.converse_stream, model_id, number, max_tokens) for number in range(count)]

    def _bytes(self, call: Any, model_id: str, number: int, max_tokens: int = 512) -> bytes:
        try:
            call(
                modelId=model_id,
                system=[{"text": SYSTEM}],
                messages=[{"role": "user", "content": [{"text": PASSAGE.format(number=number)}]}],
                inferenceConfig={"maxTokens": max_tokens, "temperature": 0.2, "topP": 0.9},
            )
        except _Caught as caught:
            return _on_the_wire(caught.request)
        raise AssertionError("boto3 sends what it is told to")

    def _catch(self, request: Any, **_: Any) -> None:
        raise _Caught(request)


def chat_completions(server: Server, count: int) -> list[bytes]:
    """The same conversations as OpenAI chat completions, with a key."""
    return [_chat(server, number) for number in range(count)]


def bare_streams(server: Server, count: int, events: int, pause_s: float) -> list[bytes]:
    """Requests for the bare upstream's own streams."""
    headers = [("Host", f"{server.host}:{server.port}"), ("Content-Length", "0")]
    return [_joined("POST", f"/stream/{events}/{pause_s}", headers, b"")] * count


def _chat(server: Server, number: int) -> bytes:
    body = json.dumps(
        {
            "model": "null-model",
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": PASSAGE.format(number=number)},
            ],
            "max_tokens": 512,
            "temperature": 0.2,
            "top_p": 0.9,
        }
    ).encode()
    headers = [
        ("Host", f"{server.host}:{server.port}"),
        ("Authorization", f"Bearer {MASTER_KEY}"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    ]
    return _joined("POST", "/v1/chat/completions", headers, body)


def _on_the_wire(prepared: Any) -> bytes:
    host, _, path = prepared.url.removeprefix("http://").partition("/")
    texts = [(name, value.decode() if isinstance(value, bytes) else value) for name, value in prepared.headers.items()]
    return _joined(prepared.method, f"/{path}", [("Host", host), *texts], prepared.body)


def _joined(method: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
