"""The query protocol: our own cases, and STS through botocore's serializer and parser."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from botocore.parsers import create_parser
from wire_synthetic import Synthetic, comparable, from_json, load

from outcrop.service.wire.codec import decode_input, encode_output
from outcrop.service.wire.errors import AwsError, NoRoute
from outcrop.service.wire.generated.sts import GetCallerIdentityRequest, GetCallerIdentityResponse
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
