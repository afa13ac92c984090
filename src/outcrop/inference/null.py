"""An engine without a model: scripted answers, at once or at a set pace, for benchmarks and tests.

It keeps the whole contract (stop sequences, max tokens, cancellation, a bounded queue) and imports neither PyTorch
nor NumPy. Each delta of the script counts as one token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.errors import EngineStopped, Overloaded, PromptTooLong, UserError
from outcrop.inference.base import (
    Completed,
    Engine,
    EngineStats,
    FinishReason,
    Generation,
    GenerationRequest,
)
from outcrop.inference.stops import TextStream

HELLO = ("Hello", ", ", "world", "!")


class NullEngine(Engine):
    """Answers every request with ``script``.

    ``token_delay_s`` passes before each token (0 still lets the event loop run). After ``hang_after`` tokens nothing
    more comes until the request is cancelled or the engine closed; after ``fail_after`` tokens ``failure`` is raised.
    For use from one event loop.
    """

    def __init__(
        self,
        script: Sequence[str] = HELLO,
        *,
        token_delay_s: float = 0.0,
        hang_after: int | None = None,
        fail_after: int | None = None,
        failure: Exception | None = None,
        max_context_tokens: int = 8192,
        max_requests: int = 4096,
        clock: Clock | None = None,
    ) -> None:
        self.cancellations = 0
        """Requests whose reader went away before the end."""
        self._script = tuple(script)
        self._token_delay_s = token_delay_s
        self._hang_after = hang_after
        self._fail_after = fail_after
        self._failure = failure or RuntimeError("The null engine fails, as its script says.")
        self._max_context_tokens = max_context_tokens
        self._max_requests = max_requests
        self._clock = clock or SystemClock()
        self._running = 0
        self._tokens = 0
        self._closed = asyncio.Event()

    @property
    def max_context_tokens(self) -> int:
        return self._max_context_tokens

    async def generate(self, request: GenerationRequest) -> Generation:
        self._admit(request)
        self._running += 1
        completed = False
        try:
            async with aclosing(self._answer(request)) as items:
                async for item in items:
                    completed = isinstance(item, Completed)
                    yield item
        except (asyncio.CancelledError, GeneratorExit):
            self.cancellations += not completed
            raise
        finally:
            self._running -= 1

    def stats(self) -> EngineStats:
        return EngineStats(running=self._running, tokens_generated=self._tokens)

    async def close(self) -> None:
        self._closed.set()

    def _admit(self, request: GenerationRequest) -> None:
        prompt_tokens = len(request.prompt_token_ids)
        self._check_open()
        if request.adapter is not None:
            raise UserError(f"The adapter {request.adapter!r} is not loaded.", "Ask for the model without an adapter.")
        if prompt_tokens >= self._max_context_tokens:
            raise PromptTooLong(
                f"The prompt has {prompt_tokens} tokens; the context window holds {self._max_context_tokens}.",
                "Shorten the prompt.",
            )
        if self._running >= self._max_requests:
            raise Overloaded(f"The engine has {self._running} requests, which is all it takes.", "Try again later.")

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise EngineStopped("The engine was closed.")

    async def _answer(self, request: GenerationRequest) -> Generation:
        started_s = self._clock.monotonic_s()
        first_token_s = 0.0
        prompt_tokens = len(request.prompt_token_ids)
        limits = {
            FinishReason.MAX_TOKENS: request.sampling.max_tokens,
            FinishReason.CONTEXT_WINDOW: self._max_context_tokens - prompt_tokens,
        }
        reason, limit = min(limits.items(), key=lambda pair: pair[1])
        stream = TextStream(request.sampling.stop_sequences)
        count = 0
        for count, text in enumerate(self._script[:limit], start=1):
            await self._pace(count - 1)
            if count == 1:
                first_token_s = self._clock.monotonic_s() - started_s
            self._tokens += 1
            if delta := stream.feed(text):
                yield delta
            if stream.stopped is not None:
                break
        else:
            await self._pace(count)
            if rest := stream.finish():
                yield rest
            if count < limit:
                reason = FinishReason.END_TURN
        if stream.stopped is not None:
            reason = FinishReason.STOP_SEQUENCE
        total_s = self._clock.monotonic_s() - started_s
        yield Completed(reason, prompt_tokens, count, stream.stopped, first_token_s, total_s)

    async def _pace(self, done: int) -> None:
        """What happens after ``done`` tokens, before the next."""
        if done == self._fail_after:
            raise self._failure
        if done == self._hang_after:
            await self._closed.wait()
        await asyncio.sleep(self._token_delay_s)
        self._check_open()
