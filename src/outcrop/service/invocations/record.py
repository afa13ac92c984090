"""One invocation as Bedrock's log records it, made from the very bytes that came in and went out.

Format: Bedrock User Guide, "Monitor model invocation using CloudWatch Logs and Amazon S3", and records that customers
of the real service published (2025-2026): ``schemaType`` ModelInvocationLog, ``schemaVersion`` 1.0. A body above
100 KB is an object of its own below ``data/``, named by ``inputBodyS3Path`` or ``outputBodyS3Path``. A Converse stream
is recorded as the reply that Converse would have given; every other stream as the list of its events.

With text switched off no body is recorded, only who called what and the counts; with images (and with them documents),
video or audio switched off their bytes are left out of the bodies.

Not covered: ``inferenceRegion``, ``performanceConfig`` and ``status``; images as objects of their own (no model here
takes any) and the embeddings switch, which has nothing to act on; token counts of OpenAI streams that did not ask for
usage; a request body that is no JSON is left out.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import msgspec

from outcrop.service.accounts import LoggingSettings
from outcrop.service.wire.eventstream import Frame, decode_frame
from outcrop.service.wire.redact import Json

BODY_BYTES_MAX = 100 * 1024
"""Larger bodies are objects of their own ("up to 100 KB")."""

OutputForm = Literal["json", "converse-stream", "chunks", "sse"]
Document = dict[str, Json]

_KINDS = {"image": "image", "document": "image", "video": "video", "audio": "audio"}
_TYPES = {
    "image": "image",
    "document": "image",
    "image_url": "image",
    "input_image": "image",
    "file": "image",
    "video": "video",
    "input_audio": "audio",
    "audio": "audio",
}
_BYTES_MEMBERS = ("source", "image_url", "input_audio", "file")
PADDING_MEMBER = "p"
"""What events of a stream are padded with: no part of the answer."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call and its answer, as bytes. Its ``repr`` shows neither."""

    account: str
    caller_arn: str
    region: str
    request_id: str
    operation: str
    model_id: str
    at: datetime
    settings: LoggingSettings
    request: bytes = field(repr=False)
    form: OutputForm = "json"
    reply: bytes = field(default=b"", repr=False)
    error_code: str = ""
    metadata: str = field(default="", repr=False)
    """The JSON text of the request's metadata where it did not come in the body."""

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        return len(self.request) + len(self.reply) + 1024


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record as one line, and the bodies beside it, gzipped, by their keys."""

    line: bytes = field(repr=False)
    bodies: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def layout(prefix: str | None, account: str, region: str, at: datetime | None = None) -> str:
    """The documented beginning of keys: ``PREFIX/AWSLogs/ACCOUNT/BedrockModelInvocationLogs/REGION/YYYY/MM/DD/HH``.

    Without ``at`` it ends behind the Region.
    """
    before = f"{prefix.rstrip('/')}/" if prefix else ""
    root = f"{before}AWSLogs/{account}/BedrockModelInvocationLogs/{region}"
    return root if at is None else f"{root}/{at.astimezone(UTC):%Y/%m/%d/%H}"


def record_of(call: Invocation) -> Recorded:
    """The record of ``call``, with the large bodies beside it."""
    request = _parsed(call.request)
    reply, broken = _reply(call)
    usage = _usage(reply)
    record: dict[str, object] = {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "timestamp": f"{call.at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "accountId": call.account,
        "identity": {"arn": call.caller_arn},
        "region": call.region,
        "requestId": call.request_id,
        "operation": call.operation,
        "modelId": call.model_id,
    }
    if error_code := call.error_code or broken:
        record["errorCode"] = error_code
    bodies: dict[str, bytes] = {}
    for side, body in (("input", request), ("output", reply)):
        if side == "input" or call.reply:
            counts = {
                name: count for name, count in usage.items() if (name == "outputTokenCount") == (side == "output")
            }
            record[side] = {f"{side}ContentType": "application/json", **_body(call, side, body, bodies), **counts}
    inside = request.get("requestMetadata") if isinstance(request, dict) else None
    if metadata := _parsed(call.metadata.encode()) if call.metadata else inside:
        record["requestMetadata"] = metadata
    return Recorded(msgspec.json.encode(record) + b"\n", bodies)


def _body(call: Invocation, side: str, body: Json, bodies: dict[str, bytes]) -> dict[str, object]:
    """The member that holds a body or, when it went into ``bodies``, says where it is; nothing where it is not told."""
    if body is None or call.settings.text is False:
        return {}
    encoded = msgspec.json.encode(_without_media(body, call.settings))
    if len(encoded) <= BODY_BYTES_MAX:
        return {f"{side}BodyJson": msgspec.Raw(encoded)}
    bucket = call.settings.bucket
    key = f"{layout(bucket.prefix, call.account, call.region, call.at)}/data/{call.request_id}_{side}.json.gz"
    bodies[key] = gzip.compress(encoded, mtime=0)
    return {f"{side}BodyS3Path": f"s3://{bucket.name}/{key}"}


def _parsed(body: bytes) -> Json:
    try:
        found: Json = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return found


def _reply(call: Invocation) -> tuple[Json, str]:
    """The answer as JSON, and the name of the exception that its stream broke off with, if it did."""
    if not call.reply or call.form == "json":
        return _parsed(call.reply), ""
    if call.form == "sse":
        return list(_sse_events(call.reply)), ""
    frames = list(_frames(call.reply))
    broken = next((frame.headers[":exception-type"] for frame in frames if ":exception-type" in frame.headers), "")
    events = [(frame.headers.get(":event-type", ""), _parsed(frame.payload)) for frame in frames]
    return _of_chunks(events) if call.form == "chunks" else _assembled(events), broken[:1].upper() + broken[1:]


def _frames(data: bytes) -> Iterator[Frame]:
    """The frames of an event stream; one that was cut off at its end is left out."""
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        try:
            frame, length = decode_frame(data[position : position + length])
        except ValueError:
            return
        position += length
        yield frame


def _of_chunks(events: list[tuple[str, Json]]) -> Json:
    texts = [event.get("bytes") for kind, event in events if kind == "chunk" and isinstance(event, dict)]
    return [_parsed(base64.b64decode(text)) for text in texts if isinstance(text, str)]


def _sse_events(data: bytes) -> Iterator[Json]:
    for line in data.split(b"\n"):
        if line.startswith(b"data: ") and (document := _parsed(line[6:])) is not None:
            yield document


def _assembled(events: list[tuple[str, Json]]) -> Json:
    """A Converse stream as the reply that Converse would have given, as far as it went."""
    texts: list[str] = []
    reply: Document = {}
    for kind, event in events:
        if not isinstance(event, dict):
            continue
        if kind == "contentBlockDelta":
            delta = event.get("delta")
            if isinstance(delta, dict) and isinstance(text := delta.get("text"), str):
                texts.append(text)
        elif kind in ("messageStop", "metadata"):
            reply.update({name: value for name, value in event.items() if name != PADDING_MEMBER})
    content: Json = [{"text": "".join(texts)}] if texts else []
    return {"output": {"message": {"role": "assistant", "content": content}}, **reply}


def _usage(reply: Json) -> dict[str, int]:
    """Token counts wherever the surfaces tell them, under the record's names; the last one told counts."""
    found: dict[str, int] = {}
    for document in reply if isinstance(reply, list) else [reply]:
        if not isinstance(document, dict):
            continue
        message = document.get("message")
        for usage in (document.get("usage"), message.get("usage") if isinstance(message, dict) else None):
            if isinstance(usage, dict):
                for name, ours in _COUNTS.items():
                    count = usage.get(name)
                    if isinstance(count, int):
                        found[ours] = count
    return found


