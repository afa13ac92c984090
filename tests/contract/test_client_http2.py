"""HTTP itself, with httpx and h2: many streams on one connection, keep-alive, pipelining and ALPN.

Not covered: HTTP/3, server push, priorities, and streams to HTTP/1.0 clients (the server library sends them in chunks,
which that version does not know).
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from outcrop.inference.null import NullEngine
from serving import TINY_MODEL_ID, Running, running_service
from signing import connection, read_responses, signed_headers, signed_message

STREAM = f"/model/{TINY_MODEL_ID.replace(':', '%3A')}/converse-stream"
CONVERSE = STREAM.removesuffix("-stream")
BODY = json.dumps({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}).encode()


def client(service: Running, *, http1: bool, base_url: str | None = None) -> httpx.AsyncClient:
    context = ssl.create_default_context(cafile=str(service.ca_certificate))
    return httpx.AsyncClient(
        base_url=base_url or service.http_url, http1=http1, http2=not http1, verify=context, trust_env=False
    )


def secure_headers(service: Running, target: str) -> dict[str, str]:
    host = {"Host": urlsplit(service.https_url).netloc}
    return signed_headers(service, "POST", target, BODY, headers=host)


@pytest.mark.parametrize("secure", [False, True], ids=["h2c", "tls"])
def test_a_request_without_a_body_is_answered_over_http2(service: Running, secure: bool) -> None:
    async def run() -> httpx.Response:
        async with client(service, http1=False, base_url=service.https_url if secure else service.http_url) as http:
            return await http.get("/foundation-models", timeout=5)

    reply = asyncio.run(run())
    assert (reply.status_code, reply.http_version) == (403, "HTTP/2")


@pytest.mark.parametrize("secure", [False, True], ids=["h2c", "tls"])
def test_many_streams_share_one_http2_connection(service: Running, secure: bool) -> None:
    base = service.https_url if secure else service.http_url
    headers = secure_headers(service, STREAM) if secure else signed_headers(service, "POST", STREAM, BODY)
    ports: set[object] = set()

    async def one(http: httpx.AsyncClient) -> bytes:
        async with http.stream("POST", STREAM, headers=headers, content=BODY) as reply:
            assert (reply.status_code, reply.http_version) == (200, "HTTP/2")
            ports.add(reply.extensions["network_stream"].get_extra_info("client_addr"))
            return await reply.aread()

    async def run() -> list[bytes]:
        async with client(service, http1=False, base_url=base) as http:
            await one(http)  # the connection exists before it is shared
            return await asyncio.gather(*(one(http) for _ in range(20)))

    replies = asyncio.run(run())
    assert all(reply.count(b"contentBlockDelta") == 4 and b"metadata" in reply for reply in replies)
    assert len(ports) == 1


def test_alpn_offers_both_versions(service: Running) -> None:
    for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
        context = ssl.create_default_context(cafile=str(service.ca_certificate))
        if offered:
            context.set_alpn_protocols(offered)
        parts = urlsplit(service.https_url)
        with (
            socket.create_connection((parts.hostname, parts.port), timeout=20) as raw,
            context.wrap_socket(raw, server_hostname=parts.hostname) as sock,
        ):
            assert sock.selected_alpn_protocol() == chosen
            assert sock.version() in ("TLSv1.2", "TLSv1.3")


def test_http11_over_tls_and_plain_keeps_its_connection(service: Running) -> None:
    async def run(base_url: str, headers: dict[str, str]) -> None:
        async with client(service, http1=True, base_url=base_url) as http:
            ports = set()
            for _ in range(3):
                reply = await http.post(CONVERSE, headers=headers, content=BODY)
                assert (reply.status_code, reply.http_version) == (200, "HTTP/1.1")
                ports.add(reply.extensions["network_stream"].get_extra_info("client_addr"))
            assert len(ports) == 1

    asyncio.run(run(service.http_url, signed_headers(service, "POST", CONVERSE, BODY)))
    asyncio.run(run(service.https_url, secure_headers(service, CONVERSE)))


def test_pipelined_requests_are_answered_in_order(service: Running) -> None:
    count = signed_message(service, "POST", CONVERSE.replace("/converse", "/count-tokens"), b"{}")
    answer = signed_message(service, "POST", CONVERSE, BODY)
    stream = signed_message(service, "POST", STREAM, BODY)
    with connection(service) as sock:
        sock.sendall(answer + count + stream + answer)
        replies = read_responses(sock, 4)
    assert [reply and reply.status for reply in replies] == [200, 400, 200, 200]
    assert replies[2] is not None
    assert replies[2].headers["content-type"] == "application/vnd.amazon.eventstream"


def test_http10_is_answered_and_closed(service: Running) -> None:
    data = signed_message(service, "POST", CONVERSE, BODY).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with connection(service) as sock:
        sock.sendall(data)
        received = b""
        while piece := sock.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0]
    assert json.loads(body)["stopReason"] == "end_turn"


# --- one stream's end is not the others' ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose engine says two words and then nothing more."""
    with running_service(tmp_path_factory.mktemp("held") / "data", lambda loaded: NullEngine(hang_after=2)) as running:
        yield running


