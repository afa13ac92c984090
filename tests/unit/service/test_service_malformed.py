"""Whatever arrives, and however it arrives: a typed 4xx or a closed connection, and the next request is served.

Requests are signed, so that what is behind the signature check is reached, and sent unsigned as well. Not covered:
floods of connections, and what operating systems do to half-open ones.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from outcrop.inference.null import NullEngine
from outcrop.service import connections, server
from outcrop.service.config import Limits
from serving import TINY_MODEL_ID, Running, running_service
from signing import (
    Response,
    connection,
    exchange,
    message,
    presigned_target,
    read_response,
    read_responses,
    signed_headers,
    signed_message,
)

CONVERSE = f"/model/{TINY_MODEL_ID.replace(':', '%3A')}/converse"
CONVERSE_STREAM = f"{CONVERSE}-stream"
INVOKE = CONVERSE.replace("/converse", "/invoke")
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
CLAUDE: dict[str, Any] = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}
DIRECT = {**CLAUDE, "model": TINY_MODEL_ID}
del DIRECT["anthropic_version"]
CHAT: dict[str, Any] = {"model": TINY_MODEL_ID, "messages": [{"role": "user", "content": "hi"}]}
INPUTS: dict[str, Any] = {"inputs": "Say"}

SURFACES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "converse": (CONVERSE, "bedrock", ASK),
    "converse-stream": (CONVERSE_STREAM, "bedrock", ASK),
    "invoke": (INVOKE, "bedrock", CLAUDE),
    "invoke-stream": (f"{INVOKE}-with-response-stream", "bedrock", CLAUDE),
    "count-tokens": (CONVERSE.replace("/converse", "/count-tokens"), "bedrock", {"input": {"converse": ASK}}),
    "anthropic": ("/anthropic/v1/messages", "bedrock", DIRECT),
    "anthropic-count": ("/anthropic/v1/messages/count_tokens", "bedrock", DIRECT),
    "openai": ("/openai/v1/chat/completions", "bedrock", CHAT),
    "endpoint": ("/endpoints/local-tiny-v1-0/invocations", "sagemaker", INPUTS),
    "endpoint-chat": ("/endpoints/local-tiny-v1-0/invocations", "sagemaker", CHAT),
}
EVERY_SURFACE = pytest.mark.parametrize("surface", SURFACES)


def send(service: Running, surface: str, body: bytes, **headers: str) -> Response:
    path, signing_name, _ = SURFACES[surface]
    answer = exchange(service, signed_message(service, "POST", path, body, headers=headers, signing_name=signing_name))
    assert answer is not None
    return answer


def refused(answer: Response | None, *statuses: int) -> None:
    """A typed 4xx: a status, a type and words."""
    assert answer is not None
    assert answer.status in (statuses or range(400, 500)), answer
    assert answer.headers["x-amzn-requestid"]
    if answer.error_type:
        document = json.loads(answer.body)
        assert document.get("message") or document.get("Message")
    else:
        assert json.loads(answer.body)["error"]["message"]


def serves(service: Running) -> None:
    """A whole request on a new connection is answered, and the engine holds nothing from before."""
    answer = send(service, "converse", json.dumps(ASK).encode())
    assert answer.status == 200, answer
    settled(lambda: all(engine.stats().running == 0 for engine in service.engines))


def settled(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do; a deadline that only a failure reaches."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def next_request_is_served(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test here the service still answers."""
    yield
    if "service" in request.fixturenames:
        serves(request.getfixturevalue("service"))


# --- bodies -----------------------------------------------------------------------------------------------------------

DEEP = b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BROKEN_BODIES = {
    "empty": b"",
    "not-json": b"hello",
    "cut": b'{"messages": [{"role": "us',
    "trailing": b"{} {}",
    "null": b"null",
    "number": b"1",
    "string": b'"x"',
    "array": b"[]",
    "nul": b"\x00",
    "utf-8": b'{"messages": "\xff\xfe"}',
    "utf-16": json.dumps(ASK).encode("utf-16"),
    "surrogate": b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
    "NaN": b'{"messages": NaN}',
    "Infinity": b'{"messages": -Infinity}',
    "huge-number": b'{"messages": 1' + b"0" * 5000 + b"}",
    "deep": DEEP,
    "control": b'{"messages": "\x01"}',
}


@EVERY_SURFACE
def test_bodies_that_are_not_json_of_the_right_kind_are_refused(service: Running, surface: str) -> None:
    for body in BROKEN_BODIES.values():
        refused(send(service, surface, body))


