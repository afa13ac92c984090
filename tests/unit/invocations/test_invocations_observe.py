"""What is watched of a call: whose, which operations, and streams however they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from objects_rig import ACCOUNT, OTHER, ObjectsRig, objects_rig
from outcrop.base.arn import AccountId
from outcrop.service.accounts import LogBucket, LoggingSettings, RetentionMode
from outcrop.service.http import Reply
from outcrop.service.invocations import Invocation, Invocations, Recording, observe
from outcrop.service.wire.errors import AwsError
from outcrop.trust.identity import Principal, root_credential

INPUT = SimpleNamespace(model_id="m", request_metadata=None)


class Kept:
    """Stands in for delivery."""

    def __init__(self) -> None:
        self.calls: list[Invocation] = []

    def submit(self, call: Invocation) -> None:
        self.calls.append(call)


class Stream:
    def __init__(self, *frames: bytes, failure: Exception | None = None) -> None:
        self.frames, self.failure, self.closed = frames, failure, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for frame in self.frames:
            yield frame
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ObjectsRig]:
    with objects_rig(tmp_path / "data") as made:
        made.accounts.logging.put(ACCOUNT, LoggingSettings(LogBucket("logs")))
        yield made


def principal(account: AccountId = ACCOUNT) -> Principal:
    return root_credential("aws", account, "AKIAOUTCROPTESTKEY22", "secret").principal("sigv4")


def begun(
    rig: ObjectsRig, kept: Kept, name: str = "bedrock-runtime:Converse", who: Principal | None = None
) -> Recording | None:
    watching = Invocations(rig.accounts, kept, rig.clock, "us-east-1")
    return watching.begin(name, who or principal(), "r", INPUT, b"{}")


def read(reply: Reply, frames: int | None = None) -> list[bytes]:
    async def run() -> list[bytes]:
        found = []
        try:
            async for frame in reply.body:
                found.append(frame)
                if frames is not None and len(found) == frames:
                    break
        finally:
            await reply.body.aclose()
            await reply.body.aclose()
        return found

    return asyncio.run(run())


def test_only_accounts_that_log_and_operations_that_are_logged_are_watched(rig: ObjectsRig):
    kept = Kept()
    assert begun(rig, kept) is not None
    assert begun(rig, kept, who=principal(OTHER)) is None
    for name in ("bedrock-runtime:CountTokens", "bedrock:ListFoundationModels", "sagemaker-runtime:InvokeEndpoint"):
        assert begun(rig, kept, name) is None
    rig.accounts.retention.set(ACCOUNT, RetentionMode.NONE)
    assert begun(rig, kept) is None
    assert kept.calls == []


def test_a_whole_reply_is_recorded_as_it_is_and_a_failure_with_its_code(rig: ObjectsRig):
    kept = Kept()
    reply = Reply(200, [], b'{"a":1}')
    assert begun(rig, kept).end(reply, None) is reply
    refusal = Reply(429, [], b'{"message":"slow down"}')
    assert begun(rig, kept).end(refusal, AwsError("ThrottlingException", "slow down")) is refusal
    assert [(call.reply, call.error_code) for call in kept.calls] == [(b'{"a":1}', ""), (b"", "ThrottlingException")]
    assert {(call.operation, call.model_id, call.account) for call in kept.calls} == {("Converse", "m", ACCOUNT)}


@pytest.mark.parametrize(("frames", "sent"), [(None, b"abc"), (2, b"ab")])
def test_a_stream_is_sent_unchanged_and_recorded_once_as_far_as_it_was_read(
    rig: ObjectsRig, frames: int | None, sent: bytes
):
    kept, stream = Kept(), Stream(b"a", b"b", b"c")
    reply = begun(rig, kept, "anthropic:CreateMessage").end(Reply(200, [(b"x", b"y")], stream), None)
    assert b"".join(read(reply, frames)) == sent
    assert (reply.status, reply.headers) == (200, [(b"x", b"y")])
    assert [(call.reply, call.form) for call in kept.calls] == [(sent, "sse")]
    assert stream.closed == 2


def test_a_stream_that_fails_or_is_never_read_is_recorded_too(rig: ObjectsRig):
    kept = Kept()
    reply = begun(rig, kept).end(Reply(200, [], Stream(b"a", failure=OSError("gone"))), None)
    with pytest.raises(OSError, match="gone"):
        read(reply)
    unread = begun(rig, kept).end(Reply(200, [], Stream(b"a")), None)
    asyncio.run(unread.body.aclose())
    assert [call.reply for call in kept.calls] == [b"a", b""]


def test_a_stream_beyond_the_bound_is_sent_and_recorded_without_output(
    rig: ObjectsRig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(observe, "REPLY_BYTES_MAX", 5)
    kept = Kept()
    for frames in ((b"abc", b"de"), (b"abc", b"def")):
        reply = begun(rig, kept).end(Reply(200, [], Stream(*frames)), None)
        assert read(reply) == list(frames)
    assert [call.reply for call in kept.calls] == [b"abcde", b""]
