"""Signature Version 4, header and query (presigned) form: one strict parser, one verifier, both pure functions.

``parse_claim`` turns a request into what its signature claims; ``check_scope`` and ``check_time`` hold the claim
against this listener and the clock; ``signature`` computes what the sender's secret would have signed. Routing must
use the same ``Claim``: two readers of one credential disagree sooner or later. Source: AWS IAM User Guide, "AWS
Signature Version 4 for API requests"; error texts are those AWS services answer with.

Not covered: chunked and event-stream signatures (STREAMING-…), SigV4A, unsigned payloads, the ``Date`` header in place
of ``x-amz-date``; and replay, which ``replay.ReplayCache`` can stop: without it a captured request is valid for the
whole skew window, as it is at AWS.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

from outcrop.trust.crypto import constant_time_equal, hmac_sha256_hex, sha256_hex, sigv4_signing_key
from outcrop.trust.identity import refusals
from outcrop.trust.identity.canonical import Headers, Query, SignedRequest, SigningRules, canonical_request

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
PRESIGNED_EXPIRES_MAX_S = 604_800  # a week
SIGNED_HEADERS_MAX = 100

# What may carry an x-amz name and yet stay unsigned: a session token authenticates itself (some signers add it after
# signing), and every SDK leaves the trace id out because proxies set it.
UNSIGNED_ALLOWED = frozenset({b"x-amz-security-token", b"x-amzn-trace-id"})

_TIMESTAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z", re.ASCII)
_HEADER_NAME = re.compile(r":authority|[a-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_QUERY_PARTS = frozenset(
    {
        b"X-Amz-Algorithm",
        b"X-Amz-Credential",
        b"X-Amz-Date",
        b"X-Amz-Expires",
        b"X-Amz-SignedHeaders",
        b"X-Amz-Signature",
        b"X-Amz-Security-Token",
    }
)
_QUERY_PARTS_LOWER = frozenset(name.lower() for name in _QUERY_PARTS)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request's signature says of itself; nothing of it is proven yet."""

    form: Literal["sigv4", "sigv4-query"]
    access_key_id: str
    date: str  # YYYYMMDD, from the credential scope
    region: str
    service: str
    timestamp: str  # YYYYMMDDTHHMMSSZ, as sent
    signed_at: datetime
    expires_s: int | None  # presigned requests only
    signed_headers: tuple[str, ...]
    signature: str
    session_token: str | None = field(repr=False)
    """What came as X-Amz-Security-Token, in the place that the form of the signature has for it or as a header."""


def has_query_signature(query: Query) -> bool:
    """Whether the query carries any part of a signature, however its name is capitalised."""
    return any(name.lower() in _QUERY_PARTS_LOWER for name, _ in query)


def parse_header_claim(headers: Headers, authorization: bytes) -> Claim:
    """The claim of an ``Authorization: AWS4-HMAC-SHA256 …`` header, or an ``AuthenticationError``."""
    scheme, _, rest = _ascii(authorization, "The Authorization header").partition(" ")
    if scheme != ALGORITHM:
        raise refusals.incomplete(f"Unsupported authorization type: use {ALGORITHM}, or Bearer with a Bedrock API key.")
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip(" ").partition("=")
        if not equals or name not in ("Credential", "SignedHeaders", "Signature") or name in parts:
            raise refusals.incomplete("The Authorization header must hold Credential, SignedHeaders, Signature, once.")
        parts[name] = value
    absent = [name for name in ("Credential", "Signature", "SignedHeaders") if not parts.get(name)]
    if absent:
        raise refusals.incomplete(" ".join(f"Authorization header requires '{name}' parameter." for name in absent))
    timestamp = _one(headers, b"x-amz-date", "An 'X-Amz-Date' header")
    claim = _claim(
        "sigv4",
        credential=parts["Credential"],
        timestamp=timestamp,
        expires_s=None,
        signed_headers=parts["SignedHeaders"],
        signature_hex=parts["Signature"],
        session_token=_session_token(headers),
    )
    _check_signed_headers(claim, headers)
    return claim


