"""A request as it arrived, and the canonical form of it that Signature Version 4 signs.

Everything works on the bytes received: a path that was decoded on the way can no longer be verified. Source: AWS IAM
User Guide, "Create a signed AWS API request", step "Create a canonical request".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

Query = Sequence[tuple[bytes, bytes]]
Headers = Mapping[bytes, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as the server received it: nothing decoded, nothing normalised. Header names are lower-case."""

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class SigningRules:
    """The choices in which AWS services differ; the defaults are those of every service but S3."""

    double_encode: bool = True  # the path is encoded once more, as received (S3: not)
    normalize_path: bool = True  # empty, "." and ".." segments are resolved first (S3: not)
    sign_session_token: bool = True  # X-Amz-Security-Token is part of a signed query (AWS IoT: not)


def header_lists(request: SignedRequest) -> dict[bytes, list[bytes]]:
    """The headers by name, the values of each in order of arrival."""
    lists: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        lists.setdefault(name, []).append(value)
    return lists


def query_pairs(raw_query: bytes) -> list[tuple[bytes, bytes]]:
    """The query's names and values, percent-decoded once; ``+`` stands for itself, as in all AWS requests."""
    if not raw_query:
        return []
    pairs = (pair.partition(b"=") for pair in raw_query.split(b"&") if pair)
    return [(unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs]


def is_normal(raw_path: bytes) -> bool:
    """Whether the path starts with ``/`` and has no empty, ``.`` or ``..`` segment (a ``/`` at its end is fine)."""
    return raw_path.startswith(b"/") and normalized(raw_path) == raw_path


def normalized(raw_path: bytes) -> bytes:
    """The path with its dot segments resolved and its empty segments dropped, exactly as the AWS SDKs do it.

    (RFC 3986 would end ``/a/b/..`` in a slash; botocore and the JavaScript SDK do not.)
    """
    if b"//" not in raw_path and b"/." not in raw_path:
        return raw_path or b"/"
    kept: list[bytes] = []
    for segment in raw_path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return b"/" + b"/".join(kept) + (b"/" if kept and raw_path.endswith(b"/") else b"")


def canonical_request(
    request: SignedRequest,
    query: Query,
    headers: Headers,
    *,
    signed_headers: Sequence[str],
    payload_hash: str,
    rules: SigningRules,
) -> bytes:
    """The canonical request; ``query`` comes decoded and without the signature, ``headers`` hold every signed name."""
    lines = [request.method, _path(request.raw_path, rules), _query(query)]
    for name in signed_headers:
        # An HTTP/2 client signs the pseudo-header that the server sees as Host.
        values = headers[b"host" if name == ":authority" else name.encode("latin-1")]
        lines.append(f"{name}:{b','.join(b' '.join(value.split()) for value in values).decode('latin-1')}")
    lines += ["", ";".join(signed_headers), payload_hash]
    return "\n".join(lines).encode("latin-1")


def _path(raw_path: bytes, rules: SigningRules) -> str:
    path = normalized(raw_path) if rules.normalize_path else raw_path
    if not rules.double_encode:
        path = unquote_to_bytes(path)
    return quote_from_bytes(path, safe="/")


def _query(query: Query) -> str:
    if not query:
        return ""
    encoded = sorted((quote_from_bytes(name, safe=""), quote_from_bytes(value, safe="")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in encoded)
