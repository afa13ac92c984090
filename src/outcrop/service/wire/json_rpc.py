"""The AWS json-1.1 protocol: one path, the operation in ``X-Amz-Target``, a JSON object each way.

Members are written as https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html says: timestamps as epoch seconds,
blobs in base64, an empty body for an empty input. JSON is read and written as in rest-json, with the same bounds. The
router finds the operation, ``errors`` spells what goes wrong (``__type``). Not covered: json-1.0, event streams, and a
check of the request's content type: the target alone says which protocol is spoken.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from outcrop.service.wire.base import HeaderList, Reply
from outcrop.service.wire.errors import JSON_RPC_TYPE
from outcrop.service.wire.model import Operation, Shapes
from outcrop.service.wire.rest_json import JsonBody


class JsonRpcCodec:
    """One operation's codec."""

    def __init__(self, operation: Operation, shapes: Shapes) -> None:
        self.operation = operation
        self._input = JsonBody(operation, shapes.input)
        self._output = JsonBody(operation, shapes.output)

    def decode(self, labels: Mapping[str, str], raw_query: bytes, headers: HeaderList, body: bytes) -> msgspec.Struct:
        del labels, raw_query, headers
        value: msgspec.Struct = self._input.read(body or b"{}")
        return value

    def encode(self, output: msgspec.Struct, request_id: str) -> Reply:
        del request_id
        return self.operation.success_status, [(b"content-type", JSON_RPC_TYPE)], self._output.write(output)
