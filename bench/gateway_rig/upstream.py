"""The null upstream: a bare ASGI application that answers at once with fixed bytes.

It runs on the same server library as Outcrop and does nothing else: no routing, no signature, no JSON. What the same
client measures against it is the floor under every other figure. ``/v1/chat/completions`` answers as OpenAI does, so
that it can stand behind a proxy; ``/stream/COUNT/PAUSE`` sends that many chunks of the size of an event, that many
seconds apart; any other path answers with the Converse reply.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.zttp_impl import ZttpProtocol

from outcrop.service.server import bind

Message = MutableMapping[str, Any]

ANSWER = "The schedule holds: the last of the four parts arrives on Thursday."
CHAT = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "null-model",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "logprobs": None, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 180, "completion_tokens": 14, "total_tokens": 194},
    }
).encode()
CONVERSE = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": ANSWER}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 180, "outputTokens": 14, "totalTokens": 194},
        "metrics": {"latencyMs": 0},
    },
    separators=(",", ":"),
).encode()


def _start(body: bytes) -> Message:
    headers = [
        (b"content-type", b"application/json"),
        (b"x-amzn-requestid", b"00000000-0000-0000-0000-000000000000"),
        (b"content-length", str(len(body)).encode()),
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}


_EVENT = b"x" * 200  # the usual size of a contentBlockDelta frame
_CHAT_START, _CONVERSE_START = _start(CHAT), _start(CONVERSE)


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    while (await receive()).get("more_body", False):
        pass
    if scope["path"].startswith("/stream/"):
        await _stream(scope["path"], send)
        return
    chat = scope["path"] == "/v1/chat/completions"
    await send(_CHAT_START if chat else _CONVERSE_START)
    await send({"type": "http.response.body", "body": CHAT if chat else CONVERSE})


async def _stream(path: str, send: Callable[[Message], Awaitable[None]]) -> None:
    count, pause_s = path.split("/")[2:]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(int(count)):
        await asyncio.sleep(float(pause_s))
        await send({"type": "http.response.body", "body": _EVENT, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def main() -> None:
    listening = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        http=ZttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=600,  # longer than any pause of the bench: what is behind a proxy keeps its connections
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    print(json.dumps({"port": listening.getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
