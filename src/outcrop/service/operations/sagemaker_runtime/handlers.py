"""SageMaker Runtime's operations, by the names of its service model."""

from __future__ import annotations

import asyncio

import msgspec

from outcrop.service.hosting import ServedModel
from outcrop.service.http import EVENT_STREAM_TYPE, Reply
from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.conversation import Sampling, answer, find_model, prompt_of, start
from outcrop.service.operations.openai import parse as openai_parse
from outcrop.service.operations.openai import render as openai_render
from outcrop.service.operations.sagemaker_runtime import parse, render
from outcrop.service.operations.streams import GenerationBody
from outcrop.service.wire.generated import sagemaker_runtime as shapes
from outcrop.service.wire.generated.operations import OPERATIONS

SERVICE = "sagemaker-runtime"
VARIANT = "AllTraffic"
"""The name that SageMaker gives an endpoint's only production variant in its own examples."""


async def invoke_endpoint(
    context: Context, caller: Caller, request: shapes.InvokeEndpointInput
) -> shapes.InvokeEndpointOutput:
    """Answer a body whole, in the schema it was sent in."""
    model, prompt, sampling, body = await _prepare(context, caller, request)
    whole = await answer(model, caller, prompt, sampling)
    if isinstance(body, parse.InputsBody):
        document = render.generated(whole, body.inputs if body.parameters.return_full_text else "")
    else:
        name = model.info.model_id
        now = context.clock.now()
        document = msgspec.json.encode(
            openai_render.completion(whole, name, caller.request_id, now, bool(body.logprobs))
        )
    return shapes.InvokeEndpointOutput(
        body=document,
        content_type="application/json",
        invoked_production_variant=VARIANT,
        custom_attributes=request.custom_attributes,
    )


async def invoke_endpoint_with_response_stream(
    context: Context, caller: Caller, request: shapes.InvokeEndpointWithResponseStreamInput
) -> Reply:
    """Answer a body as payload parts: JSON lines, or the chat API's server-sent events."""
    model, prompt, sampling, body = await _prepare(context, caller, request)
    running = await start(model, caller, prompt, sampling)
    if isinstance(body, parse.InputsBody):
        payloads, content_type = render.json_lines(running), b"application/jsonlines"
    else:
        usage = body.stream_options is not None and body.stream_options.include_usage
        now = context.clock.now()
        payloads = openai_render.sse(running, model.info.model_id, caller.request_id, now, usage)
        content_type = b"text/event-stream"
    table = OPERATIONS[(SERVICE, "InvokeEndpointWithResponseStream")]
    headers = [
        EVENT_STREAM_TYPE,
        (b"x-amzn-sagemaker-content-type", content_type),
        (b"x-amzn-invoked-production-variant", VARIANT.encode()),
    ]
    frames = render.payload_parts(payloads)
    stream = GenerationBody(running, frames, lambda error: error.frame(table), SERVICE, caller.request_id)
    return Reply(200, headers, stream)


EndpointInput = shapes.InvokeEndpointInput | shapes.InvokeEndpointWithResponseStreamInput


async def _prepare(
    context: Context, caller: Caller, request: EndpointInput
) -> tuple[ServedModel, tuple[int, ...], Sampling, parse.InputsBody | openai_parse.ChatBody]:
    name = parse.model_of_endpoint(context.host, request.endpoint_name, caller.principal.account)
    body = parse.body_of(request.body)
    model = await find_model(context.host, name, caller)
    if isinstance(body, parse.InputsBody):
        prompt = await asyncio.to_thread(model.plain_prompt, body.inputs)
        return model, prompt, body.parameters.sampling(), body
    prompt = await prompt_of(model, openai_parse.turns_of(body))
    return model, prompt, openai_parse.sampling_of(body), body


HANDLERS: dict[str, Handler] = {
    "InvokeEndpoint": invoke_endpoint,
    "InvokeEndpointWithResponseStream": invoke_endpoint_with_response_stream,
}
