"""Requests whose proof of sender must not hold: more than a hundred forged, altered, stale and misplaced signatures.

``forgeries`` starts from one request that would be accepted and yields variants that must each be refused, with any
error of the 400 family and without an effect. The signer here is written from the specification (AWS IAM User Guide,
"Create a signed AWS API request") and shares nothing with the verifier but the hash functions.

Not covered: proofs that need another secret than the attacker's own (the verifier's constant time, a stolen key), and
what servers and proxies do to a request before it is verified.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from outcrop.trust.crypto import hmac_sha256, sha256_hex
from outcrop.trust.identity import SignedRequest

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_S = 300
KEY_PREFIX = "bedrock-api-key-"
KEY_HOST = "bedrock.amazonaws.com"
BAD_SIGNATURE = "0" * 64


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials to sign with; ``session_token`` is empty for long-term ones. The ``repr`` has no secret."""

    access_key_id: str
    secret: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """A request that would be answered if it were signed well. ``host`` is the Host header's value."""

    host: str
    path: str
    region: str
    service: str
    body: bytes = b"{}"
    method: str = "POST"
    content_type: str = "application/json"


class Forgery(NamedTuple):
    """One request to be refused, and what it tries."""

    name: str
    request: SignedRequest


def sign(
    target: Target,
    keys: Keys,
    now: datetime,
    *,
    expires: str | None = None,
    query: Sequence[tuple[str, str]] = (),
    scope_date: str | None = None,
    terminator: str = "aws4_request",
    algorithm: str = ALGORITHM,
    payload_hash: str | None = None,
    more: Sequence[tuple[str, str]] = (),
    leave_out: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> SignedRequest:
    """``target`` signed: in the header form, or presigned where ``expires`` is given.

    ``more`` are further signed headers, ``leave_out`` names headers that are sent and not signed, ``absent`` names
    that are said to be signed and not sent.
    """
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{scope_date or stamp[:8]}/{target.region}/{target.service}/{terminator}"
    headers = {"host": target.host, "content-type": target.content_type, **dict(more)}
    if expires is None:
        headers["x-amz-date"] = stamp
        if keys.session_token:
            headers["x-amz-security-token"] = keys.session_token
    covered = {**{name: value for name, value in headers.items() if name not in leave_out}, **dict.fromkeys(absent, "")}
    names = ";".join(sorted(covered))
    pairs = list(query)
    if expires is not None:
        pairs += [
            ("X-Amz-Algorithm", algorithm),
            ("X-Amz-Credential", f"{keys.access_key_id}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", expires),
            ("X-Amz-SignedHeaders", names),
            *([("X-Amz-Security-Token", keys.session_token)] if keys.session_token else []),
        ]
    canonical = "\n".join(
        [
            target.method,
            quote(target.path, safe="/"),
            _query(sorted(pairs)),
            *(f"{name}:{covered[name]}" for name in sorted(covered)),
            "",
            names,
            payload_hash or sha256_hex(target.body),
        ]
    )
    key = f"AWS4{keys.secret}".encode()
    for part in (*scope.split("/"), f"{algorithm}\n{stamp}\n{scope}\n{sha256_hex(canonical.encode())}"):
        key = hmac_sha256(key, part.encode())
    if expires is None:
        headers["authorization"] = (
            f"{algorithm} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        )
    else:
        pairs.append(("X-Amz-Signature", key.hex()))
    arriving = [(name.encode(), value.encode()) for name, value in headers.items()]
    return SignedRequest(target.method, target.path.encode(), _query(pairs).encode(), arriving, target.body)


def forgeries(target: Target, keys: Keys, now: datetime, *, bearer: bool = False) -> Iterator[Forgery]:
    """Every variant, for a target that ``keys`` may reach; ``bearer`` adds API keys where the target takes them.

    ``now`` is the target's time. With a session's keys there are variants of its token as well.
    """
    plain, presigned = sign(target, keys, now), sign(target, keys, now, expires="300")
    for form, good in (("header", plain), ("query", presigned)):
        for name, request in _altered(good):
            yield Forgery(f"{form}: {name}", request)
    for name, request in _authorizations(plain):
        yield Forgery(f"header: {name}", request)
    for name, request in _queries(presigned):
        yield Forgery(f"query: {name}", request)
    for form, expires in (("header", None), ("query", "300")):
        for name, request in _signed_wrongly(target, keys, now, expires):
            yield Forgery(f"{form}: {name}", request)
    for name, request in _stale(target, keys, now):
        yield Forgery(name, request)
    for name, request in _doubled(plain, presigned):
        yield Forgery(name, request)
    for name, request in _tokens(target, keys, now):
        yield Forgery(f"session: {name}", request)
    if bearer:
        for name, request in _api_keys(target, keys, now):
            yield Forgery(f"bearer: {name}", request)


_Named = tuple[str, SignedRequest]


def _altered(good: SignedRequest) -> Iterator[_Named]:
    """What was signed, changed on the way."""
    path = good.raw_path
    letter = next(index for index, byte in enumerate(path) if chr(byte).isalpha())
    for name, raw_path in (
        ("a letter of the path percent-encoded", path[:letter] + b"%%%02X" % path[letter] + path[letter + 1 :]),
        ("a segment appended", path + b"/x"),
        ("a slash appended", path.rstrip(b"/") + b"/"),
        ("a doubled slash", b"/" + path),
        ("a dot segment", b"/." + path),
        ("a segment that is taken back", b"/x/.." + path),
        ("another case of the path", path.swapcase()),
        ("a null byte in the path", path + b"%00"),
    ):
        if raw_path != path:
            yield name, replace(good, raw_path=raw_path)
    for method in ("GET", "PUT", "DELETE", "post"):
        if method != good.method:
            yield f"method {method}", replace(good, method=method)
    joined = good.raw_query + (b"&" if good.raw_query else b"")
    yield "a query parameter added", replace(good, raw_query=joined + b"x=1")
    yield "an empty query parameter added", replace(good, raw_query=joined + b"x")
    for name, body in (
        ("the body emptied", b""),
        ("a byte appended to the body", good.body + b" "),
        ("the last byte of the body cut", good.body[:-1]),
        ("a bit of the body flipped", bytes([good.body[0] ^ 1]) + good.body[1:] if good.body else b"\1"),
    ):
        if body != good.body:
            yield name, replace(good, body=body)
    yield "another host", _with(good, "host", "attacker.example.org")
    yield "the host left out", _without(good, "host")
    yield "two hosts", _plus(good, "host", "attacker.example.org")
    yield "another content type", _with(good, "content-type", "text/plain")
    yield "the content type left out", _without(good, "content-type")
    yield "an unsigned x-amz header", _plus(good, "x-amz-target", "Service.DeleteEverything")
    yield "an unsigned guardrail header", _plus(good, "x-amzn-bedrock-guardrailidentifier", "none")
    yield "the hash of another body stated", _plus(good, "x-amz-content-sha256", sha256_hex(b"another"))


def _authorizations(good: SignedRequest) -> Iterator[_Named]:
    """Altered ``Authorization`` headers."""
    value = _header(good, "authorization")
    head, _, signature = value.rpartition("Signature=")
    key_id = value.partition("Credential=")[2].partition("/")[0]
    signed = value.partition("SignedHeaders=")[2].partition(",")[0]
    date = _header(good, "x-amz-date")
    for name, changed in (
        *_signatures(lambda text: f"{head}Signature={text}", signature),
        ("no signature", head.rstrip(", ")),
        ("two signatures", f"{value}, Signature={signature}"),
        ("a further part", f"{value}, Extra=1"),
        ("no credential", value.replace("Credential=", "Credentials=")),
        ("another key id", value.replace(key_id, _changed(key_id))),
        ("the key id in lower case", value.replace(key_id, key_id.lower())),
        ("the key id with a space", value.replace(key_id, key_id + " ")),
        ("a scope of four parts", value.replace("/aws4_request", "")),
        ("a scope of six parts", value.replace("/aws4_request", "/x/aws4_request")),
        ("another terminator", value.replace("/aws4_request", "/aws5_request")),
        ("another day in the scope", value.replace(f"/{date[:8]}/", "/20000101/")),
        ("another algorithm", value.replace(ALGORITHM, "AWS4-HMAC-SHA512", 1)),
        ("the asymmetric algorithm", value.replace(ALGORITHM, "AWS4-ECDSA-P256-SHA256", 1)),
        ("version 2 of the scheme", f"AWS {key_id}:{signature}"),
        ("basic authentication", "Basic " + base64.b64encode(f"{key_id}:x".encode()).decode()),
        ("an empty header", ""),
        ("no signed headers", value.replace(f"SignedHeaders={signed}", "SignedHeaders=")),
        ("host not among the signed headers", value.replace("host;", "")),
        ("the date not among the signed headers", value.replace(";x-amz-date", "")),
        ("signed headers out of order", value.replace(signed, ";".join(reversed(signed.split(";"))))),
        ("a signed header named twice", value.replace("host;", "host;host;")),
        ("signed headers in upper case", value.replace(signed, signed.upper())),
        ("a signed header that did not arrive", value.replace(signed, signed + ";x-never-sent")),
    ):
        yield name, _with(good, "authorization", changed)
    yield "the authorization left out", _without(good, "authorization")
    yield "the date one second later", _with(good, "x-amz-date", date[:-2] + ("1Z" if date[-2] != "1" else "2Z"))
    yield "the date left out", _without(good, "x-amz-date")
    yield "two dates", _plus(good, "x-amz-date", date)
    yield "a date in another form", _with(good, "x-amz-date", "Sun, 06 Nov 1994 08:49:37 GMT")


def _queries(good: SignedRequest) -> Iterator[_Named]:
    """Altered query signatures."""
    pairs = [_pair(part) for part in good.raw_query.decode().split("&")]
    values = dict(pairs)

    def changed(name: str, value: str | None) -> SignedRequest:
        kept = [(key, old if key != name else value) for key, old in pairs]
        return _asking(good, [(key, each) for key, each in kept if each is not None])

    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        full = f"X-Amz-{name}"
        yield f"{full} left out", changed(full, None)
        yield f"{full} twice", _asking(good, [*pairs, (full, values[full])])
        yield f"{full} in lower case", _asking(good, [(k.lower() if k == full else k, v) for k, v in pairs])
    signature = values["X-Amz-Signature"]
    for name, text in _signatures(lambda text: text, signature):
        yield name, changed("X-Amz-Signature", text)
    for expires in ("604800", "1", "+300", "3e2", " 300", "-1"):
        yield f"expiry changed to {expires!r}", changed("X-Amz-Expires", expires)
    yield "another key id", changed("X-Amz-Credential", _changed(values["X-Amz-Credential"]))
    yield "another algorithm", changed("X-Amz-Algorithm", "none")
    yield "host not among the signed headers", changed("X-Amz-SignedHeaders", "content-type")


def _signed_wrongly(target: Target, keys: Keys, now: datetime, expires: str | None) -> Iterator[_Named]:
    """Consistent signatures over the wrong thing, or by the wrong secret."""
    for name, secret in (("wrong", _changed(keys.secret)), ("empty", ""), ("key id as the", keys.access_key_id)):
        yield f"{name} secret", sign(target, replace(keys, secret=secret), now, expires=expires)
    unknown = replace(keys, access_key_id=keys.access_key_id[:4] + "UNKNOWNUNKNOWN22")
    yield "an unknown key", sign(target, unknown, now, expires=expires)
    region = "us-east-2" if target.region != "us-east-2" else "us-west-2"
    yield "another region", sign(replace(target, region=region), keys, now, expires=expires)
    yield "no region", sign(replace(target, region=""), keys, now, expires=expires)
    for service in ("s3", "execute-api", target.service.upper()):
        yield f"service {service}", sign(replace(target, service=service), keys, now, expires=expires)
    yield "signed for another terminator", sign(target, keys, now, expires=expires, terminator="aws4")
    yesterday = (now - timedelta(days=1)).strftime("%Y%m%d")
    yield "yesterday's scope", sign(target, keys, now, expires=expires, scope_date=yesterday)
    for stated in ("UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", sha256_hex(b"another body")):
        more = [("x-amz-content-sha256", stated)]
        yield f"payload {stated[:16]}", sign(target, keys, now, expires=expires, payload_hash=stated, more=more)
    yield "host not signed", sign(target, keys, now, expires=expires, leave_out=["host"])
    yield "a header signed that is not sent", sign(target, keys, now, expires=expires, absent=["x-never-sent"])
    yield (
        "an x-amz header not signed",
        sign(target, keys, now, expires=expires, more=[("x-amz-meta", "1")], leave_out=["x-amz-meta"]),
    )


def _stale(target: Target, keys: Keys, now: datetime) -> Iterator[_Named]:
    """Signatures of another time."""
    for name, shift_s in (
        ("just too old", -SKEW_S - 2),
        ("a day old", -86_400),
        ("just too early", SKEW_S + 30),  # spare time for a target whose clock is not quite ours
        ("a day early", 86_400),
    ):
        yield f"header: {name}", sign(target, keys, now + timedelta(seconds=shift_s))
    yield "query: ended", sign(target, keys, now - timedelta(seconds=62), expires="60")
    yield "query: ended within the skew of a header", sign(target, keys, now - timedelta(seconds=3), expires="1")
    yield "query: just too early", sign(target, keys, now + timedelta(seconds=SKEW_S + 30), expires="60")
    yield "query: longer than a week", sign(target, keys, now, expires="604801")
    yield "query: no time at all", sign(target, keys, now, expires="0")


def _doubled(plain: SignedRequest, presigned: SignedRequest) -> Iterator[_Named]:
    """Several proofs at once: a reader of one and a believer of the other would differ."""
    authorization = _header(plain, "authorization")
    yield "two authorization headers", _plus(plain, "authorization", authorization)
    yield "a signature and a bearer key", _plus(plain, "authorization", f"Bearer {KEY_PREFIX}x")
    yield "a signature and an x-api-key", _plus(plain, "x-api-key", f"{KEY_PREFIX}x")
    yield "two x-api-keys", _plus(_plus(_without(plain, "authorization"), "x-api-key", "a"), "x-api-key", "b")
    yield "a header and a query signature", replace(plain, raw_query=presigned.raw_query)
    yield "a header signature and one word of a query's", replace(plain, raw_query=b"x-amz-signature=0")


def _tokens(target: Target, keys: Keys, now: datetime) -> Iterator[_Named]:
    """Session tokens that do not belong to the key, or are not what was issued."""
    for form, expires in (("header", None), ("query", "300")):
        name = "x-amz-security-token"
        if not keys.session_token:
            yield (
                f"{form}: a token with a long-term key",
                sign(target, replace(keys, session_token="AQ" + "A" * 200), now, expires=expires),
            )
            yield (
                f"{form}: a token with a long-term key, added after signing",
                _plus(sign(target, keys, now, expires=expires), name, "AQ" + "A" * 200),
            )
            continue
        token = keys.session_token
        yield f"{form}: no token", sign(target, replace(keys, session_token=""), now, expires=expires)
        middle = len(token) // 2
        for what, other in (
            ("first character changed", _changed(token[0]) + token[1:]),
            ("middle character changed", token[:middle] + _changed(token[middle]) + token[middle + 1 :]),
            ("last character changed", token[:-1] + _changed(token[-1])),
            ("cut", token[:-4]),
            ("continued", token + "AAAA"),
            ("padded", token + "="),
            ("of zeros", "A" * len(token)),
        ):
            yield f"{form}: token {what}", sign(target, replace(keys, session_token=other), now, expires=expires)
        good = sign(target, keys, now, expires=expires)
        yield f"{form}: two tokens", _plus(good, name, token)
    if keys.session_token:
        plain = sign(target, keys, now)
        yield "header: token removed after signing", _without(plain, "x-amz-security-token")
        yield (
            "header: token in the query",
            replace(
                _without(plain, "x-amz-security-token"), raw_query=f"X-Amz-Security-Token={keys.session_token}".encode()
            ),
        )
        long_term = replace(keys, access_key_id="AKIA" + keys.access_key_id[4:])
        yield "header: a long-term key id with the session's token", sign(target, long_term, now)


def _api_keys(target: Target, keys: Keys, now: datetime) -> Iterator[_Named]:
    """API keys: presigned requests of a defined form, in base64."""
    inner = Target(KEY_HOST, "/", target.region, "bedrock", b"")
    call = [("Action", "CallWithBearerToken")]

    def key(
        request: SignedRequest, version: str = "&Version=1", host: str = KEY_HOST, prefix: str = KEY_PREFIX
    ) -> SignedRequest:
        text = f"{host}/?{request.raw_query.decode()}{version}"
        return _bearing(target, prefix + base64.b64encode(text.encode()).decode())

    def signed(to: Target = inner, by: Keys = keys, at: datetime = now, expires: str = "3600") -> SignedRequest:
        return sign(to, by, at, expires=expires, query=call, leave_out=["content-type"])

    good = signed()
    yield "no version", key(good, version="")
    yield "another version", key(good, version="&Version=2")
    yield "two versions", key(good, version="&Version=1&Version=1")
    yield "another host inside", key(good, host="attacker.example.org")
    yield "another prefix", key(good, prefix="bedrock-api-kez-")
    yield "no prefix", key(good, prefix="")
    yield "another action", key(sign(inner, keys, now, expires="60", query=[("Action", "Other")]))
    yield "no action", key(sign(inner, keys, now, expires="60"))
    yield "a parameter added", key(good, version="&x=1&Version=1")
    for name, to in (
        ("another method", replace(inner, method="GET")),
        ("another path", replace(inner, path="/x")),
        ("a body", replace(inner, body=b"x")),
        ("another host signed", replace(inner, host=target.host)),
        ("another region", replace(inner, region="us-east-2" if target.region != "us-east-2" else "us-west-2")),
        ("another service", replace(inner, service="s3")),
    ):
        yield name, key(signed(to))
    yield "a wrong secret", key(signed(by=replace(keys, secret=_changed(keys.secret))))
    yield "an unknown access key", key(signed(by=replace(keys, access_key_id="AKIAUNKNOWNUNKNOWN22")))
    yield "ended", key(signed(at=now - timedelta(seconds=3602)))
    yield "from the future", key(signed(at=now + timedelta(seconds=SKEW_S + 30)))
    yield "longer than twelve hours", key(signed(expires="43201"))
    yield (
        "a signature changed",
        key(replace(good, raw_query=good.raw_query[:-1] + _changed(chr(good.raw_query[-1])).encode())),
    )
    for name, text in (
        ("an empty key", ""),
        ("a key of nothing", KEY_PREFIX),
        ("a key that is no base64", KEY_PREFIX + "!!!"),
        ("a long-term key made up", "ABSK" + base64.b64encode(b"root-at-123456789012:secret").decode()),
        ("a long-term key of nothing", "ABSK"),
        ("the secret itself", keys.secret),
        ("a very long key", KEY_PREFIX + "A" * 20_000),
    ):
        yield name, _bearing(target, text)


def _signatures(wrap: Callable[[str], str], signature: str) -> list[tuple[str, str]]:
    return [
        ("the signature's first digit changed", wrap(_changed(signature[0]) + signature[1:])),
        ("the signature's last digit changed", wrap(signature[:-1] + _changed(signature[-1]))),
        ("a signature of zeros", wrap(BAD_SIGNATURE)),
        ("the signature cut", wrap(signature[:-1])),
        ("the signature continued", wrap(signature + "0")),
        ("the signature in upper case", wrap(signature.upper() if signature.upper() != signature else BAD_SIGNATURE)),
        ("an empty signature", wrap("")),
    ]


def _changed(text: str) -> str:
    """``text`` with its first character changed to another of the same kind."""
    first = text[0]
    return ("1" if first == "0" else "0" if first.isdigit() else "b" if first in "aA" else "a") + text[1:]


def _bearing(target: Target, key: str) -> SignedRequest:
    headers = [(b"host", target.host.encode()), (b"content-type", target.content_type.encode())]
    headers.append((b"authorization", b"Bearer " + key.encode()))
    return SignedRequest(target.method, target.path.encode(), b"", headers, target.body)


def _asking(request: SignedRequest, pairs: Sequence[tuple[str, str]]) -> SignedRequest:
    return replace(request, raw_query=_query(pairs).encode())


def _query(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def _pair(part: str) -> tuple[str, str]:
    name, _, value = part.partition("=")
    return unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()


def _header(request: SignedRequest, name: str) -> str:
    return dict(request.headers)[name.encode()].decode()


def _with(request: SignedRequest, name: str, value: str) -> SignedRequest:
    wanted = name.encode()
    return replace(request, headers=[(key, value.encode() if key == wanted else old) for key, old in request.headers])


def _without(request: SignedRequest, name: str) -> SignedRequest:
    return replace(request, headers=[(key, old) for key, old in request.headers if key != name.encode()])


def _plus(request: SignedRequest, name: str, value: str) -> SignedRequest:
    return replace(request, headers=[*request.headers, (name.encode(), value.encode())])
