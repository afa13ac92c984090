"""Generations as the containers behind SageMaker endpoints tell them, whole or as payload parts."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from outcrop.inference.base import Completed, FinishReason
from outcrop.service.operations.conversation import Answer, Running
from outcrop.service.wire import eventstream

_encode = msgspec.json.encode

FINISH = {
    FinishReason.END_TURN: "eos_token",
    FinishReason.STOP_SEQUENCE: "stop_sequence",
    FinishReason.MAX_TOKENS: "length",
    FinishReason.CONTEXT_WINDOW: "length",
}


def generated(answer: Answer, before: str) -> bytes:
    """The whole text; ``before`` is the prompt where the full text was asked for."""
    return _encode({"generated_text": before + answer.text})


async def json_lines(running: Running) -> AsyncGenerator[bytes, None]:
    """One JSON document a line: tokens as they come, then the whole text with its details."""
    texts: list[str] = []
    async for event in running:
        if isinstance(event, Completed):
            details = {"finish_reason": FINISH[event.reason], "generated_tokens": event.output_tokens}
            end = {"token": {"text": ""}, "details": details, "generated_text": "".join(texts)}
            yield _encode(end) + b"\n"
        elif event.text:
            texts.append(event.text)
            yield _encode({"token": {"text": event.text}}) + b"\n"


async def payload_parts(payloads: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Each payload in a ``PayloadPart`` of the event stream."""
    async for payload in payloads:
        yield eventstream.encode_event("PayloadPart", payload, "application/octet-stream")
