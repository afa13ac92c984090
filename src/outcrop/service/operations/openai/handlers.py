"""``/openai/v1/chat/completions``, ``/openai/v1/models`` and ``/openai/v1/models/NAME``."""

from __future__ import annotations

import msgspec

from outcrop.base.errors import NotFound
from outcrop.service.faults import INVALID_MODEL, invalid, vendor_status
from outcrop.service.http import JSON_TYPE, SSE_TYPE, Reply
from outcrop.service.operations import json_body
from outcrop.service.operations.base import Caller, Context
from outcrop.service.operations.conversation import answer, find_model, prompt_of, start
from outcrop.service.operations.openai import parse, render
from outcrop.service.operations.streams import GenerationBody
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.form import percent_decode


def decode_chat(body: bytes) -> parse.ChatBody:
    try:
        return json_body.decode(body, parse.ChatBody)
    except json_body.BodyError as error:
        raise invalid(explain(error)) from None


def explain(error: json_body.BodyError) -> str:
    """A schema violation in this API's words."""
    path = f"{error.path}.{error.what}".strip(".")
    if error.kind == "unknown":
        return f"Unrecognized request argument supplied: {path}"
    if error.kind == "missing":
        return f"Missing required parameter: '{path}'."
    return str(error)


async def create_chat_completion(context: Context, caller: Caller, body: parse.ChatBody) -> Reply:
    """Answer a conversation, whole or as server-sent events."""
    request_id, now = caller.request_id, context.clock.now()
    sampling = parse.sampling_of(body)
    turns = parse.turns_of(body)
    try:
        model = await find_model(context.host, body.model, caller)
    except AwsError as error:
        if error.message == INVALID_MODEL:
            raise unknown_model(body.model) from None
        raise
    prompt = await prompt_of(model, turns)
    headers = [(b"x-request-id", request_id.encode())]
    if not body.stream:
        whole = await answer(model, caller, prompt, sampling)
        document = render.completion(whole, body.model, request_id, now, bool(body.logprobs))
        return Reply(200, [JSON_TYPE, *headers], msgspec.json.encode(document))
    running = await start(model, caller, prompt, sampling)
    include_usage = body.stream_options is not None and body.stream_options.include_usage
    frames = render.sse(running, body.model, request_id, now, include_usage)
    stream = GenerationBody(running, frames, render.sse_error, "", request_id)
    return Reply(200, [SSE_TYPE, (b"cache-control", b"no-cache"), *headers], stream)


async def list_models(context: Context, caller: Caller, body: None) -> Reply:
    """Every model that can be named."""
    document = {
        "object": "list",
        "data": [render.model_object(info) for info in context.host.models(caller.principal.account)],
    }
    return Reply(200, [JSON_TYPE, (b"x-request-id", caller.request_id.encode())], msgspec.json.encode(document))


def decode_model_name(raw_path: bytes) -> str:
    """The last segment of a path."""
    try:
        return percent_decode(raw_path.rpartition(b"/")[2])
    except ValueError as error:
        raise invalid(f"The path of the request cannot be read: {error}.") from None


async def retrieve_model(context: Context, caller: Caller, name: str) -> Reply:
    """One model, under the name that was asked for."""
    try:
        document = render.model_object(context.host.resolve(name, caller.principal.account)) | {"id": name}
    except NotFound:
        raise unknown_model(name) from None
    return Reply(200, [JSON_TYPE, (b"x-request-id", caller.request_id.encode())], msgspec.json.encode(document))


def unknown_model(name: str) -> AwsError:
    return AwsError("ResourceNotFoundException", f"The model '{name}' does not exist or you do not have access to it.")


def fault(error: AwsError, request_id: str) -> Reply:
    """An error in this API's shape."""
    headers = [JSON_TYPE, (b"x-request-id", request_id.encode())]
    return Reply(vendor_status(error), headers, render.error_body(error))
