"""The engines of the bench: null engines by model id, and one that asks an HTTP upstream, as a proxy would."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from gateway_rig.upstream import ANSWER
from outcrop.inference.base import (
    Completed,
    Engine,
    EngineStats,
    FinishReason,
    Generation,
    GenerationRequest,
    TextDelta,
)
from outcrop.inference.null import NullEngine

UNARY = "local.null-v1:0"
STREAM = "local.null-stream-v1:0"
PACED = "local.null-paced-v1:0"
IDLE = "local.null-idle-v1:0"
PROXY = "local.null-proxy-v1:0"
MODEL_IDS = (UNARY, STREAM, PACED, IDLE, PROXY)

EVENTS = 200
"""Text deltas of one streamed answer."""
PACE_S = 0.02
"""Between two tokens of a paced stream: 50 tokens/s, a common speed of one request on an engine."""

_ANSWER_PIECES = tuple(f"{word} " for word in ANSWER.split(" "))
_LONG_ANSWER = tuple(_ANSWER_PIECES[i % len(_ANSWER_PIECES)] for i in range(EVENTS))


def engine_for(model_id: str, upstream_port: int) -> Engine:
    """The engine behind one of ``MODEL_IDS``."""
    if model_id == STREAM:
        return NullEngine(_LONG_ANSWER)
    if model_id == PACED:
        return NullEngine(_LONG_ANSWER, token_delay_s=PACE_S)
    if model_id == IDLE:
        return NullEngine(_LONG_ANSWER, hang_after=1)
    if model_id == PROXY:
        return UpstreamEngine(upstream_port)
    return NullEngine([ANSWER])


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class UpstreamEngine:
    """Forwards every request to the null upstream's chat completions, over kept connections.

    For the comparison with a proxy only: Outcrop has its engines in the same process and makes no such hop.
    """

    max_context_tokens = 8192

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[_Connection] = []

    async def generate(self, request: GenerationRequest) -> Generation:
        connection = self._idle.pop() if self._idle else await self._connect()
        text = await self._ask(connection, request)
        self._idle.append(connection)
        yield TextDelta(text, 1)
        yield Completed(FinishReason.END_TURN, len(request.prompt_token_ids), 1)

    def stats(self) -> EngineStats:
        return EngineStats()

    async def close(self) -> None:
        for connection in self._idle:
            connection.writer.close()

    async def _connect(self) -> _Connection:
        return _Connection(*await asyncio.open_connection("127.0.0.1", self._port))

    async def _ask(self, connection: _Connection, request: GenerationRequest) -> str:
        body = json.dumps({"model": "null-model", "prompt": request.prompt_token_ids}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.writer.write(head.encode() + body)
        reply_head = await connection.reader.readuntil(b"\r\n\r\n")
        length = int(reply_head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        reply = json.loads(await connection.reader.readexactly(length))
        text: str = reply["choices"][0]["message"]["content"]
        return text
