"""Clients that send much and listen little: what they take is bounded, and the next request is served.

Not covered: how many connections there are, and processor time.
"""

from __future__ import annotations

import json
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from outcrop.inference.null import NullEngine
from outcrop.service import connections
from outcrop.service.config import Limits
from serving import TINY_MODEL_ID, Running, running_service
from signing import Response, api_key, connection, exchange, message, read_response, signed_headers, signed_message

CONVERSE = f"/model/{TINY_MODEL_ID.replace(':', '%3A')}/converse"
STREAM = f"{CONVERSE}-stream"
WORDS = 30_000
ENDLESS = json.dumps(
    {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"maxTokens": WORDS}}
).encode()
SHORT = ENDLESS.replace(str(WORDS).encode(), b"2")


def settled(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do; a deadline that only a failure reaches."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def serves(service: Running) -> None:
    answer = exchange(service, signed_message(service, "POST", CONVERSE, SHORT))
    assert answer is not None
    assert answer.status == 200


# --- clients that do not read -----------------------------------------------------------------------------------------


@pytest.fixture
def talkative(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A service that says 30 MB, to clients that have 0.2 s to take what waits for them."""
    monkeypatch.setattr(connections, "STALL_TIMEOUT_S", 0.2)
    script = ("x" * 1000,) * WORDS
    with running_service(tmp_path / "data", lambda loaded: NullEngine(script, max_context_tokens=10**6)) as running:
        serves(running)
        yield running
        serves(running)


def stopped_early(service: Running) -> None:
    """The one long answer was given up, and the engine did not go on with it."""
    (engine,) = service.engines
    settled(lambda: engine.cancellations == 1)
    assert engine.stats().running == 0
    assert engine.stats().tokens_generated < WORDS


def test_an_http2_stream_that_gets_no_window_waits_for_it_and_is_reset_in_the_end(talkative: Running) -> None:
    with connection(talkative) as sock:
        http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        http.initiate_connection()
        signed = signed_headers(talkative, "POST", STREAM, ENDLESS)
        pseudo = {":method": "POST", ":path": STREAM, ":scheme": "http", ":authority": signed.pop("Host")}
        http.send_headers(1, [*pseudo.items(), *((name.lower(), value) for name, value in signed.items())])
        http.send_data(1, ENDLESS, end_stream=True)
        events: list[h2.events.Event] = []
        while not any(isinstance(event, h2.events.StreamReset) for event in events):
            sock.sendall(http.data_to_send())
            events += http.receive_data(sock.recv(65536))  # and no window for what came
        stopped_early(talkative)


def test_a_reader_that_stops_reading_is_cut_off(talkative: Running) -> None:
    with connection(talkative) as sock:
        sock.sendall(signed_message(talkative, "POST", STREAM, ENDLESS))
        stopped_early(talkative)


@pytest.mark.parametrize(("kind", "payload"), [(6, b"12345678"), (4, b"\x00\x03\x00\x00\x00\x64")], ids=["ping", "set"])
def test_a_flood_of_frames_whose_answers_nobody_reads_is_not_read_either(
    talkative: Running, kind: int, payload: bytes
) -> None:
    def frame(kind: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes([kind, 0, 0, 0, 0, 0]) + payload

    flood = frame(kind, payload) * 3_000_000
    with connection(talkative) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, b""))
        with pytest.raises(ConnectionError):
            sock.sendall(flood)


# --- large bodies -----------------------------------------------------------------------------------------------------

LIMITS = replace(Limits(), large_body_bytes=10_000, large_bodies_bytes=100_000)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service for which 10 kB are a large body, with room for 100 kB of those."""
    with running_service(tmp_path_factory.mktemp("narrow") / "data", limits=LIMITS) as running:
        yield running


def heads(service: Running) -> dict[str, tuple[str, dict[str, str]]]:
    """Paths and headers that no body makes good."""
    signed = signed_headers(service, "POST", CONVERSE, SHORT)
    stranger = replace(service, access_key_id="AKIAAAAAAAAAAAAAAAAA")
    abroad = replace(service, region="eu-west-1")
    return {
        "nobody": (CONVERSE, {"Host": signed["Host"]}),
        "two-proofs": (CONVERSE, {**signed, "x-api-key": "x"}),
        "unknown-key": (CONVERSE, signed_headers(stranger, "POST", CONVERSE, SHORT)),
        "other-region": (CONVERSE, signed_headers(abroad, "POST", CONVERSE, SHORT)),
        "other-service": (CONVERSE, signed_headers(service, "POST", CONVERSE, SHORT, signing_name="s3")),
        "wrong-api-key": (
            CONVERSE,
            {"Host": signed["Host"], "Authorization": f"Bearer {api_key(service)[:-8]}AAAAAAAA"},
        ),
        "api-key-abroad": (CONVERSE, {"Host": signed["Host"], "Authorization": f"Bearer {api_key(abroad)}"}),
        "other-host": (CONVERSE, {**signed, "Host": "evil.example"}),
        "nowhere": ("/nowhere", signed),
        "vendor": ("/openai/v1/chat/completions", {"Host": signed["Host"]}),
    }


HEADS = ("nobody", "two-proofs", "unknown-key", "other-region", "other-service", "wrong-api-key", "api-key-abroad")
OTHER_HEADS = ("other-host", "nowhere", "vendor")


@pytest.mark.parametrize("name", [*HEADS, *OTHER_HEADS])
def test_who_is_nobody_is_refused_before_a_large_body_is_sent(narrow: Running, name: str) -> None:
    path, headers = heads(narrow)[name]
    small = exchange(narrow, message("POST", path, headers, SHORT))
    with connection(narrow) as sock:
        sock.sendall(message("POST", path, {**headers, "Expect": "100-continue", "Content-Length": "10001"}))
        large = read_response(sock)
        assert large is not None
        assert sock.recv(1) == b""
    assert small is not None
    assert 400 <= large.status < 500
    assert (large.status, large.error_type, large.body) == (small.status, small.error_type, small.body)


def test_a_body_that_turns_out_large_is_refused_there(narrow: Running) -> None:
    with connection(narrow) as sock:
        sock.sendall(message("POST", CONVERSE, {"Host": "localhost", "Transfer-Encoding": "chunked"}))
        sock.sendall(b"2711\r\n" + b" " * 10_001)
        answer = read_response(sock)
    assert answer is not None
    assert (answer.status, answer.error_type) == (403, "MissingAuthenticationTokenException")


def test_large_bodies_share_one_room_and_small_ones_need_none(narrow: Running) -> None:
    body = SHORT + b" " * 80_000
    data = signed_message(narrow, "POST", CONVERSE, body)

    def other() -> Response:
        answer = exchange(narrow, signed_message(narrow, "POST", CONVERSE, body))
        assert answer is not None
        return answer

    assert other().status == 200
    with connection(narrow) as sock:
        sock.sendall(data[:-1])
        settled(lambda: other().status == 503)
        assert other().error_type == "ServiceUnavailableException"
        serves(narrow)
        sock.sendall(data[-1:])
        first = read_response(sock)
        assert first is not None
        assert first.status == 200
    with connection(narrow) as sock:
        sock.sendall(data[:-1])
        settled(lambda: other().status == 503)
    settled(lambda: other().status == 200)  # who hangs up leaves its room


# --- what the server library does not foresee -------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"garbage\xff\r\n\r\n"])
@pytest.mark.parametrize("behind", [True, False])
def test_nonsense_ends_its_connection_without_an_error_in_the_log(
    narrow: Running, caplog: pytest.LogCaptureFixture, data: bytes, behind: bool
) -> None:
    with caplog.at_level(logging.ERROR), connection(narrow) as sock:
        sock.sendall((signed_message(narrow, "POST", STREAM, SHORT) if behind else b"") + data)
        while True:
            try:
                if not sock.recv(65536):
                    break
            except ConnectionError:
                break
    assert not caplog.records
