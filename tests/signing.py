"""Requests of our own making, signed by botocore: for raw sockets and other clients that sign nothing themselves."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from aws_bedrock_token_generator import BedrockTokenGenerator
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from serving import Running

TIMEOUT_S = 20
"""For a socket that should have been answered; no test waits for it unless the service is at fault."""


def signed_headers(
    service: Running,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    headers: Mapping[str, str] | None = None,
    signing_name: str = "bedrock",
    secret: str | None = None,
) -> dict[str, str]:
    """``headers`` with Host and what SigV4 adds; ``target`` is the path with its query, as it goes on the wire."""
    given = {"Host": urlsplit(service.http_url).netloc, **(headers or {})}
    request = AWSRequest(method, service.http_url + target, data=body, headers=given)
    credentials = Credentials(service.access_key_id, secret or service.secret_access_key)
    SigV4Auth(credentials, signing_name, service.region).add_auth(request)
    return dict(request.headers.items())


def presigned_target(service: Running, method: str, target: str, signing_name: str = "bedrock") -> str:
    """``target`` with a query signature over an empty body."""
    request = AWSRequest(method, service.http_url + target, headers={"Host": urlsplit(service.http_url).netloc})
    credentials = Credentials(service.access_key_id, service.secret_access_key)
    SigV4QueryAuth(credentials, signing_name, service.region, expires=300).add_auth(request)
    return request.prepare().url.removeprefix(service.http_url)


def api_key(service: Running) -> str:
    """A short-term API key, made by AWS's own generator from the service's access key."""
    credentials = Credentials(service.access_key_id, service.secret_access_key)
    return BedrockTokenGenerator().get_token(credentials, service.region)


def message(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """An HTTP/1.1 request as bytes; Content-Length is added where a body needs it and no header frames it."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    framed = {"content-length", "transfer-encoding"} & {name.lower() for name in headers}
    if body and not framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def signed_message(
    service: Running,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    headers: Mapping[str, str] | None = None,
    signing_name: str = "bedrock",
) -> bytes:
    """A signed HTTP/1.1 request as bytes."""
    signed = signed_headers(service, method, target, body, headers=headers, signing_name=signing_name)
    return message(method, target, signed, body)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error_type(self) -> str:
        return self.headers.get("x-amzn-errortype", "")


@contextmanager
def connection(service: Running) -> Iterator[socket.socket]:
    """A plain TCP connection to the service."""
    parts = urlsplit(service.http_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT_S) as sock:
        yield sock


class _Incoming(io.BufferedReader):
    """What a socket receives, for several answers in a row: whoever reads one of them cannot close it."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.makefile("rb", buffering=0))

    def makefile(self, mode: str) -> _Incoming:
        return self

    def close(self) -> None:
        """Stay open."""


def read_responses(sock: socket.socket, count: int, method: str = "POST") -> list[Response | None]:
    """The next answers on ``sock``; ``None`` where the service closed the connection without one."""
    incoming: Any = _Incoming(sock)
    responses: list[Response | None] = []
    for _ in range(count):
        response = http.client.HTTPResponse(incoming, method=method)
        try:
            response.begin()
            body = response.read()
        except (http.client.RemoteDisconnected, ConnectionError):
            responses.append(None)
            continue
        headers = {name.lower(): value for name, value in response.getheaders()}
        responses.append(Response(response.status, headers, body))
    return responses


def read_response(sock: socket.socket, method: str = "POST") -> Response | None:
    """The next answer on ``sock``, or ``None`` where the service closed the connection without one."""
    return read_responses(sock, 1, method)[0]


def exchange(service: Running, data: bytes, *, half_close: bool = False) -> Response | None:
    """Send ``data`` on a connection of its own and read one answer; the service may stop reading early."""
    with connection(service) as sock:
        try:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return read_response(sock, data.split(b" ", 1)[0].decode("latin-1"))
