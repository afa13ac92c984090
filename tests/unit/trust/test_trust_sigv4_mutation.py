"""A signature holds for the bytes it was made over and for nothing else: change anything and it is refused."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trust_signing import ACCESS_KEY_ID, REGION, SECRET, authenticator, header, sign, with_header

from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import SignedRequest

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SEGMENT = st.text("abcXYZ019-._~%:;@$ é", min_size=1, max_size=12).filter(lambda text: text not in (".", ".."))
TEXT = st.text("abcdefghij0123456789", min_size=1, max_size=8)

requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
        "path": st.lists(SEGMENT, min_size=1, max_size=4).map(lambda segments: "/" + "/".join(segments)),
        "query": st.dictionaries(TEXT, TEXT, max_size=3).map(lambda d: "&".join(f"{k}={v}" for k, v in d.items())),
        "headers": st.fixed_dictionaries({"content-type": st.just("application/json"), "x-amzn-bedrock-trace": TEXT}),
        "body": st.binary(max_size=200),
        "expires": st.sampled_from([None, "60"]),
    }
)


def refused(request: SignedRequest) -> None:
    with pytest.raises(AuthenticationError):
        authenticator().authenticate(request, "bedrock", allow_bearer=True)


def changed(value: bytes, position: int, by: int) -> bytes:
    """``value`` with one byte changed, never to what it was."""
    index = position % len(value)
    return value[:index] + bytes([(value[index] + 1 + by % 255) % 256]) + value[index + 1 :]


@SETTINGS
@given(requests)
def test_what_was_signed_is_accepted(parts: dict) -> None:
    principal = authenticator().authenticate(sign(**parts), "bedrock", allow_bearer=False)
    assert principal.access_key_id == ACCESS_KEY_ID
    assert principal.auth == ("sigv4" if parts["expires"] is None else "sigv4-query")


@SETTINGS
@given(requests, st.sampled_from(["body", "raw_path"]), st.integers(0, 10**6), st.integers(0, 10**6))
def test_one_changed_byte_of_path_or_body_is_refused(parts: dict, which: str, position: int, by: int) -> None:
    request = sign(**parts)
    old = getattr(request, which)
    new = changed(old, position, by) if old else b"x"
    fields = {"method": request.method, "raw_path": request.raw_path, "raw_query": request.raw_query}
    refused(SignedRequest(**{**fields, "headers": request.headers, "body": request.body, which: new}))


@SETTINGS
@given(requests, st.data())
def test_a_changed_signed_header_is_refused(parts: dict, data: st.DataObject) -> None:
    request = sign(**parts)
    name = data.draw(st.sampled_from(["host", "content-type", "x-amzn-bedrock-trace"]))
    value = header(request, name)
    new = changed(value.encode(), data.draw(st.integers(0, 50)), data.draw(st.integers(0, 254)))
    if b" ".join(new.split()) == value.encode():
        return
    refused(
        SignedRequest(
            request.method,
            request.raw_path,
            request.raw_query,
            [(key, new if key == name.encode() else old) for key, old in request.headers],
            request.body,
        )
    )


@SETTINGS
@given(requests, st.sampled_from(["HEAD", "PATCH", "post", "OPTIONS"]))
def test_another_method_is_refused(parts: dict, method: str) -> None:
    request = sign(**parts)
    refused(SignedRequest(method, request.raw_path, request.raw_query, request.headers, request.body))


@SETTINGS
@given(requests, TEXT, TEXT)
def test_an_added_or_removed_query_parameter_is_refused(parts: dict, name: str, value: str) -> None:
    request = sign(**parts)
    more = request.raw_query + b"&" + f"{name}={value}".encode()
    refused(SignedRequest(request.method, request.raw_path, more, request.headers, request.body))
    if parts["query"]:
        less = request.raw_query.partition(b"&")[2]
        refused(SignedRequest(request.method, request.raw_path, less, request.headers, request.body))


@SETTINGS
@given(requests, st.integers(0, 63), st.integers(1, 15), st.sampled_from(["header", "query"]))
def test_a_changed_digit_of_the_signature_is_refused(parts: dict, position: int, by: int, form: str) -> None:
    request = sign(**{**parts, "expires": None if form == "header" else "60"})
    marker = b"Signature="
    text = header(request, "authorization").encode() if form == "header" else request.raw_query
    at = text.rindex(marker) + len(marker) + position
    digit = f"{(int(chr(text[at]), 16) + by) % 16:x}".encode()
    text = text[:at] + digit + text[at + 1 :]
    if form == "header":
        refused(with_header(request, "authorization", text.decode()))
    else:
        refused(SignedRequest(request.method, request.raw_path, text, request.headers, request.body))


@pytest.mark.parametrize(
    "other",
    [
        {"region": "eu-west-2"},
        {"service": "s3"},
        {"scope_date": "20260228"},
        {"terminator": "aws5_request"},
        {"key_id": ACCESS_KEY_ID[:-1] + "3"},
        {"key_id": ACCESS_KEY_ID.lower()},
        {"secret": SECRET[:-1] + "Z"},
    ],
    ids=lambda other: next(iter(other)),
)
@pytest.mark.parametrize("expires", [None, "60"], ids=["header", "query"])
def test_another_scope_or_key_is_refused(other: dict, expires: str | None) -> None:
    refused(sign(expires=expires, **other))


@pytest.mark.parametrize("part", [REGION, "20260301", "/bedrock/", ACCESS_KEY_ID])
def test_a_scope_rewritten_after_signing_is_refused(part: str) -> None:
    request = sign()
    refused(with_header(request, "authorization", header(request, "authorization").replace(part, part[::-1])))


@SETTINGS
@given(st.binary(max_size=300), st.binary(max_size=200), st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_a_typed_way(authorization: bytes, query: bytes, date: bytes) -> None:
    refused(SignedRequest("POST", b"/", query, [(b"host", b"h"), (b"authorization", authorization)], b""))
    credential = (
        b"AWS4-HMAC-SHA256 Credential=a/20260301/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date,"
    )
    headers = [(b"host", b"h"), (b"x-amz-date", date), (b"authorization", credential + b" Signature=" + authorization)]
    refused(SignedRequest("POST", b"/", b"", headers, b""))
    refused(SignedRequest("POST", b"/", b"", [(b"host", b"h"), (b"x-api-key", b"bedrock-api-key-" + query)], b""))
