"""Every operation of every service routes from the path that botocore sends for it."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from botocore.session import get_session

from outcrop.service.wire.built import BUILT
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.model import Operation
from outcrop.service.wire.router import Router

pytestmark = pytest.mark.contract

ROUTER = Router()
FORM = [(b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")]
LABELS = [
    "plain-1",
    "arn:aws:bedrock:eu-central-1:111122223333:custom-model/amazon.titan:1/abc",
    "100% a+b ~_.!*'() \u00e9\u4e2d",
]
COLLISIONS = {("bedrock-agent-runtime", name) for name in ("ListTagsForResource", "TagResource", "UntagResource")}


@cache
def service_model(service: str) -> ServiceModel:
    return get_session().get_service_model(service)


def request(operation: Operation, label: str) -> tuple[str, bytes, bytes, bytes]:
    """Method, raw path, raw query and body that botocore sends with ``label`` in every label."""
    model = service_model(operation.service).operation_model(operation.name)
    params: dict[str, Any] = {}
    for name, member in (model.input_shape.members if model.input_shape else {}).items():
        if member.serialization.get("location") == "uri":
            params[name] = 7 if member.type_name in ("integer", "long") else label
    serialized = create_serializer(operation.protocol, include_validation=False).serialize_to_request(params, model)
    prepare_request_dict(serialized, "http://localhost")
    prepared = create_request_object(serialized).prepare()
    url = urlsplit(prepared.url)
    body = prepared.body if isinstance(prepared.body, bytes) else (prepared.body or "").encode()
    return prepared.method, url.path.encode(), url.query.encode(), body


def headers_for(operation: Operation) -> list[tuple[bytes, bytes]]:
    """What names the operation beside its path, and enough to tell apart the tag operations that share one."""
    if operation.protocol == "json":
        target = f"{operation.target_prefix}.{operation.name}"
        return [(b"content-type", b"application/x-amz-json-1.1"), (b"x-amz-target", target.encode())]
    if (operation.service, operation.name) in COLLISIONS:
        return [(b"host", b"bedrock-agent-runtime.eu-central-1.example.net:8443")]
    return [*FORM, (b"host", b"localhost:8443")]


@pytest.mark.parametrize("label", LABELS, ids=["plain", "arn", "odd"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: f"{o.service}.{o.name}")
def test_every_operation_routes_from_the_path_that_botocore_sends(operation: Operation, label: str) -> None:
    method, path, query, body = request(operation, label)
    match = ROUTER.match(method, path, query, headers_for(operation), body)
    assert match.operation is operation
    assert set(match.labels.values()) <= {label, "7"}
    assert len(match.labels) == operation.uri.count("{")


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: f"{o.service}.{o.name}")
def test_a_colon_may_come_raw(operation: Operation) -> None:
    label = "arn:aws:bedrock:eu-central-1:111122223333:x/y"
    method, path, query, body = request(operation, label)
    raw = path.replace(b"%3A", b":")
    assert b"%2F" in raw or "{" not in operation.uri or unquote(path.decode()).endswith("7")
    match = ROUTER.match(method, raw, query, headers_for(operation), body)
    assert match.operation is operation
    assert set(match.labels.values()) <= {label, "7"}


def test_the_table_holds_all_operations_of_the_services() -> None:
    assert len(BUILT) == 9
    for service in BUILT:
        ours = {name for owner, name in OPERATIONS if owner == service}
        assert ours == set(service_model(service)._service_description["operations"])


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: f"{o.service}.{o.name}")
def test_the_table_agrees_with_botocore(operation: Operation) -> None:
    model = service_model(operation.service).operation_model(operation.name)
    description = model.service_model.metadata
    assert operation.api_version == description["apiVersion"]
    assert operation.target_prefix == description.get("targetPrefix", "")
    assert operation.signed == (model.auth_type != "none")
    assert operation.success_status == model.http.get("responseCode", 200)
    assert operation.streaming == bool(model.has_event_stream_output)
    assert operation.duplex == bool(model.has_event_stream_input)
    assert operation.signing_name == (model.service_model.signing_name)
    assert sorted(operation.errors) == sorted(shape.name for shape in model.error_shapes)
    assert [operation.token] == (model.idempotent_members or [""])
    bearer = operation.service in ("bedrock", "bedrock-runtime") and not operation.duplex
    assert operation.bearer == bearer