_COUNTS = {
    "inputTokens": "inputTokenCount",
    "input_tokens": "inputTokenCount",
    "prompt_tokens": "inputTokenCount",
    "outputTokens": "outputTokenCount",
    "output_tokens": "outputTokenCount",
    "completion_tokens": "outputTokenCount",
    "cacheReadInputTokens": "cacheReadInputTokenCount",
    "cache_read_input_tokens": "cacheReadInputTokenCount",
    "cacheWriteInputTokens": "cacheWriteInputTokenCount",
    "cache_creation_input_tokens": "cacheWriteInputTokenCount",
}


def _without_media(body: Json, settings: LoggingSettings) -> Json:
    """``body`` without the bytes of what is switched off; text and the names of what was there remain."""
    off = {name for name in ("image", "video", "audio") if getattr(settings, name) is False}
    return _stripped(body, off) if off else body


def _stripped(value: Json, off: set[str]) -> Json:
    if isinstance(value, list):
        return [_stripped(entry, off) for entry in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if isinstance(kind, str) and _TYPES.get(kind) in off:
        return {name: entry for name, entry in value.items() if name not in _BYTES_MEMBERS}
    found: Document = {}
    for name, entry in value.items():
        if _KINDS.get(name) in off and isinstance(entry, dict) and "source" in entry:
            found[name] = {inner: one for inner, one in entry.items() if inner != "source"}
        else:
            found[name] = _stripped(entry, off)
    return found
