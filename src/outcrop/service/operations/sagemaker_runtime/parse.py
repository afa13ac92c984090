"""Endpoint bodies: ``{"inputs": ..., "parameters": {...}}`` or an OpenAI chat body.

These are the two schemas of the large-model containers that SageMaker documents ("LMI input schema", "Chat
Completions input schema"), so clients written for those endpoints need no change.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from outcrop.base.arn import AccountId
from outcrop.service.faults import invalid
from outcrop.service.hosting import ModelHost
from outcrop.service.operations import json_body
from outcrop.service.operations.conversation import Sampling
from outcrop.service.operations.openai.parse import ChatBody
from outcrop.service.wire.errors import AwsError


class Parameters(Struct, kw_only=True, forbid_unknown_fields=True):
    """Sampling, by the containers' names."""

    max_new_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    seed: int | None = None
    do_sample: bool | None = None
    stop: list[str] | None = None
    stop_sequences: list[str] | None = None
    return_full_text: bool = False

    def sampling(self) -> Sampling:
        return Sampling(
            max_tokens=self.max_new_tokens,
            temperature=0.0 if self.do_sample is False else self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            stop_sequences=tuple(self.stop or self.stop_sequences or ()),
        )


class InputsBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Plain text to continue, without a chat template."""

    inputs: Annotated[str, Meta(min_length=1)]
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    stream: bool | None = None


def body_of(body: bytes) -> InputsBody | ChatBody:
    """The body in whichever schema it follows. A chat body may leave ``model`` out: the endpoint names it."""
    try:
        document = json_body.decode(body, dict[str, Any])
        if "messages" in document:
            return json_body.convert({"model": "", **document}, ChatBody)
        return json_body.convert(document, InputsBody)
    except json_body.BodyError as error:
        raise model_error(str(error)) from None


def model_error(message: str) -> AwsError:
    """The container's refusal of a body, as InvokeEndpoint tells it."""
    return AwsError("ModelErrorException", f'Received client error (400) from primary with message "{message}".')


def endpoint_name(model_id: str) -> str:
    """A model's id in the characters that endpoint names have: ``outcrop.pebble-v1:0`` is ``outcrop-pebble-v1-0``."""
    return model_id.replace(".", "-").replace(":", "-")


def model_of_endpoint(host: ModelHost, name: str, account: AccountId) -> str:
    """The id of the model behind an endpoint of ``account``."""
    for info in host.models(account):
        if endpoint_name(info.model_id) == name:
            return info.model_id
    raise invalid(f"Endpoint {name} of account {account} not found.")
