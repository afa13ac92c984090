"""Every operation the service answers, as one table: how each is read, done, and how it fails.

AWS operations come from the generated table; those that are not built stay in it and answer 501. The Anthropic and
OpenAI surfaces are a handful of literal paths, each also without its vendor's prefix: ``bedrock-mantle``, Amazon's
second endpoint for these surfaces, serves them there, and a plain SDK then needs the base URL only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from outcrop.base.errors import check
from outcrop.service.http import RawRequest, Reply
from outcrop.service.operations.anthropic import handlers as anthropic
from outcrop.service.operations.base import Caller, Context, Handler
from outcrop.service.operations.bedrock import handlers as bedrock
from outcrop.service.operations.bedrock_runtime import handlers as bedrock_runtime
from outcrop.service.operations.cloudtrail import handlers as cloudtrail
from outcrop.service.operations.iam import handlers as iam
from outcrop.service.operations.kms import handlers as kms
from outcrop.service.operations.openai import handlers as openai
from outcrop.service.operations.sagemaker_runtime import handlers as sagemaker_runtime
from outcrop.service.operations.sts import handlers as sts
from outcrop.service.wire import codec
from outcrop.service.wire.errors import AwsError, not_built
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.model import Operation
from outcrop.service.wire.router import Match

HANDLERS: dict[str, dict[str, Handler]] = {
    "bedrock": bedrock.HANDLERS,
    "bedrock-runtime": bedrock_runtime.HANDLERS,
    "cloudtrail": cloudtrail.HANDLERS,
    "iam": iam.HANDLERS,
    "kms": kms.HANDLERS,
    "sagemaker-runtime": sagemaker_runtime.HANDLERS,
    "sts": sts.HANDLERS,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation as the pipeline sees it."""

    name: str
    service: str
    """The service whose error names apply; empty for the vendor surfaces."""
    signing_name: str
    bearer: bool
    """Whether API keys are accepted besides signatures."""
    decode: Callable[[RawRequest, Match | None], Any]
    act: Handler
    encode: Callable[[Any, str], Reply]
    fault: Callable[[AwsError, str], Reply]
    also_signed_for: frozenset[str] = frozenset()
    """Further signing names that clients of the operation use."""
    built: bool = True
    signed: bool = True
    """Whether a request must prove its sender; where not, what it carries is the proof and the sender is anonymous."""


def aws_fault(error: AwsError, request_id: str) -> Reply:
    """An error in the shape of the protocol of its service."""
    return Reply(*error.render(request_id=request_id))


def json_rpc_fault(error: AwsError, request_id: str) -> Reply:
    """An error for a request that speaks the json protocol and reached no service."""
    return Reply(*error.render("json", request_id))


def aws_endpoints() -> dict[tuple[str, str], Endpoint]:
    """The AWS operations by service and name, built or not."""
    table = {key: _aws_endpoint(operation) for key, operation in OPERATIONS.items()}
    for service, handlers in HANDLERS.items():
        for name in handlers:
            check(table[(service, name)].act is handlers[name], f"{service} {name} has a handler and is marked built")
    return table


def _aws_endpoint(operation: Operation) -> Endpoint:
    def decode(request: RawRequest, match: Match | None) -> Any:
        assert match is not None
        return codec.decode_input(operation, match.labels, request.raw_query, request.headers, request.body)

    async def refuse(context: Context, caller: Caller, given: Any) -> Reply:
        raise not_built(operation)

    return Endpoint(
        name=f"{operation.service}:{operation.name}",
        service=operation.service,
        signing_name=operation.signing_name,
        bearer=operation.bearer,
        decode=decode if operation.built else lambda request, match: None,
        act=HANDLERS[operation.service][operation.name] if operation.built else refuse,
        encode=lambda output, request_id: Reply(*codec.encode_output(operation, output, request_id)),
        fault=aws_fault,
        built=operation.built,
        signed=operation.signed,
    )


def _as_it_is(output: Any, request_id: str) -> Reply:
    check(isinstance(output, Reply), "a vendor operation gives a finished reply")
    reply: Reply = output
    return reply


def _vendor(
    name: str, decode: Callable[[bytes], Any], act: Handler, fault: Callable[[AwsError, str], Reply]
) -> Endpoint:
    return Endpoint(
        name=name,
        service="",
        signing_name="bedrock",
        bearer=True,
        decode=lambda request, match: decode(request.body),
        act=act,
        encode=_as_it_is,
        fault=fault,
        also_signed_for=MANTLE,
    )


MANTLE = frozenset({"bedrock-mantle"})

VENDOR_FAULTS: dict[bytes, Callable[[AwsError, str], Reply]] = {
    b"/anthropic/": anthropic.fault,
    b"/openai/": openai.fault,
    b"/v1/messages": anthropic.fault,
    b"/v1/": openai.fault,
}
"""How errors look below a path, also where no operation answers it; the first that fits."""

_PREFIXED: dict[tuple[str, bytes], Endpoint] = {
    ("POST", b"/anthropic/v1/messages"): _vendor(
        "anthropic:CreateMessage", anthropic.decode_message, anthropic.create_message, anthropic.fault
    ),
    ("POST", b"/anthropic/v1/messages/count_tokens"): _vendor(
        "anthropic:CountTokens", anthropic.decode_count, anthropic.count_tokens, anthropic.fault
    ),
    ("POST", b"/openai/v1/chat/completions"): _vendor(
        "openai:CreateChatCompletion", openai.decode_chat, openai.create_chat_completion, openai.fault
    ),
    ("GET", b"/openai/v1/models"): _vendor("openai:ListModels", lambda body: None, openai.list_models, openai.fault),
}
_PREFIXED_BELOW: dict[tuple[str, bytes], Endpoint] = {
    ("GET", b"/openai/v1/models/"): replace(
        _vendor("openai:RetrieveModel", lambda body: None, openai.retrieve_model, openai.fault),
        decode=lambda request, match: openai.decode_model_name(request.raw_path),
    ),
}


def _also_bare(table: dict[tuple[str, bytes], Endpoint]) -> dict[tuple[str, bytes], Endpoint]:
    return table | {(method, path[path.index(b"/v1/") :]): endpoint for (method, path), endpoint in table.items()}


VENDOR = _also_bare(_PREFIXED)
VENDOR_BELOW = _also_bare(_PREFIXED_BELOW)
"""Endpoints that one more segment follows, which names what is asked for."""
