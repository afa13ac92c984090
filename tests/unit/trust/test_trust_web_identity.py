"""Who a token of an identity provider speaks for: claims as keys and tags, and providers that do not vouch."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from trust_signing import NOW

from outcrop.base.arn import Arn, account_id
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuthenticationError
from outcrop.trust.identity import web_identity
from outcrop.trust.identity.records import OidcProvider
from outcrop.trust.identity.web_identity import SOURCE_IDENTITY_CLAIM, TAGS_CLAIM, WebIdentity

KEY = rsa.generate_private_key(65537, 2048)
OTHER_KEY = rsa.generate_private_key(65537, 2048)
URL = "issuer.example.org/tenant"
ACCOUNT = account_id("123456789012")
PROVIDER = OidcProvider(
    Arn("aws", "iam", "", ACCOUNT, f"oidc-provider/{URL}"),
    ACCOUNT,
    URL,
    ("ci", "cd"),
    (),
    json.dumps({"keys": [json.loads(RSAAlgorithm.to_jwk(KEY.public_key()))]}),
    NOW.isoformat(),
)
AT = int(NOW.timestamp())
CLAIMS = {"iss": f"https://{URL}", "sub": "repo:a/b", "aud": "ci", "iat": AT - 10, "exp": AT + 300}


def token(key: Any = KEY, **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}
    return jwt.encode(claims, key, "RS256")


def verify(text: str, provider: OidcProvider = PROVIDER, after_s: int = 0) -> WebIdentity:
    return web_identity.verify(text, provider, FakeClock(NOW + timedelta(seconds=after_s)))


def refuse(text: str, code: str = "InvalidIdentityToken", **options: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        verify(text, **options)
    assert caught.value.code == code
    assert text not in str(caught.value) + caught.value.detail or not text
    return caught.value.what


def test_claims_become_condition_keys_under_the_issuers_name() -> None:
    found = verify(token(amr=["pwd", "otp"], email="a@example.org", other="x"))
    assert (found.provider_arn, found.issuer, found.subject, found.audience) == (
        str(PROVIDER.arn),
        URL,
        "repo:a/b",
        "ci",
    )
    assert found.keys == {
        f"{URL}:sub": "repo:a/b",
        f"{URL}:aud": "ci",
        f"{URL}:amr": ("pwd", "otp"),
        f"{URL}:email": "a@example.org",
    }
    assert (found.tags, found.transitive_tag_keys, found.source_identity) == ({}, (), "")


def test_tags_and_source_identity_come_from_their_claims() -> None:
    tags = {"principal_tags": {"team": ["blue"], "size": "1"}, "transitive_tag_keys": ["team"]}
    found = verify(token(**{TAGS_CLAIM: tags, SOURCE_IDENTITY_CLAIM: "alice"}))
    assert (found.tags, found.transitive_tag_keys) == ({"team": "blue", "size": "1"}, ("team",))
    assert found.source_identity == "alice"


@pytest.mark.parametrize(
    "tags",
    [
        "team",
        ["team"],
        {"principal_tags": ["team"]},
        {"principal_tags": {"team": ["blue", "red"]}},
        {"principal_tags": {"team": 1}},
        {"principal_tags": {"team": []}},
        {"principal_tags": {"": "x"}},
        {"principal_tags": {"k" * 129: "x"}},
        {"principal_tags": {"k": "x" * 257}},
        {"principal_tags": {"k": "<x>"}},
        {"principal_tags": {"aws:team": "x"}},
        {"principal_tags": {"team": "x", "TEAM": "y"}},
        {"principal_tags": {str(number): "x" for number in range(51)}},
        {"principal_tags": {"team": "x"}, "transitive_tag_keys": "team"},
        {"principal_tags": {"team": "x"}, "transitive_tag_keys": [1]},
    ],
)
def test_malformed_tags_are_no_tags_left_out(tags: Any) -> None:
    assert "malformed" in refuse(token(**{TAGS_CLAIM: tags}))


def test_a_source_identity_is_a_text() -> None:
    refuse(token(**{SOURCE_IDENTITY_CLAIM: ["alice"]}))


def test_the_audience_must_be_a_registered_client() -> None:
    assert verify(token(aud="cd")).audience == "cd"
    assert verify(token(aud=["other", "cd"])).audience == "cd"
    refuse(token(aud="other"))
    refuse(token(aud=["other"]))
    assert refuse(token(), provider=replace(PROVIDER, client_ids=())) == "Incorrect token audience"


def test_a_token_issued_to_another_client_is_refused_though_it_names_ours() -> None:
    assert verify(token(aud=["ci", "api"], azp="cd")).audience == "cd"
    assert refuse(token(aud=["ci", "api"], azp="other")) == "Incorrect token audience"
    assert refuse(token(azp=7)) == "Incorrect token audience"


def test_a_provider_vouches_for_its_own_issuer_only() -> None:
    for issuer in ("https://issuer.example.org", f"https://{URL}/", f"https://{URL}x", "https://attacker.example.org"):
        refuse(token(iss=issuer))
    refuse(token(), provider=replace(PROVIDER, url="issuer.example.org/other"))


def test_a_bare_host_may_end_in_a_slash() -> None:
    provider = replace(PROVIDER, url="issuer.example.org")
    for issuer in ("https://issuer.example.org", "https://issuer.example.org/"):
        assert verify(token(iss=issuer), provider).issuer == "issuer.example.org"
    refuse(token(iss="https://issuer.example.org//"), provider=provider)


def test_the_key_set_given_decides() -> None:
    refuse(token(OTHER_KEY))
    other = json.dumps({"keys": [json.loads(RSAAlgorithm.to_jwk(OTHER_KEY.public_key()))]})
    assert verify(token(OTHER_KEY), replace(PROVIDER, jwks=other))
    for jwks in ("", "{}", '{"keys": []}', "no JSON"):
        assert "no usable key set" in refuse(token(), provider=replace(PROVIDER, jwks=jwks))


def test_a_token_ends() -> None:
    leeway_s = 60
    assert verify(token(), after_s=300 + leeway_s - 1)
    refuse(token(), "ExpiredTokenException", after_s=300 + leeway_s)


@pytest.mark.parametrize("claim", ["sub", "aud", "iat", "exp"])
def test_a_claim_that_is_missing(claim: str) -> None:
    refuse(token(**{claim: ...}))


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "a.b.c.d",
        "a.%%%.c",
        "a..c",
        f"{part({'alg': 'none'})}.{part([1])}.",
        f"{part({'alg': 'none'})}.{part({'iss': 7})}.",
        f"{part({'alg': 'none'})}.{part({'iss': 'http://issuer.example.org/tenant'})}.",
        f"{part({'alg': 'none'})}.{part(CLAIMS)}.",
        "x" * 20_001,
        "\u00e9.\u00e9.\u00e9",
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    refuse(text)


def test_a_changed_character_is_noticed() -> None:
    good = token()
    for index in range(0, len(good) - 1, 7):
        changed = good[:index] + ("A" if good[index] != "A" else "B") + good[index + 1 :]
        with pytest.raises(AuthenticationError):
            verify(changed)
