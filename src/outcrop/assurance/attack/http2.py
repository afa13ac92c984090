"""The few frames of HTTP/2 (RFC 9113) that attacks need, over a plain socket with prior knowledge, or by ALPN.

Headers are written as literals without indexing (RFC 7541, 6.2.2), so anything can be said; of an answer only the
``:status`` is read, from the static table or a literal without Huffman coding. Not covered: everything else.
"""

from __future__ import annotations

import contextlib
import ssl
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from outcrop.assurance.attack.client import Client

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
_STATIC = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
_HUFFMAN_DIGITS = 5, 6

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back on the stream: a status (0 for none, 1 for one that cannot be read), and how it ended."""

    status: int
    how: str


def headers(client: Client, path: str = "/hidden") -> list[tuple[bytes, bytes]]:
    """The pseudo-headers of a sound request."""
    scheme, host = client.scheme.encode(), client.host.encode()
    return [(b":method", b"POST"), (b":scheme", scheme), (b":authority", host), (b":path", path.encode())]


def malformed(client: Client) -> Iterator[tuple[str, Headers, bytes]]:
    """Requests that RFC 9113 calls malformed (8.1.1, 8.2, 8.3)."""
    plain = headers(client)
    for name, value in (
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"keep-alive"),
        (b"upgrade", b"h2c"),
        (b"keep-alive", b"1"),
        (b"proxy-connection", b"close"),
        (b"te", b"chunked"),
    ):
        yield f"the header {name.decode()}", [*plain, (name, value)], b""
    yield "a length that is too small", [*plain, (b"content-length", b"1")], b"abc"
    yield "a length that is too large", [*plain, (b"content-length", b"9")], b"abc"
    yield "two lengths", [*plain, (b"content-length", b"3"), (b"content-length", b"4")], b"abc"
    yield "a name in upper case", [*plain, (b"X-A", b"b")], b""
    yield "a name with a space", [*plain, (b"x a", b"b")], b""
    yield "a name with a colon", [*plain, (b"x:a", b"b")], b""
    yield "a line feed in a value", [*plain, (b"x-a", b"b\r\nx-amz-target: c")], b""
    yield "a null in a value", [*plain, (b"x-a", b"b\0c")], b""
    yield "two paths", [*plain, (b":path", b"/other")], b""
    yield "no method", plain[1:], b""
    yield "an empty path", [*plain[:3], (b":path", b"")], b""
    yield "a path with a space", [*plain[:3], (b":path", b"/a HTTP/1.1\r\nhost: b")], b""
    yield "a pseudo-header behind others", [*plain[:3], (b"x-a", b"b"), plain[3]], b""
    yield "an unknown pseudo-header", [*plain, (b":principal", b"root")], b""
    yield "an authority and another host", [*plain, (b"host", b"attacker.example.org")], b""


def ask(client: Client, request: Headers, body: bytes, timeout_s: float) -> Seen:
    """Send one request as stream 1, and tell what came of it."""
    block = b"".join(_literal(name, value) for name, value in request)
    flags = END_HEADERS | (0 if body else END_STREAM)
    sent = PREFACE + _frame(SETTINGS, 0, 0, b"") + _frame(HEADERS, flags, 1, block)
    if body:
        sent += _frame(DATA, END_STREAM, 1, body)
    received = b""
    ends = contextlib.suppress(TimeoutError, ConnectionError, ssl.SSLError)
    with ends, client.connect(timeout_s, alpn="h2") as sock:
        sock.sendall(sent)
        while chunk := sock.recv(65_536):
            received += chunk
            seen = _read(received)
            if seen is not None:
                return seen
    return _read(received) or Seen(0, "the connection ended")


def _read(received: bytes) -> Seen | None:
    while len(received) >= 9:
        size, kind = int.from_bytes(received[:3]), received[3]
        stream = int.from_bytes(received[5:9]) & 0x7FFF_FFFF
        payload = received[9 : 9 + size]
        if len(payload) < size:
            return None
        received = received[9 + size :]
        if kind == HEADERS and stream == 1:
            status = _status(payload)
            return Seen(status, f"status {status}")
        if kind == RST_STREAM and stream == 1:
            return Seen(0, f"the stream was reset, code {int.from_bytes(payload)}")
        if kind == GOAWAY:
            return Seen(0, f"the connection was given up, code {int.from_bytes(payload[4:8])}")
    return None


def _status(block: bytes) -> int:
    while block and block[0] & 0xE0 == 0x20:  # a change of the table's size
        block = block[1:] if block[0] & 0x1F < 0x1F else block[2:]
    if not block:
        return 1
    if block[0] in _STATIC:
        return _STATIC[block[0]]
    if block[0] in (0x48, 0x08, 0x18) and len(block) > 1:  # a literal whose name is :status, entry 8
        size, huffman = block[1] & 0x7F, block[1] & 0x80
        text = _huffman_digits(block[2 : 2 + size]) if huffman else block[2 : 2 + size].decode("latin-1")
        return int(text) if text.isdecimal() else 1
    return 1


def _huffman_digits(data: bytes) -> str:
    """Digits in the code of RFC 7541, appendix B: 0 to 2 have five bits, 3 to 9 have six."""
    bits = "".join(f"{byte:08b}" for byte in data)
    codes = {f"{code:05b}": str(code) for code in range(3)} | {f"{0x19 + n - 3:06b}": str(n) for n in range(3, 10)}
    text = ""
    while len(bits) >= _HUFFMAN_DIGITS[0]:
        length = next((size for size in _HUFFMAN_DIGITS if bits[:size] in codes), 0)
        if not length:
            break
        text, bits = text + codes[bits[:length]], bits[length:]
    return text


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    if len(text) < 0x7F:
        return bytes([len(text)]) + text
    rest, size = len(text) - 0x7F, b""
    while rest >= 0x80:
        size, rest = size + bytes([rest & 0x7F | 0x80]), rest >> 7
    return b"\x7f" + size + bytes([rest]) + text
