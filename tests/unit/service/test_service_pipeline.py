"""The stages of a request, seen from outside: who is refused, in which shape, and what one request costs another."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outcrop.base import tables
from outcrop.base.errors import UserError
from outcrop.inference.base import EngineConfig
from outcrop.inference.null import NullEngine
from outcrop.models.registry import LoadedModel
from outcrop.service.endpoints import VENDOR
from outcrop.service.hosting import paged_engines
from outcrop.service.wire.eventstream import Frame, decode_frame
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.model import Operation
from serving import TINY_MODEL_ID, Running, running_service
from signing import Response, api_key, connection, message, read_responses, signed_headers

MODEL = f"/model/{quote(TINY_MODEL_ID, safe='')}"
ASK = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
CLAUDE = {"anthropic_version": "2023-06-01", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
DIRECT = {"model": TINY_MODEL_ID, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
CHAT = {"model": TINY_MODEL_ID, "messages": [{"role": "user", "content": "hi"}]}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REQUEST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def ask(
    service: Running,
    target: str,
    document: Any = None,
    *,
    method: str = "POST",
    signing_name: str = "bedrock",
    headers: dict[str, str] | None = None,
    signed: bool = True,
) -> Response:
    """One request and its answer; ``document`` is sent as JSON, bytes as they are."""
    body = document if isinstance(document, bytes) else b"" if document is None else json.dumps(document).encode()
    given_headers = {"Host": "localhost", **(headers or {})}
    if signed:
        given_headers = signed_headers(service, method, target, body, headers=headers, signing_name=signing_name)
    with connection(service) as sock:
        sock.sendall(message(method, target, given_headers, body))
        (answer,) = read_responses(sock, 1, method)
    assert answer is not None
    return answer


def target_of(operation: Operation) -> tuple[str, bytes, dict[str, str]]:
    """A path, body and headers that name ``operation``."""
    if operation.protocol == "query":
        return "/", f"Action={operation.name}&Version={operation.api_version}".encode(), FORM
    if operation.protocol == "json":
        return "/", b"{}", {"X-Amz-Target": f"{operation.target_prefix}.{operation.name}"}
    path = re.sub(r"\{[^}]*\}", "x", operation.uri)
    # Paths that two services share are told apart by the user agent of the JavaScript SDK, among others.
    return path, b"{}" if operation.method != "GET" else b"", {"User-Agent": f"x api/{operation.service}#1"}


@pytest.mark.parametrize("name", sorted({operation.service for operation in OPERATIONS.values()}))
def test_every_operation_refuses_unsigned_requests_and_names_itself_where_it_is_not_built(
    service: Running, name: str
) -> None:
    for operation in OPERATIONS.values():
        if operation.service != name:
            continue
        path, body, headers = target_of(operation)
        stranger = ask(service, path, body, method=operation.method, headers=headers, signed=False)
        if operation.signed:
            assert stranger.status == (400 if operation.protocol == "json" else 403), (operation.name, stranger)
            missing = b"MissingAuthenticationToken"
            assert missing in stranger.body + stranger.headers.get("x-amzn-errortype", "").encode()
        else:
            assert stranger.status == 501 or operation.built
        known = ask(service, path, body, method=operation.method, headers=headers, signing_name=operation.signing_name)
        if operation.built:
            assert known.status in range(200, 500), (operation.name, known)
            assert known.error_type != "NotImplementedException"
        else:
            assert known.status == 501, (operation.name, known)
            assert f"{operation.name} of {operation.service} is not built".encode() in known.body


def test_an_operation_that_proves_its_sender_by_its_input_takes_no_signature_but_knows_its_hosts(
    service: Running,
) -> None:
    body = b"Action=AssumeRoleWithWebIdentity&Version=2011-06-15"
    for extra in ({}, {"Authorization": "AWS4-HMAC-SHA256 nonsense"}):
        answer = ask(service, "/", body, headers={**FORM, **extra}, signed=False)
        assert b"MissingAuthenticationToken" not in answer.body
        assert b"IncompleteSignature" not in answer.body
    rebound = ask(service, "/", body, headers={**FORM, "Host": "rebound.example"}, signed=False)
    assert (rebound.status, b"<Code>AccessDenied</Code>" in rebound.body) == (403, True)
    other = ask(service, "/", b"Action=AssumeRole&Version=2011-06-15", headers=FORM, signed=False)
    assert (other.status, b"MissingAuthenticationToken" in other.body) == (403, True)


def test_a_target_that_nobody_has_is_told_in_the_json_protocols_shape(service: Running) -> None:
    for target, status in (("TrentService.Nothing", 400), ("Nobody.Nothing", 404)):
        answer = ask(service, "/", b"{}", headers={"X-Amz-Target": target})
        assert (answer.status, answer.error_type) == (status, "UnknownOperationException")
        assert answer.headers["content-type"] == "application/x-amz-json-1.1"
        assert json.loads(answer.body)["__type"] == "UnknownOperationException"


def test_a_signed_request_does_not_hold_for_another_target(service: Running) -> None:
    headers = {"X-Amz-Target": "TrentService.Encrypt", "Content-Type": "application/x-amz-json-1.1"}
    sent = signed_headers(service, "POST", "/", b"{}", headers=headers, signing_name="kms")
    for target, told in (("TrentService.Encrypt", "NotImplemented"), ("TrentService.Decrypt", "InvalidSignature")):
        with connection(service) as sock:
            sock.sendall(message("POST", "/", {**sent, "X-Amz-Target": target}, b"{}"))
            (answer,) = read_responses(sock, 1, "POST")
        assert answer is not None
        if told == "InvalidSignature" or not OPERATIONS["kms", "Encrypt"].built:
            assert answer.error_type == f"{told}Exception"


@pytest.mark.parametrize(("method", "path"), VENDOR)
def test_every_vendor_path_refuses_unsigned_requests(service: Running, method: str, path: bytes) -> None:
    stranger = ask(service, path.decode(), b"{}", method=method, signed=False)
    assert stranger.status == 401
    assert json.loads(stranger.body)["error"]["message"]
    for token in (
        "Bearer nonsense",
        "Bearer ",
        "Basic dTpw",
        "bearer bedrock-api-key-",
        "AWS4-HMAC-SHA256 nonsense",
        "",
    ):
        answer = ask(service, path.decode(), b"{}", method=method, signed=False, headers={"Authorization": token})
        assert answer.status in (401, 403), (token, answer)


def test_an_api_key_opens_bedrock_and_its_vendor_paths_but_not_the_other_services(service: Running) -> None:
    bearer = {"Authorization": f"Bearer {api_key(service)}"}
    for target, document in ((f"{MODEL}/converse", ASK), ("/anthropic/v1/messages", DIRECT)):
        assert ask(service, target, document, headers=bearer, signed=False).status == 200
    assert ask(service, "/foundation-models", method="GET", headers=bearer, signed=False).status == 200
    endpoint = ask(service, "/endpoints/local-tiny-v1-0/invocations", {"inputs": "x"}, headers=bearer, signed=False)
    assert (endpoint.status, endpoint.error_type) == (403, "AccessDeniedException")
    agent = ask(service, "/knowledgebases/", b"{}", headers=bearer, signed=False)
    assert (agent.status, agent.error_type) == (403, "AccessDeniedException")
    who = ask(service, "/", b"Action=GetCallerIdentity", headers={**FORM, **bearer}, signed=False)
    assert who.status == 403


def test_the_signature_is_looked_at_before_the_body(service: Running) -> None:
    for target in (f"{MODEL}/converse", f"{MODEL}/invoke", "/anthropic/v1/messages", "/openai/v1/chat/completions"):
        assert ask(service, target, b"not json", signed=False).status in (401, 403)


def test_a_request_to_a_host_name_that_is_not_served_is_refused(service: Running) -> None:
    answer = ask(service, f"{MODEL}/converse", ASK, headers={"Host": "rebound.example"})
    assert (answer.status, answer.error_type) == (403, "AccessDeniedException")


# --- shapes of errors -------------------------------------------------------------------------------------------------


def test_each_surface_tells_an_error_in_its_own_shape(service: Running) -> None:
    aws = ask(service, f"{MODEL}/converse", {"messages": 1})
    assert (aws.status, aws.error_type) == (400, "SerializationException")
    assert set(json.loads(aws.body)) == {"message"}
    sagemaker = ask(service, "/endpoints/none/invocations", {"inputs": "x"}, signing_name="sagemaker")
    assert (sagemaker.status, sagemaker.error_type) == (400, "ValidationError")
    assert set(json.loads(sagemaker.body)) == {"Message"}
    sts = ask(service, "/", b"Action=GetFederationToken&Name=x", headers=FORM, signing_name="sts")
    assert sts.headers["content-type"] == "text/xml"
    assert sts.body.startswith(b"<ErrorResponse")
    anthropic = ask(service, "/anthropic/v1/messages", {})
    document = json.loads(anthropic.body)
    assert (anthropic.status, document["type"], document["error"]["type"]) == (400, "error", "invalid_request_error")
    assert document["request_id"] == anthropic.headers["request-id"] == anthropic.headers["x-amzn-requestid"]
    openai = ask(service, "/openai/v1/chat/completions", {})
    error = json.loads(openai.body)["error"]
    assert (openai.status, error["type"], error["code"]) == (400, "invalid_request_error", None)
    assert openai.headers["x-request-id"] == openai.headers["x-amzn-requestid"]


def test_paths_that_nothing_answers_have_the_shape_of_their_prefix(service: Running) -> None:
    for target, key in (("/anthropic/v1/nothing", "error"), ("/openai/v1/nothing", "error"), ("/nothing", "message")):
        for signed in (True, False):
            answer = ask(service, target, b"{}", signed=signed)
            assert answer.status == 404
            assert key in json.loads(answer.body)
    assert ask(service, "/nothing").error_type == "UnknownOperationException"


def test_every_answer_has_a_request_id_of_its_own(service: Running) -> None:
    answers = [ask(service, f"{MODEL}/converse", ASK) for _ in range(3)]
    answers += [ask(service, "/nothing", signed=False), ask(service, "/openai/v1/models", method="GET")]
    answers.append(ask(service, f"{MODEL}/converse-stream", ASK))
    ids = [answer.headers["x-amzn-requestid"] for answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(REQUEST_ID.fullmatch(one) for one in ids)


# --- engines that fail ------------------------------------------------------------------------------------------------

FAILURES: dict[str, Any] = {
    "crash": RuntimeError("a detail that is nobody's business"),
    "user": UserError("The request asks for something odd.", "Ask for less."),
}


@pytest.fixture(scope="module", params=FAILURES)
def failing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Running]]:
    """A service whose engine fails after two words."""
    data = tmp_path_factory.mktemp("failing") / "data"
    with running_service(data, lambda loaded: NullEngine(fail_after=2, failure=FAILURES[request.param])) as running:
        yield request.param, running


def frames_of(body: bytes) -> list[Frame]:
    frames = []
    while body:
        frame, length = decode_frame(body)
        frames.append(frame)
        body = body[length:]
    return frames


def test_a_failure_ends_an_event_stream_with_an_exception_frame(failing: tuple[str, Running]) -> None:
    kind, service = failing
    expected = {"crash": "internalServerException", "user": "validationException"}[kind]
    for target, document in ((f"{MODEL}/converse-stream", ASK), (f"{MODEL}/invoke-with-response-stream", CLAUDE)):
        answer = ask(service, target, document)
        assert answer.status == 200
        *events, last = frames_of(answer.body)
        assert len(events) >= 3
        assert {frame.headers[":message-type"] for frame in events} == {"event"}
        assert last.headers[":message-type"] == "exception"
        assert last.headers[":exception-type"] == expected
        assert json.loads(last.payload)["message"]
        assert b"nobody" not in last.payload
    endpoint = ask(
        service, "/endpoints/local-tiny-v1-0/invocations-response-stream", {"inputs": "x"}, signing_name="sagemaker"
    )
    *_, last = frames_of(endpoint.body)
    assert last.headers[":message-type"] == "exception"
    assert last.headers[":exception-type"] in ("InternalStreamFailure", "ModelStreamError")


def test_a_failure_ends_server_sent_events_with_an_error_event(failing: tuple[str, Running]) -> None:
    kind, service = failing
    anthropic = ask(service, "/anthropic/v1/messages", {**DIRECT, "stream": True})
    last = anthropic.body.rstrip().rpartition(b"\n\n")[2]
    assert last.startswith(b"event: error\ndata: ")
    error = json.loads(last.partition(b"data: ")[2])["error"]
    assert error["type"] == {"crash": "api_error", "user": "invalid_request_error"}[kind]
    openai = ask(service, "/openai/v1/chat/completions", {**CHAT, "stream": True})
    last = openai.body.rstrip().rpartition(b"\n\n")[2]
    assert json.loads(last.removeprefix(b"data: "))["error"]["message"]
    assert b"[DONE]" not in openai.body
    assert b"nobody" not in anthropic.body + openai.body


def test_a_failure_of_a_unary_call_is_typed_and_says_nothing_of_the_inside(failing: tuple[str, Running]) -> None:
    kind, service = failing
    status = {"crash": 500, "user": 400}[kind]
    for target, document in (
        (f"{MODEL}/converse", ASK),
        (f"{MODEL}/invoke", CLAUDE),
        ("/anthropic/v1/messages", DIRECT),
        ("/openai/v1/chat/completions", CHAT),
    ):
        answer = ask(service, target, document)
        assert answer.status == status
        assert b"nobody" not in answer.body
    assert service.engines[0].stats().running == 0


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose engine takes no request at all, with a window of ten tokens."""
    data = tmp_path_factory.mktemp("full") / "data"
    with running_service(data, lambda loaded: NullEngine(max_requests=0, max_context_tokens=10)) as running:
        yield running