class Http2:
    """A connection of our own to reset streams on, by the library of that name."""

    def __init__(self, service: Running, sock: socket.socket) -> None:
        self.service = service
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def post(self, target: str, body: bytes = BODY, *, end: bool = True, **extra: str) -> int:
        signed = signed_headers(self.service, "POST", target, body)
        authority = signed.pop("Host")
        pseudo = {":method": "POST", ":path": target, ":scheme": "http", ":authority": authority}
        plain = {name.lower(): value for name, value in {**signed, **extra}.items()}
        stream: int = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [*pseudo.items(), *plain.items()])
        self.h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def events(self) -> list[h2.events.Event]:
        data = self.sock.recv(65536)
        events: list[h2.events.Event] = self.h2.receive_data(data) if data else []
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()
        return events

    def until(self, kind: type[h2.events.Event], stream: int) -> list[h2.events.Event]:
        """Events up to one of ``kind`` on ``stream``."""
        seen: list[h2.events.Event] = []
        while not any(isinstance(event, kind) and event.stream_id == stream for event in seen):
            seen += self.events()
        return seen


def status_in(events: list[h2.events.Event]) -> str:
    (reply,) = [event for event in events if isinstance(event, h2.events.ResponseReceived)]
    return dict(reply.headers)[":status"]


def test_resetting_one_stream_frees_its_engine_request_and_leaves_the_others(held: Running) -> None:
    with connection(held) as sock:
        http = Http2(held, sock)
        first = http.post(STREAM)
        http.until(h2.events.DataReceived, first)
        second = http.post(STREAM)
        http.until(h2.events.DataReceived, second)
        (engine,) = held.engines
        assert engine.stats().running == 2
        http.h2.reset_stream(first)
        http.flush()
        for _ in range(1000):  # their answers come after the reset was seen; the engine hears of it a little later
            http.until(h2.events.StreamEnded, http.post(CONVERSE, b"{}"))
            if engine.stats().running == 1:
                break
        assert engine.stats().running == 1
        assert engine.cancellations == 1


def test_a_body_too_large_ends_its_stream_and_not_the_http2_connection(service: Running) -> None:
    with connection(service) as sock:
        http = Http2(service, sock)
        large = http.post(CONVERSE, BODY, end=False, **{"content-length": "26000000"})
        seen = http.until(h2.events.StreamEnded, large)
        (reply,) = [event for event in seen if isinstance(event, h2.events.ResponseReceived)]
        assert dict(reply.headers)[":status"] == "413"
        following = http.post(CONVERSE)
        (reply,) = [
            e for e in http.until(h2.events.StreamEnded, following) if isinstance(e, h2.events.ResponseReceived)
        ]
        assert dict(reply.headers)[":status"] == "200"


def test_an_http2_stream_with_a_false_content_length_is_reset_alone(service: Running) -> None:
    with connection(service) as sock:
        http = Http2(service, sock)
        false = http.post(CONVERSE, BODY, **{"content-length": "1000"})
        http.until(h2.events.StreamReset, false)
        http.until(h2.events.StreamEnded, http.post(CONVERSE))
