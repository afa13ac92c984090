"""The json-1.1 protocol: our own cases, and botocore as the other end of the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.parsers import create_parser
from wire_synthetic import Synthetic, comparable, from_json, load

from outcrop.service.wire.errors import AwsError, NoRoute
from outcrop.service.wire.router import Router

pytestmark = pytest.mark.contract

DATA = load("json_rpc_cases.json")
TYPE = "application/x-amz-json-1.1"
TARGET = {"Content-Type": TYPE, "X-Amz-Target": "Test_20200101.Op"}


@pytest.fixture(scope="module")
def service() -> Synthetic:
    http = {"method": "POST", "requestUri": "/"}
    with_input = {"http": http, "input": {"shape": "All"}, "output": {"shape": "All"}}
    return Synthetic({"Op": with_input, "Bare": {"http": http}}, DATA["shapes"], "json")


@pytest.mark.parametrize("entry", DATA["requests"], ids=lambda entry: entry["body"][:30] or "empty")
def test_a_body_means_what_the_case_says(service: Synthetic, entry: dict[str, Any]) -> None:
    assert service.decode("POST", "/", "", TARGET, entry["body"].encode()) == (
        "Op",
        comparable(from_json(entry["value"])),
    )


@pytest.mark.parametrize(
    "entry",
    [entry for entry in DATA["requests"] if not entry.get("not_by_botocore")],
    ids=lambda entry: entry["body"][:30] or "empty",
)
def test_botocore_sends_what_we_read_and_reads_what_we_send(service: Synthetic, entry: dict[str, Any]) -> None:
    value = from_json(entry["value"])
    assert service.decode(*service.client_request("Op", value)) == ("Op", comparable(value))
    status, headers, body = service.encode("Op", value)
    assert (status, headers["content-type"]) == (200, TYPE)
    assert comparable(service.client_parse("Op", status, headers, body)) == comparable(value)


def test_moments_are_numbers_and_absent_members_are_absent(service: Synthetic) -> None:
    value = {"When": from_json({"$time": "2024-01-02T03:04:05.250000+00:00"}), "Data": b"\xff"}
    assert json.loads(service.encode("Op", value)[2]) == {"When": 1704164645.25, "Data": "/w=="}


def test_an_operation_without_members_takes_and_gives_an_empty_object(service: Synthetic) -> None:
    assert service.decode(*service.client_request("Bare", {})) == ("Bare", {})
    assert service.encode("Bare", {})[2] == b"{}"


@pytest.mark.parametrize("entry", DATA["refused"], ids=lambda entry: entry["body"][:30])
def test_a_bad_body_is_refused_with_a_typed_error(service: Synthetic, entry: dict[str, Any]) -> None:
    with pytest.raises(AwsError) as caught:
        service.codec("Op").decode({}, b"", [], entry["body"].encode())
    error = caught.value.at("kms")
    assert (error.code, error.status) == (entry["code"], 400)
    assert entry["names"] in error.message


@pytest.mark.parametrize(
    ("service_name", "code", "wire_code", "status"),
    [
        ("kms", "NotFoundException", "NotFoundException", 400),
        ("kms", "ResourceNotFoundException", "NotFoundException", 400),
        ("kms", "InternalServerException", "KMSInternalException", 500),
        ("kms", "DisabledException", "DisabledException", 400),
        ("kms", "AccessDeniedException", "AccessDeniedException", 400),
        ("kms", "ThrottlingException", "ThrottlingException", 400),
        ("kms", "MissingAuthenticationTokenException", "MissingAuthenticationTokenException", 400),
        ("cloudtrail", "TrailNotFoundException", "TrailNotFoundException", 400),
        ("cloudtrail", "InternalServerException", "InternalFailure", 500),
        ("cloudtrail", "ServiceUnavailableException", "ServiceUnavailableException", 503),
    ],
)
def test_errors_are_named_in_the_body_and_parse_in_botocore(
    service_name: str, code: str, wire_code: str, status: int
) -> None:
    error = AwsError(code, "told", service_name)
    found, headers, body = error.render(request_id="r-1")
    assert found == status
    assert dict(headers) == {b"content-type": TYPE.encode(), b"x-amzn-errortype": wire_code.encode()}
    assert json.loads(body)["__type"] == wire_code
    response = {"status_code": status, "headers": {"x-amzn-requestid": "r-1"}, "body": body}
    parsed = create_parser("json").parse(response, None)
    assert parsed["Error"] == {"Code": wire_code, "Message": "told"}
    assert parsed["ResponseMetadata"]["RequestId"] == "r-1"


def target(value: bytes) -> tuple[bytes, bytes]:
    return (b"x-amz-target", value)


def test_the_target_names_the_operation_before_any_action_does() -> None:
    match = Router().match("POST", b"/", b"Action=GetCallerIdentity", [target(b"TrentService.Encrypt")], b"{}")
    assert (match.operation.service, match.operation.name) == ("kms", "Encrypt")


@pytest.mark.parametrize(
    ("method", "targets", "service_name", "status"),
    [
        ("POST", [b"TrentService.Nothing"], "kms", 400),
        ("POST", [b"TrentService"], "", 404),
        ("POST", [b"Other.Encrypt"], "", 404),
        ("POST", [b"trentservice.Encrypt"], "", 404),
        ("POST", [b""], "", 404),
        ("POST", [b"\xff\x00.\n"], "", 404),
        ("POST", [b"TrentService.Encrypt", b"TrentService.Decrypt"], "kms", 400),
        ("POST", [b"TrentService.Encrypt", b"TrentService.Encrypt"], "kms", 400),
        ("GET", [b"TrentService.Encrypt"], "", 404),
    ],
)
def test_a_target_that_names_no_operation_has_no_route(
    method: str, targets: list[bytes], service_name: str, status: int
) -> None:
    with pytest.raises(NoRoute) as caught:
        Router().match(method, b"/", b"", [target(value) for value in targets], b"{}")
    assert (caught.value.code, caught.value.service, caught.value.status) == (
        "UnknownOperationException",
        service_name,
        status,
    )