def parse_query_claim(headers: Headers, query: Query, expires_max_s: int = PRESIGNED_EXPIRES_MAX_S) -> Claim:
    """The claim of a presigned request, or an ``AuthenticationError``."""
    parts: dict[bytes, str] = {}
    for name, value in query:
        if name.lower() not in _QUERY_PARTS_LOWER:
            continue
        if name not in _QUERY_PARTS or name in parts:
            raise refusals.incomplete(f"The query parameter {name.decode('latin-1')!r} is doubled or misspelt.")
        parts[name] = _ascii(value, f"The query parameter {name.decode('latin-1')!r}")
    absent = sorted(_QUERY_PARTS - {b"X-Amz-Security-Token"} - parts.keys())
    if absent:
        raise refusals.incomplete("AWS query-string parameters must include " + ", ".join(map(bytes.decode, absent)))
    if parts[b"X-Amz-Algorithm"] != ALGORITHM:
        raise refusals.incomplete(f"X-Amz-Algorithm must be {ALGORITHM}.")
    expires = parts[b"X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", expires, re.ASCII) or not 1 <= int(expires) <= expires_max_s:
        raise refusals.incomplete(f"X-Amz-Expires must be a number of seconds from 1 to {expires_max_s}.")
    in_query = parts.get(b"X-Amz-Security-Token")
    in_header = _session_token(headers)
    if in_query is not None and in_header is not None:
        raise refusals.incomplete("X-Amz-Security-Token must be in the query or in a header, not in both.")
    claim = _claim(
        "sigv4-query",
        credential=parts[b"X-Amz-Credential"],
        timestamp=parts[b"X-Amz-Date"],
        expires_s=int(expires),
        signed_headers=parts[b"X-Amz-SignedHeaders"],
        signature_hex=parts[b"X-Amz-Signature"],
        session_token=in_header if in_query is None else in_query,
    )
    _check_signed_headers(claim, headers)
    return claim


def check_scope(claim: Claim, region: str, *services: str) -> None:
    """Refuse a signature made for another day than its own date, another region or none of ``services``."""
    if claim.date != claim.timestamp[:8]:
        raise refusals.invalid(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{claim.date}' != '{claim.timestamp[:8]}', from '{claim.timestamp}'."
        )
    if claim.region != region:
        raise refusals.invalid(f"Credential should be scoped to a valid region, not '{claim.region}'.")
    if claim.service not in services:
        raise refusals.invalid(f"Credential should be scoped to correct service: '{services[0]}'.")


def check_time(claim: Claim, now: datetime, max_skew_s: int) -> None:
    """Refuse a signature from the future, or one that is too old: the skew for headers, its expiry if presigned."""
    skew = timedelta(seconds=max_skew_s)
    if claim.signed_at > now + skew:
        raise refusals.invalid(
            f"Signature not yet current: {claim.timestamp} is still later than {_compact(now + skew)} "
            f"({_compact(now)} + {_span(max_skew_s)}.)"
        )
    if claim.expires_s is None:
        if claim.signed_at < now - skew:
            raise refusals.invalid(
                f"Signature expired: {claim.timestamp} is now earlier than {_compact(now - skew)} "
                f"({_compact(now)} - {_span(max_skew_s)}.)"
            )
    elif now > claim.signed_at + timedelta(seconds=claim.expires_s):
        end = claim.signed_at + timedelta(seconds=claim.expires_s)
        raise refusals.invalid(
            f"Signature expired: {_compact(end)} is now earlier than {_compact(now)} "
            f"({claim.timestamp} + {claim.expires_s} s.)"
        )


def payload_hash(headers: Headers, body: bytes) -> str:
    """SHA-256 of the exact ``body``; a stated ``x-amz-content-sha256`` must agree with it.

    Bedrock takes no unsigned payloads over the header form, and neither does anything here.
    """
    actual = sha256_hex(body)
    stated = headers.get(b"x-amz-content-sha256")
    if stated is not None and (len(stated) != 1 or not constant_time_equal(stated[0], actual.encode())):
        raise refusals.invalid(
            "The value of x-amz-content-sha256 is not the SHA-256 of the body received. Unsigned and streaming "
            "payload signatures are not supported here."
        )
    return actual


