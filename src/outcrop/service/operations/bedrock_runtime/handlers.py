"""Bedrock Runtime's operations, by the names of its service model."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from outcrop.service.faults import invalid, malformed
from outcrop.service.hosting import ServedModel
from outcrop.service.http import EVENT_STREAM_TYPE, JSON_TYPE, Reply
from outcrop.service.operations import json_body
from outcrop.service.operations.anthropic import parse as anthropic_parse
from outcrop.service.operations.anthropic import render as anthropic_render
from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.bedrock_runtime import parse, pointers, render
from outcrop.service.operations.conversation import Running, Sampling, answer, find_model, prompt_of, start
from outcrop.service.operations.streams import GenerationBody
from outcrop.service.wire.generated import bedrock_runtime as shapes
from outcrop.service.wire.generated.operations import OPERATIONS

SERVICE = "bedrock-runtime"

InvokeInput = shapes.InvokeModelRequest | shapes.InvokeModelWithResponseStreamRequest

Asked = tuple[ServedModel, tuple[int, ...], Sampling]
"""A loaded model, its prompt, and how to sample."""


async def converse(context: Context, caller: Caller, request: shapes.ConverseRequest) -> shapes.ConverseResponse:
    """Answer a conversation whole."""
    model, prompt, sampling = await _conversation(context, caller, request)
    whole = await answer(model, caller, prompt, sampling)
    return render.converse(whole, request, caller.latency_ms(context.clock))


async def converse_stream(context: Context, caller: Caller, request: shapes.ConverseStreamRequest) -> Reply:
    """Answer a conversation as an event stream."""
    model, prompt, sampling = await _conversation(context, caller, request)
    running = await start(model, caller, prompt, sampling)
    frames = render.converse_events(running, request, lambda: caller.latency_ms(context.clock))
    return Reply(200, [EVENT_STREAM_TYPE], _body(running, frames, "ConverseStream", caller))


async def invoke_model(context: Context, caller: Caller, request: shapes.InvokeModelRequest) -> Reply:
    """Answer an Anthropic Messages body whole."""
    model, prompt, sampling = await _messages(context, caller, request)
    whole = await answer(model, caller, prompt, sampling)
    document = anthropic_render.message(whole, model.info.model_id, caller.request_id)
    headers = render.invocation_headers(whole.completed, caller.latency_ms(context.clock))
    return Reply(200, [JSON_TYPE, *headers, *_echoed(request)], msgspec.json.encode(document))


async def invoke_model_with_response_stream(
    context: Context, caller: Caller, request: shapes.InvokeModelWithResponseStreamRequest
) -> Reply:
    """Answer an Anthropic Messages body as an event stream of chunks."""
    model, prompt, sampling = await _messages(context, caller, request)
    running = await start(model, caller, prompt, sampling)
    frames = render.invoke_chunks(
        running,
        model.info.model_id,
        caller.request_id,
        len(prompt),
        lambda: caller.latency_ms(context.clock),
    )
    headers = [EVENT_STREAM_TYPE, (b"x-amzn-bedrock-content-type", b"application/json"), *_echoed(request)]
    return Reply(200, headers, _body(running, frames, "InvokeModelWithResponseStream", caller))


async def count_tokens(
    context: Context, caller: Caller, request: shapes.CountTokensRequest
) -> shapes.CountTokensResponse:
    """How many tokens a prompt has, given either way."""
    model = await find_model(context.host, request.model_id, caller)
    if request.input.converse is not None:
        if request.input.converse.tool_config is not None:
            raise invalid("This model doesn't support tool use.")
        turns = parse.turns_of(request.input.converse.messages, request.input.converse.system)
    else:
        assert request.input.invoke_model is not None
        body = parse.messages_body(request.input.invoke_model.body)
        turns = anthropic_parse.turns_of(body.system, body.messages)
    return shapes.CountTokensResponse(input_tokens=len(await prompt_of(model, turns)))


async def _conversation(context: Context, caller: Caller, request: parse.ConverseInput) -> Asked:
    pointers.check(request.additional_model_response_field_paths)
    parse.check_features(request)
    sampling = parse.sampling_of(request)
    model = await find_model(context.host, request.model_id, caller)
    return model, await prompt_of(model, parse.turns_of(request.messages, request.system)), sampling


async def _messages(context: Context, caller: Caller, request: InvokeInput) -> Asked:
    _check_invoke(request)
    body = parse.messages_body(request.body)
    sampling = anthropic_parse.sampling_of(body)
    model = await find_model(context.host, request.model_id, caller)
    return model, await prompt_of(model, anthropic_parse.turns_of(body.system, body.messages)), sampling


def _check_invoke(request: InvokeInput) -> None:
    if request.guardrail_identifier is not None:
        raise invalid("Guardrails are not built yet. Remove the guardrail and try again.")
    parse.check_performance(request.performance_config_latency, request.service_tier)
    if request.request_metadata is not None:
        try:
            json_body.decode(request.request_metadata.encode(), dict[str, str])
        except json_body.BodyError as error:
            raise malformed(f"requestMetadata: {error}") from None


def _echoed(request: InvokeInput) -> list[tuple[bytes, bytes]]:
    return render.echoed_headers(request.performance_config_latency, request.service_tier)


def _body(running: Running, frames: AsyncGenerator[bytes, None], operation: str, caller: Caller) -> GenerationBody:
    table = OPERATIONS[(SERVICE, operation)]
    return GenerationBody(running, frames, lambda error: error.frame(table), SERVICE, caller.request_id)


HANDLERS: dict[str, Handler] = {
    "Converse": converse,
    "ConverseStream": converse_stream,
    "InvokeModel": invoke_model,
    "InvokeModelWithResponseStream": invoke_model_with_response_stream,
    "CountTokens": count_tokens,
}