EVERYWHERE: list[tuple[str, dict[str, Any]]] = [
    (f"{MODEL}/converse", ASK),
    (f"{MODEL}/converse-stream", ASK),
    (f"{MODEL}/invoke", CLAUDE),
    (f"{MODEL}/invoke-with-response-stream", CLAUDE),
    ("/anthropic/v1/messages", {**DIRECT, "stream": True}),
    ("/openai/v1/chat/completions", {**CHAT, "stream": True}),
]


@pytest.mark.parametrize(("target", "document"), EVERYWHERE)
def test_a_full_queue_is_429_on_every_surface_streamed_or_not(
    full: Running, target: str, document: dict[str, Any]
) -> None:
    answer = ask(full, target, document)
    assert answer.status == 429
    if target.startswith("/model"):
        assert answer.error_type == "ThrottlingException"
    elif "anthropic" in target:
        assert json.loads(answer.body)["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize(("target", "document"), EVERYWHERE)
def test_a_prompt_that_is_too_long_is_refused_in_the_recorded_words(
    full: Running, target: str, document: dict[str, Any]
) -> None:
    for text in ("x" * 9, "x" * 100_000):
        answer = ask(full, target, json.loads(json.dumps(document).replace('"hi"', json.dumps(text))))
        assert answer.status == 400
        told = b"prompt is too long" if "anthropic" in target else b"Input is too long for requested model."
        assert told in answer.body


def test_a_model_that_loads_slowly_holds_up_nobody_else(tmp_path_factory: pytest.TempPathFactory) -> None:
    go_on, asked = threading.Event(), threading.Event()

    def slow(loaded: LoadedModel) -> NullEngine:
        asked.set()
        assert go_on.wait(30)
        return NullEngine()

    data = tmp_path_factory.mktemp("slow") / "data"
    with running_service(data, slow) as service, ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(ask, service, f"{MODEL}/converse", ASK) for _ in range(2)]
        try:
            assert asked.wait(30)
            assert ask(service, "/foundation-models", method="GET").status == 200
            assert ask(service, f"{MODEL}/converse", {"messages": 1}).status == 400
            assert not any(future.done() for future in waiting)
        finally:
            go_on.set()
        assert [future.result(30).status for future in waiting] == [200, 200]
        assert len(service.engines) == 1


