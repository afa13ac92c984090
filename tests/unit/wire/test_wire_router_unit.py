"""Router rules that no botocore path exercises: collisions, literals, escapes, hostile paths."""

from __future__ import annotations

import pytest

from outcrop.service.wire.errors import AwsError, NoRoute
from outcrop.service.wire.router import Router

ROUTER = Router()
AGENT = "arn%3Aaws%3Abedrock%3Aeu-west-1%3A111122223333%3Aagent%2FABC"
SESSION = "arn:aws:bedrock:eu-west-1:111122223333:session%2F0-1"


def name(method: str, path: str, *headers: tuple[bytes, bytes]) -> str:
    operation = ROUTER.match(method, path.encode(), b"", headers).operation
    return f"{operation.service}.{operation.name}"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/agents/A1/", "bedrock-agent.PrepareAgent"),
        ("POST", "/agents/A1", "bedrock-agent-runtime.InvokeInlineAgent"),
        ("POST", "/flows/validate-definition", "bedrock-agent.ValidateFlowDefinition"),
        ("POST", "/flows/F1/", "bedrock-agent.PrepareFlow"),
        ("GET", f"/tags/{AGENT}", "bedrock-agent.ListTagsForResource"),
        ("GET", f"/tags/{SESSION}", "bedrock-agent-runtime.ListTagsForResource"),
        ("DELETE", f"/tags/{SESSION}", "bedrock-agent-runtime.UntagResource"),
        ("POST", "/tags/anything", "bedrock-agent.TagResource"),
    ],
)
def test_collisions_are_settled_by_slashes_literals_and_the_resource(method: str, path: str, expected: str) -> None:
    assert name(method, path) == expected


@pytest.mark.parametrize(
    "header",
    [
        (b"host", b"bedrock-agent-runtime.eu-west-1.amazonaws.com"),
        (b"host", b"bedrock-agent-runtime-fips.us-gov-west-1.amazonaws.com:443"),
        (b":authority", b"BEDROCK-AGENT-RUNTIME.local"),
        (b"user-agent", b"aws-sdk-js/3.1164.0 ua/2.1 api/bedrock-agent-runtime#3.1164.0"),
        (b"x-amz-user-agent", b"aws-sdk-js/3.1 api/Bedrock_Agent_Runtime#3.1"),
    ],
)
def test_host_and_user_agent_tell_services_apart_that_share_a_path(header: tuple[bytes, bytes]) -> None:
    assert name("GET", f"/tags/{AGENT}", (b"accept", b"*/*"), header) == "bedrock-agent-runtime.ListTagsForResource"


def test_a_host_that_names_no_candidate_decides_nothing() -> None:
    header = (b"host", b"bedrock-runtime.eu-west-1.amazonaws.com")
    assert name("GET", f"/tags/{AGENT}", header) == "bedrock-agent.ListTagsForResource"
    assert name("POST", "/model/a/converse", (b"host", b"sts.amazonaws.com")) == "bedrock-runtime.Converse"


@pytest.mark.parametrize(
    ("segment", "label"),
    [
        ("a%3Ab", "a:b"),
        ("a:b", "a:b"),
        ("a%2Fb", "a/b"),
        ("a%252Fb", "a%2Fb"),
        ("%E2%82%AC", "\u20ac"),
        ("\u20ac", "\u20ac"),
        ("a+b", "a+b"),
        ("%00", "\x00"),
        ("..", ".."),
        ("%2e%2e", ".."),
    ],
)
def test_labels_are_decoded_exactly_once(segment: str, label: str) -> None:
    assert ROUTER.match("POST", f"/model/{segment}/converse".encode(), b"", []).labels == {"modelId": label}


@pytest.mark.parametrize("segment", [b"%", b"%a", b"%g0", b"%ff", b"\xff", b"%ed%a0%80", b"a%2", b"%C0%AF"])
@pytest.mark.parametrize(("before", "after"), [(b"/model/", b"/converse"), (b"/tags/", b""), (b"/tags/arn:", b"")])
def test_a_label_that_cannot_be_decoded_is_a_typed_400(segment: bytes, before: bytes, after: bytes) -> None:
    with pytest.raises(AwsError) as caught:
        ROUTER.match("POST", before + segment + after, b"", [])
    assert (caught.value.code, caught.value.status) == ("SerializationException", 400)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", b""),
        ("GET", b"/"),
        ("GET", b"*"),
        ("GET", b"model"),
        ("GET", b"http://localhost/foundation-models"),
        ("GET", b"/foundation-models/"),
        ("GET", b"//foundation-models"),
        ("GET", b"/Foundation-Models"),
        ("get", b"/foundation-models"),
        ("POST", b"/foundation-models"),
        ("POST", b"/model//converse"),
        ("POST", b"/model/a/converse/"),
        ("POST", b"/model/a/b/converse"),
        ("POST", b"/model/a%2Fconverse"),
        ("POST", b"/model/a\x00/converse\x00"),
        ("POST", b"/" * 10_000),
        ("POST", b"/model" * 10_000),
    ],
)
def test_what_is_not_in_the_models_has_no_route(method: str, path: bytes) -> None:
    with pytest.raises(NoRoute) as caught:
        ROUTER.match(method, path, b"", [])
    assert caught.value.status == 404
