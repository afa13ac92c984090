"""A signer of its own, written from the specification and sharing no code with the verifier it tests."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote

from outcrop.base.arn import account_id
from outcrop.base.clock import FakeClock
from outcrop.trust.identity import Authenticator, MemoryCredentials, SignedRequest, root_credential

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ACCESS_KEY_ID = "AKIAOUTCROPTESTKEY22"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION = "eu-west-1"
CREDENTIAL = root_credential("aws", account_id("123456789012"), ACCESS_KEY_ID, SECRET)


def authenticator(**options) -> Authenticator:
    return Authenticator(MemoryCredentials(CREDENTIAL), REGION, FakeClock(NOW), **options)


def sign(
    method: str = "POST",
    path: str = "/model/m/converse",
    query: str = "",
    headers: dict[str, str] | None = None,
    body: bytes = b'{"messages": []}',
    *,
    unsigned: dict[str, str] | None = None,
    time: datetime = NOW,
    scope_date: str | None = None,
    key_id: str = ACCESS_KEY_ID,
    secret: str = SECRET,
    region: str = REGION,
    service: str = "bedrock",
    terminator: str = "aws4_request",
    expires: str | None = None,
    payload_hash: str | None = None,
    host_as: str = "host",
) -> SignedRequest:
    """A signed request: header form, or presigned when ``expires`` is given. ``unsigned`` headers are added after.

    ``host_as=":authority"`` signs as an HTTP/2 client does, while the server still sees ``host``.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ")
    signed = {host_as: "localhost:8080", **(headers or {})}
    if expires is None:
        signed["x-amz-date"] = stamp
    names = ";".join(sorted(signed))
    scope = f"{scope_date or stamp[:8]}/{region}/{service}/{terminator}"
    pairs = [tuple(pair.partition("=")[::2]) for pair in query.split("&") if pair]
    if expires is not None:
        added = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": quote(f"{key_id}/{scope}", safe=""),
            "X-Amz-Date": stamp,
            "X-Amz-Expires": expires,
            "X-Amz-SignedHeaders": quote(names, safe=""),
        }
        pairs += added.items()
    canonical = "\n".join(
        [
            method,
            quote(path, safe="/~"),
            "&".join(f"{name}={value}" for name, value in sorted(pairs)),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            payload_hash or hashlib.sha256(body).hexdigest(),
        ]
    )
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + secret.encode()
    for part in [*scope.split("/"), text]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    arriving = list(signed.items())
    if expires is None:
        authorization = f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        arriving.append(("authorization", authorization))
    else:
        pairs.append(("X-Amz-Signature", key.hex()))
    arriving += (unsigned or {}).items()
    return SignedRequest(
        method,
        path.encode(),
        "&".join(f"{name}={value}" for name, value in pairs).encode(),
        [(name.replace(":authority", "host").encode(), value.encode()) for name, value in arriving],
        body,
    )


def with_header(request: SignedRequest, name: str, value: str | None) -> SignedRequest:
    """``request`` with the header's first value replaced, or without the header for ``None``."""
    headers = [(key, old) for key, old in request.headers if key != name.encode()]
    if value is not None:
        headers.append((name.encode(), value.encode()))
    return SignedRequest(request.method, request.raw_path, request.raw_query, headers, request.body)


def header(request: SignedRequest, name: str) -> str:
    return dict(request.headers)[name.encode()].decode()
