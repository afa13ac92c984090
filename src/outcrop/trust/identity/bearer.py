"""Bedrock API keys: short-term ones, which are stored nowhere, and long-term ones, which are known by a hash.

A short-term key is ``bedrock-api-key-`` and the base64 of
``bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-…&Version=1``: a POST with an empty body to that fixed host,
signed without ``Version``, so it is verified like any presigned request. It lives 12 hours at most and no longer than
the session that made it, works in the region it was signed for, and dies with the access key that made it. Source:
AWS's aws-bedrock-token-generator 1.1.0 (Apache-2.0), whose keys are accepted unchanged.

A long-term key is a service-specific credential of a user: ``ABSK`` and the base64 of ``NAME-at-ACCOUNT:secret``.

Not covered: revoking one short-term key alone (disable the access key, or revoke its role's sessions), and binding a
key to a client: whoever reads a key can use it.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from urllib.parse import quote_from_bytes

from outcrop.base.errors import AuthenticationError, UserError
from outcrop.trust.identity import refusals, sigv4
from outcrop.trust.identity.canonical import SignedRequest, SigningRules, header_lists, query_pairs
from outcrop.trust.identity.credentials import Credential, CredentialSource, Principal
from outcrop.trust.identity.sessions import Sessions, find_credential

PREFIX = "bedrock-api-key-"
HOST = b"bedrock.amazonaws.com"
SERVICE = "bedrock"
EXPIRES_MAX_S = 43_200  # 12 hours
LONG_TERM_PREFIX = "ABSK"
KEY_LENGTH_MAX = 8192  # characters; a key without session token has about 450, with the longest about 7,300
LONG_TERM_LENGTH_MAX = 1024

_ACTION = (b"Action", b"CallWithBearerToken")
_VERSION = (b"Version", b"1")
_RULES = SigningRules()


def verify(
    key: bytes, credentials: CredentialSource, sessions: Sessions | None, *, region: str, now: datetime, skew_s: int
) -> Principal:
    """The principal that the API key ``key`` stands for, or an ``AuthenticationError``."""
    if key.startswith(LONG_TERM_PREFIX.encode()):
        return _verify_long_term(key, credentials, now)
    query = query_pairs(_unwrap(key))
    if sorted(pair for pair in query if pair[0] in (b"Action", b"Version")) != [_ACTION, _VERSION]:
        raise _not_valid("the key's query must hold Action=CallWithBearerToken and Version=1, once")
    query.remove(_VERSION)
    request = SignedRequest("POST", b"/", b"", [(b"host", HOST)], b"")
    headers = header_lists(request)
    try:
        claim = sigv4.parse_query_claim(headers, query, EXPIRES_MAX_S)
        sigv4.check_scope(claim, region, SERVICE)
        sigv4.check_time(claim, now, skew_s)
        credential = find_credential(claim.access_key_id, claim.session_token, credentials, sessions)
    except AuthenticationError as error:
        if error.what.startswith("Signature expired") or error.code == "ExpiredTokenException":
            raise _expired(f"{error.what} {error.detail}") from None
        raise _not_valid(f"{error.what} {error.detail}") from None
    canonical = sigv4.canonical_of(request, query, headers, claim, _RULES)
    secret = refusals.DUMMY_SECRET if credential is None else credential.secret
    if not sigv4.verify(claim, secret, canonical) or credential is None:
        raise _not_valid(f"unknown access key {claim.access_key_id} or wrong signature")
    ends_at = claim.signed_at + timedelta(seconds=claim.expires_s or 0)
    return credential.principal("bearer", ends_at, "SHORT_TERM")


def _verify_long_term(key: bytes, credentials: CredentialSource, now: datetime) -> Principal:
    text = key.decode("ascii", "replace")
    owner = credentials.lookup_api_key(text) if len(key) <= LONG_TERM_LENGTH_MAX and text.isascii() else None
    if owner is None:
        raise _not_valid("unknown, inactive or wrong long-term API key")
    if owner.token_expires_at is not None and now >= owner.token_expires_at:
        raise _expired(f"long-term API key of {owner.arn}")
    return owner


def mint(credential: Credential, region: str, expires_s: int, now: datetime) -> str:
    """A new short-term API key for ``region`` that works from ``now`` for ``expires_s`` seconds (12 hours at most).

    ``credential`` is a long-term one: the owner of a session makes the session's keys, and has its token.
    """
    if not 1 <= expires_s <= EXPIRES_MAX_S:
        raise UserError(
            f"An API key cannot live {expires_s} s.", f"Choose from 1 to {EXPIRES_MAX_S} seconds (12 hours)."
        )
    timestamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{credential.access_key_id}/{timestamp[:8]}/{region}/{SERVICE}/{sigv4.TERMINATOR}"
    query = [
        _ACTION,
        (b"X-Amz-Algorithm", sigv4.ALGORITHM.encode()),
        (b"X-Amz-Credential", scope.encode()),
        (b"X-Amz-Date", timestamp.encode()),
        (b"X-Amz-Expires", str(expires_s).encode()),
        (b"X-Amz-SignedHeaders", b"host"),
        (b"X-Amz-Signature", b"-"),
    ]
    request = SignedRequest("POST", b"/", b"", [(b"host", HOST)], b"")
    headers = header_lists(request)
    claim = sigv4.parse_query_claim(headers, query, EXPIRES_MAX_S)
    canonical = sigv4.canonical_of(request, query, headers, claim, _RULES)
    query[-1] = (b"X-Amz-Signature", sigv4.signature(claim, credential.secret, canonical).encode())
    text = "&".join(f"{name.decode()}={quote_from_bytes(value, safe='')}" for name, value in [*query, _VERSION])
    return PREFIX + base64.b64encode(HOST + b"/?" + text.encode()).decode()


def _unwrap(key: bytes) -> bytes:
    """The raw query inside an API key. Padding may be absent: shells and config files lose it."""
    if not key.startswith(PREFIX.encode()):
        raise refusals.denied("Invalid API Key format: Must start with pre-defined prefix")
    body = key[len(PREFIX) :].rstrip(b"=")
    if len(key) > KEY_LENGTH_MAX:
        raise _not_valid("the key is too long")
    try:
        text = base64.b64decode(body + b"=" * (-len(body) % 4), validate=True)
    except binascii.Error as error:
        raise _not_valid(f"not base64: {error}") from None
    host, slash, query = text.partition(b"/?")
    if host != HOST or not slash:
        raise _not_valid("the key was not made for " + HOST.decode())
    return query


def _not_valid(detail: str) -> AuthenticationError:
    return refusals.denied("Authentication failed: Please make sure your API Key is valid.", detail)


def _expired(detail: str) -> AuthenticationError:
    return refusals.denied("Bearer Token has expired", detail)
