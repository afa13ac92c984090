"""``/anthropic/v1/messages`` and ``/anthropic/v1/messages/count_tokens``."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from outcrop.service.faults import invalid, vendor_status
from outcrop.service.http import JSON_TYPE, SSE_TYPE, Reply
from outcrop.service.operations import json_body
from outcrop.service.operations.anthropic import parse, render
from outcrop.service.operations.base import Caller, Context
from outcrop.service.operations.conversation import answer, find_model, prompt_of, start
from outcrop.service.operations.streams import GenerationBody
from outcrop.service.wire.errors import AwsError

Body = TypeVar("Body")


def decode_message(body: bytes) -> parse.DirectBody:
    return _decoded(body, parse.DirectBody)


def decode_count(body: bytes) -> parse.CountBody:
    return _decoded(body, parse.CountBody)


async def create_message(context: Context, caller: Caller, body: parse.DirectBody) -> Reply:
    """Answer a conversation, whole or as server-sent events."""
    request_id = caller.request_id
    sampling = parse.sampling_of(body)
    turns = parse.turns_of(body.system, body.messages)
    model = await find_model(context.host, body.model, caller)
    prompt = await prompt_of(model, turns)
    headers = [(b"request-id", request_id.encode())]
    if not body.stream:
        whole = render.message(await answer(model, caller, prompt, sampling), body.model, request_id)
        return Reply(200, [JSON_TYPE, *headers], msgspec.json.encode(whole))
    running = await start(model, caller, prompt, sampling)
    frames = render.sse(running, body.model, request_id, len(prompt))
    stream = GenerationBody(running, frames, lambda error: render.sse_error(error, request_id), "", request_id)
    return Reply(200, [SSE_TYPE, (b"cache-control", b"no-cache"), *headers], stream)


async def count_tokens(context: Context, caller: Caller, body: parse.CountBody) -> Reply:
    """How many tokens the prompt of a conversation has."""
    if body.tools:
        raise invalid("This model doesn't support tool use.")
    model = await find_model(context.host, body.model, caller)
    prompt = await prompt_of(model, parse.turns_of(body.system, body.messages))
    headers = [JSON_TYPE, (b"request-id", caller.request_id.encode())]
    return Reply(200, headers, msgspec.json.encode({"input_tokens": len(prompt)}))


def fault(error: AwsError, request_id: str) -> Reply:
    """An error in this API's shape."""
    headers = [JSON_TYPE, (b"request-id", request_id.encode())]
    return Reply(vendor_status(error), headers, render.error_body(error, request_id))


def _decoded(body: bytes, into: type[Body]) -> Body:
    try:
        return json_body.decode(body, into)
    except json_body.BodyError as error:
        raise invalid(explain(error)) from None


def explain(error: json_body.BodyError) -> str:
    """A schema violation in this API's words."""
    path = f"{error.path}.{error.what}".strip(".")
    if error.kind == "unknown":
        return f"{path}: Extra inputs are not permitted"
    if error.kind == "missing":
        return f"{path}: Field required"
    return str(error)
