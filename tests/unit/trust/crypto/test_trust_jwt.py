"""OpenID Connect tokens: what is accepted, and each thing that is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuthenticationError, UserError
from outcrop.trust.crypto.jwt import KeySet, OidcClaims, verify_oidc_token

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
AT = int(NOW.timestamp())
ISSUER, AUDIENCE = "https://issuer.example", "outcrop"
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEYS = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}


def jwk(key: Any, **more: str) -> dict[str, Any]:
    maker = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**json.loads(maker.to_jwk(key.public_key())), **more}


KEYS = [jwk(RSA_KEY, kid="rsa"), *(jwk(key, kid=name) for name, key in EC_KEYS.items())]
CLAIMS = {"iss": ISSUER, "sub": "someone", "aud": AUDIENCE, "iat": AT - 10, "exp": AT + 300}


def token(key: Any = RSA_KEY, algorithm: str = "RS256", header: Mapping[str, Any] | None = None, **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}
    headers = {"kid": "rsa"} if header is None else dict(header)
    return jwt.encode(claims, key, algorithm, headers=headers)


def verify(text: str, keys: list[dict[str, Any]] = KEYS, audiences: tuple[str, ...] = (AUDIENCE,)) -> OidcClaims:
    return verify_oidc_token(text, KeySet({"keys": keys}), issuer=ISSUER, audiences=audiences, clock=FakeClock(NOW))


def refused(text: str, keys: list[dict[str, Any]] = KEYS, code: str = "InvalidIdentityToken", **rest: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        verify(text, keys, **rest)
    assert caught.value.code == code
    return caught.value.detail


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"])
def test_a_token_of_the_issuer_is_accepted(algorithm: str):
    key, key_id = (RSA_KEY, "rsa") if algorithm.startswith("R") else (EC_KEYS[algorithm], algorithm)
    claims = verify(token(key, algorithm, {"kid": key_id}, email="a@example"))
    assert (claims.issuer, claims.subject, claims.audiences) == (ISSUER, "someone", (AUDIENCE,))
    assert (claims.issued_at, claims.expires_at) == (AT - 10, AT + 300)
    assert claims.claims["email"] == "a@example"


def test_every_changed_character_is_refused():
    text = token()
    for place in range(0, len(text), 3):
        other = "A" if text[place] != "A" else "B"
        changed = text[:place] + other + text[place + 1 :]
        try:
            accepted = verify(changed)
        except AuthenticationError:
            continue
        # The last character of base64 may have bits that count for nothing.
        assert accepted == verify(text)
        assert place == len(text) - 1
    head, body, signature = text.split(".")
    other_body = token(sub="admin").split(".")[1]
    for changed in (f"{head}.{other_body}.{signature}", f"{head}.{body}.", f"{head}.{body}", "", "...", text + "."):
        refused(changed)


def test_no_signature_is_no_token():
    refused(jwt.encode(CLAIMS, None, "none", headers={"kid": "rsa"}))
    head, body, _ = token().split(".")
    refused(f"{head}.{body}.")


def test_a_public_key_is_no_shared_secret():
    """The classic: sign by HMAC with the issuer's public key as the secret."""
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for algorithm in ("HS256", "HS384", "HS512"):
        refused(token(public * 2, algorithm))
    with pytest.raises(UserError, match="no usable key"):
        KeySet({"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "rsa"}]})


def test_other_algorithms_are_refused():
    assert "algorithm" in refused(token(RSA_KEY, "PS256"))
    assert "algorithm" in refused(token(ec.generate_private_key(ec.SECP256K1()), "ES256K", {"kid": "ES256"}))


def test_the_key_id_chooses_the_key():
    both = [jwk(RSA_KEY, kid="one"), jwk(OTHER_RSA_KEY, kid="two")]
    assert verify(token(OTHER_RSA_KEY, header={"kid": "two"}), both)
    refused(token(OTHER_RSA_KEY, header={"kid": "one"}), both)
    refused(token(OTHER_RSA_KEY, header={"kid": "three"}), both)
    refused(token(OTHER_RSA_KEY, header={}), both)  # without an id, only where one key can be meant
    assert verify(token(OTHER_RSA_KEY, header={}), [jwk(OTHER_RSA_KEY)])
    assert verify(token(RSA_KEY, header={}))
    refused(token(RSA_KEY, header={"kid": "same"}), [jwk(RSA_KEY, kid="same"), jwk(OTHER_RSA_KEY, kid="same")])


def test_keys_in_the_header_are_not_taken():
    refused(token(OTHER_RSA_KEY, header={"kid": "other", "jwk": jwk(OTHER_RSA_KEY, kid="other")}))
    refused(token(OTHER_RSA_KEY, header={"kid": "rsa", "jku": "https://evil.example/keys"}))
    refused(token(header={"kid": "rsa", "crit": ["exp"]}))


@pytest.mark.parametrize(
    "change", [{"use": "enc"}, {"alg": "RS512"}, {"alg": "RSA-OAEP"}, {"key_ops": ["encrypt"]}, {"kty": "EC"}]
)
def test_keys_for_something_else_are_not_taken(change: dict[str, Any]):
    keys = [{**jwk(RSA_KEY, kid="rsa"), **change}, jwk(EC_KEYS["ES256"], kid="other")]
    refused(token(), keys)
    assert verify(token(), [{**jwk(RSA_KEY, kid="rsa"), "use": "sig", "alg": "RS256", "key_ops": ["verify"]}])


def test_weak_and_private_keys_are_not_taken():
    weak = rsa.generate_private_key(65537, 1024)
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY))
    for key in (jwk(weak, kid="rsa"), private, {"kty": "RSA"}, {"kty": "EC", "crv": "P-256"}, {}, None, 7):
        with pytest.raises(UserError, match="no usable key"):
            KeySet({"keys": [key]})  # type: ignore[list-item]
    for document in ({}, {"keys": {}}, {"keys": [jwk(RSA_KEY)] * 101}):
        with pytest.raises(UserError, match="JWKS"):
            KeySet(document)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exp": AT - 60}, "ExpiredTokenException"),
        ({"exp": AT - 10_000}, "ExpiredTokenException"),
        ({"exp": ...}, "InvalidIdentityToken"),
        ({"exp": "soon"}, "InvalidIdentityToken"),
        ({"exp": True}, "InvalidIdentityToken"),
        ({"exp": float("nan")}, "InvalidIdentityToken"),
        ({"exp": 1e300}, "InvalidIdentityToken"),
        ({"exp": -1}, "InvalidIdentityToken"),
        ({"iat": AT + 61}, "InvalidIdentityToken"),
        ({"iat": ...}, "InvalidIdentityToken"),
        ({"nbf": AT + 61}, "InvalidIdentityToken"),
        ({"nbf": None}, "InvalidIdentityToken"),
        ({"iss": "https://issuer.example/"}, "InvalidIdentityToken"),
        ({"iss": ...}, "InvalidIdentityToken"),
        ({"iss": [ISSUER]}, "InvalidIdentityToken"),
        ({"aud": "other"}, "InvalidIdentityToken"),
        ({"aud": []}, "InvalidIdentityToken"),
        ({"aud": ...}, "InvalidIdentityToken"),
        ({"aud": {"outcrop": 1}}, "InvalidIdentityToken"),
        ({"sub": ...}, "InvalidIdentityToken"),
        ({"sub": ""}, "InvalidIdentityToken"),
        ({"sub": 7}, "InvalidIdentityToken"),
    ],
)
def test_claims_that_are_refused(changes: dict[str, Any], code: str):
    if "iss" in changes or changes.get("exp") != changes.get("exp"):
        text = jwt.api_jws.encode(
            json.dumps({name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}).encode(),
            RSA_KEY,
            "RS256",
            headers={"kid": "rsa"},
        )
    else:
        text = token(**changes)
    refused(text, code=code)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": AT - 59},
        {"iat": AT + 60},
        {"nbf": AT + 60},
        {"nbf": AT - 1},
        {"aud": ["x", AUDIENCE]},
        {"exp": AT + 0.5},
    ],
)
def test_claims_that_are_just_accepted(changes: dict[str, Any]):
    assert verify(token(**changes))


def test_one_of_several_audiences_is_enough_and_none_is_not():
    assert verify(token(), audiences=("x", AUDIENCE))
    refused(token(), audiences=("x",))
    refused(token(), audiences=())


def test_what_is_too_long_is_not_looked_at():
    assert "too long" in refused(token(padding="x" * 20_000))
    refused("ä" + token())
    refused("[" * 19_000)
