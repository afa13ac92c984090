"""Messages API bodies (Anthropic API reference, "Create a Message") to a conversation and sampling parameters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from outcrop.service.faults import invalid
from outcrop.service.operations.conversation import Sampling, Turn
from outcrop.service.wire.errors import AwsError

ANTHROPIC_VERSIONS = frozenset({"bedrock-2023-05-31", "2023-06-01", "2023-01-01", "2026-10-21"})
"""Versions seen from real clients; the body's meaning does not differ between them here."""

Block = dict[str, Any]


class Message(Struct, forbid_unknown_fields=True):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class MessagesBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """What all forms of the body share. Members without effect on a text model are accepted and ignored."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)]
    system: str | list[Block] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=8191)] | None = None
    metadata: dict[str, Any] | None = None
    tools: list[Block] | None = None
    tool_choice: Block | None = None
    thinking: Block | None = None
    output_config: Block | None = None
    output_format: Block | None = None


class BedrockBody(MessagesBody, kw_only=True, forbid_unknown_fields=True):
    """As ``InvokeModel`` carries it: the version in the body; model and streaming are in the path."""

    anthropic_version: str
    anthropic_beta: list[str] | None = None


class DirectBody(MessagesBody, kw_only=True, forbid_unknown_fields=True):
    """As ``/anthropic/v1/messages`` takes it."""

    model: str
    stream: bool = False
    service_tier: Literal["auto", "standard_only"] | None = None


class CountBody(Struct, kw_only=True):
    """As ``/anthropic/v1/messages/count_tokens`` takes it."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: str | list[Block] | None = None
    tools: list[Block] | None = None


def turns_of(system: str | list[Block] | None, messages: Sequence[Message]) -> list[Turn]:
    """The conversation, system text first. Content that a text model cannot take is refused.

    Consecutive messages of one role are one turn, as the API documents, since few chat templates take them otherwise.
    """
    said: list[Turn] = []
    for index, message in enumerate(messages):
        if not message.content:
            raise invalid(f"messages.{index}: {message.role} messages must have non-empty content")
        text = _text(message.content, f"messages.{index}.content")
        if not text.strip():
            raise invalid("messages: text content blocks must contain non-whitespace text")
        said.append(Turn(message.role, text))
    turns = [Turn("system", _text(system, "system"))] if system else []
    for role, group in itertools.groupby(said, key=lambda turn: turn.role):
        turns.append(Turn(role, "\n".join(turn.text for turn in group)))
    if messages[0].role == "assistant":
        raise invalid('messages: first message must use the "user" role')
    if messages[-1].role == "assistant":
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    return turns


def sampling_of(body: MessagesBody) -> Sampling:
    """How to sample, refusing what a text model cannot do."""
    if body.tools or body.tool_choice:
        raise invalid("This model doesn't support tool use.")
    if body.thinking is not None and body.thinking.get("type") != "disabled":
        raise invalid("This model doesn't support extended thinking.")
    if body.output_format is not None or (body.output_config or {}).get("format") is not None:
        raise invalid("This model doesn't support structured output.")
    return Sampling(
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop_sequences=tuple(body.stop_sequences or ()),
    )


def check_version(version: str) -> None:
    """Refuse a version that is not on the list."""
    if version not in ANTHROPIC_VERSIONS:
        raise _bad_version(version)


def _bad_version(version: str) -> AwsError:
    known = ", ".join(sorted(ANTHROPIC_VERSIONS))
    return invalid(f"anthropic_version: {version!r} is not supported. Use one of: {known}.")


def _text(content: str | list[Block], path: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, block in enumerate(content):
        kind = block.get("type")
        if kind != "text":
            raise unsupported_block(str(kind))
        text = block.get("text")
        if not isinstance(text, str):
            raise invalid(f"{path}.{index}.text: Input should be a valid string")
        texts.append(text)
    return "\n".join(texts)


def unsupported_block(kind: str) -> AwsError:
    """The recorded answer of the real service to content that a model cannot take."""
    return invalid(
        f"This model doesn't support the {kind} content block that you provided. "
        "Update the content block and try again."
    )
