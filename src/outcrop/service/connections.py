"""Connections that cannot be held open by saying nothing, or by saying it one byte at a time.

The server library bounds idle keep-alive only; a client that trickles request headers would hold its socket for
ever. One timer a connection closes it unless a request's headers are complete in time.

Not covered: how many connections one address may open (put a limit in front, or ``ulimit -n``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

from uvicorn.protocols.http.auto_zttp_impl import AutoZttpProtocol
from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol
from uvicorn.protocols.http.zttp_impl import ZttpProtocol

HEADER_TIMEOUT_S = 20.0
"""From the opening of a connection to its first bytes, and from there to the end of the first request's headers."""
IDLE_TIMEOUT_S = 75.0
"""From an answer to the end of the next request's headers; nginx's default ``keepalive_timeout``."""
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


def _drop_if_closing(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
    if transport.is_closing():
        loop.call_later(GOODBYE_TIMEOUT_S, transport.abort)


class GuardedH1(ZttpProtocol):
    """HTTP/1.1 with a deadline for headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = _Deadline(self.loop, transport.close)
        self._deadline.arm(HEADER_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._disarm_while_answering()

    def on_response_complete(self) -> None:
        self._deadline.arm(IDLE_TIMEOUT_S)
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

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
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
