"""Converse requests to a conversation and sampling parameters.

What the wire types cannot say is checked here: turns, blocks that a text model cannot take, features that are not
built. Texts are those of the real service where a recording or its documentation gives them. Nothing that was asked
for is silently dropped: a guardrail, a tool or an output schema that would not be applied is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from outcrop.service.faults import invalid, malformed
from outcrop.service.operations import json_body
from outcrop.service.operations.anthropic.parse import BedrockBody, check_version, unsupported_block
from outcrop.service.operations.conversation import Sampling, Turn
from outcrop.service.wire.generated import bedrock_runtime as shapes

ConverseInput = shapes.ConverseRequest | shapes.ConverseStreamRequest


class ModelFields(Struct, forbid_unknown_fields=True):
    """``additionalModelRequestFields`` that our models know."""

    top_k: Annotated[int, Meta(ge=0)] | None = None
    seed: int | None = None


def turns_of(
    messages: Sequence[shapes.Message] | None, system: Sequence[shapes.SystemContentBlock] | None
) -> list[Turn]:
    """The conversation, system text first."""
    if not messages:
        raise invalid("The messages field is required. Add a message with the user role and try again.")
    turns: list[Turn] = []
    system_texts = [_system_text(block) for block in system or ()]
    if system_texts:
        turns.append(Turn("system", "\n".join(system_texts)))
    turns += [Turn(message.role, _text(message, index)) for index, message in enumerate(messages)]
    _check_order(messages)
    return turns


def _check_order(messages: Sequence[shapes.Message]) -> None:
    roles = [message.role for message in messages if message.role != "system"]
    if not roles or roles[0] != "user":
        raise invalid(
            "A conversation must start with a user message. Try again with a conversation that starts with a user "
            "message."
        )
    if any(first == second for first, second in itertools.pairwise(roles)):
        raise invalid(
            "A conversation must alternate between user and assistant roles. Make sure the conversation alternates "
            "between user and assistant roles and try again."
        )
    if roles[-1] == "assistant":
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _system_text(block: shapes.SystemContentBlock) -> str:
    if block.text is None:
        raise unsupported_block("guardContent" if block.guard_content is not None else "cachePoint")
    return block.text


def _text(message: shapes.Message, index: int) -> str:
    if not message.content:
        raise invalid(
            f"The content field in the Message object at messages.{index} is empty. "
            "Add a ContentBlock object to the content field and try again."
        )
    texts = []
    for at, block in enumerate(message.content):
        if block.text is None:
            raise unsupported_block(_kind(block))
        if not block.text.strip():
            raise invalid(
                f"The text field in the ContentBlock object at messages.{index}.content.{at} is blank. "
                "Add text to the text field, and try again."
            )
        texts.append(block.text)
    return "\n".join(texts)


def _kind(block: shapes.ContentBlock) -> str:
    fields = msgspec.structs.fields(shapes.ContentBlock)
    return next(field.encode_name for field in fields if getattr(block, field.name) is not None)


def check_features(request: ConverseInput) -> None:
    """Refuse what was asked for and would not be done."""
    if request.tool_config is not None:
        raise invalid("This model doesn't support tool use.")
    if request.guardrail_config is not None:
        raise invalid("Guardrails are not built yet. Remove guardrailConfig and try again.")
    if request.prompt_variables is not None:
        raise invalid("Prompt management is not built yet. Remove promptVariables and try again.")
    if request.output_config is not None and request.output_config.text_format is not None:
        raise invalid("This model doesn't support structured output.")
    latency = request.performance_config.latency if request.performance_config else None
    check_performance(latency, request.service_tier.type if request.service_tier else None)


def check_performance(latency: str | None, tier: str | None) -> None:
    """Only the standard latency and the default tier are there to be had."""
    if latency == "optimized":
        raise invalid("Latency performance configuration is not supported for this model: use standard.")
    if tier not in (None, "default"):
        raise invalid(f"The provided service tier {tier} is not supported for this model: use default.")


def sampling_of(request: ConverseInput) -> Sampling:
    """``inferenceConfig`` and the model's own fields."""
    config = request.inference_config or shapes.InferenceConfiguration()
    fields = _model_fields(request.additional_model_request_fields)
    return Sampling(
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=fields.top_k,
        seed=fields.seed,
        stop_sequences=tuple(config.stop_sequences or ()),
    )


def _model_fields(document: Any) -> ModelFields:
    if document is None:
        return ModelFields()
    try:
        return json_body.convert(document, ModelFields)
    except json_body.BodyError as error:
        raise malformed(explain(error)) from None


def explain(error: json_body.BodyError) -> str:
    """A schema violation in the words of the real service's model bodies."""
    path = "#" + ("/" + error.path.replace(".", "/") if error.path else "")
    if error.kind == "unknown":
        return f"{path}: extraneous key [{error.what}] is not permitted"
    if error.kind == "missing":
        return f"{path}: required key [{error.what}] not found"
    return f"{path}: {error.what}"


def messages_body(body: bytes | None) -> BedrockBody:
    """The Anthropic Messages body of an ``InvokeModel``."""
    try:
        parsed = json_body.decode(body or b"", BedrockBody)
    except json_body.BodyError as error:
        raise malformed(explain(error)) from None
    check_version(parsed.anthropic_version)
    return parsed
