"""Requests that no client should send: each is a typed 4xx, none an exception of ours, and nothing costs too much."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.service.wire.codec import decode_input, encode_output
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated.bedrock import ListFoundationModelsRequest
from outcrop.service.wire.generated.bedrock_runtime import InvokeModelRequest, InvokeModelResponse
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.rest_json import CONTAINERS_MAX, DEPTH_MAX
from outcrop.service.wire.router import Router

CONVERSE = OPERATIONS["bedrock-runtime", "Converse"]
INVOKE = OPERATIONS["bedrock-runtime", "InvokeModel"]
LIST_MODELS = OPERATIONS["bedrock", "ListFoundationModels"]
LIST_PROFILES = OPERATIONS["bedrock", "ListInferenceProfiles"]
ROUTER = Router()

Headers = list[tuple[bytes, bytes]]


def converse(body: bytes) -> Any:
    return decode_input(CONVERSE, {"modelId": "outcrop.pebble-v1:0"}, b"", [], body)


def with_document(document: bytes) -> bytes:
    return b'{"additionalModelRequestFields":' + document + b"}"


BROKEN = {
    "nothing but a space": b" ",
    "not JSON": b"hello",
    "a cut object": b'{"messages":[',
    "a cut string": b'{"a":"',
    "a cut escape": b'{"a":"\\',
    "trailing text": b"{}x",
    "two documents": b"{}{}",
    "a trailing comma": b'{"system":[],}',
    "single quotes": b"{'system':[]}",
    "a comment": b"{}//",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"system":[]}'.encode("utf-16"),
    "a NUL": b"{}\x00",
    "a raw control character": b'{"system":[{"text":"a\nb"}]}',
    "invalid UTF-8 in a value": b'{"system":[{"text":"\xff"}]}',
    "invalid UTF-8 in an unknown key": b'{"\xff":1}',
    "invalid UTF-8 in an unknown value": b'{"unknown":"\xc3("}',
    "overlong UTF-8": b'{"unknown":"\xc0\xaf"}',
    "an encoded surrogate": b'{"unknown":"\xed\xa0\x80"}',
    "a lone high surrogate": b'{"system":[{"text":"\\ud800"}]}',
    "a lone low surrogate": b'{"system":[{"text":"\\udc00"}]}',
    "surrogates in the wrong order": b'{"system":[{"text":"\\udc00\\ud800"}]}',
    "a high surrogate before text": b'{"system":[{"text":"\\ud800abcdef"}]}',
    "a lone surrogate in a document": with_document(b'{"\\ud800":1}'),
    "NaN": with_document(b"NaN"),
    "Infinity": with_document(b"[Infinity]"),
    "minus infinity": b'{"inferenceConfig":{"temperature":-Infinity}}',
    "a float beyond its range": b'{"inferenceConfig":{"temperature":1e400}}',
    "a document number beyond its range": with_document(b"-1e400"),
    "an exponent of a million digits": with_document(b"1e" + b"9" * 1_000_000),
    "an integer of many digits": with_document(b"9" * 10_000),
    "a leading zero": with_document(b"01"),
    "a hexadecimal number": with_document(b"0x10"),
    "an array as the body": b"[]",
    "a number as the body": b"5",
    "a string as the body": b'"{}"',
    "lists without end": with_document(b"[" * 100_000),
    "objects without end": with_document(b'{"a":' * 100_000),
    "unknown lists without end": b'{"unknown":' + b"[" * 100_000,
    "a closed list, too deep": with_document(b"[" * 201 + b"]" * 201),
    "deep inside an ignored member": b'{"unknown":' + b"[" * 300 + b"]" * 300 + b"}",
    "content nested in content": b'{"messages":[{"role":"user","content":' * 200,
    "a bomb of small lists": with_document(b"[" + b"[]," * CONTAINERS_MAX + b"[]]"),
    "quotes and brackets without end": b'{"a":"' + b'\\"[' * 500_000,
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_body_is_a_serialization_error(body: bytes) -> None:
    with pytest.raises(AwsError) as caught:
        converse(body)
    assert (caught.value.code, caught.value.status) == ("SerializationException", 400)
    assert len(caught.value.message) < 300
    json.dumps(caught.value.message).encode("ascii")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b' \t\r\n{"system": [ ] }\n',
        b'{"system":[],"inferenceConfig":{}}',
        b'{"messages":null,"inferenceConfig":{"topP":null}}',
        b'{"unknown":{"deeply":[{"unknown":1}]},"messages":[]}',
        b'{"inferenceConfig":{"maxTokens":1},"inferenceConfig":{"maxTokens":2}}',
        b'{"inferenceConfig":{"temperature":1,"topP":0}}',
        with_document(b"[" * 190 + b"]" * 190),
        with_document(b'["' + b"[{" * 300 + b'"]'),
        with_document(b"[" + b"{}," * 2000 + b"[]]"),
        with_document(b"18446744073709551615"),
    ],
)
def test_odd_but_valid_bodies_are_read(body: bytes) -> None:
    assert converse(body).model_id == "outcrop.pebble-v1:0"


def test_the_last_of_duplicate_keys_counts() -> None:
    value = converse(b'{"inferenceConfig":{"maxTokens":1},"inferenceConfig":{"maxTokens":2,"maxTokens":3}}')
    assert value.inference_config.max_tokens == 3


def test_a_body_may_nest_to_the_limit_and_not_beyond() -> None:
    def nested(depth: int) -> bytes:
        return with_document(b"[" * (depth - 1) + b"]" * (depth - 1))

    converse(nested(DEPTH_MAX))
    with pytest.raises(AwsError, match="nested deeper"):
        converse(nested(DEPTH_MAX + 1))


def test_a_member_of_the_path_cannot_be_given_in_the_body() -> None:
    assert converse(b'{"modelId":"another"}').model_id == "outcrop.pebble-v1:0"


@pytest.mark.parametrize("label", ["", "a b", "a\n", "a\x00b", "a" * 2049, "\u00e9", "arn:aws:s3:::b/k", "%2F"])
def test_a_model_id_that_breaks_its_pattern_is_a_validation_error(label: str) -> None:
    with pytest.raises(AwsError, match="'modelId'") as caught:
        decode_input(CONVERSE, {"modelId": label}, b"", [], b"{}")
    assert (caught.value.code, caught.value.status) == ("ValidationException", 400)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([(b"x-amzn-bedrock-trace", b"SOMETIMES")], "ValidationException"),
        ([(b"x-amzn-bedrock-trace", b"ENABLED"), (b"x-amzn-bedrock-trace", b"DISABLED")], "ValidationException"),
        ([(b"x-amzn-bedrock-guardrailidentifier", b"\xff")], "SerializationException"),
        ([(b"x-amzn-bedrock-guardrailversion", b"0")], "ValidationException"),
    ],
)
def test_a_bad_header_is_a_typed_400(headers: Headers, code: str) -> None:
    with pytest.raises(AwsError) as caught:
        decode_input(INVOKE, {"modelId": "a"}, b"", headers, b"{}")
    assert (caught.value.code, caught.value.status) == (code, 400)


def test_a_raw_body_is_not_read_as_json_and_has_its_own_limit() -> None:
    value = decode_input(INVOKE, {"modelId": "a"}, b"", [], b"\xff[[[")
    assert isinstance(value, InvokeModelRequest)
    assert value.body == b"\xff[[["
    with pytest.raises(AwsError, match=r"'body'.*25000000"):
        decode_input(INVOKE, {"modelId": "a"}, b"", [], bytes(25_000_001))


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (b"byProvider=%", "SerializationException"),
        (b"byProvider=%ff", "SerializationException"),
        (b"byProvider=a&byProvider=b", "SerializationException"),
        (b"byOutputModality=SMELL", "ValidationException"),
        (b"byProvider=" + b"a" * 64, "ValidationException"),
        (b"x=1&" * 3000, "SerializationException"),
    ],
)
def test_a_bad_query_string_is_a_typed_400(query: bytes, code: str) -> None:
    with pytest.raises(AwsError) as caught:
        decode_input(LIST_MODELS, {}, query, [], b"")
    assert (caught.value.code, caught.value.status) == (code, 400)


@pytest.mark.parametrize("text", ["0", "1001", "ten", "1.5", "", "+", "\u0661", "1e2", "9" * 5000])
def test_a_page_size_out_of_range_or_out_of_its_mind_is_a_typed_400(text: str) -> None:
    with pytest.raises(AwsError, match="'maxResults'") as caught:
        decode_input(LIST_PROFILES, {}, b"maxResults=" + text.encode(), [], b"")
    assert caught.value.status == 400


def test_unknown_query_parameters_are_ignored() -> None:
    assert decode_input(LIST_MODELS, {}, b"&&x-id=ListFoundationModels&=&", [], b"") == ListFoundationModelsRequest()


def test_a_response_header_can_never_be_split() -> None:
    output = InvokeModelResponse(body=b"", content_type="a\r\nset-cookie: b")
    with pytest.raises(Exception, match="one line"):
        encode_output(INVOKE, output)


def refusal(act: Callable[[], object]) -> AwsError | None:
    """The typed refusal of ``act``, or None where it went through; any other exception fails the test."""
    try:
        act()
    except AwsError as error:
        return error
    return None


@settings(deadline=None, max_examples=150, derandomize=True, database=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_body_decode_or_are_refused(body: bytes) -> None:
    error = refusal(lambda: converse(body))
    assert error is None or error.status == 400


NAMES = """messages role content text system toolConfig tools inferenceConfig maxTokens toolUse input json bytes source
image requestMetadata additionalModelRequestFields unknown"""
member_names = st.sampled_from(NAMES.split())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("user"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(member_names, inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(st.dictionaries(member_names, json_values))
def test_any_json_decodes_or_is_refused(value: Any) -> None:
    error = refusal(lambda: converse(json.dumps(value).encode()))
    assert error is None or error.code in ("ValidationException", "SerializationException")


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(
    st.sampled_from(["GET", "POST", "DELETE", "PUT", "\u00e9"]),
    st.binary(max_size=60) | st.text("/model%2Ftags:{}abc.", max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.binary(max_size=40),
)
def test_any_request_line_routes_or_is_refused(method: str, path: bytes, query: bytes, body: bytes) -> None:
    headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"host", body)]
    for raw_path in (path, b"/" + path, b"/model/" + path + b"/converse", b"/tags/" + path, b"/"):
        error = refusal(lambda raw_path=raw_path: ROUTER.match(method, raw_path, query, headers, body))
        assert error is None or error.status in (400, 404)
