"""One HTTP exchange as records: what came in, byte for byte, and what goes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request as received: nothing decoded, nothing normalised. Header names are lower-case.

    ``raw_path`` keeps its percent-encoding and trailing slash, because routing and signatures both need them.
    ``peer`` is the address at the other end of the connection, empty where it has none (a Unix socket): a proxy's
    where one stands between, since what a proxy says of its clients is not believed. ``scheme`` is the connection's.
    """

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Headers
    body: bytes
    peer: str = ""
    scheme: str = "http"

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; ``name`` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class BodyStream(Protocol):
    """Bytes that are still being made. ``aclose`` stops whoever makes them, also before the first read."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send: a status, headers, and a body that is either whole or streamed."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes | BodyStream = b""


JSON_TYPE = (b"content-type", b"application/json")
EVENT_STREAM_TYPE = (b"content-type", b"application/vnd.amazon.eventstream")
SSE_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")