def canonical_of(request: SignedRequest, query: Query, headers: Headers, claim: Claim, rules: SigningRules) -> bytes:
    """The canonical request that ``claim`` says was signed. ``query`` and ``headers`` are those of ``request``."""
    if claim.form == "sigv4-query":
        unsigned = {b"X-Amz-Signature"} if rules.sign_session_token else {b"X-Amz-Signature", b"X-Amz-Security-Token"}
        query = [(name, value) for name, value in query if name not in unsigned]
    return canonical_request(
        request,
        query,
        headers,
        signed_headers=claim.signed_headers,
        payload_hash=payload_hash(headers, request.body),
        rules=rules,
    )


def signature(claim: Claim, secret: str, canonical: bytes) -> str:
    """The signature that ``secret`` makes over ``canonical`` at the claim's time and scope, in lower-case hex."""
    scope = f"{claim.date}/{claim.region}/{claim.service}/{TERMINATOR}"
    text = f"{ALGORITHM}\n{claim.timestamp}\n{scope}\n{sha256_hex(canonical)}"
    return hmac_sha256_hex(sigv4_signing_key(secret, claim.date, claim.region, claim.service), text.encode())


def verify(claim: Claim, secret: str, canonical: bytes) -> bool:
    """Whether the claimed signature is that of ``secret``, compared in constant time."""
    return constant_time_equal(signature(claim, secret, canonical).encode(), claim.signature.encode())


def parse_timestamp(text: str) -> datetime:
    """``YYYYMMDDTHHMMSSZ`` as a time, or an ``AuthenticationError``."""
    match = _TIMESTAMP.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        year, month, day, hour, minute, second = map(int, match.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise refusals.incomplete(
            f"Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ) from None


def _claim(
    form: Literal["sigv4", "sigv4-query"],
    *,
    credential: str,
    timestamp: str,
    expires_s: int | None,
    signed_headers: str,
    signature_hex: str,
    session_token: str | None,
) -> Claim:
    scope = credential.split("/")
    if len(scope) != 5 or not all(scope):
        raise refusals.incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential}'"
        )
    access_key_id, date, region, service, terminator = scope
    if terminator != TERMINATOR:
        raise refusals.invalid(
            f"Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'."
        )
    return Claim(
        form,
        access_key_id,
        date,
        region,
        service,
        timestamp,
        parse_timestamp(timestamp),
        expires_s,
        _signed_header_names(signed_headers),
        signature_hex,
        session_token,
    )


def _signed_header_names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(";"))
    if len(names) > SIGNED_HEADERS_MAX or not all(map(_HEADER_NAME.fullmatch, names)):
        raise refusals.incomplete("SignedHeaders must name headers in lower case, separated by ';'.")
    if any(left >= right for left, right in pairwise(names)):
        raise refusals.incomplete("SignedHeaders must be sorted and name each header once.")
    return names


def _check_signed_headers(claim: Claim, headers: Headers) -> None:
    """Refuse a signature that leaves out what it must cover, or covers what is not there."""
    signed = {name.encode() for name in claim.signed_headers}
    if b":authority" in signed:
        signed = (signed - {b":authority"}) | {b"host"}
    if b"host" not in signed:
        raise refusals.incomplete("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    if claim.form == "sigv4" and b"x-amz-date" not in signed:
        raise refusals.incomplete("'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization.")
    _one(headers, b"host", "A 'Host' header")
    unsigned = [name for name in headers if name.startswith(b"x-amz") and name not in signed]
    for name in unsigned:
        if name not in UNSIGNED_ALLOWED:
            raise refusals.incomplete(f"'{name.decode('latin-1')}' must be a 'SignedHeader' in the AWS Authorization.")
    gone = sorted(signed - headers.keys())
    if gone:
        raise refusals.mismatch("signed headers did not arrive: " + ", ".join(map(bytes.decode, gone)))


def _session_token(headers: Headers) -> str | None:
    if b"x-amz-security-token" not in headers:
        return None
    return _one(headers, b"x-amz-security-token", "An 'X-Amz-Security-Token' header")


def _one(headers: Headers, name: bytes, what: str) -> str:
    values: Sequence[bytes] = headers.get(name, ())
    if len(values) != 1:
        raise refusals.incomplete(f"{what} must be there exactly once; it came {len(values)} times.")
    return _ascii(values[0], what)


def _ascii(value: bytes, what: str) -> str:
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        text = "\x00"
    if not text.isprintable():
        raise refusals.incomplete(f"{what} must be printable ASCII.")
    return text


def _compact(time: datetime) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ")


def _span(seconds: int) -> str:
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"
