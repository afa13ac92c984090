"""Bedrock short-term API keys: made here, verified here, and refused in the words of the real service."""

from __future__ import annotations

import base64
import re
from datetime import timedelta
from urllib.parse import quote

import pytest
from trust_signing import ACCESS_KEY_ID, CREDENTIAL, NOW, REGION, SECRET, authenticator, sign

from outcrop.base.errors import AuthenticationError, UserError
from outcrop.trust.identity import Principal, SignedRequest, bearer

NOT_VALID = "Authentication failed: Please make sure your API Key is valid."


def send(key: str, header: str = "authorization", allow_bearer: bool = True) -> Principal:
    value = f"Bearer {key}" if header == "authorization" else key
    headers = [(b"host", b"localhost"), (header.encode(), value.encode())]
    request = SignedRequest("POST", b"/model/m/converse", b"", headers, b"{}")
    return authenticator().authenticate(request, "bedrock", allow_bearer)


def refuse(key: str, text: str, code: str = "AccessDeniedException", **options) -> None:
    with pytest.raises(AuthenticationError, match=re.escape(text)) as caught:
        send(key, **options)
    assert caught.value.code == code


def mint(age_s: int = 0, expires_s: int = 43_200, region: str = REGION) -> str:
    return bearer.mint(CREDENTIAL, region, expires_s, NOW - timedelta(seconds=age_s))


def wrap(query: str, host: str = "bedrock.amazonaws.com") -> str:
    return bearer.PREFIX + base64.b64encode(f"{host}/?{query}".encode()).decode()


def unwrap(key: str) -> str:
    return base64.b64decode(key.removeprefix(bearer.PREFIX)).decode().partition("/?")[2]


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_made_here_is_accepted(header: str) -> None:
    principal = send(mint(), header)
    assert principal.auth == "bearer"
    assert (principal.access_key_id, str(principal.arn)) == (ACCESS_KEY_ID, "arn:aws:iam::123456789012:root")


def test_the_scheme_is_read_in_any_case() -> None:
    headers = [(b"host", b"localhost"), (b"authorization", b"bearer " + mint().encode())]
    request = SignedRequest("GET", b"/openai/v1/models", b"", headers, b"")
    assert authenticator().authenticate(request, "bedrock", allow_bearer=True).auth == "bearer"


def test_lost_padding_does_no_harm() -> None:
    keys = [mint(expires_s=expires_s) for expires_s in (9, 99, 999)]
    assert any(key.endswith("=") for key in keys)
    for key in keys:
        assert send(key.rstrip("="))


def test_a_key_dies_at_its_expiry() -> None:
    assert send(mint(age_s=60, expires_s=60))
    refuse(mint(age_s=61, expires_s=60), "Bearer Token has expired")
    assert send(mint(age_s=43_200))
    refuse(mint(age_s=43_201), "Bearer Token has expired")


def test_a_key_from_the_future_is_refused() -> None:
    assert send(mint(age_s=-300))
    refuse(mint(age_s=-301), NOT_VALID)


@pytest.mark.parametrize("expires_s", [0, -1, 43_201])
def test_no_key_is_made_for_longer_than_twelve_hours(expires_s: int) -> None:
    with pytest.raises(UserError, match="cannot live"):
        mint(expires_s=expires_s)


def test_a_presigned_call_of_more_than_twelve_hours_is_no_key() -> None:
    request = sign(
        path="/",
        query="Action=CallWithBearerToken",
        body=b"",
        headers={"host": "bedrock.amazonaws.com"},
        expires="43201",
    )
    refuse(wrap(request.raw_query.decode() + "&Version=1"), NOT_VALID)
    request = sign(
        path="/",
        query="Action=CallWithBearerToken",
        body=b"",
        headers={"host": "bedrock.amazonaws.com"},
        expires="43200",
    )
    assert send(wrap(request.raw_query.decode() + "&Version=1"))


def test_a_key_of_another_region_is_refused() -> None:
    refuse(mint(region="us-east-1"), NOT_VALID)


