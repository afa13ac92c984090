"""Generations as Messages API replies and stream events (Anthropic API reference, "Streaming Messages")."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from outcrop.inference.base import Completed
from outcrop.service.faults import TOO_LONG, vendor_status
from outcrop.service.operations.conversation import Answer, Running
from outcrop.service.wire.errors import AwsError

_encode = msgspec.json.encode

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
"""HTTP status to ``error.type`` (Anthropic API reference, "Errors"); anything else is ``api_error``."""

BLOCK_START = b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
DELTA_BEFORE = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'


def message_id(request_id: str) -> str:
    return "msg_bdrk_" + request_id.replace("-", "")[:24]


def message(answer: Answer, model_id: str, request_id: str) -> dict[str, Any]:
    """A whole reply."""
    done = answer.completed
    return {
        "id": message_id(request_id),
        "type": "message",
        "role": "assistant",
        "model": model_id,
        "content": [{"type": "text", "text": answer.text}] if answer.text else [],
        "stop_reason": done.reason.value,
        "stop_sequence": done.stop_sequence,
        "usage": usage(done),
    }


def usage(done: Completed) -> dict[str, int]:
    """Input tokens are those that were not read from the cache: the API's three sorts of them add up."""
    tokens = {"input_tokens": done.input_tokens - done.cached_tokens, "output_tokens": done.output_tokens}
    return tokens | ({"cache_read_input_tokens": done.cached_tokens} if done.cached_tokens else {})


async def events(
    running: Running, model_id: str, request_id: str, input_tokens: int
) -> AsyncGenerator[tuple[str, bytes, Completed | None], None]:
    """Stream events as (type, JSON document, the end of the generation once it is known)."""
    head: dict[str, Any] = {
        "id": message_id(request_id),
        "type": "message",
        "role": "assistant",
        "model": model_id,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": 0},
    }
    yield "message_start", _encode({"type": "message_start", "message": head}), None
    yield "content_block_start", BLOCK_START, None
    async for event in running:
        if isinstance(event, Completed):
            yield "content_block_stop", b'{"type":"content_block_stop","index":0}', None
            delta = {"stop_reason": event.reason.value, "stop_sequence": event.stop_sequence}
            # What was cached is known only now; the input tokens of ``message_start`` then included it.
            final = usage(event) if event.cached_tokens else {"output_tokens": event.output_tokens}
            yield "message_delta", _encode({"type": "message_delta", "delta": delta, "usage": final}), event
            yield "message_stop", b'{"type":"message_stop"}', event
        elif event.text:
            yield "content_block_delta", DELTA_BEFORE + _encode(event.text) + b"}}", None


async def sse(running: Running, model_id: str, request_id: str, input_tokens: int) -> AsyncGenerator[bytes, None]:
    """The events as server-sent events."""
    async for kind, document, _ in events(running, model_id, request_id, input_tokens):
        yield b"event: " + kind.encode() + b"\ndata: " + document + b"\n\n"


def error_body(error: AwsError, request_id: str) -> bytes:
    """The API's error document."""
    kind = ERROR_TYPES.get(vendor_status(error), "api_error")
    # This API's own words: clients that shorten a conversation and ask again look for them.
    message = "prompt is too long" if error.message == TOO_LONG else error.message
    return _encode({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})


def sse_error(error: AwsError, request_id: str) -> bytes:
    """An error once the stream has begun."""
    return b"event: error\ndata: " + error_body(error, request_id) + b"\n\n"
