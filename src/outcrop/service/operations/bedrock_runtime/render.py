"""Generations as Converse replies, Converse stream events and InvokeModel chunks.

Event order and the padding member are those of recorded traffic of the real service; a text block has no
``contentBlockStart``.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from outcrop.inference.base import Completed
from outcrop.service.operations.anthropic import render as anthropic
from outcrop.service.operations.bedrock_runtime import pointers
from outcrop.service.operations.conversation import Answer, Running
from outcrop.service.wire import eventstream
from outcrop.service.wire.generated import bedrock_runtime as shapes

_encode = msgspec.json.encode


def native(done: Completed) -> dict[str, Any]:
    """What response field paths may point into: the end of the answer as the Messages API tells it."""
    end = {"stop_reason": done.reason.value, "stop_sequence": done.stop_sequence}
    return {**end, "delta": end, "usage": anthropic.usage(done)}


def _usage(done: Completed) -> shapes.TokenUsage:
    """Input tokens are those not read from the cache; the total counts both, as clients of the real service add up."""
    return shapes.TokenUsage(
        input_tokens=done.input_tokens - done.cached_tokens,
        output_tokens=done.output_tokens,
        total_tokens=done.input_tokens + done.output_tokens,
        cache_read_input_tokens=done.cached_tokens or None,
    )


def converse(answer: Answer, request: shapes.ConverseRequest, latency_ms: int) -> shapes.ConverseResponse:
    """A whole Converse reply."""
    paths = request.additional_model_response_field_paths
    done = answer.completed
    content = [shapes.ContentBlock(text=answer.text)] if answer.text else []
    return shapes.ConverseResponse(
        output=shapes.ConverseOutput(message=shapes.Message(role="assistant", content=content)),
        stop_reason=done.reason.value,
        usage=_usage(done),
        metrics=shapes.ConverseMetrics(latency_ms=latency_ms),
        additional_model_response_fields=pointers.select(paths, native(done)),
        performance_config=request.performance_config,
        service_tier=request.service_tier,
    )


async def converse_events(
    running: Running, request: shapes.ConverseStreamRequest, latency_ms: Callable[[], int]
) -> AsyncGenerator[bytes, None]:
    """messageStart, contentBlockDelta..., contentBlockStop, messageStop, metadata."""
    paths = request.additional_model_response_field_paths
    yield eventstream.encode_event("messageStart", b'{"role":"assistant"}')
    async for event in running:
        if isinstance(event, Completed):
            yield eventstream.encode_event("contentBlockStop", b'{"contentBlockIndex":0}')
            stop = shapes.MessageStopEvent(
                stop_reason=event.reason.value,
                additional_model_response_fields=pointers.select(paths, native(event)),
            )
            yield eventstream.encode_event("messageStop", _encode(stop))
            metadata = shapes.ConverseStreamMetadataEvent(
                usage=_usage(event),
                metrics=shapes.ConverseStreamMetrics(latency_ms=latency_ms()),
                performance_config=request.performance_config,
                service_tier=request.service_tier,
            )
            yield eventstream.encode_event("metadata", _encode(metadata))
        elif event.text:
            payload = b'{"contentBlockIndex":0,"delta":{"text":' + _encode(event.text) + b"}}"
            yield eventstream.encode_event("contentBlockDelta", payload)


async def invoke_chunks(
    running: Running, model_id: str, request_id: str, input_tokens: int, latency_ms: Callable[[], int]
) -> AsyncGenerator[bytes, None]:
    """The Messages API's stream events, each in a ``chunk``; the last also tells invocation metrics."""
    async for kind, document, done in anthropic.events(running, model_id, request_id, input_tokens):
        if kind == "message_stop" and done is not None:
            end = {"type": kind, "amazon-bedrock-invocationMetrics": _metrics(done, latency_ms())}
            yield _chunk(_encode(end))
        else:
            yield _chunk(document)


def _chunk(document: bytes) -> bytes:
    return eventstream.encode_event("chunk", b'{"bytes":"' + base64.b64encode(document) + b'"}')


def _metrics(done: Completed, latency_ms: int) -> dict[str, int]:
    metrics = {
        "inputTokenCount": done.input_tokens - done.cached_tokens,
        "outputTokenCount": done.output_tokens,
        "invocationLatency": latency_ms,
        "firstByteLatency": round(done.first_token_s * 1000),
    }
    return metrics | ({"cacheReadInputTokenCount": done.cached_tokens} if done.cached_tokens else {})


def echoed_headers(latency: str | None, tier: str | None) -> list[tuple[bytes, bytes]]:
    """The performance configuration and service tier that an ``InvokeModel`` asked for, and got."""
    asked = {b"x-amzn-bedrock-performanceconfig-latency": latency, b"x-amzn-bedrock-service-tier": tier}
    return [(name, value.encode()) for name, value in asked.items() if value is not None]


def invocation_headers(done: Completed, latency_ms: int) -> list[tuple[bytes, bytes]]:
    """Response headers that the service model does not mention and the real service sends."""
    return [
        (b"x-amzn-bedrock-invocation-latency", str(latency_ms).encode()),
        (b"x-amzn-bedrock-input-token-count", str(done.input_tokens - done.cached_tokens).encode()),
        (b"x-amzn-bedrock-output-token-count", str(done.output_tokens).encode()),
        (b"x-amzn-bedrock-cache-read-input-token-count", str(done.cached_tokens).encode()),
        (b"x-amzn-bedrock-cache-write-input-token-count", b"0"),
    ]