def with_text(document: Any, text: str) -> Any:
    """``document`` with ``text`` wherever the question is asked."""
    if isinstance(document, dict):
        return {key: with_text(value, text) for key, value in document.items()}
    if isinstance(document, list):
        return [with_text(value, text) for value in document]
    return text if document in ("hi", "Say") else document


@EVERY_SURFACE
def test_a_lone_surrogate_in_the_question_is_refused_and_any_other_character_is_taken(
    service: Running, surface: str
) -> None:
    document = SURFACES[surface][2]
    for lone in ("\ud800", "a\udfffb", "\ude00\ud83d"):
        refused(send(service, surface, json.dumps(with_text(document, lone)).encode()))
    taken = with_text(document, "\x00 \u2028 \ufffe \U0001f600 <|end|><|user|>")
    assert send(service, surface, json.dumps(taken).encode()).status == 200


def mutations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """``document`` with one member of another kind."""
    wrong: tuple[Any, ...] = (None, True, -1, 1.5, 10**400, "x", [], {}, [[]], [None], {"x": {}}, [{"role": "user"}])
    for name, right in document.items():
        yield from ({**document, name: value} for value in wrong if value != right)


@EVERY_SURFACE
def test_members_of_a_wrong_kind_never_make_the_service_fail(service: Running, surface: str) -> None:
    with connection(service) as sock:
        path, signing_name, document = SURFACES[surface]
        for mutated in mutations(document):
            body = json.dumps(mutated).encode()
            sock.sendall(signed_message(service, "POST", path, body, signing_name=signing_name))
            answer = read_response(sock)
            assert answer is not None, mutated
            assert answer.status < 500, (mutated, answer)


@pytest.mark.parametrize(
    ("surface", "taken"),
    [("converse", True), ("count-tokens", True), ("invoke", False), ("anthropic", False), ("openai", False)],
)
def test_unknown_members_are_ignored_by_aws_shapes_and_refused_by_vendor_bodies(
    service: Running, surface: str, taken: bool
) -> None:
    answer = send(service, surface, json.dumps({**SURFACES[surface][2], "nonsense": 1}).encode())
    if taken:
        assert answer.status == 200
    else:
        refused(answer, 400)
        assert b"nonsense" in answer.body


@EVERY_SURFACE
@pytest.mark.parametrize("signed", [True, False])
def test_a_body_declared_too_large_is_refused_before_it_is_sent(service: Running, surface: str, signed: bool) -> None:
    path, signing_name, _ = SURFACES[surface]
    length = {"Content-Length": "26000000"}
    headers = signed_headers(service, "POST", path, headers=length, signing_name=signing_name)
    if not signed:
        headers = {name: headers[name] for name in ("Host", "Content-Length")}
    refused(exchange(service, message("POST", path, headers)), 413)


def test_a_body_that_grows_too_large_in_chunks_is_refused(service: Running) -> None:
    headers = signed_headers(service, "POST", CONVERSE, headers={"Transfer-Encoding": "chunked"})
    chunk = b"%x\r\n" % 2**20 + b"x" * 2**20 + b"\r\n"
    with connection(service) as sock:
        sock.sendall(message("POST", CONVERSE, headers))
        try:
            for _ in range(26):
                sock.sendall(chunk)
            sock.sendall(b"0\r\n\r\n")
        except ConnectionError:
            return  # refused, and not read to its end
        refused(read_response(sock), 413)


def test_the_largest_body_is_read_and_signed_over(service: Running) -> None:
    text = "x" * (25_000_000 - len(json.dumps(with_text(ASK, ""))))
    body = json.dumps(with_text(ASK, text)).encode()
    assert len(body) == 25_000_000
    answer = send(service, "converse", body)
    refused(answer, 400)
    assert json.loads(answer.body)["message"] == "Input is too long for requested model."


# --- paths and methods ------------------------------------------------------------------------------------------------

ODD_MODEL_IDS = ["%2F", "..%2F..%2Fetc%2Fpasswd", "%00", "a%2Fb%2Fc", "%2E%2E", "%ED%A0%80", "%FF", "%", "%2", "%zz"]
ODD_MODEL_IDS += ["x" * 4000, "%252F", "arn%3Aaws%3Abedrock", "arn:aws:bedrock:::", "us.us.local.tiny-v1:0", "~", "%20"]
ODD_MODEL_IDS += ["%C3", "a b"]


