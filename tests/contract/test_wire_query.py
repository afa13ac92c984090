"""The query protocol: our own cases, and STS through botocore's serializer and parser."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.parsers import create_parser
from wire_synthetic import Synthetic, comparable, from_json, load

from outcrop.base.errors import InvariantError
from outcrop.service.wire.codec import decode_input, encode_output
from outcrop.service.wire.errors import AwsError, NoRoute
from outcrop.service.wire.generated.sts import GetCallerIdentityRequest, GetCallerIdentityResponse
from outcrop.service.wire.model import Operation, Service
from outcrop.service.wire.router import Router

pytestmark = pytest.mark.contract

FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
DATA = load("query_cases.json")


@pytest.fixture(scope="module")
def service() -> Synthetic:
    output = {"shape": "All", "resultWrapper": "OpResult"}
    operation = {"http": {"method": "POST", "requestUri": "/"}, "input": {"shape": "All"}, "output": output}
    return Synthetic({"Op": operation}, DATA["shapes"], "query")


@pytest.mark.parametrize("entry", DATA["requests"], ids=lambda entry: entry["form"][26:60] or "empty")
def test_a_form_means_what_the_case_says(service: Synthetic, entry: dict[str, Any]) -> None:
    assert service.decode("POST", "/", "", FORM, entry["form"].encode()) == (
        "Op",
        comparable(from_json(entry["value"])),
    )


@pytest.mark.parametrize("entry", DATA["requests"], ids=lambda entry: entry["form"][26:60] or "empty")
def test_botocore_sends_what_we_read_and_reads_what_we_send(service: Synthetic, entry: dict[str, Any]) -> None:
    value = from_json(entry["value"])
    assert service.decode(*service.client_request("Op", value)) == ("Op", comparable(value))
    assert comparable(service.client_parse("Op", *service.encode("Op", value))) == comparable(value)


@pytest.mark.parametrize("entry", DATA["refused"], ids=lambda entry: entry["form"][10:40])
def test_a_bad_form_is_refused_with_a_typed_error(service: Synthetic, entry: dict[str, Any]) -> None:
    codec = service.codec("Op")
    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    with pytest.raises(AwsError) as caught:
        codec.decode({}, b"", headers, entry["form"].encode())
    error = caught.value.at("sts")
    assert error.code == entry["code"]
    assert error.status == 400
    assert entry["names"] in error.message


STS = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}


@pytest.mark.parametrize("where", ["form", "query"])
def test_get_caller_identity_is_found_and_decoded_in_form_and_query(where: str) -> None:
    text = urlencode(STS).encode()
    headers = [(b"content-type", FORM["Content-Type"].encode())] if where == "form" else []
    method, query, body = ("POST", b"", text) if where == "form" else ("GET", text, b"")
    match = Router().match(method, b"/", query, headers, body)
    assert (match.operation.service, match.operation.name) == ("sts", "GetCallerIdentity")
    assert decode_input(match.operation, match.labels, query, headers, body) == GetCallerIdentityRequest()


def test_get_caller_identity_parses_in_botocore() -> None:
    operation = Router().match("GET", b"/", urlencode(STS).encode(), []).operation
    output = GetCallerIdentityResponse(
        user_id="AIDA<&>\x01", account="111122223333", arn="arn:aws:iam::111122223333:root"
    )
    status, headers, body = encode_output(operation, output, "r-1")
    assert (status, headers) == (200, [(b"content-type", b"text/xml")])
    assert b'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"' in body
    from botocore.session import get_session

    shape = get_session().get_service_model("sts").operation_model("GetCallerIdentity").output_shape
    parsed = create_parser("query").parse({"status_code": status, "headers": {}, "body": body}, shape)
    assert parsed["UserId"] == "AIDA<&>\ufffd"
    assert parsed["Account"] == "111122223333"
    assert parsed["ResponseMetadata"]["RequestId"] == "r-1"


@pytest.mark.parametrize(
    ("method", "query", "body", "code"),
    [
        ("POST", b"", b"Action=DeleteEverything", "InvalidAction"),
        ("POST", b"", b"Action=GetCallerIdentity&Version=2010-05-08", "InvalidAction"),
        ("POST", b"", b"Action=GetCallerIdentity&Version=", "InvalidAction"),
        ("POST", b"", b"Action=CreateUser&Version=2011-06-15", "InvalidAction"),
        ("POST", b"", b"Version=2011-06-15", "UnknownOperationException"),
        ("POST", b"", b"", "UnknownOperationException"),
        ("POST", b"", b"\xff\xfe=%zz", "UnknownOperationException"),
        ("POST", b"", b"Action=GetCallerIdentity&" + b"x=1&" * 5000, "UnknownOperationException"),
        ("PUT", b"Action=GetCallerIdentity", b"", "UnknownOperationException"),
    ],
)
def test_what_names_no_action_has_no_route(method: str, query: bytes, body: bytes, code: str) -> None:
    with pytest.raises(NoRoute) as caught:
        Router().match(method, b"/", query, [(b"content-type", b"application/x-www-form-urlencoded")], body)
    assert caught.value.code == code
    assert caught.value.status in (400, 404)


@pytest.mark.parametrize(
    ("text", "service"),
    [
        (b"Action=CreateUser&Version=2010-05-08&UserName=a", "iam"),
        (b"Action=CreateUser&UserName=a", "iam"),
        (b"Version=2011-06-15&Action=AssumeRole", "sts"),
    ],
)
def test_action_and_version_name_the_service(text: bytes, service: str) -> None:
    headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"host", b"kms.eu-west-1.amazonaws.com")]
    assert Router().match("POST", b"/", b"", headers, text).operation.service == service


def _operation(service: str, version: str) -> Operation:
    described = Service(service, "query", version, service, service, bearer=False)
    return described.operation("Op", "POST", "/", 200, "")


FIRST, SECOND = _operation("first", "2020-01-01"), _operation("second", "2021-01-01")
SCOPE = b"AWS4-HMAC-SHA256 Credential=AKIA/20240102/eu-west-1/second/aws4_request, SignedHeaders=host"


@pytest.mark.parametrize(
    ("query", "header", "found"),
    [
        (b"Version=2021-01-01", (b"host", b"first.example"), SECOND),
        (b"", (b"host", b"second.eu-west-1.example"), SECOND),
        (b"", (b"user-agent", b"aws-sdk-js/3 api/first#3"), FIRST),
        (b"", (b"authorization", SCOPE), SECOND),
        (b"X-Amz-Credential=AKIA%2F20240102%2Feu-west-1%2Ffirst%2Faws4_request", (b"host", b"localhost"), FIRST),
        (b"", (b"host", b"localhost"), None),
        (b"Version=2022-01-01", (b"host", b"first.example"), None),
    ],
)
def test_an_action_of_two_services_is_told_apart_or_refused(
    query: bytes, header: tuple[bytes, bytes], found: Operation | None
) -> None:
    router = Router((FIRST, SECOND))
    if found is not None:
        assert router.match("GET", b"/", b"Action=Op&" + query, [header]).operation is found
    else:
        with pytest.raises(NoRoute, match="Action=Op"):
            router.match("GET", b"/", b"Action=Op&" + query, [header])


def test_an_action_that_no_version_tells_apart_starts_no_router() -> None:
    with pytest.raises(InvariantError, match="Op is found by its version"):
        Router((FIRST, _operation("third", FIRST.api_version)))


@pytest.mark.parametrize(
    ("code", "wire_code", "status"),
    [
        ("NoSuchEntityException", "NoSuchEntity", 404),
        ("NoSuchEntity", "NoSuchEntity", 404),
        ("ResourceNotFoundException", "NoSuchEntity", 404),
        ("EntityAlreadyExistsException", "EntityAlreadyExists", 409),
        ("LimitExceeded", "LimitExceeded", 409),
        ("DeleteConflictException", "DeleteConflict", 409),
        ("MalformedPolicyDocument", "MalformedPolicyDocument", 400),
        ("InternalServerException", "ServiceFailure", 500),
        ("ValidationException", "ValidationError", 400),
        ("AccessDeniedException", "AccessDenied", 403),
    ],
)
def test_iam_errors_go_out_under_the_codes_of_its_model(code: str, wire_code: str, status: int) -> None:
    found, headers, body = AwsError(code, "told <&>", "iam").render(request_id="r-1")
    assert (found, headers) == (status, [(b"content-type", b"text/xml")])
    parsed = create_parser("query").parse({"status_code": found, "headers": {}, "body": body}, None)
    assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == (wire_code, "told <&>")
    assert b'xmlns="https://iam.amazonaws.com/doc/2010-05-08/"' in body
