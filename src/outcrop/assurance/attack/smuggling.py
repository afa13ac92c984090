"""Family: one connection, two readings of where a request ends; and HTTP/2 requests that would become such.

RFC 9112 (6.1, 6.3, 5.1, 5.2, 2.2, 7.1) and RFC 9113 (8.2, 8.3) say which messages must be refused. Each case is such a
message, followed by a second request where its other reading would begin. Success is a second answer on the connection,
an answer to the first that shows it was taken as sound (anything but 400, 501, or an end), or a switch of protocols.
"""

from __future__ import annotations

from collections.abc import Iterator

from outcrop.assurance.attack import http2
from outcrop.assurance.attack.base import Found, Scene, judge, refused, unproven
from outcrop.assurance.attack.client import Answer

SILENCE_S = 2.0
HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: %s\r\n\r\n"


def messages(host: bytes) -> Iterator[tuple[str, bytes]]:
    """Messages that must be refused whole: each with its name."""
    head = b"POST /model/x/converse HTTP/1.1\r\nhost: " + host + b"\r\n"
    hidden = HIDDEN % host
    size = b"%d" % len(hidden)

    def with_headers(*lines: bytes) -> bytes:
        return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"

    chunks = b"0\r\n\r\n" + hidden
    yield "a length and chunks", with_headers(b"content-length: 5", b"transfer-encoding: chunked") + chunks
    yield "chunks and a length", with_headers(b"transfer-encoding: chunked", b"content-length: 5") + chunks
    yield "two lengths that differ", with_headers(b"content-length: 0", b"content-length: " + size) + hidden
    yield "a list of lengths that differ", with_headers(b"content-length: 0, " + size) + hidden
    for name, length in (
        ("a signed length", b"+0"),
        ("a negative length", b"-1"),
        ("a hexadecimal length", b"0x0"),
        ("a length with a space inside", b"0 0"),
        ("a length with an underscore", b"0_0"),
        ("an empty length", b""),
        ("a length of letters", b"zero"),
        ("a length of other digits", "٠".encode()),
        ("a fractional length", b"0.0"),
        ("a length beyond 64 bits", b"18446744073709551616"),
    ):
        yield name, with_headers(b"content-length: " + length) + hidden
    for name, line in (
        ("an unknown coding", b"transfer-encoding: xchunked"),
        ("chunked not last", b"transfer-encoding: chunked, identity"),
        ("chunked twice", b"transfer-encoding: chunked, chunked"),
        ("a quoted coding", b'transfer-encoding: "chunked"'),
        ("a coding with a control character", b"transfer-encoding: \x0bchunked"),
        ("a space before the colon", b"transfer-encoding : chunked"),
        ("a tab before the colon", b"transfer-encoding\t: chunked"),
        ("a folded header", b"x-a: b\r\n transfer-encoding: chunked"),
        ("a folded coding", b"transfer-encoding:\r\n chunked"),
        ("a header that begins with a space", b" transfer-encoding: chunked"),
        ("a null in a header", b"x-a: b\0c"),
        ("a bare carriage return in a header", b"x-a: b\rtransfer-encoding: chunked"),
        ("a header without a colon", b"transfer-encoding chunked"),
        ("a header without a name", b": chunked"),
        ("a header's name with a parenthesis", b"x(a): b"),
    ):
        yield name, with_headers(line, b"content-length: 5") + chunks
    coded = with_headers(b"transfer-encoding: chunked")
    for name, body in (
        ("a chunk size with a prefix", b"0x0\r\n\r\n"),
        ("a chunk size with a sign", b"+0\r\n\r\n"),
        ("a chunk size with an underscore", b"0_0\r\n\r\n"),
        ("a chunk size beyond 64 bits", b"10000000000000000\r\n\r\n"),
        ("a negative chunk size", b"-1\r\n\r\n"),
        ("an empty chunk size", b"\r\n\r\n"),
        ("a chunk longer than it says", b"1\r\nab\r\n0\r\n\r\n"),
        ("a chunk extension with a bare line feed", b"0;\nx\r\n\r\n"),
        ("a chunk size that ends in a bare carriage return", b"1\ra\r\n0\r\n\r\n"),
    ):
        yield name, coded + body + hidden
    yield "no host", b"GET / HTTP/1.1\r\n\r\n"
    yield "two hosts", b"GET / HTTP/1.1\r\nhost: " + host + b"\r\nhost: " + host + b"\r\n\r\n"
    yield "a version 0.9", b"GET /\r\n\r\n"
    yield "a version 1.9", b"GET / HTTP/1.9x\r\nhost: " + host + b"\r\n\r\n"
    yield "two spaces in the request line", b"GET  / HTTP/1.1\r\nhost: " + host + b"\r\n\r\n"
    yield "a tab in the request line", b"GET\t/ HTTP/1.1\r\nhost: " + host + b"\r\n\r\n"
    yield "a control character in the path", b"GET /\x01 HTTP/1.1\r\nhost: " + host + b"\r\n\r\n"
    yield "a method with a control character", b"G\x00ET / HTTP/1.1\r\nhost: " + host + b"\r\n\r\n"


def run(scene: Scene) -> Iterator[Found]:
    """The twin (two sound requests, two answers), each message, and the same over HTTP/2."""
    host = scene.client.host.encode()
    pair = HIDDEN % host + HIDDEN.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") % host
    if len(scene.client.exchange(pair, SILENCE_S)) != 2:
        yield unproven("two sound requests on one connection", "must have two answers")
    for name, raw in messages(host):
        answers = scene.client.exchange(raw, SILENCE_S)
        yield judge(name, taken(answers), ", ".join(each.told() for each in answers) or "the connection ended")
    web_socket = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    web_socket += b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    old = b"POST / HTTP/1.0\r\nhost: " + host + b"\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN % host
    answers = scene.client.exchange(old, SILENCE_S)  # may be answered, and then the connection must end (RFC 9112, 6.1)
    yield judge("chunks with version 1.0", len(answers) > 1, ", ".join(each.told() for each in answers))
    switch = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    for name, more in (
        ("an upgrade to HTTP/2", switch),
        (
            "an upgrade to a web socket",
            web_socket,
        ),
    ):
        answers = scene.client.exchange(b"GET / HTTP/1.1\r\nhost: " + host + b"\r\n" + more + b"\r\n", SILENCE_S)
        yield judge(name, any(each.status in (101, 200) for each in answers), ", ".join(a.told() for a in answers))
    yield from _over_http2(scene)


def taken(answers: list[Answer]) -> bool:
    """Whether a message that must be refused was taken as sound, or something behind it was answered."""
    return len(answers) > 1 or any(each.status not in (400, 501, 505, 413, 414, 431) for each in answers)


def _over_http2(scene: Scene) -> Iterator[Found]:
    plain = http2.headers(scene.client)
    twin = http2.ask(scene.client, plain, b"", SILENCE_S)
    if twin.status == 0:
        yield unproven("HTTP/2: a sound request", f"must be answered: {twin.how}")
        return
    for name, headers, body in http2.malformed(scene.client):
        seen = http2.ask(scene.client, headers, body, SILENCE_S)
        if seen.status in (0, 400):
            yield refused(f"HTTP/2: {name}", seen.how)
        else:
            yield judge(f"HTTP/2: {name}", True, f"was answered like a sound request: {seen.how}")
