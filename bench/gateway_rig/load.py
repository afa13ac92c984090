"""The client: requests at a constant rate, streams one after the other, streams held open. Plain blocking sockets.

Latency of the open loop runs from the moment a request was due, not from the moment it was sent: while the server (or
this client) is late, the wait counts for every request that is held up ("coordinated omission" is what leaving it out
is called).
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from gateway_rig.process import BenchFailed, Server

CONNECTIONS = 32
_RECEIVE_BYTES = 262_144
_SILENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Latencies of one run, sorted, in milliseconds."""

    latencies_ms: list[float]
    kept_up: bool
    """False when the run was given up because requests were due more than ``LATE_MAX_S`` before they could be sent."""

    def percentile(self, percent: float) -> float:
        """The smallest latency that ``percent`` of the requests do not exceed (nearest rank)."""
        rank = max(1, -(-len(self.latencies_ms) * percent // 100))
        return self.latencies_ms[int(rank) - 1]


LATE_MAX_S = 0.5


def open_loop(server: Server, requests: Sequence[bytes], rate_per_s: float, duration_s: float) -> OpenLoop:
    """Send ``requests``, over and over, at a constant rate; every reply must be a 200."""
    count = int(rate_per_s * duration_s)
    idle = deque(_Connection(server) for _ in range(CONNECTIONS))
    busy: dict[int, tuple[_Connection, float]] = {}
    due: deque[float] = deque()
    latencies_ms: list[float] = []
    scheduled = 0
    kept_up = True
    gc.disable()
    start_s = time.perf_counter() + 0.01
    while len(latencies_ms) < count:
        now_s = time.perf_counter()
        while scheduled < count and (at_s := start_s + scheduled / rate_per_s) <= now_s:
            due.append(at_s)
            scheduled += 1
        while due and idle:
            connection = idle.popleft()
            connection.send(requests[(scheduled - len(due)) % len(requests)])
            busy[connection.fileno()] = (connection, due.popleft())
        if due and now_s - due[0] > LATE_MAX_S:
            kept_up = False
            break
        wait_s = start_s + scheduled / rate_per_s - time.perf_counter() if scheduled < count else _SILENCE_S
        for descriptor in select.select(list(busy), [], [], max(wait_s, 0.0))[0]:
            connection, at_s = busy[descriptor]
            if connection.receive():
                latencies_ms.append((time.perf_counter() - at_s) * 1000)
                del busy[descriptor]
                idle.append(connection)
    gc.enable()
    for connection in (*idle, *(connection for connection, _ in busy.values())):
        connection.close()
    return OpenLoop(sorted(latencies_ms), kept_up)


def drain_streams(server: Server, requests: Sequence[bytes], concurrency: int) -> None:
    """Send every request and read its stream to the end, ``concurrency`` at a time.

    Never sleeps: on the loopback interface the server's core would pay for waking it with every event, and no client
    on another machine costs a server that.
    """
    waiting = deque(requests)
    busy: dict[int, _Connection] = {}
    for _ in range(min(concurrency, len(waiting))):
        connection = _Connection(server)
        connection.send(waiting.popleft())
        busy[connection.fileno()] = connection
    poll = select.poll()
    for descriptor in busy:
        poll.register(descriptor, select.POLLIN)
    heard_s = time.monotonic()
    while busy:
        ready = poll.poll(0)
        if ready:
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > _SILENCE_S:
            raise BenchFailed(f"Nothing came on {len(busy)} streams for {_SILENCE_S:g} s.")
        for descriptor, _ in ready:
            connection = busy[descriptor]
            if not connection.receive():
                continue
            if waiting:
                connection.send(waiting.popleft())
            else:
                poll.unregister(descriptor)
                del busy[descriptor]
                connection.close()


class HeldStreams:
    """Streams that have begun and then hear nothing."""

    def __init__(self, server: Server, requests: Sequence[bytes], frames: int) -> None:
        """Open one stream per request; returns when each has sent its first ``frames`` frames."""
        self._connections: list[_Connection] = []
        for request in requests:
            connection = _Connection(server)
            connection.send(request)
            self._connections.append(connection)
        for connection in self._connections:
            connection.receive_frames(frames)

    def __len__(self) -> int:
        return len(self._connections)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class _Connection:
    """One kept HTTP/1.1 connection with at most one request on it."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection((server.host, server.port), timeout=_SILENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._chunked = False
        self._end = -1  # where the reply ends, once its head is in and tells

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, request: bytes) -> None:
        self._buffer.clear()
        self._chunked, self._end = False, -1
        self._socket.sendall(request)

    def receive(self) -> bool:
        """Read what there is; whether the reply is complete."""
        data = self._socket.recv(_RECEIVE_BYTES)
        if not data:
            raise BenchFailed("The server closed a connection in the middle of a reply.")
        self._buffer += data
        if self._end < 0 and not self._chunked:
            self._read_head()
        if self._chunked:
            return self._buffer.endswith(b"\r\n0\r\n\r\n")
        return 0 <= self._end <= len(self._buffer)

    def receive_frames(self, frames: int) -> None:
        """Read until the body has ``frames`` event-stream frames (counted by a header that each has once)."""
        while self._buffer.count(b":event-type") < frames:
            if self.receive():
                raise BenchFailed("A stream that should hang has ended.")

    def close(self) -> None:
        self._socket.close()

    def _read_head(self) -> None:
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = bytes(self._buffer[:head_end]).lower()
        if not head.startswith(b"http/1.1 200 "):
            raise BenchFailed(f"The server refused a request: {bytes(self._buffer[:2000])!r}")
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        self._chunked = not length
        if length:
            self._end = head_end + 4 + int(length)
