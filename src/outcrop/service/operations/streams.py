"""Streamed bodies: frames made from a running generation, and how an error ends a stream that has begun."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from outcrop.service.faults import to_aws
from outcrop.service.operations.conversation import Running
from outcrop.service.wire.errors import AwsError


class GenerationBody:
    """The bytes of one streamed answer. Closing it, also unread, cancels the generation.

    HTTP says 200 before the first frame, so a later failure can only be told in the stream: ``failed`` makes the
    frame for it, and the stream ends.
    """

    def __init__(
        self,
        running: Running,
        frames: AsyncGenerator[bytes, None],
        failed: Callable[[AwsError], bytes],
        service: str,
        request_id: str,
    ) -> None:
        self._running = running
        self._frames = frames
        self._failed = failed
        self._service = service
        self._request_id = request_id

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for frame in self._frames:
                yield frame
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must learn that the stream broke
            yield self._failed(to_aws(error, self._service, self._request_id))

    async def aclose(self) -> None:
        await self._frames.aclose()
        await self._running.aclose()