@pytest.mark.parametrize("name", ODD_MODEL_IDS)
def test_odd_model_ids_are_refused(service: Running, name: str) -> None:
    for operation in ("converse", "invoke"):
        target = f"/model/{name}/{operation}"
        body = json.dumps(ASK if operation == "converse" else CLAUDE).encode()
        data = message("POST", target, signed_headers(service, "POST", target, body), body)
        answer = exchange(service, data)
        assert answer is not None
        assert 400 <= answer.status < 500, answer


@pytest.mark.parametrize(
    "target",
    [
        "/model/../model/x/converse",
        "//model/x/converse",
        "/model//converse",
        "/model/x/converse/",
        "/./",
        "/",
        "*",
        "/%",
        "/openai/v1/../v1/models",
        "/openai/v1/models/",
        "/anthropic/v1/messages?x=1&x=2",
        "/?Action=GetCallerIdentity&Action=Nonsense",
        "/?Action=%FF",
        "/" + "a/" * 3000,
    ],
)
def test_odd_paths_are_refused(service: Running, target: str) -> None:
    body = json.dumps(ASK).encode()
    for headers in (signed_headers(service, "POST", target if target != "*" else "/", body), {"Host": "localhost"}):
        answer = exchange(service, message("POST", target, headers, body))
        assert answer is None or 400 <= answer.status < 500, answer


def test_a_target_in_absolute_form_is_not_mistaken_for_a_path(service: Running) -> None:
    body = json.dumps(ASK).encode()
    headers = signed_headers(service, "POST", CONVERSE, body)
    answer = exchange(service, message("POST", f"{service.http_url}{CONVERSE}", headers, body))
    assert answer is None or answer.status == 200 or 400 <= answer.status < 500


@pytest.mark.parametrize(
    "method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW", "post"]
)
def test_other_methods_are_refused(service: Running, method: str) -> None:
    for target in (CONVERSE, "/openai/v1/chat/completions"):
        for headers in (signed_headers(service, method, target), {"Host": "localhost"}):
            answer = exchange(service, message(method, target, headers))
            assert answer is None or 400 <= answer.status < 500, answer


# --- headers ----------------------------------------------------------------------------------------------------------


def doubled(data: bytes, name: bytes, second: bytes | None = None) -> bytes:
    """An HTTP message with one header twice."""
    head, separator, body = data.partition(b"\r\n\r\n")
    (line,) = [line for line in head.split(b"\r\n") if line.lower().startswith(name.lower() + b":")]
    return head + b"\r\n" + (line if second is None else name + b": " + second) + separator + body


@pytest.mark.parametrize(
    ("name", "second"),
    [
        (b"Authorization", None),
        (b"Authorization", b"Bearer x"),
        (b"Host", None),
        (b"Host", b"elsewhere.example"),
        (b"X-Amz-Date", None),
        (b"X-Amz-Date", b"20200101T000000Z"),
        (b"Content-Length", b"1"),
        (b"Content-Length", b"-1"),
        (b"Content-Length", b"0x10"),
        (b"Content-Length", b"9" * 40),
    ],
)
def test_doubled_headers_are_refused(service: Running, name: bytes, second: bytes | None) -> None:
    data = signed_message(service, "POST", CONVERSE, json.dumps(ASK).encode())
    answer = exchange(service, doubled(data, name, second))
    assert answer is None or 400 <= answer.status < 500, answer


def test_two_ways_to_frame_a_body_are_refused(service: Running) -> None:
    body = json.dumps(ASK).encode()
    data = signed_message(service, "POST", CONVERSE, body)
    head, _, body = data.partition(b"\r\n\r\n")
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    answer = exchange(service, head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked)
    assert answer is None or 400 <= answer.status < 500, answer


