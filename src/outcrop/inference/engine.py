"""The engine: one worker thread that steps a decoder for all requests at once, and the way in and out of it.

``generate`` may be called from any event loop. What callers ask of the worker goes through an inbox that it empties
before each step; what a step produced goes back with one ``call_soon_threadsafe`` per event loop. PyTorch lets go of
the interpreter while it computes, so the loops go on meanwhile.

A failure in a step ends the requests of that step; scores that are not numbers end only their own request. Should
the worker itself fail, every request gets the reason, and so does every later call. Nothing waits for a dead worker.

Determinism: a greedy answer does not depend on what else is in the batch as long as the two best scores differ by
more than rounding, which in fp32 is all but certain. In bf16 near-ties are common, and then it may.

A prompt whose beginning was cached is computed in other chunks than one that was not, which is the same sort of
rounding.

Not covered: adapters and quantised weights (later).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.errors import EngineStopped, InvariantError, Overloaded, PromptTooLong, UserError, check
from outcrop.inference import sampling
from outcrop.inference.answer import Answer, Item
from outcrop.inference.base import (
    Completed,
    Engine,
    EngineConfig,
    EngineStats,
    Generation,
    GenerationRequest,
)
from outcrop.inference.blocks import BlockPool
from outcrop.inference.detokenise import Vocabulary
from outcrop.inference.runner import ModelRunner, cache_blocks
from outcrop.inference.scheduler import Scheduler, Step
from outcrop.models.decoder import Decoder

_log = logging.getLogger(__name__)

SMALL_MODEL_PARAMETERS = 20_000_000
"""Up to this size one thread is as fast as two (4.3 M parameters, two cores, quiet: 333 and 337 tokens/s at best) and
far better on a busy machine, where threads that wait for each other lose their turns: 23 and 5 tokens/s beside a
training run (2026-11-22, docs/log.md)."""


class PagedEngine(Engine):
    """Continuous batching over a paged KV cache.

    The context window is the model's own, or what the whole cache holds where that is less: so every request that
    is taken can be finished.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Vocabulary,
        config: EngineConfig = EngineConfig(),  # noqa: B008 - frozen
        clock: Clock | None = None,
    ) -> None:
        _validate(config)
        model = decoder.config
        blocks = cache_blocks(model, config, decoder.lm_head.weight.dtype)
        self._model_positions = model.max_positions
        self._vocab_size = model.vocab_size
        self._max_context_tokens = min(model.max_positions, blocks * config.block_tokens)
        self._config = config
        self._clock = clock or SystemClock()
        self._vocabulary = tokenizer
        self._threads = config.threads or _suitable_threads(decoder)
        self._runner: ModelRunner | None = ModelRunner(decoder, blocks, config.block_tokens)
        self._pool = BlockPool(blocks)
        self._scheduler: Scheduler[Answer] = Scheduler(
            self._pool, config.block_tokens, config.max_batch_requests, config.max_batch_tokens
        )
        self._steps = 0
        self._tokens_generated = 0
        self._outbox: defaultdict[asyncio.AbstractEventLoop, list[tuple[Answer, Item]]] = defaultdict(list)
        # All below is guarded by the condition.
        self._wake = threading.Condition()
        self._inbox: list[Callable[[], None]] = []
        self._live: set[Answer] = set()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._stopped: str | None = None

    @property
    def max_context_tokens(self) -> int:
        return self._max_context_tokens

    async def generate(self, request: GenerationRequest) -> Generation:
        answer = self._take(request)
        try:
            while True:
                item = await answer.items.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if isinstance(item, Completed):
                    return
        finally:
            self._cancel(answer)

    def stats(self) -> EngineStats:
        running, live = len(self._scheduler.running), len(self._live)
        counts = self._scheduler.cache.counts
        return EngineStats(
            running=running,
            waiting=max(0, live - running),
            kv_blocks_free=self._scheduler.cache.available,
            kv_blocks_total=self._pool.total,
            steps=self._steps,
            tokens_generated=self._tokens_generated,
            prefix_hit_blocks=counts.hits,
            prefix_miss_blocks=counts.misses,
            prefix_evicted_blocks=counts.evicted,
            extra={"preemptions": self._scheduler.preemptions},
        )

    async def close(self) -> None:
        with self._wake:
            self._closing = True
            thread = self._thread
            if thread is None:
                self._stopped = self._stopped or "The engine was closed."
            self._wake.notify()
        if thread is not None:
            await asyncio.to_thread(thread.join)
        self._runner = None

    # On the callers' threads

    def _take(self, request: GenerationRequest) -> Answer:
        self._check_request(request)
        if not self._config.prefix_cache:
            request = replace(request, cache_scope=b"")
        answer = Answer(request, self._vocabulary, self._max_context_tokens, self._clock.monotonic_s())
        room = self._config.max_batch_requests + self._config.max_queue_requests
        with self._wake:
            if self._stopped is not None or self._closing:
                raise EngineStopped(self._stopped or "The engine is closing.")
            if len(self._live) >= room:
                raise Overloaded(f"The engine has {room} requests, which is all it takes.", "Try again later.")
            self._live.add(answer)
            self._inbox.append(partial(self._scheduler.add, answer))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="outcrop-engine", daemon=True)
                self._thread.start()
            self._wake.notify()
        return answer

    def _cancel(self, answer: Answer) -> None:
        with self._wake:
            if answer in self._live:
                self._inbox.append(partial(self._end, answer))
                self._wake.notify()

    def _check_request(self, request: GenerationRequest) -> None:
        sampling.validate(request.sampling)
        prompt, window = request.prompt_token_ids, self._max_context_tokens
        if request.adapter is not None:
            raise UserError(f"The adapter {request.adapter!r} is not loaded.", "Ask for the model without an adapter.")
        if not prompt:
            raise UserError("The prompt has no tokens.", "Send at least one.")
        if len(prompt) >= window:
            cache = " or raise kv_cache_bytes, which limits the window" if window < self._model_positions else ""
            raise PromptTooLong(
                f"The prompt has {len(prompt)} tokens; the context window holds {window}, prompt and answer together.",
                f"Shorten the prompt{cache}.",
            )
        if min(prompt) < 0 or max(prompt) >= self._vocab_size:
            raise UserError(
                f"The prompt has token ids from {min(prompt)} to {max(prompt)}.",
                f"This model's ids go from 0 to {self._vocab_size - 1}: use its own tokenizer.",
            )

    # On the worker's thread

    def _work(self) -> None:
        reason = "The engine was closed."
        try:
            if self._threads is not None:
                torch.set_num_threads(self._threads)
            with torch.inference_mode():
                while self._read_inbox():
                    if self._scheduler.has_work:
                        self._step()
        except BaseException as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
            _log.exception("The engine's worker failed.")
            reason = f"The engine failed for good: {_describe(error)}."
        finally:
            self._end_all(reason)

    def _read_inbox(self) -> bool:
        """Do what callers asked for, waiting for it where there is nothing else to do; false to stop."""
        with self._wake:
            if not (self._inbox or self._closing or self._scheduler.has_work):
                check(self._scheduler.cache.available == self._pool.total, "an idle engine holds no KV blocks")
                self._wake.wait_for(lambda: self._inbox or self._closing)
            orders, self._inbox = self._inbox, []
            if self._closing:
                return False
        for order in orders:
            order()
        return True

    def _step(self) -> None:
        step = self._scheduler.schedule()
        check(bool(step.chunks), "an engine with work computes something in every step")
        try:
            self._compute(step)
        except Exception as error:  # noqa: BLE001 - a step fails for its own requests only
            _log.exception("A step of the engine failed.")
            for chunk in step.chunks:
                self._fail(chunk.sequence, f"The model could not be computed: {_describe(error)}.", error)
        self._steps += 1
        self._deliver()

    def _compute(self, step: Step[Answer]) -> None:
        assert self._runner is not None
        answers, logits = self._runner.run(step)
        choices = sampling.choose(logits, [a.sampling for a in answers], [a.random for a in answers])
        self._scheduler.commit(step)
        now_s = self._clock.monotonic_s()
        for answer, choice in zip(answers, choices, strict=True):
            if choice is None:
                self._fail(
                    answer, "The model's scores are not finite numbers: its weights or its arithmetic are broken."
                )
                continue
            items = answer.accept(choice, now_s)
            self._tokens_generated += 1
            self._outbox[answer.loop].extend((answer, item) for item in items)
            if items and isinstance(items[-1], Completed):
                self._end(answer)

    def _fail(self, answer: Answer, message: str, cause: Exception | None = None) -> None:
        error = InvariantError(message)
        error.__cause__ = cause
        self._outbox[answer.loop].append((answer, error))
        self._end(answer, distrusted=True)

    def _end(self, answer: Answer, *, distrusted: bool = False) -> None:
        """Forget ``answer``, unless that was done already."""
        with self._wake:
            if answer not in self._live:
                return
            self._live.remove(answer)
        self._scheduler.remove(answer, distrusted=distrusted)

    def _deliver(self) -> None:
        outbox, self._outbox = self._outbox, defaultdict(list)
        for loop, items in outbox.items():
            try:
                loop.call_soon_threadsafe(_hand_over, items)
            except RuntimeError:  # the loop is closed: nobody is left to read
                for answer, _ in items:
                    self._end(answer)

    def _end_all(self, reason: str) -> None:
        with self._wake:
            self._stopped = reason
            answers = list(self._live)
            self._live.clear()
            self._inbox.clear()
        for answer in answers:
            self._outbox[answer.loop].append((answer, EngineStopped(reason)))
        self._deliver()
        for answer in (*self._scheduler.running, *self._scheduler.waiting):
            self._scheduler.remove(answer)


def _hand_over(items: Sequence[tuple[Answer, Item]]) -> None:
    for answer, item in items:
        answer.items.put_nowait(item)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _suitable_threads(decoder: Decoder) -> int | None:
    parameters = sum(parameter.numel() for parameter in decoder.parameters())
    return 1 if parameters <= SMALL_MODEL_PARAMETERS else None


def _validate(config: EngineConfig) -> None:
    for name, value, least in (
        ("block_tokens", config.block_tokens, 1),
        ("kv_cache_bytes", config.kv_cache_bytes, 1),
        ("max_batch_requests", config.max_batch_requests, 1),
        ("max_batch_tokens", config.max_batch_tokens, 1),
        ("max_queue_requests", config.max_queue_requests, 0),
        ("threads", 1 if config.threads is None else config.threads, 1),
    ):
        if value < least:
            raise UserError(f"{name} is {value}.", f"It must be at least {least}.")
