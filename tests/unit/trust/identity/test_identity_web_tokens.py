"""Web identities: which tokens speak for somebody here, and what they pass on."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from outcrop.base.arn import AccountId, Arn
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import web_identity
from outcrop.trust.identity.records import OidcProvider

URL = "issuer.example.org/tenant"
KEY = ec.generate_private_key(ec.SECP256R1())
JWKS = json.dumps({"keys": [json.loads(ECAlgorithm.to_jwk(KEY.public_key())) | {"use": "sig", "alg": "ES256"}]})
PROVIDER = OidcProvider(
    Arn("aws", "iam", "", AccountId("123456789012"), f"oidc-provider/{URL}"),
    AccountId("123456789012"),
    URL,
    ("ours", "also-ours"),
    (),
    JWKS,
    "2026-01-01T00:00:00.000+00:00",
)


def token(clock: FakeClock, key: ec.EllipticCurvePrivateKey = KEY, **changes: Any) -> str:
    now = clock.now().timestamp()
    claims = {"iss": f"https://{URL}", "sub": "somebody", "aud": "ours", "iat": now, "exp": now + 600} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, "ES256")


def refuse(
    clock: FakeClock, provider: OidcProvider = PROVIDER, code: str = "InvalidIdentityToken", **changes: Any
) -> None:
    with pytest.raises(AuthenticationError) as caught:
        web_identity.verify(token(clock, **changes), provider, clock)
    assert caught.value.code == code


def test_who_a_token_speaks_for(clock: FakeClock) -> None:
    found = web_identity.verify(token(clock, email="a@example.org", amr=["mfa", "pwd"]), PROVIDER, clock)
    assert (found.provider_arn, found.issuer) == (str(PROVIDER.arn), URL)
    assert (found.subject, found.audience, found.source_identity) == ("somebody", "ours", "")
    assert (found.tags, found.transitive_tag_keys) == ({}, ())
    assert found.keys == {
        f"{URL}:sub": "somebody",
        f"{URL}:aud": "ours",
        f"{URL}:email": "a@example.org",
        f"{URL}:amr": ("mfa", "pwd"),
    }


@pytest.mark.parametrize(
    ("claims", "audience"),
    [
        ({"aud": "also-ours"}, "also-ours"),
        ({"aud": ["somebody-elses", "also-ours"]}, "also-ours"),
        ({"aud": ["ours", "also-ours"], "azp": "also-ours"}, "also-ours"),
    ],
)
def test_audiences(clock: FakeClock, claims: dict[str, Any], audience: str) -> None:
    assert web_identity.verify(token(clock, **claims), PROVIDER, clock).audience == audience


@pytest.mark.parametrize("claims", [{"aud": "somebody-elses"}, {"azp": "somebody-elses"}, {"azp": 7}, {"aud": None}])
def test_tokens_for_others(clock: FakeClock, claims: dict[str, Any]) -> None:
    refuse(clock, **claims)


def test_tags_and_a_source_identity_come_along(clock: FakeClock) -> None:
    tags = {"principal_tags": {"team": ["blue"], "stage": "test"}, "transitive_tag_keys": ["team"]}
    claims = {web_identity.TAGS_CLAIM: tags, web_identity.SOURCE_IDENTITY_CLAIM: "alice"}
    found = web_identity.verify(token(clock, **claims), PROVIDER, clock)
    assert (found.tags, found.transitive_tag_keys) == ({"team": "blue", "stage": "test"}, ("team",))
    assert found.source_identity == "alice"


@pytest.mark.parametrize(
    "tags",
    [
        "team=blue",
        {"principal_tags": ["team"]},
        {"principal_tags": {"team": ["blue", "red"]}},
        {"principal_tags": {"team": 7}},
        {"principal_tags": {}, "transitive_tag_keys": "team"},
        {"principal_tags": {}, "transitive_tag_keys": [7]},
        {"principal_tags": {"aws:team": ["blue"]}},
        {"principal_tags": {"team": ["x" * 257]}},
    ],
)
def test_tags_of_another_form_are_refused_not_passed_over(clock: FakeClock, tags: object) -> None:
    refuse(clock, **{web_identity.TAGS_CLAIM: tags})


def test_a_source_identity_is_a_text(clock: FakeClock) -> None:
    refuse(clock, **{web_identity.SOURCE_IDENTITY_CLAIM: ["alice"]})


def test_a_token_of_another_issuer_or_key_is_refused(clock: FakeClock) -> None:
    refuse(clock, iss="https://issuer.example.org/other")
    refuse(clock, iss=f"https://{URL}/")
    with pytest.raises(AuthenticationError) as caught:
        web_identity.verify(token(clock, ec.generate_private_key(ec.SECP256R1())), PROVIDER, clock)
    assert caught.value.code == "InvalidIdentityToken"


def test_a_token_ends(clock: FakeClock) -> None:
    now = clock.now().timestamp()
    refuse(clock, code="ExpiredTokenException", iat=now - 700, exp=now - 61)
    refuse(clock, iat=now + 61, exp=now + 700)
    assert web_identity.verify(token(clock, iat=now - 700, exp=now - 59), PROVIDER, clock)


@pytest.mark.parametrize("jwks", ["", "no JSON", "{}", '{"keys": []}'])
def test_without_keys_nobody_is_believed(clock: FakeClock, jwks: str) -> None:
    refuse(clock, replace(PROVIDER, jwks=jwks))


def test_without_clients_nobody_is_believed(clock: FakeClock) -> None:
    refuse(clock, replace(PROVIDER, client_ids=()))


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.c", "e30.e30.e30", "e30.bnVsbA.e30", "e30.W10.e30", "x" * 20_001, "e30." + "W" * 9_000 + ".e30"],
)
def test_texts_without_an_issuer(text: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        web_identity.unverified_issuer(text)
    assert caught.value.code == "InvalidIdentityToken"
    assert len(str(caught.value)) < 200  # the token is not told on


@pytest.mark.parametrize("issuer", ["http://issuer.example.org", 7, None])
def test_issuers_are_https(clock: FakeClock, issuer: object) -> None:
    if issuer is not None and not isinstance(issuer, str):
        text = "e30." + jwt.utils.base64url_encode(json.dumps({"iss": issuer}).encode()).decode() + ".e30"
    else:
        text = token(clock, iss=issuer)
    with pytest.raises(AuthenticationError):
        web_identity.unverified_issuer(text)


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://issuer.example.org", "issuer.example.org"),
        ("https://issuer.example.org/", "issuer.example.org"),
        ("https://issuer.example.org/a/", "issuer.example.org/a/"),
    ],
)
def test_how_an_issuer_is_registered(issuer: str, url: str) -> None:
    assert web_identity.provider_url(issuer) == url