@pytest.mark.parametrize(
    "options",
    [
        {"service": "s3"},
        {"method": "GET"},
        {"path": "/x"},
        {"body": b"x"},
        {"key_id": "AKIAUNKNOWN234567ABC"},
        {"secret": SECRET[::-1]},
        {"headers": {"host": "localhost:8080"}},
    ],
)
def test_another_presigned_request_is_no_key(options: dict) -> None:
    parts = {
        "path": "/",
        "query": "Action=CallWithBearerToken",
        "body": b"",
        "headers": {"host": "bedrock.amazonaws.com"},
        "expires": "60",
    }
    request = sign(**{**parts, **options})
    refuse(wrap(request.raw_query.decode() + "&Version=1"), NOT_VALID)


def test_a_session_token_that_nobody_made_is_refused() -> None:
    parts = {"path": "/", "body": b"", "headers": {"host": "bedrock.amazonaws.com"}, "expires": "60"}
    request = sign(query="Action=CallWithBearerToken&X-Amz-Security-Token=t", **parts)
    refuse(wrap(request.raw_query.decode() + "&Version=1"), NOT_VALID)


@pytest.mark.parametrize("key", ["", "sk-ant-api03-x", "BEDROCK-API-KEY-x", "absk"])
def test_a_missing_prefix_is_refused_in_the_words_of_aws(key: str) -> None:
    refuse(key, "Invalid API Key format: Must start with pre-defined prefix")


@pytest.mark.parametrize(
    "key", ["bedrock-api-key-", "bedrock-api-key-***", "bedrock-api-key-A", "bedrock-api-key-" + "A" * 9000]
)
def test_a_damaged_key_is_refused(key: str) -> None:
    refuse(key, NOT_VALID)


def test_every_changed_character_is_noticed() -> None:
    key = mint()
    start = len(bearer.PREFIX)
    for index in range(start, len(key.rstrip("="))):
        changed = key[:index] + ("A" if key[index] != "A" else "B") + key[index + 1 :]
        if base64.b64decode(changed[start:]) == base64.b64decode(key[start:]):
            continue  # the bits of a last character that base64 does not use
        with pytest.raises(AuthenticationError):
            send(changed)


def test_the_query_inside_must_be_the_defined_one() -> None:
    query = unwrap(mint())
    refuse(wrap(query.replace("&Version=1", "")), NOT_VALID)
    refuse(wrap(query + "&Version=1"), NOT_VALID)
    refuse(wrap(query.replace("Version=1", "Version=2")), NOT_VALID)
    refuse(wrap(query.replace("CallWithBearerToken", "CallWithBearerTokem")), NOT_VALID)
    refuse(wrap(query + "&Action=Other"), NOT_VALID)
    refuse(wrap(query + "&more=" + quote("x")), NOT_VALID)
    refuse(wrap(query, host="bedrock.amazonaws.com.example.org"), NOT_VALID)
    refuse(wrap(query, host="localhost"), NOT_VALID)


@pytest.mark.parametrize(
    ("signed", "added"),
    [
        ("Action=CallWithBearerToken&Action=Other", "&Version=1"),
        ("Action=CallWithBearerToken&Action=CallWithBearerToken", "&Version=1"),
        ("Action=CallWithBearerToken&Version=2", "&Version=1"),
        ("Action=CallWithBearerToken&Version=1", "&Version=1"),
        ("Action=CallWithBearerToken", "&Version=2"),
        ("Action=CallWithBearerToken", ""),
        ("Action=Other", "&Version=1"),
    ],
)
def test_action_and_version_are_fixed_even_when_signed(signed: str, added: str) -> None:
    parts = {"path": "/", "body": b"", "headers": {"host": "bedrock.amazonaws.com"}, "expires": "60"}
    refuse(wrap(sign(query=signed, **parts).raw_query.decode() + added), NOT_VALID)


def test_operations_without_bearer_refuse_it() -> None:
    for header in ("authorization", "x-api-key"):
        refuse(mint(), "does not accept API keys", header=header, allow_bearer=False)


def test_two_keys_are_refused() -> None:
    headers = [(b"host", b"h"), (b"authorization", b"Bearer " + mint().encode()), (b"x-api-key", mint().encode())]
    with pytest.raises(AuthenticationError, match="more than one way"):
        authenticator().authenticate(SignedRequest("GET", b"/", b"", headers, b""), "bedrock", allow_bearer=True)
