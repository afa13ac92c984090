"""Generations as chat completions and chunks (OpenAI API reference, "The chat completion chunk object")."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from outcrop.inference.base import Completed, FinishReason, TokenLogprob
from outcrop.models.registry import ModelInfo
from outcrop.service.faults import TOO_LONG, vendor_status
from outcrop.service.operations.conversation import Answer, Running
from outcrop.service.wire.errors import AwsError

_encode = msgspec.json.encode

FINISH = {
    FinishReason.END_TURN: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.MAX_TOKENS: "length",
    FinishReason.CONTEXT_WINDOW: "length",
}

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "requests",
}
"""HTTP status to ``error.type``; anything else is ``server_error``."""

CODES = {"ResourceNotFoundException": "model_not_found", "ThrottlingException": "rate_limit_exceeded"}
"""What ``error.code`` says of some errors; it is null for most."""


def completion_id(request_id: str) -> str:
    return "chatcmpl-" + request_id.replace("-", "")


def _usage(done: Completed) -> dict[str, Any]:
    """Prompt tokens include those that were cached, as this API has it."""
    usage = {
        "prompt_tokens": done.input_tokens,
        "completion_tokens": done.output_tokens,
        "total_tokens": done.input_tokens + done.output_tokens,
    }
    return usage | ({"prompt_tokens_details": {"cached_tokens": done.cached_tokens}} if done.cached_tokens else {})


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    def entry(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.text, "logprob": token.logprob, "bytes": list(token.raw)}

    content = [entry(token) | {"top_logprobs": [entry(rival) for rival in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def completion(answer: Answer, model_id: str, request_id: str, created: datetime, logprobs: bool) -> dict[str, Any]:
    """A whole reply."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "logprobs": _logprobs(answer.logprobs) if logprobs else None,
        "finish_reason": FINISH[answer.completed.reason],
    }
    return {
        "id": completion_id(request_id),
        "object": "chat.completion",
        "created": int(created.timestamp()),
        "model": model_id,
        "choices": [choice],
        "usage": _usage(answer.completed),
    }


async def sse(
    running: Running, model_id: str, request_id: str, created: datetime, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The chunks as server-sent events, ended by ``[DONE]``."""
    head = {
        "id": completion_id(request_id),
        "object": "chat.completion.chunk",
        "created": int(created.timestamp()),
        "model": model_id,
    }
    usage: dict[str, Any] = {"usage": None} if include_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return b"data: " + _encode({**head, "choices": [choice], **usage}) + b"\n\n"

    yield chunk({"role": "assistant", "content": "", "refusal": None})
    async for event in running:
        if isinstance(event, Completed):
            yield chunk({}, FINISH[event.reason])
            if include_usage:
                yield b"data: " + _encode({**head, "choices": [], "usage": _usage(event)}) + b"\n\n"
        else:
            yield chunk({"content": event.text}, logprobs=_logprobs(event.logprobs) if event.logprobs else None)
    yield b"data: [DONE]\n\n"


def model_object(info: ModelInfo) -> dict[str, Any]:
    return {"id": info.model_id, "object": "model", "created": 0, "owned_by": info.provider}


def error_body(error: AwsError) -> bytes:
    """The API's error document."""
    status = vendor_status(error)
    kind = ERROR_TYPES.get(status, "server_error")
    code = "invalid_api_key" if status == 401 else CODES.get(error.code)
    if error.message == TOO_LONG:
        code = "context_length_exceeded"  # clients that shorten a conversation and ask again look for it
    return _encode({"error": {"message": error.message, "type": kind, "param": None, "code": code}})


def sse_error(error: AwsError) -> bytes:
    """An error once the stream has begun."""
    return b"data: " + error_body(error) + b"\n\n"