def test_a_proof_in_header_and_query_is_refused(service: Running) -> None:
    target = presigned_target(service, "GET", "/foundation-models")
    plain = exchange(service, message("GET", target, {"Host": service.http_url.removeprefix("http://")}))
    assert plain is not None
    assert plain.status == 200
    both = exchange(service, message("GET", target, signed_headers(service, "GET", target)))
    refused(both, 403)
    assert both is not None
    assert both.error_type == "IncompleteSignatureException"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Long": "x" * 1_000_000},
        {f"X-Many-{index}": "x" for index in range(5000)},
        {"X" * 100_000: "x"},
        {"X-Nul": "\x00"},
        {"X Space": "x"},
        {"": "x"},
        {"X-Latin": "\xff\xfe"},
        {"Expect": "nonsense"},
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"},
        {"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAAA"},
        {"Content-Encoding": "gzip"},
        {"Content-Type": "text/plain; charset=nonsense"},
    ],
    ids=["long", "many", "long-name", "nul", "space", "empty", "latin", "expect", "websocket", "h2c", "gzip", "type"],
)
@pytest.mark.parametrize("signed", [True, False])
def test_absurd_headers_do_no_harm(service: Running, headers: dict[str, str], signed: bool) -> None:
    body = json.dumps(ASK).encode()
    own = signed_headers(service, "POST", CONVERSE, body) if signed else {"Host": "localhost"}
    with connection(service) as sock:
        try:
            sock.sendall(message("POST", CONVERSE, {**own, **headers}, body))
        except ConnectionError:
            return
        answer = read_response(sock)
    assert answer is None or answer.status < 500, answer
    assert signed or answer is None or answer.status >= 400


def test_a_client_that_asks_before_sending_its_body_is_told_to_go_on(service: Running) -> None:
    body = json.dumps(ASK).encode()
    headers = {**signed_headers(service, "POST", CONVERSE, body), "Expect": "100-continue"}
    headers["Content-Length"] = str(len(body))
    with connection(service) as sock:
        sock.sendall(message("POST", CONVERSE, headers))
        assert sock.recv(1024).startswith(b"HTTP/1.1 100")
        sock.sendall(body)
        answer = read_response(sock)
    assert answer is not None
    assert answer.status == 200


# --- clients that go away or dawdle -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose engine says two words and then nothing more."""
    data = tmp_path_factory.mktemp("held") / "data"
    with running_service(data, lambda loaded: NullEngine(hang_after=2)) as running:
        yield running


STREAMED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "converse-stream": SURFACES["converse-stream"],
    "invoke-stream": SURFACES["invoke-stream"],
    "anthropic": ("/anthropic/v1/messages", "bedrock", {**DIRECT, "stream": True}),
    "openai": ("/openai/v1/chat/completions", "bedrock", {**CHAT, "stream": True}),
    "endpoint": ("/endpoints/local-tiny-v1-0/invocations-response-stream", "sagemaker", INPUTS),
    "endpoint-chat": ("/endpoints/local-tiny-v1-0/invocations-response-stream", "sagemaker", {**CHAT, "stream": True}),
}
UNARY = {name: SURFACES[name] for name in ("converse", "invoke", "anthropic", "openai", "endpoint", "endpoint-chat")}
HUNG_UP_ON = [(name, True) for name in STREAMED] + [(name, False) for name in UNARY]


@pytest.mark.parametrize(("surface", "streamed"), HUNG_UP_ON)
def test_hanging_up_frees_the_engine(held: Running, surface: str, streamed: bool) -> None:
    path, signing_name, document = (STREAMED if streamed else UNARY)[surface]
    before = sum(engine.cancellations for engine in held.engines)
    with connection(held) as sock:
        sock.sendall(signed_message(held, "POST", path, json.dumps(document).encode(), signing_name=signing_name))
        if streamed:
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        settled(lambda: sum(engine.stats().running for engine in held.engines) == 1)
    settled(lambda: sum(engine.cancellations for engine in held.engines) == before + 1)
    assert sum(engine.stats().running for engine in held.engines) == 0


def test_a_reset_in_the_middle_of_a_stream_frees_the_engine(held: Running) -> None:
    before = sum(engine.cancellations for engine in held.engines)
    with connection(held) as sock:
        sock.sendall(signed_message(held, "POST", CONVERSE_STREAM, json.dumps(ASK).encode()))
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    settled(lambda: sum(engine.cancellations for engine in held.engines) == before + 1)


