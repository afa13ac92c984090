"""Operation models made up for tests, compiled by the real generator, and botocore as the other end of the wire."""

from __future__ import annotations

import io
import itertools
import json
import sys
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.handlers import generate_idempotent_uuid
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from outcrop.service.wire.base import members_of
from outcrop.service.wire.codec import PROTOCOLS
from outcrop.service.wire.router import Router

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import generate_wire

METADATA = {
    "json": {"jsonVersion": "1.1", "targetPrefix": "Test_20200101"},
    "rest-json": {},
    "query": {"xmlNamespace": "https://test.example/doc/"},
}
_NUMBERS = itertools.count()


class Synthetic:
    """One made-up service: compiled types and codecs on our side, botocore's serializer and parser on the other."""

    def __init__(self, operations: dict[str, Any], shapes: dict[str, Any], protocol: str = "rest-json") -> None:
        metadata = {
            "protocol": protocol,
            "apiVersion": "2020-01-01",
            "endpointPrefix": "synthetic",
            "serviceFullName": "Synthetic",
            "serviceId": "Synthetic",
            "signatureVersion": "v4",
            **METADATA[protocol],
        }
        for name, operation in operations.items():
            operation["name"] = name
        self.model = {"metadata": metadata, "operations": operations, "shapes": shapes, "version": "2.0"}
        self.botocore = ServiceModel(self.model, "synthetic")
        self.protocol = protocol
        number = next(_NUMBERS)
        table = _module(
            f"wire_synthetic_table_{number}", generate_wire.operations_source({"synthetic": self.model}, "test")
        )
        source = generate_wire.service_source("synthetic", self.model, sorted(operations), "test")
        self.shapes = _module(f"wire_synthetic_types_{number}", source).OPERATIONS
        self.operations = {name: operation for (_, name), operation in table.OPERATIONS.items()}
        self.router = Router(self.operations.values())

    def codec(self, name: str) -> Any:
        return PROTOCOLS[self.protocol](self.operations[name], self.shapes[name])

    def decode(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> tuple[str, Any]:
        """The operation's name and its input as a tree, both as our side reads them."""
        wire_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        match = self.router.match(method, path.encode(), query.encode(), wire_headers, body)
        value = self.codec(match.operation.name).decode(match.labels, query.encode(), wire_headers, body)
        return match.operation.name, tree(value)

    def encode(self, name: str, output: Any) -> tuple[int, dict[str, str], bytes]:
        value = msgspec.convert(output, self.shapes[name].output)
        status, headers, body = self.codec(name).encode(value, "request-1")
        return status, {key.decode(): text.decode() for key, text in headers}, body

    def client_request(self, name: str, params: dict[str, Any]) -> tuple[str, str, str, dict[str, str], bytes]:
        """Method, path, query, headers and body as botocore sends them."""
        operation = self.botocore.operation_model(name)
        generate_idempotent_uuid(params, operation)
        request = create_serializer(self.protocol, include_validation=False).serialize_to_request(params, operation)
        prepare_request_dict(request, "http://localhost")
        prepared = create_request_object(request).prepare()
        url = urlsplit(prepared.url)
        headers = {key: _text(value) for key, value in prepared.headers.items()}
        return prepared.method, url.path, url.query, headers, _bytes(prepared.body)

    def client_parse(self, name: str, status: int, headers: dict[str, str], body: bytes) -> Any:
        """The output as botocore parses it, without its metadata."""
        operation = self.botocore.operation_model(name)
        content = io.BytesIO(body) if operation.has_streaming_output else body
        response = {"status_code": status, "headers": HeadersDict(headers), "body": content}
        parsed = create_parser(self.protocol).parse(response, operation.output_shape)
        parsed.pop("ResponseMetadata")
        return {key: value.read() if value is content else value for key, value in parsed.items()}


def tree(value: Any) -> Any:
    """A typed value as a tree of wire names, absent members left out."""
    if isinstance(value, msgspec.Struct):
        found = ((member.wire, getattr(value, member.attribute)) for member in members_of(type(value)))
        return {wire: tree(entry) for wire, entry in found if entry is not None}
    if isinstance(value, list):
        return [tree(item) for item in value]
    if isinstance(value, dict):
        return {key: tree(item) for key, item in value.items()}
    return comparable(value)


def comparable(value: Any) -> Any:
    """A tree whose leaves compare by meaning: moments in UTC, floats by their text (NaN equals NaN)."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, float):
        return str(value)
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    return value


def from_json(value: Any) -> Any:
    """A tree from a case file, whose ``$bytes``, ``$time`` and ``$float`` stand for what JSON has no literal for."""
    if isinstance(value, dict):
        if value.keys() == {"$bytes"}:
            return value["$bytes"].encode()
        if value.keys() == {"$time"}:
            return datetime.fromisoformat(value["$time"])
        if value.keys() == {"$float"}:
            return float(value["$float"])
        return {key: from_json(item) for key, item in value.items()}
    return [from_json(item) for item in value] if isinstance(value, list) else value


def load(name: str) -> Any:
    return json.loads((Path(__file__).parent / "data" / name).read_text(encoding="utf-8"))


def _module(name: str, source: str) -> Any:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    return module


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else body.read()
