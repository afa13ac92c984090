"""A client that sends exactly the bytes it is given: sockets and the standard library, nothing that tidies up.

``Client.exchange`` sends raw bytes and reads every answer on that connection; ``Client.send`` writes a signed request
as HTTP/1.1. Not covered: HTTP/2 (``http2`` has the few frames that attacks need) and redirects, which nothing follows.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from outcrop.base.errors import UserError
from outcrop.trust.identity import SignedRequest

TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. Status 0: the connection ended, or nothing came in time."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def broke(self) -> bool:
        """Whether the service failed rather than refused: 501 and 503 are refusals in words."""
        return self.status >= 500 and self.status not in (501, 503)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")

    def json(self) -> dict[str, object]:
        """The body as a JSON object, empty where it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return cast("dict[str, object]", found) if isinstance(found, dict) else {}

    @property
    def code(self) -> str:
        """The error's code, wherever the protocol has it; empty where there is none."""
        found = self.json()
        inner = found.get("error")
        named = found.get("__type") or (inner.get("type") if isinstance(inner, dict) else None)
        if isinstance(named, str):
            return named.rpartition("#")[2]
        if self.header("x-amzn-errortype"):
            return self.header("x-amzn-errortype").partition(":")[0]
        return self.text.partition("<Code>")[2].partition("</Code>")[0]

    def told(self) -> str:
        """The answer in one short line."""
        return f"{self.status or 'no answer'} {self.code}".strip()


NO_ANSWER = Answer(0)


class Client:
    """Talks to one base URL, ``http`` or ``https``; ``ca_file`` is the deployment's own CA."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url} is no address of a service.", "Give a URL such as http://127.0.0.1:8080.")
        self.url = url
        self.scheme = parts.scheme
        self.name = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        shown = f"[{self.name}]" if ":" in self.name else self.name
        default = self.port == (443 if parts.scheme == "https" else 80)
        self.host = shown if default else f"{shown}:{self.port}"
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None

    @contextlib.contextmanager
    def connect(self, timeout_s: float = TIMEOUT_S, alpn: str = "http/1.1") -> Iterator[socket.socket]:
        """An open connection; ``alpn`` is asked for under TLS."""
        with socket.create_connection((self.name, self.port), timeout_s) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                yield plain
                return
            self._tls.set_alpn_protocols([alpn])
            with self._tls.wrap_socket(plain, server_hostname=self.name) as secure:
                yield secure

    def exchange(self, raw: bytes, timeout_s: float = TIMEOUT_S) -> list[Answer]:
        """Send ``raw`` and read until the service closes or is silent for ``timeout_s``; every whole answer."""
        received = b""
        try:
            with self.connect(timeout_s) as sock:
                try:
                    sock.sendall(raw)
                    while chunk := sock.recv(65_536):
                        received += chunk
                except (TimeoutError, ConnectionError, ssl.SSLError):
                    pass  # what came until then counts
        except ConnectionError:
            return []
        return parse_answers(received)

    def send(self, request: SignedRequest, timeout_s: float = TIMEOUT_S) -> Answer:
        """Send one request on a connection of its own, and read its answer."""
        return next(iter(self.exchange(as_bytes(request), timeout_s)), NO_ANSWER)

    def alive(self, timeout_s: float = 5.0) -> bool:
        """Whether the service answers anything at all."""
        request = SignedRequest("GET", b"/", b"", [(b"host", self.host.encode())], b"")
        try:
            return self.send(request, timeout_s).status > 0
        except OSError:
            return False


def as_bytes(request: SignedRequest, *, close: bool = True) -> bytes:
    """A request on the wire as HTTP/1.1, header by header as given, with the length of its body."""
    target = request.raw_path + (b"?" + request.raw_query if request.raw_query else b"")
    lines = [request.method.encode() + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in request.headers]
    lines.append(b"content-length: %d" % len(request.body))
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + request.body


def parse_answers(received: bytes) -> list[Answer]:
    """Every whole answer in what a connection gave; the last one's body may be what was left at its end."""
    answers: list[Answer] = []
    while received.startswith(b"HTTP/1."):
        head, blank, rest = received.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        parts = status_line.split(b" ", 2)
        if not blank or len(parts) < 2 or not parts[1].isdigit():
            break
        headers = tuple(
            (name.decode("latin-1").strip().lower(), value.decode("latin-1").strip())
            for name, _, value in (line.partition(b":") for line in lines)
        )
        named = dict(headers)
        if named.get("transfer-encoding") == "chunked":
            body, received = _dechunked(rest)
        elif named.get("content-length", "").isdigit():
            size = int(named["content-length"])
            body, received = rest[:size], rest[size:]
        else:
            body, received = (b"", rest) if parts[1][:1] == b"1" else (rest, b"")
        answers.append(Answer(int(parts[1]), headers, body))
    return [answer for answer in answers if answer.status >= 200 or answer.status == 101]


def _dechunked(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        size_text, _, after = rest.partition(b"\r\n")
        try:
            size = int(size_text.partition(b";")[0], 16)
        except ValueError:
            return body, b""
        if size == 0:
            return body, after.removeprefix(b"\r\n")
        body += after[:size]
        rest = after[size + 2 :]
