"""Whole service models, generated in memory: every operation's codec meets botocore's, built or not."""

from __future__ import annotations

import sys
import types
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import regex
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.session import get_session
from wire_synthetic import comparable, tree

from outcrop.service.wire.base import is_structure, members_of
from outcrop.service.wire.codec import PROTOCOLS
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.model import Operation
from outcrop.service.wire.redact import sensitive_members
from outcrop.service.wire.router import Router

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import generate_wire
import wire_patterns

pytestmark = pytest.mark.contract

SERVICES = ("cloudtrail", "iam", "kms", "sts")
WHOLE = [operation for operation in OPERATIONS.values() if operation.service in SERVICES]
ROUTER = Router()
DEPTH_MAX = 4
MOMENT = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
TEXTS = (
    "Text",
    "abcdef",
    "a1",
    "1",
    "111122223333",
    "123456",
    "/a/",
    "v1",
    "p-abcdefgh",
    "com.amazonaws.vpce.eu-west-1.vpce-svc-0a1",
    "cluster-abcdefg2345",
    "10:30",
    "o-abcdefghij",
    "o-abcdefghij/r-abcd",
    "keys.example.com",
    "ABCDEFGHIJ0123456789ABCD",
    "eu-west-1",
    "bedrock.amazonaws.com",
    "s3://bucket-a/key",
    "abcdefghijklmnopqrstuvwxyz012345",
    "arn:aws:iam::111122223333:role/Reader",
    "arn:aws:cloudtrail:eu-west-1:111122223333:channel/01234567-0123-4123-8123-0123456789ab",
    "arn:aws:cloudtrail:eu-west-1:111122223333:dashboard/Board-1",
    "01234567-0123-4123-8123-0123456789ab",
    "cluster-1a23b4cdefg",
    "https://keys.example",
    "/kms/xks/v1",
    "A" * 43 + "=",
    "2024-01-02T03:04:05Z",
    "AKIAABCDEFGHIJKLMNOP",
    "a" * 64,
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
)


@cache
def model(service: str) -> dict[str, Any]:
    return generate_wire.Loader().load_service_model(service, "service-2")


@cache
def generated(service: str) -> Any:
    """The module that the generator would write if every operation of the service were built."""
    source = generate_wire.service_source(service, model(service), sorted(model(service)["operations"]), "test")
    module = types.ModuleType(f"wire_whole_{service}")
    sys.modules[module.__name__] = module
    exec(compile(source, service, "exec"), module.__dict__)
    return module


def codec(operation: Operation) -> Any:
    return PROTOCOLS[operation.protocol](operation, generated(operation.service).OPERATIONS[operation.name])


def sample(service: str, name: str, depth: int = 0) -> Any:
    """A valid value of a shape with all members that ``DEPTH_MAX`` has room for."""
    shapes = model(service)["shapes"]
    shape = shapes[name]
    kind = shape["type"]
    if kind == "structure":
        members = list(shape["members"].items())
        if shape.get("union"):
            members = members[:1]
        elif depth >= DEPTH_MAX:
            members = [(member, target) for member, target in members if member in shape.get("required", ())]
        return {member: sample(service, target["shape"], depth + 1) for member, target in members}
    if kind == "list":
        return [sample(service, shape["member"]["shape"], depth + 1)] * max(1, shape.get("min", 1))
    if kind == "map":
        return {sample(service, shape["key"]["shape"]): sample(service, shape["value"]["shape"], depth + 1)}
    if kind == "string":
        return text(shape)
    if kind == "blob":
        return b"\x00bytes" + b"x" * max(0, shape.get("min", 0) - 6)
    if kind == "timestamp":
        return MOMENT
    if kind == "boolean":
        return True
    if kind in ("double", "float"):
        return 0.5
    return max(int(shape.get("min", 3)), min(3, int(shape.get("max", 3))))


def text(shape: dict[str, Any]) -> str:
    if "enum" in shape:
        return str(shape["enum"][0])
    low, high = shape.get("min", 0), shape.get("max", 10_000)
    pattern = wire_patterns.translate(shape.get("pattern", "[\\s\\S]*"))[0]
    for candidate in (*TEXTS, "a" * low):
        if low <= len(candidate) <= high and regex.search(pattern, candidate):
            return candidate
    raise AssertionError(f"no example of {shape}")


@pytest.mark.parametrize("operation", WHOLE, ids=lambda o: f"{o.service}.{o.name}")
def test_what_botocore_sends_is_what_we_read(operation: Operation) -> None:
    description = model(operation.service)["operations"][operation.name]
    params = sample(operation.service, description["input"]["shape"]) if "input" in description else {}
    botocore = get_session().get_service_model(operation.service).operation_model(operation.name)
    serialized = create_serializer(operation.protocol, include_validation=True).serialize_to_request(params, botocore)
    prepare_request_dict(serialized, "http://localhost")
    prepared = create_request_object(serialized).prepare()
    headers = [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in prepared.headers.items()
    ]
    body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
    match = ROUTER.match(prepared.method, b"/", b"", headers, body)
    assert match.operation is operation
    assert tree(codec(operation).decode({}, b"", headers, body)) == comparable(params)


@pytest.mark.parametrize("operation", WHOLE, ids=lambda o: f"{o.service}.{o.name}")
def test_what_we_send_is_what_botocore_reads(operation: Operation) -> None:
    description = model(operation.service)["operations"][operation.name]
    if "output" not in description:
        status, _, body = codec(operation).encode(generated(operation.service).OPERATIONS[operation.name].output(), "r")
        assert (status, body[:1]) == (200, b"{" if operation.protocol == "json" else b"<")
        return
    value = sample(operation.service, description["output"]["shape"])
    output = msgspec.convert(value, generated(operation.service).OPERATIONS[operation.name].output)
    status, headers, body = codec(operation).encode(output, "r-1")
    response = {"status_code": status, "headers": {k.decode(): v.decode() for k, v in headers}, "body": body}
    shape = get_session().get_service_model(operation.service).operation_model(operation.name).output_shape
    parsed = create_parser(operation.protocol).parse(response, shape)
    parsed.pop("ResponseMetadata")
    assert comparable(parsed) == comparable(value)


@pytest.mark.parametrize("service", SERVICES)
def test_exactly_the_members_that_the_model_calls_sensitive_are_marked(service: str) -> None:
    shapes = model(service)["shapes"]
    module = generated(service)
    marked = {
        (name, member.wire)
        for name, kind in vars(module).items()
        if is_structure(kind) and kind.__module__ == module.__name__
        for member in members_of(kind)
        if member.attribute in sensitive_members(kind)
    }
    # class names follow the shapes' but for the first letter and names that Python takes
    declared = {
        (name[:1].upper() + name[1:], member)
        for name, shape in shapes.items()
        if shape["type"] == "structure" and not shape.get("exception")
        for member, target in shape["members"].items()
        if shapes[target["shape"]].get("sensitive") and hasattr(module, name[:1].upper() + name[1:])
    }
    assert marked == declared
    assert bool(marked) == (service != "cloudtrail")


def test_no_action_of_one_query_service_is_that_of_another() -> None:
    names = [operation.name for operation in OPERATIONS.values() if operation.protocol == "query"]
    assert len(names) == len(set(names)) == 191
