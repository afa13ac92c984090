"""OpenID Connect tokens, verified offline against a key set that the operator gave.

Nothing is fetched: the keys are those of the given JWKS, never what a token's header points to (``jku``, ``x5u`` and
``jwk`` are ignored, ``crit`` is refused). Only signatures by public keys are accepted (never ``none``, never HMAC,
whose "key" could be a public key), each algorithm only with its kind of key. The algorithms are RS256 to RS512 and
ES256 to ES512, those that AWS STS takes (IAM user guide, "Create an OpenID Connect identity provider").

Not covered: revocation (a token is good until it ends), replay (``jti`` is handed on, not remembered), encrypted
tokens, and whether the key set is still the issuer's: refreshing it is for whoever operates this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from outcrop.base.clock import Clock
from outcrop.base.errors import AuthenticationError, UserError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
TOKEN_CHARACTERS_MAX = 20_000  # AWS STS, AssumeRoleWithWebIdentity: WebIdentityToken
JWKS_KEYS_MAX = 100  # IAM quota: 100 RSA and 100 EC keys in a provider's set
LEEWAY_S = 60
INVALID = "InvalidIdentityToken"
EXPIRED = "ExpiredTokenException"


@dataclass(frozen=True, slots=True)
class OidcClaims:
    """What a verified token says. Times are seconds since 1970; ``claims`` has all of it."""

    issuer: str
    subject: str
    audiences: tuple[str, ...]
    issued_at: float
    expires_at: float
    claims: Mapping[str, Json]


class KeySet:
    """The public signing keys of one issuer."""

    def __init__(self, jwks: Mapping[str, Json]) -> None:
        """Read a JWKS document (RFC 7517). Keys of other kinds and uses are left out; ``UserError`` if all are."""
        entries = jwks.get("keys")
        if not isinstance(entries, list) or len(entries) > JWKS_KEYS_MAX:
            raise UserError("This is not a JWKS document.", f"It is an object with `keys`, at most {JWKS_KEYS_MAX}.")
        self._keys = [key for entry in entries if (key := _Key.of(entry)) is not None]
        if not self._keys:
            raise UserError("The JWKS document has no usable key.", "Give RSA keys from 2048 bits or P-256/384/521.")

    def find(self, algorithm: str, key_id: str | None) -> jwt.PyJWK | None:
        """The one key that fits; ``None`` when none does, or several do."""
        fitting = [
            key for key in self._keys if algorithm in key.algorithms and (key_id is None or key.key_id == key_id)
        ]
        return fitting[0].for_algorithm(algorithm) if len(fitting) == 1 else None


def verify_oidc_token(
    token: str, keys: KeySet, *, issuer: str, audiences: Collection[str], clock: Clock, leeway_s: int = LEEWAY_S
) -> OidcClaims:
    """The claims of ``token`` when ``issuer`` signed it for one of ``audiences`` and it is in force now.

    Raises ``AuthenticationError`` with the codes of AWS STS: ``ExpiredTokenException`` for one that has ended,
    ``InvalidIdentityToken`` for all else; its ``detail`` says what, for the operator's log.
    """
    if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
        raise _invalid("too long, or not ASCII")
    try:
        header = jwt.get_unverified_header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in (*RSA_ALGORITHMS, *CURVES):
            raise _invalid("signed with an algorithm that is not accepted")
        if "crit" in header:
            raise _invalid("critical header parameters")
        key = keys.find(algorithm, key_id if isinstance(key_id, str) else None)
        if key is None:
            raise _invalid("no key of the issuer's set fits, or several do")
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=list(audiences),
            options={
                "require": ["iss", "sub", "aud", "exp", "iat"],
                # The times are compared below, with the injected clock.
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _invalid(type(error).__name__) from None
    return _in_force(claims, clock.now().timestamp(), leeway_s)


@dataclass(frozen=True, slots=True)
class _Key:
    key_id: str | None
    algorithms: tuple[str, ...]
    entry: dict[str, Json]

    @classmethod
    def of(cls, entry: Json) -> _Key | None:
        """The key of ``entry``, or ``None`` for one that does not sign here."""
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") not in ("RSA", "EC"):
            return None
        operations = entry.get("key_ops")
        if operations is not None and not (isinstance(operations, list) and "verify" in operations):
            return None
        try:
            public = jwt.PyJWK(dict(entry), "RS256" if entry["kty"] == "RSA" else None).key
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        if isinstance(public, rsa.RSAPublicKey) and RSA_BITS_MIN <= public.key_size <= RSA_BITS_MAX:
            possible: tuple[str, ...] = RSA_ALGORITHMS
        elif isinstance(public, ec.EllipticCurvePublicKey):
            possible = tuple(name for name, curve in CURVES.items() if curve == public.curve.name)
        else:
            return None  # a private key is no key to verify with either
        stated = entry.get("alg")
        algorithms = possible if stated is None else tuple(name for name in possible if name == stated)
        key_id = entry.get("kid")
        return cls(key_id if isinstance(key_id, str) else None, algorithms, dict(entry)) if algorithms else None

    def for_algorithm(self, algorithm: str) -> jwt.PyJWK:
        return jwt.PyJWK(dict(self.entry), algorithm)


def _in_force(claims: dict[str, Json], now_s: float, leeway_s: int) -> OidcClaims:
    issued_at, expires_at = _time(claims, "iat"), _time(claims, "exp")
    not_before = _time(claims, "nbf") if "nbf" in claims else issued_at
    if now_s >= expires_at + leeway_s:
        raise AuthenticationError(EXPIRED, "The identity token has expired.")
    if now_s < max(issued_at, not_before) - leeway_s:
        raise _invalid("not in force yet")
    issuer, subject, audience = claims["iss"], claims["sub"], claims["aud"]
    audiences = audience if isinstance(audience, list) else [audience]
    if not isinstance(issuer, str) or not isinstance(subject, str) or not subject:
        raise _invalid("issuer or subject is no text")
    return OidcClaims(issuer, subject, tuple(str(each) for each in audiences), issued_at, expires_at, claims)


def _time(claims: Mapping[str, Json], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise _invalid(f"{name} is no time")
    return float(value)


def _invalid(detail: str) -> AuthenticationError:
    return AuthenticationError(INVALID, "The identity token could not be validated.", detail)