def test_hanging_up_in_the_middle_of_a_body_leaves_nothing(service: Running) -> None:
    data = signed_message(service, "POST", CONVERSE, json.dumps(ASK).encode())
    for cut in (1, 20, len(data) // 2, len(data) - 1):
        with connection(service) as sock:
            sock.sendall(data[:cut])


def test_a_socket_closed_for_writing_only_does_not_keep_the_service_waiting(service: Running) -> None:
    """The server library takes the end of input for the end of the client: answered or closed, never left open."""
    whole = signed_message(service, "POST", CONVERSE, json.dumps(ASK).encode())
    for data in (whole, whole[:-5], b""):
        answer = exchange(service, data, half_close=True)
        assert answer is None or answer.status == 200 or 400 <= answer.status < 500


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with no patience: for headers, for bodies and between requests."""
    patch = pytest.MonkeyPatch()
    patch.setattr(connections, "HEADER_TIMEOUT_S", 0.2)
    patch.setattr(connections, "IDLE_TIMEOUT_S", 0.2)
    patch.setattr(server, "IDLE_TIMEOUT_S", 1)  # the library counts whole seconds
    limits = replace(Limits(), body_grace_s=0.2)
    with running_service(tmp_path_factory.mktemp("hasty") / "data", limits=limits) as running:
        yield running
    patch.undo()


def trickle(sock: socket.socket, data: bytes) -> bool:
    """One byte at a time until the other side closes; whether it did."""
    sock.settimeout(0.02)
    for byte in data:
        try:
            sock.sendall(bytes([byte]))
            if sock.recv(65536) == b"":
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def test_headers_that_trickle_in_are_cut_off(hasty: Running) -> None:
    for start in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        with connection(hasty) as sock:
            sock.sendall(start)
            assert trickle(sock, b"GET / HTTP/1.1\r\nX: " + b"x" * 2000)


def test_a_body_that_trickles_in_is_refused_in_words(hasty: Running) -> None:
    body = json.dumps(ASK).encode()
    data = signed_message(hasty, "POST", CONVERSE, body)
    with connection(hasty) as sock:
        sock.sendall(data[: -len(body)] + body[:1])
        answer = read_response(sock)
        assert answer is not None
        assert (answer.status, answer.error_type) == (408, "RequestTimeoutException")
        assert sock.recv(1024) == b""


def test_connections_that_say_nothing_are_closed(hasty: Running) -> None:
    with connection(hasty) as silent, connection(hasty) as idle:
        idle.sendall(signed_message(hasty, "POST", CONVERSE, json.dumps(ASK).encode()))
        answer = read_response(idle)
        assert answer is not None
        assert answer.status == 200
        assert silent.recv(1) == b""
        assert idle.recv(1) == b""


# --- not HTTP at all --------------------------------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
GARBAGE = {
    "http-0.9": b"GET /\r\n",
    "http-2.0-line": b"GET / HTTP/2.0\r\n\r\n",
    "http-9.9": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "binary": bytes(range(256)) * 40,
    "newlines": b"\r\n" * 5000,
    "long-line": b"GET /" + b"a" * 2_000_000,
    "tls-on-plain-port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "preface-garbage": PREFACE + b"\xff" * 4000,
    "preface-text": PREFACE + b"GET / HTTP/1.1\r\n\r\n",
    "preface-data-first": PREFACE + b"\x00\x00\x01\x00\x00\x00\x00\x00\x01x",
    "preface-huge-frame": PREFACE + b"\xff\xff\xff\x01\x04\x00\x00\x00\x01",
    "preface-bad-hpack": PREFACE
    + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    + b"\x00\x00\x04\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff",
    "preface-settings-size": PREFACE + b"\x00\x00\x05\x04\x00\x00\x00\x00\x00aaaaa",
    "bad-chunk": b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bare-newlines": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "folded-header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_what_is_not_http_is_refused_or_hung_up_on(service: Running, name: str) -> None:
    with connection(service) as sock:
        try:
            sock.sendall(GARBAGE[name])
            sock.shutdown(socket.SHUT_WR)
            received = b""
            while piece := sock.recv(65536):
                received += piece
        except OSError:  # hung up on while sending
            return
    if received.startswith(b"HTTP/1"):
        assert received.split(b" ", 2)[1].startswith(b"4"), received


def test_garbage_on_the_tls_port_leaves_it_serving(service: Running) -> None:
    port = int(service.https_url.rpartition(":")[2])
    for data in (b"GET / HTTP/1.1\r\n\r\n", PREFACE, bytes(range(256)) * 10):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(data)
            try:
                while sock.recv(65536):
                    pass
            except ConnectionError:
                pass


def test_two_requests_in_one_packet_are_answered_in_order(service: Running) -> None:
    good = signed_message(service, "POST", CONVERSE, json.dumps(ASK).encode())
    with connection(service) as sock:
        sock.sendall(good + message("GET", "/nowhere", {"Host": "localhost"}) + good)
        statuses = [answer and answer.status for answer in read_responses(sock, 3)]
    assert statuses == [200, 404, 200]
