"""Chat completion bodies (OpenAI API reference, "Create chat completion") to a conversation and sampling."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from outcrop.service.faults import invalid
from outcrop.service.operations.conversation import Sampling, Turn
from outcrop.service.wire.errors import AwsError

Part = dict[str, Any]


class Message(Struct, forbid_unknown_fields=True):
    """One turn; ``developer`` is the newer name of ``system``."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None
    # What an assistant's message carries besides when a client sends an answer back; none of it may say anything.
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Part], Meta(max_length=0)] | None = None
    annotations: list[Part] | None = None


class StreamOptions(Struct):
    include_usage: bool = False


class ChatBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """The request. Members after ``user`` are accepted where they ask for nothing beyond what a text model does."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=2500)] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    response_format: Part | None = None
    tools: list[Part] | None = None
    tool_choice: Any = None


def sampling_of(body: ChatBody) -> Sampling:
    """How to sample; refuses by name what this surface does not do."""
    _refuse_unsupported(body)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    logprobs = None
    if body.logprobs:
        logprobs = body.top_logprobs or 0
    return Sampling(
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        stop_sequences=stop,
        logprobs=logprobs,
    )


def _refuse_unsupported(body: ChatBody) -> None:
    asked = {
        "n": body.n not in (None, 1),
        "frequency_penalty": bool(body.frequency_penalty),
        "presence_penalty": bool(body.presence_penalty),
        "logit_bias": bool(body.logit_bias),
        "response_format": (body.response_format or {}).get("type", "text") != "text",
        "tools": bool(body.tools),
        "tool_choice": body.tool_choice not in (None, "none", "auto"),
        "store": bool(body.store),
        "top_logprobs": body.top_logprobs is not None and not body.logprobs,
    }
    for name, unsupported in asked.items():
        if unsupported:
            raise unsupported_parameter(name)


def turns_of(body: ChatBody) -> list[Turn]:
    """The conversation. Content that a text model cannot take is refused."""
    turns = []
    for index, message in enumerate(body.messages):
        role = "system" if message.role == "developer" else message.role
        turns.append(Turn(role, _text(message.content, f"messages[{index}].content")))
    if body.messages[-1].role == "assistant":
        raise invalid("The last message must not have the role 'assistant': this model does not continue answers.")
    return turns


def _text(content: str | list[Part], path: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        if part.get("type") != "text":
            raise invalid(f"{path}[{index}]: this model takes text only, not {part.get('type')!r}.")
        if not isinstance(part.get("text"), str):
            raise invalid(f"{path}[{index}].text: expected a string.")
        texts.append(part["text"])
    return "\n".join(texts)


def unsupported_parameter(name: str) -> AwsError:
    return invalid(f"Unsupported value: '{name}' does not support the provided value with this model.")
