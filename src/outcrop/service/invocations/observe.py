"""One call watched from its start to its last byte, for accounts that log their invocations; ``None`` for all others.

The request and the reply are kept as the bytes that they are; nothing is parsed on the request's path. A stream is
recorded when it ends, however it ends, with what was sent of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from outcrop.base.clock import Clock
from outcrop.service.accounts import Accounts
from outcrop.service.http import BodyStream, Reply
from outcrop.service.invocations.delivery import Delivery
from outcrop.service.invocations.record import Invocation, OutputForm
from outcrop.service.wire.errors import AwsError
from outcrop.trust.identity import Principal

REPLY_BYTES_MAX = 16 << 20
"""A stream beyond this is recorded without its output; far more than any context window holds."""

LOGGED: Mapping[str, OutputForm] = {
    "bedrock-runtime:Converse": "json",
    "bedrock-runtime:ConverseStream": "converse-stream",
    "bedrock-runtime:InvokeModel": "json",
    "bedrock-runtime:InvokeModelWithResponseStream": "chunks",
    "anthropic:CreateMessage": "sse",
    "openai:CreateChatCompletion": "sse",
}
"""What is logged, and how a stream of it is told."""


class Recording:
    """One call under way."""

    def __init__(self, delivery: Delivery, call: Invocation) -> None:
        self._delivery = delivery
        self._call = call

    def end(self, reply: Reply, failure: AwsError | None) -> Reply:
        """Record the call with its reply; what comes back is the reply to send. To be called once."""
        if failure is not None:
            self.fail(failure)
            return reply
        if isinstance(reply.body, bytes):
            self._delivery.submit(replace(self._call, form="json", reply=reply.body))
            return reply
        return replace(reply, body=_Watched(reply.body, self._delivery, self._call))

    def fail(self, failure: AwsError) -> None:
        """Record the call without a reply."""
        self._delivery.submit(replace(self._call, error_code=failure.code))


class _Watched:
    """A streamed body that remembers what it sent."""

    def __init__(self, body: BodyStream, delivery: Delivery, call: Invocation) -> None:
        self._body = body
        self._delivery = delivery
        self._call: Invocation | None = call
        self._sent: list[bytes] = []
        self._size_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for frame in self._body:
            # Kept before it is sent: what a client that goes away now has received is not known.
            self._size_bytes += len(frame)
            if self._size_bytes <= REPLY_BYTES_MAX:
                self._sent.append(frame)
            yield frame

    async def aclose(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            whole = self._size_bytes <= REPLY_BYTES_MAX
            self._delivery.submit(replace(call, reply=b"".join(self._sent) if whole else b""))
            self._sent.clear()
        await self._body.aclose()


class Invocations:
    """Decides what is logged; ``delivery`` is where it goes."""

    def __init__(self, accounts: Accounts, delivery: Delivery, clock: Clock, region: str) -> None:
        self._accounts = accounts
        self.delivery = delivery
        self._clock = clock
        self._region = region

    def begin(self, name: str, principal: Principal, request_id: str, given: Any, body: bytes) -> Recording | None:
        """Watch a call of the operation ``name`` (``service:Operation``) that was allowed; ``None``: not logged.

        ``given`` is its decoded input, of which only the model's name and the metadata are looked at; ``body`` the
        request as it came.
        """
        form = LOGGED.get(name)
        if form is None:
            return None
        account = principal.account
        settings = self._accounts.logging.get(account)
        if settings is None or not self._accounts.retention.keeps(account):
            return None
        model: str = getattr(given, "model_id", "") or getattr(given, "model", "")
        metadata = getattr(given, "request_metadata", None)
        return Recording(
            self.delivery,
            Invocation(
                account=account,
                caller_arn=str(principal.arn),
                region=self._region,
                request_id=request_id,
                operation=name.partition(":")[2],
                model_id=model,
                at=self._clock.now(),
                settings=settings,
                request=body,
                form=form,
                metadata=metadata if isinstance(metadata, str) else "",
            ),
        )

    def close(self) -> None:
        """Deliver what waits, once."""
        self.delivery.close()
