"""Records of invocations: the documented members, made from the bytes of requests and replies."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from objects_rig import ACCOUNT, START
from outcrop.service.accounts import LogBucket, LoggingSettings
from outcrop.service.invocations import Invocation, layout
from outcrop.service.invocations.record import BODY_BYTES_MAX, record_of
from outcrop.service.wire.eventstream import encode_event, encode_exception

SETTINGS = LoggingSettings(LogBucket("logs"))
CONVERSE_REPLY = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 4, "outputTokens": 2, "totalTokens": 6},
    "metrics": {"latencyMs": 7},
}


def call(request: Any = None, reply: Any = None, **more: Any) -> Invocation:
    body = request if isinstance(request, bytes) else json.dumps(request or {"messages": []}).encode()
    answer = reply if isinstance(reply, bytes) else b"" if reply is None else json.dumps(reply).encode()
    given = {
        "account": ACCOUNT,
        "caller_arn": f"arn:aws:iam::{ACCOUNT}:user/ann",
        "region": "us-east-1",
        "request_id": "ff4b6c63-5561-4431-93b8-06a817275900",
        "operation": "Converse",
        "model_id": "local.tiny-v1:0",
        "at": START,
        "settings": SETTINGS,
    }
    return Invocation(**{**given, "request": body, "reply": answer, **more})


def told(one: Invocation) -> dict[str, Any]:
    line = record_of(one).line
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return json.loads(line)


def test_a_record_has_the_documented_members():
    request = {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "requestMetadata": {"team": "a"}}
    assert told(call(request, CONVERSE_REPLY)) == {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "timestamp": "2026-11-22T12:00:00Z",
        "accountId": ACCOUNT,
        "identity": {"arn": f"arn:aws:iam::{ACCOUNT}:user/ann"},
        "region": "us-east-1",
        "requestId": "ff4b6c63-5561-4431-93b8-06a817275900",
        "operation": "Converse",
        "modelId": "local.tiny-v1:0",
        "input": {"inputContentType": "application/json", "inputBodyJson": request, "inputTokenCount": 4},
        "output": {"outputContentType": "application/json", "outputBodyJson": CONVERSE_REPLY, "outputTokenCount": 2},
        "requestMetadata": {"team": "a"},
    }


def test_a_failed_call_has_its_error_code_and_no_output():
    found = told(call({"messages": []}, error_code="ThrottlingException"))
    assert found["errorCode"] == "ThrottlingException"
    assert "output" not in found
    assert "errorCode" not in told(call(None, CONVERSE_REPLY))


def test_times_are_utc_wherever_they_come_from():
    at = datetime(2026, 11, 22, 1, 30, tzinfo=timezone(timedelta(hours=3)))
    assert told(call(at=at))["timestamp"] == "2026-11-21T22:30:00Z"
    assert layout("p/", ACCOUNT, "us-east-1", at) == (
        f"p/AWSLogs/{ACCOUNT}/BedrockModelInvocationLogs/us-east-1/2026/11/21/22"
    )


@pytest.mark.parametrize(("prefix", "before"), [(None, ""), ("", ""), ("a", "a/"), ("a/", "a/"), ("a/b", "a/b/")])
def test_keys_begin_as_documented(prefix: str | None, before: str):
    assert layout(prefix, ACCOUNT, "eu-west-1") == f"{before}AWSLogs/{ACCOUNT}/BedrockModelInvocationLogs/eu-west-1"


def test_a_body_above_100_kb_is_an_object_beside_the_record():
    large = {"messages": [{"content": "x" * BODY_BYTES_MAX}]}
    recorded = record_of(call(large, CONVERSE_REPLY))
    found = json.loads(recorded.line)
    key = f"{layout(None, ACCOUNT, 'us-east-1', START)}/data/{found['requestId']}_input.json.gz"
    assert found["input"] == {
        "inputContentType": "application/json",
        "inputBodyS3Path": f"s3://logs/{key}",
        "inputTokenCount": 4,
    }
    assert {one: json.loads(gzip.decompress(body)) for one, body in recorded.bodies.items()} == {key: large}
    assert found["output"]["outputBodyJson"] == CONVERSE_REPLY


def test_a_body_of_just_100_kb_stays_in_the_record():
    empty = json.dumps({"m": ""}, separators=(",", ":"))
    body = {"m": "x" * (BODY_BYTES_MAX - len(empty))}
    assert record_of(call(body)).bodies == {}
    assert len(record_of(call({"m": body["m"] + "x"})).bodies) == 1


def test_a_converse_stream_is_recorded_as_the_reply_it_makes():
    frames = [
        encode_event("messageStart", b'{"role":"assistant"}'),
        encode_event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"Hel"}}'),
        encode_event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"lo"}}'),
        encode_event("contentBlockStop", b'{"contentBlockIndex":0}'),
        encode_event("messageStop", b'{"stopReason":"end_turn"}'),
        encode_event("metadata", json.dumps({k: CONVERSE_REPLY[k] for k in ("usage", "metrics")}).encode()),
    ]
    found = told(call(None, b"".join(frames), form="converse-stream", operation="ConverseStream"))
    assert found["output"]["outputBodyJson"] == CONVERSE_REPLY
    assert (found["input"]["inputTokenCount"], found["output"]["outputTokenCount"]) == (4, 2)


def test_a_stream_that_was_cut_or_broke_is_recorded_as_far_as_it_went():
    first = encode_event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"Hel"}}')
    last = encode_event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"lo"}}')
    cut = told(call(None, first + last[:-5], form="converse-stream"))
    assert cut["output"]["outputBodyJson"]["output"]["message"]["content"] == [{"text": "Hel"}]
    assert "errorCode" not in cut
    broken = told(call(None, first + encode_exception("modelStreamErrorException", b"{}"), form="converse-stream"))
    assert broken["errorCode"] == "ModelStreamErrorException"


def test_a_stream_of_chunks_is_recorded_as_the_list_of_its_events():
    events = [{"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}]
    events += [{"type": "message_delta", "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
    frames = [
        encode_event("chunk", json.dumps({"bytes": base64.b64encode(json.dumps(one).encode()).decode()}).encode())
        for one in events
    ]
    found = told(call(None, b"".join(frames), form="chunks"))
    assert found["output"]["outputBodyJson"] == events
    assert (found["input"]["inputTokenCount"], found["output"]["outputTokenCount"]) == (5, 9)


def test_server_sent_events_are_recorded_without_their_frames():
    body = b'event: a\ndata: {"a":1}\n\nevent: ping\ndata: {"usage":{"prompt_tokens":3}}\n\ndata: [DONE]\n\n'
    found = told(call(None, body, form="sse"))
    assert found["output"]["outputBodyJson"] == [{"a": 1}, {"usage": {"prompt_tokens": 3}}]
    assert found["input"]["inputTokenCount"] == 3


def test_without_text_no_body_is_told():
    found = told(call({"secret": "x"}, CONVERSE_REPLY, settings=LoggingSettings(SETTINGS.bucket, text=False)))
    assert found["input"] == {"inputContentType": "application/json", "inputTokenCount": 4}
    assert found["output"] == {"outputContentType": "application/json", "outputTokenCount": 2}


MEDIA = {
    "image": [
        {"image": {"format": "png", "source": {"bytes": "SECRET"}}},
        {"document": {"name": "d", "source": {"bytes": "SECRET"}}},
        {"type": "image", "source": {"type": "base64", "data": "SECRET"}},
        {"type": "image_url", "image_url": {"url": "data:SECRET"}},
    ],
    "video": [{"video": {"format": "mp4", "source": {"bytes": "SECRET"}}}],
    "audio": [
        {"audio": {"format": "wav", "source": {"bytes": "SECRET"}}},
        {"type": "input_audio", "input_audio": "SECRET"},
    ],
}


@pytest.mark.parametrize("kind", MEDIA)
def test_what_is_switched_off_is_left_out_and_what_stands_around_it_stays(kind: str):
    request = {"messages": [{"role": "user", "content": [{"text": "look"}, *MEDIA[kind]]}]}
    off = told(call(request, settings=LoggingSettings(LogBucket("logs"), **{kind: False})))
    assert "SECRET" not in json.dumps(off)
    assert off["input"]["inputBodyJson"]["messages"][0]["content"][0] == {"text": "look"}
    others = {name: False for name in MEDIA if name != kind}
    for settings in (
        SETTINGS,
        LoggingSettings(LogBucket("logs"), **{kind: True}),
        LoggingSettings(LogBucket("logs"), **others),
    ):
        assert told(call(request, settings=settings))["input"]["inputBodyJson"] == request


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b"[" * 5000, b"not json"])
def test_a_body_that_is_no_json_is_left_out(body: bytes):
    for form in ("json", "converse-stream", "chunks", "sse"):
        found = told(call(body, body, form=form))
        assert "inputBodyJson" not in found["input"]
        assert found["requestId"]


def test_the_contents_do_not_show_in_a_repr():
    one = call({"secret": "SECRET"}, {"answer": "SECRET"}, metadata='{"a":"SECRET"}')
    assert "SECRET" not in repr(one)
    assert "SECRET" not in repr(record_of(one))
