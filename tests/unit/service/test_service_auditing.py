"""One event for each call, whatever became of it, and nothing of what was said in it."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from audit_rig import ACCOUNT, event, trail
from outcrop.base.arn import AccountId, Scope
from outcrop.base.clock import SystemClock
from outcrop.base.errors import AuditUnavailable
from outcrop.service.auditing import Auditor
from outcrop.service.endpoints import aws_endpoints
from outcrop.service.http import RawRequest
from outcrop.service.pipeline import Call
from outcrop.service.wire.errors import AwsError
from outcrop.trust.audit import State
from outcrop.trust.audit.disk import Disk
from outcrop.trust.audit.segments import signed_records
from outcrop.trust.audit.verify import verify
from serving import TINY_MODEL_ID, Running
from signing import Response, api_key, connection, message, read_responses, signed_headers

MODEL = f"/model/{quote(TINY_MODEL_ID, safe='')}"
CANARY = "canary-7d1f0b52"
ASK = {"messages": [{"role": "user", "content": [{"text": CANARY}]}], "system": [{"text": CANARY}]}
JSON_1_1 = "application/x-amz-json-1.1"


def ask(
    service: Running,
    target: str,
    document: Any = None,
    *,
    signing_name: str = "bedrock",
    headers: dict[str, str] | None = None,
    signed: bool = True,
) -> Response:
    body = b"" if document is None else json.dumps(document).encode()
    given = {"Host": "localhost", **(headers or {})}
    if signed:
        given = signed_headers(service, "POST", target, body, headers=headers, signing_name=signing_name)
    with connection(service) as sock:
        sock.sendall(message("POST", target, given, body))
        (answer,) = read_responses(sock, 1, "POST")
    assert answer is not None
    return answer


def events(data: Path) -> list[dict[str, Any]]:
    return [line.parsed()["event"] for _, line in signed_records(data / "audit" / "log")]


def event_of(service: Running, answer: Response) -> dict[str, Any]:
    """The one event of an answered call, by its request id; batched events take a moment."""
    request_id = answer.headers["x-amzn-requestid"]
    deadline = time.monotonic() + 5
    while True:
        found = [one for one in events(service.data) if one.get("requestID") == request_id]
        if found or time.monotonic() > deadline:
            assert len(found) == 1
            return found[0]
        time.sleep(0.01)


def cloudtrail(service: Running, operation: str, document: dict[str, Any]) -> Response:
    target = f"com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.{operation}"
    headers = {"Content-Type": JSON_1_1, "X-Amz-Target": target}
    return ask(service, "/", document, signing_name="cloudtrail", headers=headers)


def test_a_call_that_was_done(service: Running) -> None:
    event = event_of(service, ask(service, f"{MODEL}/converse", ASK, headers={"User-Agent": "tests/1"}))
    assert event["eventSource"] == "bedrock.amazonaws.com"
    assert (event["eventName"], event["readOnly"], event["eventCategory"]) == ("Converse", True, "Management")
    assert event["requestParameters"] == {"modelId": TINY_MODEL_ID}
    assert event["responseElements"] is None
    assert event["userIdentity"]["type"] == "Root"
    assert event["userIdentity"]["accessKeyId"] == service.access_key_id
    assert event["recipientAccountId"] == service.account
    assert (event["sourceIPAddress"], event["userAgent"]) == ("127.0.0.1", "tests/1")
    assert "errorCode" not in event


def test_a_stream_is_one_event(service: Running) -> None:
    event = event_of(service, ask(service, f"{MODEL}/converse-stream", ASK))
    assert event["eventName"] == "ConverseStream"
    assert "errorCode" not in event


def test_a_call_that_was_malformed_says_so_without_its_words(service: Running) -> None:
    event = event_of(service, ask(service, f"{MODEL}/converse", {"messages": [{"role": CANARY, "content": []}]}))
    assert event["errorCode"] == "ValidationException"
    assert "errorMessage" not in event


def test_a_sender_who_is_not_established(service: Running) -> None:
    good = signed_headers(service, "POST", f"{MODEL}/converse", b"{}", signing_name="bedrock")
    event = event_of(service, ask(service, f"{MODEL}/converse", ASK, headers=good, signed=False))
    assert event["errorCode"]
    assert event["userIdentity"] == {"type": "Unknown", "accessKeyId": service.access_key_id}
    assert event["requestParameters"] is None


def test_a_call_without_any_proof(service: Running) -> None:
    event = event_of(service, ask(service, f"{MODEL}/converse", ASK, signed=False))
    assert event["userIdentity"] == {"type": "Unknown"}
    assert event["errorCode"]


def test_a_path_that_nothing_answers(service: Running) -> None:
    event = event_of(service, ask(service, "/no/such/thing", ASK))
    assert (event["eventSource"], event["eventName"]) == ("unrouted.outcrop", "UnknownOperation")
    assert event["additionalEventData"] == {"method": "POST", "path": "/no/such/thing"}


def test_an_operation_that_is_not_built(service: Running) -> None:
    event = event_of(service, ask(service, f"{MODEL}/async-invoke", {}))
    assert event["errorCode"]


def test_a_body_that_is_too_large(service: Running) -> None:
    headers = signed_headers(service, "POST", f"{MODEL}/converse", b"", signing_name="bedrock")
    with connection(service) as sock:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name.lower() != "content-length")
        text = f"POST {MODEL}/converse HTTP/1.1\r\n{head}Content-Length: 99999999\r\n\r\n"
        sock.sendall(text.encode())
        (answer,) = read_responses(sock, 1, "POST")
    assert answer is not None
    event = event_of(service, answer)
    assert event["eventName"] == "Converse"
    assert event["errorCode"]


def test_a_vendor_surface_and_an_api_key(service: Running) -> None:
    body = {"model": TINY_MODEL_ID, "messages": [{"role": "user", "content": CANARY}]}
    bearer = {"Authorization": f"Bearer {api_key(service)}", "Content-Type": "application/json"}
    event = event_of(service, ask(service, "/openai/v1/chat/completions", body, headers=bearer, signed=False))
    assert event["eventSource"] == "bedrock-mantle.amazonaws.com"
    assert event["requestParameters"] == {"model": TINY_MODEL_ID}
    assert event["additionalEventData"] == {"callWithBearerToken": True}
    assert event["readOnly"] is True


def test_what_was_done_can_be_looked_up(service: Running) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    headers = signed_headers(service, "POST", "/", body, headers=form, signing_name="sts")
    with connection(service) as sock:
        sock.sendall(message("POST", "/", headers, body))
        (done,) = read_responses(sock, 1, "POST")
    assert done is not None
    assert done.status == 200
    attribute = {"AttributeKey": "EventName", "AttributeValue": "GetCallerIdentity"}
    answer = cloudtrail(service, "LookupEvents", {"LookupAttributes": [attribute]})
    assert answer.status == 200, answer.body
    found = json.loads(answer.body)["Events"]
    assert [one["EventName"] for one in found] == ["GetCallerIdentity"]
    assert json.loads(found[0]["CloudTrailEvent"])["requestID"] == done.headers["x-amzn-requestid"]
    other = {"AttributeKey": "EventName", "AttributeValue": "Nothing"}
    assert json.loads(cloudtrail(service, "LookupEvents", {"LookupAttributes": [other]}).body)["Events"] == []


def test_lookups_that_cannot_be_answered(service: Running) -> None:
    two = [{"AttributeKey": "EventName", "AttributeValue": "a"}] * 2
    for document, code in (
        ({"LookupAttributes": two}, "InvalidLookupAttributesException"),
        ({"StartTime": 2_000_000_000, "EndTime": 1_000_000_000}, "InvalidTimeRangeException"),
        ({"NextToken": "forged"}, "InvalidNextTokenException"),
    ):
        answer = cloudtrail(service, "LookupEvents", document)
        assert answer.status == 400
        assert code in answer.body.decode()
        assert event_of(service, answer)["errorCode"] == code


def test_the_trail_describes_itself_truly(service: Running) -> None:
    trail = json.loads(cloudtrail(service, "DescribeTrails", {}).body)["trailList"][0]
    status = json.loads(cloudtrail(service, "GetTrailStatus", {"Name": trail["TrailARN"]}).body)
    assert status["IsLogging"] is True
    assert cloudtrail(service, "GetTrailStatus", {"Name": "other"}).status == 400
    keys = json.loads(cloudtrail(service, "ListPublicKeys", {}).body)["PublicKeyList"]
    assert len(keys) == 1
    assert json.loads(cloudtrail(service, "ListPublicKeys", {"EndTime": 1_000_000_000}).body)["PublicKeyList"] == []


def test_nothing_of_what_was_said_is_in_the_trail_and_it_holds(service: Running) -> None:
    ask(service, f"{MODEL}/converse", ASK)
    time.sleep(0.1)
    assert verify(service.data / "audit").findings == []
    for path in (service.data / "audit").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert CANARY.encode() not in content, path
            assert service.secret_access_key.encode() not in content, path


def test_a_full_disk_refuses_changes_and_records_the_refusal(tmp_path: Path) -> None:
    """The pipeline's own hook over a trail whose disk is full: 503, in the log, and reading goes on."""
    log = trail(tmp_path, SystemClock(), disk=_FullDisk())
    auditor = Auditor(log, Scope("aws", "us-east-1", AccountId(ACCOUNT)), SystemClock())
    create, read = _call("iam:CreateUser"), _call("bedrock:ListFoundationModels")
    auditor.begin(create)
    while log.state is State.OPEN:
        log.append(event(at=SystemClock().now()))
    with pytest.raises(AwsError) as refused:
        auditor.begin(create)
    assert refused.value.status == 503
    auditor.begin(read)
    asyncio.run(auditor.finish(create, refused.value))
    log.append(event("Behind", at=SystemClock().now()))  # the refusal, of nobody known, is batched: it comes first
    last = [line.parsed()["event"] for _, line in signed_records(tmp_path / "log")][-2]
    assert (last["eventName"], last["errorCode"]) == ("CreateUser", "ServiceUnavailableException")
    while log.state is State.FULL:
        try:
            log.append(event(at=SystemClock().now()))
        except AuditUnavailable:
            break
    for call in (create, read):
        with pytest.raises(AwsError):
            auditor.begin(call)
    with pytest.raises(AwsError) as unrecorded:
        asyncio.run(auditor.finish(read, None))
    assert unrecorded.value.status == 503
    log.close()


class _FullDisk(Disk):
    """A disk with room for some ten events and a reserve for some five."""

    def __init__(self) -> None:
        self.room = 13_000

    def write(self, descriptor: int, data: bytes) -> None:
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, "full")
        self.room -= len(data)
        super().write(descriptor, data)

    def take_reserve(self, path: Path) -> None:
        if not path.exists():
            if self.room < 8000:
                raise OSError(errno.ENOSPC, "full")
            self.room -= 5000
            path.touch()

    def give_reserve(self, path: Path) -> None:
        self.room += 5000
        path.unlink()


def _call(name: str) -> Call:
    service, _, operation = name.partition(":")
    endpoint = replace(aws_endpoints()[service, operation], name=name)
    return Call(RawRequest("POST", b"/", b"", [], b""), "request-1", 0.0, endpoint)
