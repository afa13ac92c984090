"""Connections that cannot be held open by saying nothing, saying it one byte at a time, or not listening.

The server library bounds idle keep-alive only; a client that trickles request headers would hold its socket for
ever. One timer a connection closes it unless a request's headers are complete in time. A client that does not read
is not read from either, holds up only whoever writes to it (over HTTP/2 also where it gives a stream no window), and
after a while it is dropped.

Not covered: how many connections one address may open (put a limit in front, or ``ulimit -n``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import ClassVar

import zttp
from uvicorn.protocols.http.auto_zttp_impl import AutoZttpProtocol
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.zttp_h2_impl import RequestResponseCycle, ZttpH2Protocol
from uvicorn.protocols.http.zttp_impl import ZttpProtocol

log = logging.getLogger("outcrop.service")

HEADER_TIMEOUT_S = 20.0
"""From the opening of a connection to its first bytes, and from there to the end of the first request's headers."""
IDLE_TIMEOUT_S = 75.0
"""From an answer to the end of the next request's headers; nginx's default ``keepalive_timeout``."""
STALL_TIMEOUT_S = 60.0
"""For a client to take what waits for it, before its connection, or its HTTP/2 stream, is cut; nginx's default
``send_timeout``."""
GOODBYE_TIMEOUT_S = 1.0
"""From the closing of an idle connection at shutdown to dropping it. A TLS client that is not reading never answers
the closing alert, and would hold up the end of the process."""


class _Deadline:
    """A timer that is armed, or not."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, timeout_s: float) -> None:
        self.disarm()
        self._handle = self._loop.call_later(timeout_s, self._expire)

    def disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class _Flow(FlowControl):
    """Both directions of one connection: who does not read is not read from.

    Otherwise each PING of a client that never reads its answers would stay here as one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._stalled = _Deadline(loop, transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.pause_reading()
        self._stalled.arm(STALL_TIMEOUT_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled.disarm()
        self.resume_reading()

    def resume_reading(self) -> None:
        if not self.write_paused and not self._transport.is_closing():
            super().resume_reading()


class _StreamFlow:
    """What the writer of one HTTP/2 stream waits for: its connection, and window for what it wrote before.

    The protocol library keeps what exceeds the window, however much it is.
    """

    def __init__(self, connection: _Flow, cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle
        self._news = asyncio.Event()

    @property
    def write_paused(self) -> bool:
        return self._connection.write_paused or self._is_full()

    async def drain(self) -> None:
        """Wait until more may be written; a stream that gets no window for too long is reset."""
        await self._connection.drain()
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                while self._is_full():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            self._cycle.abort_stream()
            self._cycle.message_event.set()  # who answers learns that nobody listens

    def wake(self) -> None:
        """The window may have grown, or the stream ended."""
        self._news.set()

    def _is_full(self) -> bool:
        return (self._cycle.stream.pending_bytes or 0) > HIGH_WATER_LIMIT


@contextlib.contextmanager
def _closing_on_nonsense(transport: asyncio.Transport) -> Iterator[None]:
    """Hang up on what the server library does not foresee: paths outside ASCII, garbage behind a running request."""
    try:
        yield
    except (UnicodeDecodeError, zttp.ProtocolError) as error:
        log.info("a connection was closed: %s", error)
        transport.close()


def _drop_if_closing(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
    if transport.is_closing():
        loop.call_later(GOODBYE_TIMEOUT_S, transport.abort)


class GuardedH1(ZttpProtocol):
    """HTTP/1.1 with a deadline for headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(self.loop, transport)
        self._deadline = _Deadline(self.loop, transport.close)
        self._deadline.arm(HEADER_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        with _closing_on_nonsense(self.transport):
            super().data_received(data)
        self._disarm_while_answering()

    def on_response_complete(self) -> None:
        self._deadline.arm(IDLE_TIMEOUT_S)
        with _closing_on_nonsense(self.transport):
            super().on_response_complete()
        self._disarm_while_answering()  # a pipelined request is under way already

    def _disarm_while_answering(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._deadline.disarm()

    def shutdown(self) -> None:
        super().shutdown()
        _drop_if_closing(self.loop, self.transport)


class GuardedH2(ZttpH2Protocol):
    """HTTP/2 with a deadline for the first headers, and for new ones while no stream is open."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._deadline = _Deadline(self.loop, self._close_connection)
        self._deadline.arm(HEADER_TIMEOUT_S)
        super().connection_made(transport)
        self.flow: _Flow = _Flow(self.loop, transport)

    def handle_request(self, event: zttp.Request) -> None:
        super().handle_request(event)
        cycle = self.cycles[event.stream_id]
        cycle.flow = _StreamFlow(self.flow, cycle)  # type: ignore[assignment]
        if event.end_stream:  # no body: the library tells it here only, and the server waits for a word of its own
            cycle.more_body = False
            cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        with _closing_on_nonsense(self.transport):
            super().data_received(data)
        for cycle in self.cycles.values():
            cycle.flow.wake()  # type: ignore[attr-defined]
        if self.cycles:
            self._deadline.disarm()

    def on_stream_closed(self) -> None:
        super().on_stream_closed()
        if not self.cycles:
            self._deadline.arm(IDLE_TIMEOUT_S)

    def shutdown(self) -> None:
        super().shutdown()
        _drop_if_closing(self.loop, self.transport)


class GuardedProtocol(AutoZttpProtocol):
    """HTTP/1.1 or HTTP/2, by ALPN under TLS and by the first bytes without."""

    alpn_protocols: ClassVar[list[str]] = ["h2", "http/1.1"]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.timeout_task is not None:  # without TLS: until enough has come to tell the protocols apart
            self.timeout_task.cancel()
            self.timeout_task = self.loop.call_later(HEADER_TIMEOUT_S, transport.close)

    def _switch(self, http2: bool, initial_data: bytes = b"") -> None:
        kind = GuardedH2 if http2 else GuardedH1
        protocol = kind(config=self.config, server_state=self.server_state, app_state=self.app_state, _loop=self.loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if initial_data:
            protocol.data_received(initial_data)