# --- vendor bodies ----------------------------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.sampled_from(["", "hi", "\x00", "user", "assistant", "system", "text", "image", TINY_MODEL_ID]), st.text()
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
BLOCKS = st.one_of(
    ANYTHING,
    st.lists(st.fixed_dictionaries({"type": st.one_of(st.just("text"), ANYTHING), "text": ANYTHING}), max_size=3),
)
MESSAGES = st.one_of(
    ANYTHING, st.lists(st.fixed_dictionaries({"role": TEXTS, "content": st.one_of(TEXTS, BLOCKS)}), max_size=3)
)
VALUES = st.one_of(ANYTHING, BLOCKS)
COMMON = {"temperature": VALUES, "top_p": VALUES, "tools": VALUES, "tool_choice": VALUES, "metadata": VALUES}
CLAUDE_MEMBERS = {
    **COMMON,
    "max_tokens": VALUES,
    "messages": MESSAGES,
    "system": VALUES,
    "top_k": VALUES,
    "stop_sequences": VALUES,
    "thinking": VALUES,
    "output_config": VALUES,
    "output_format": VALUES,
}
MEMBERS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "invoke": (
        f"{MODEL}/invoke",
        "bedrock",
        CLAUDE,
        {**CLAUDE_MEMBERS, "anthropic_version": TEXTS, "anthropic_beta": VALUES},
    ),
    "anthropic": (
        "/anthropic/v1/messages",
        "bedrock",
        DIRECT,
        {**CLAUDE_MEMBERS, "model": VALUES, "stream": VALUES, "service_tier": VALUES},
    ),
    "count": ("/anthropic/v1/messages/count_tokens", "bedrock", DIRECT, CLAUDE_MEMBERS),
    "openai": (
        "/openai/v1/chat/completions",
        "bedrock",
        CHAT,
        {
            **COMMON,
            "messages": MESSAGES,
            "model": VALUES,
            "max_tokens": VALUES,
            "max_completion_tokens": VALUES,
            "stop": VALUES,
            "seed": VALUES,
            "stream": VALUES,
            "stream_options": VALUES,
            "logprobs": VALUES,
            "top_logprobs": VALUES,
            "n": VALUES,
            "logit_bias": VALUES,
            "response_format": VALUES,
        },
    ),
    "endpoint": (
        "/endpoints/local-tiny-v1-0/invocations",
        "sagemaker",
        {"inputs": "Say"},
        {
            "inputs": VALUES,
            "stream": VALUES,
            "messages": MESSAGES,
            "parameters": st.dictionaries(
                st.sampled_from(["max_new_tokens", "temperature", "top_p", "top_k", "seed", "stop", "do_sample", "x"]),
                ANYTHING,
                max_size=3,
            ),
        },
    ),
    "fields": (
        f"{MODEL}/converse",
        "bedrock",
        ASK,
        {
            "additionalModelRequestFields": st.one_of(
                ANYTHING, st.dictionaries(st.sampled_from(["top_k", "seed"]), ANYTHING)
            ),
            "additionalModelResponseFieldPaths": VALUES,
            "inferenceConfig": VALUES,
            "system": VALUES,
        },
    ),
}


