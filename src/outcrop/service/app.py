"""The ASGI application: reads a body within its bounds, runs the pipeline, sends the reply, notices who goes away.

Thin on purpose: no framework stands between the socket's bytes and the signature check.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import replace
from typing import Any

from outcrop.base.clock import Clock
from outcrop.service.config import Limits
from outcrop.service.http import RawRequest, Reply
from outcrop.service.pipeline import Pipeline
from outcrop.service.wire.errors import AwsError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger("outcrop.service")

WATCH_AFTER_S = 0.01
"""A reply that is out by then is spared the task that waits for its client to go away."""


class ClientGone(Exception):
    """The client hung up; nobody is left to answer."""


class RefusedEarly(Exception):
    """The head of a request is refused, so its body need not come; ``reply`` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Room:
    """What large bodies may occupy together. Small ones pass: connections bound those."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_free = bytes_max

    @contextlib.contextmanager
    def share(self) -> Iterator[Share]:
        """One request's share, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self.bytes_free += share.size


class Share:
    """The bytes that one body occupies in a ``Room``."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    def grow(self, size: int) -> None:
        """Occupy ``size`` bytes in all, or refuse to in the words for a service that is busy."""
        more = size - self.size
        if more > self._room.bytes_free:
            raise AwsError("ServiceUnavailableException", "Too many large bodies are on their way here. Try again.")
        self._room.bytes_free -= more
        self.size = size


class App:
    """One service behind ASGI 3."""

    def __init__(self, pipeline: Pipeline, clock: Clock, limits: Limits) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._limits = limits
        self._room = Room(limits.large_bodies_bytes)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        request_id = str(uuid.uuid4())
        head = RawRequest(
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            scope["headers"],
            b"",
            (scope.get("client") or ("",))[0],
            scope["scheme"],
        )
        with self._room.share() as share:
            try:
                body = await self._read_body(head, request_id, receive, share)
            except ClientGone:
                return
            except RefusedEarly as refused:
                await _send(refused.reply, request_id, send, close=True)
                return
            except AwsError as error:
                reply = self._pipeline.unread(head, request_id, error)
                await _send(reply, request_id, send, close=True)
                return
            request = replace(head, body=body)
            await self._answer(request, request_id, receive, send)

    async def _answer(self, request: RawRequest, request_id: str, receive: Receive, send: Send) -> None:
        """Run the pipeline and send its reply, unless the client goes away first: then the work is cancelled."""
        work = asyncio.current_task()
        assert work is not None
        watcher: asyncio.Task[None] | None = None
        gone = False

        async def watch() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True
            work.cancel()

        def begin_to_watch() -> None:
            nonlocal watcher
            watcher = asyncio.create_task(watch())

        later = asyncio.get_running_loop().call_later(WATCH_AFTER_S, begin_to_watch)
        try:
            await _send(await self._pipeline.run(request, request_id), request_id, send)
        except asyncio.CancelledError:
            if not gone:
                raise
            log.info("request %s: the client went away", request_id)
        finally:
            later.cancel()
            if watcher is not None:
                watcher.cancel()

    async def _read_body(self, head: RawRequest, request_id: str, receive: Receive, share: Share) -> bytes:
        """The whole body, or a ``AwsError`` when it is too large or arrives too slowly to be honest.

        Who is nobody here may send ``large_body_bytes``, and is told so with ``RefusedEarly`` where there is more.
        """
        limits = self._limits
        length = head.header(b"content-length")
        declared = int(length) if length is not None and length.isdigit() else 0
        if declared > limits.max_body_bytes:
            raise self._too_large()
        passed = False
        if declared > limits.large_body_bytes:
            passed = self._check_head(head, request_id)
        chunks: list[bytes] = []
        size = 0
        start_s = self._clock.monotonic_s()
        more = True
        while more:
            allowed_s = limits.body_grace_s + size / limits.body_min_bytes_per_s
            try:
                async with asyncio.timeout(start_s + allowed_s - self._clock.monotonic_s()):
                    message = await receive()
            except TimeoutError:
                raise AwsError(
                    "RequestTimeoutException", f"Only {size} bytes of the body arrived in {allowed_s:.0f} s."
                ) from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limits.max_body_bytes:
                raise self._too_large()
            if size > limits.large_body_bytes:
                passed = passed or self._check_head(head, request_id)
                share.grow(size)
            chunks.append(chunk)
            more = message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _check_head(self, head: RawRequest, request_id: str) -> bool:
        reply = self._pipeline.refusal(head, request_id)
        if reply is not None:
            raise RefusedEarly(reply)
        return True

    def _too_large(self) -> AwsError:
        return AwsError(
            "RequestEntityTooLargeException",
            f"The body has more than {self._limits.max_body_bytes} bytes, the most that one request may carry.",
        )


async def _send(reply: Reply, request_id: str, send: Send, *, close: bool = False) -> None:
    headers = [*reply.headers, (b"x-amzn-requestid", request_id.encode())]
    if close:
        headers.append((b"connection", b"close"))
    if isinstance(reply.body, bytes):
        headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        return
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        async for frame in reply.body:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
    finally:
        await reply.body.aclose()
    await send({"type": "http.response.body", "body": b""})
