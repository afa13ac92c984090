"""The contract between an engine and whoever asks it to generate.

A ``GenerationRequest`` goes in; an asynchronous iterator of ``TextDelta`` comes out, ended by exactly one
``Completed``. Closing the iterator early (``aclose``, or cancelling the task that reads it) cancels the
request: its KV blocks are free again before the next scheduling step ends. Nothing else stops a request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class FinishReason(StrEnum):
    """Why generation ended."""

    END_TURN = "end_turn"  # the model emitted an end-of-sequence token
    MAX_TOKENS = "max_tokens"  # the request's own limit
    STOP_SEQUENCE = "stop_sequence"  # one of the request's stop sequences appeared
    CONTEXT_WINDOW = "model_context_window_exceeded"  # the model's window is full


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 filter nothing.

    ``seed`` makes the request's own draws repeatable whatever else is in the batch. ``logprobs`` asks for the
    chosen token's log-probability and that many alternatives (0: the chosen one only; ``None``: none at all).
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop_sequences: tuple[str, ...] = ()
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt to continue."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    adapter: str | None = None
    cache_scope: bytes = field(default=b"", repr=False)
    """Requests of the same scope share what was computed for the same beginning of a prompt; empty shares nothing.
    Opaque here: whoever asks decides who belongs together, and never takes it from what a caller sent."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log-probability (natural logarithm, before temperature) and its best rivals."""

    token_id: int
    text: str
    raw: bytes
    """The token's own bytes, which need not be whole characters."""
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text that is final: whole characters, and no beginning of a stop sequence.

    ``tokens`` counts the tokens settled since the last delta; ``text`` may be empty only where ``logprobs`` is not.
    """

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completed:
    """The end of one request. Times in seconds since the engine took the request."""

    reason: FinishReason
    input_tokens: int
    output_tokens: int
    stop_sequence: str | None = None
    first_token_s: float = 0.0
    total_s: float = 0.0
    cached_tokens: int = 0
    """Of the input tokens, those that earlier requests of the same scope had computed."""


Generation = AsyncGenerator["TextDelta | Completed", None]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Sizes of an engine. ``kv_cache_bytes`` bounds the paged cache; ``block_tokens`` is one page."""

    block_tokens: int = 16
    kv_cache_bytes: int = 256 * 2**20
    max_batch_requests: int = 32
    max_batch_tokens: int = 512
    """Tokens computed in one step; a longer prompt is prefilled in chunks of at most this many."""
    max_queue_requests: int = 1024
    prefix_cache: bool = True
    """Whether requests of one scope share the blocks of a common beginning."""
    threads: int | None = None
    """Processor threads for the model's arithmetic; ``None``: one for a small model, else PyTorch's own choice."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot for operators and tests: sums over all scopes, so not for one tenant's eyes."""

    running: int = 0
    waiting: int = 0
    kv_blocks_free: int = 0
    kv_blocks_total: int = 0
    steps: int = 0
    tokens_generated: int = 0
    prefix_hit_blocks: int = 0
    """Full blocks of prompts that were found in the cache when their request was first admitted."""
    prefix_miss_blocks: int = 0
    """Those that were not, of requests with a scope."""
    prefix_evicted_blocks: int = 0
    extra: dict[str, float] = field(default_factory=dict)


class Engine(Protocol):
    """One model, ready to generate for many requests at once."""

    @property
    def max_context_tokens(self) -> int:
        """Prompt and answer together."""
        ...

    def generate(self, request: GenerationRequest) -> Generation:
        """Start at the first ``__anext__``.

        Raises ``PromptTooLong`` where the prompt leaves no room for one token, ``Overloaded`` where the bounded
        queue is full; both before anything is computed. Raises ``UserError`` for parameters outside their domain,
        ``EngineStopped`` once the engine is closed, ``InvariantError`` where the computation itself failed.
        """
        ...

    def stats(self) -> EngineStats: ...

    async def close(self) -> None:
        """Stop taking requests, end those that run, and free the memory. Safe to call twice."""
        ...