@pytest.fixture(scope="module")
def computing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service over the engine that computes, with a window of 64 tokens."""
    engines: Any = paged_engines(EngineConfig(kv_cache_bytes=16 * 2**10))
    with running_service(tmp_path_factory.mktemp("computing") / "data", engines) as running:
        yield running


def drawn(data: st.DataObject, surface: str) -> dict[str, Any]:
    """A right body of ``surface`` with one to three members that may be anything."""
    _, _, right, members = MEMBERS[surface]
    names = data.draw(st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=3, unique=True))
    return {**right, **{name: data.draw(members[name], label=name) for name in names}}


def never_fails(service: Running, surface: str, document: dict[str, Any]) -> None:
    path, signing_name, _, _ = MEMBERS[surface]
    answer = ask(service, path, document, signing_name=signing_name)
    assert answer.status < 500, (document, answer)
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert b"api_error" not in answer.body
        assert b"server_error" not in answer.body


@pytest.mark.parametrize("surface", MEMBERS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_body_makes_the_service_fail(service: Running, surface: str, data: st.DataObject) -> None:
    never_fails(service, surface, drawn(data, surface))


SAMPLING = {
    "openai": ("temperature", "top_p", "seed", "max_tokens", "logprobs", "top_logprobs", "stop", "stream"),
    "invoke": ("temperature", "top_p", "top_k", "max_tokens", "stop_sequences"),
    "fields": ("additionalModelRequestFields",),
    "endpoint": ("parameters",),
}
NUMBERS = st.one_of(st.integers(), st.floats(0, 1), st.floats(allow_nan=False, allow_infinity=False), st.just(2**70))
PARAMETERS = st.dictionaries(st.sampled_from(["temperature", "top_p", "top_k", "seed", "max_new_tokens"]), NUMBERS)


@pytest.mark.parametrize("surface", SAMPLING)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_sampling_parameter_makes_the_engine_fail(computing: Running, surface: str, data: st.DataObject) -> None:
    document = dict(MEMBERS[surface][2])
    for name in SAMPLING[surface]:
        if name in ("parameters", "additionalModelRequestFields"):
            document[name] = data.draw(PARAMETERS, label=name)
        elif name in ("logprobs", "stream"):
            document[name] = data.draw(st.booleans(), label=name)
        elif name in ("stop", "stop_sequences"):
            document[name] = data.draw(st.lists(st.text(max_size=3), max_size=4), label=name)
        elif data.draw(st.booleans()):
            document[name] = data.draw(NUMBERS, label=name)
    never_fails(computing, surface, document)


def test_a_database_that_cannot_be_used_is_the_services_fault_and_names_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BUSY_TIMEOUT_S", 0.05)
    form = b"Action=CreateUser&UserName=x&Version=2010-05-08"
    with running_service(tmp_path / "data") as service:
        other = sqlite3.connect(service.data / "outcrop.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # another program holds the write lock, and does not let go
        try:
            answer = ask(service, "/", form, headers=FORM, signing_name="iam")
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert answer.status == 503
        assert b"ServiceUnavailable" in answer.body
        assert b"outcrop.db" not in answer.body
        assert ask(service, "/", form, headers=FORM, signing_name="iam").status == 200
