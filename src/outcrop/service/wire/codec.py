"""Inputs and outputs of operations, whichever protocol their service speaks.

Codecs are compiled from the generated types the first time an operation is used; ``warm`` does it for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module

import msgspec

from outcrop.service.wire.base import HeaderList, OperationCodec, Reply
from outcrop.service.wire.errors import not_built
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.json_rpc import JsonRpcCodec
from outcrop.service.wire.model import Operation, Shapes
from outcrop.service.wire.query import QueryCodec
from outcrop.service.wire.rest_json import RestJsonCodec

PROTOCOLS: Mapping[str, Callable[[Operation, Shapes], OperationCodec]] = {
    "json": JsonRpcCodec,
    "query": QueryCodec,
    "rest-json": RestJsonCodec,
}


def decode_input(
    operation: Operation, labels: Mapping[str, str], raw_query: bytes, headers: HeaderList, body: bytes
) -> msgspec.Struct:
    """The operation's typed input; every failure is an ``AwsError``, 501 where the operation is not built."""
    return codec_of(operation.service, operation.name).decode(labels, raw_query, headers, body)


def encode_output(operation: Operation, output: msgspec.Struct, request_id: str = "") -> Reply:
    """Status, headers and body for a typed output; ``request_id`` goes into the body where the protocol has it there.

    The body of a streamed output is empty: its frames follow, see ``eventstream``.
    """
    return codec_of(operation.service, operation.name).encode(output, request_id)


@cache
def codec_of(service: str, name: str) -> OperationCodec:
    """The codec of one built operation."""
    operation = OPERATIONS[service, name]
    if not operation.built:
        raise not_built(operation)
    module = import_module(f"outcrop.service.wire.generated.{service.replace('-', '_')}")
    shapes: Shapes = module.OPERATIONS[name]
    return PROTOCOLS[operation.protocol](operation, shapes)


def warm() -> None:
    """Compile every built operation's codec, so that the first request does not wait for it."""
    for operation in OPERATIONS.values():
        if operation.built:
            codec_of(operation.service, operation.name)
