"""Continuous batching: which tokens of which sequences the next step computes.

Every step has one budget of tokens. Sequences that generate take one token each; what is left goes to prompts,
oldest first, in chunks; then waiting sequences are admitted in order of arrival. A sequence gets the blocks of
all its tokens when it is admitted and one more whenever it grows past its last block. Where no block is free the
youngest running sequence is preempted: its blocks are freed, its tokens kept, and it goes back to the head of the
queue to be computed again. The oldest sequence therefore always moves on, and since every sequence fits the cache
when it is alone there (``add`` insists), nothing can deadlock.

A sequence that names a scope begins behind the blocks that others of its scope have computed for the same tokens, and
leaves its own full blocks to them (``prefix_cache``).

Not covered: pages that slid out of every layer's attention window are kept until their sequence ends.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from outcrop.base.errors import check
from outcrop.inference.blocks import BlockPool
from outcrop.inference.prefix_cache import Node, PrefixCache


@dataclass(slots=True, eq=False)
class Sequence:
    """The tokens of one request. ``computed`` of them have their keys and values in ``blocks``."""

    token_ids: list[int]
    max_length: int
    """Prompt and answer together never grow beyond this many tokens."""
    scope: bytes = b""
    """Who may share its blocks: sequences of the same scope and adapter. Empty: nobody."""
    adapter: str | None = None
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    """Its first blocks, as far as they are shared."""
    cached_tokens: int | None = None
    """How many tokens others had computed when it was admitted first."""


S = TypeVar("S", bound=Sequence)


@dataclass(frozen=True, slots=True)
class Chunk(Generic[S]):
    """``count`` tokens of ``sequence``, from position ``start``, to be computed in one step."""

    sequence: S
    start: int
    count: int

    @property
    def samples(self) -> bool:
        """Whether the last token of the chunk is the last one known, so that the next one is to be chosen."""
        return self.start + self.count == len(self.sequence.token_ids)


@dataclass(frozen=True, slots=True)
class Step(Generic[S]):
    """The work of one step. ``fresh_blocks`` were lent just now and still hold what their last owner wrote."""

    chunks: list[Chunk[S]]
    fresh_blocks: list[int]


class Scheduler(Generic[S]):
    """Sequences in two queues, both in order of arrival; everything that runs is older than everything that waits."""

    def __init__(self, pool: BlockPool, block_tokens: int, max_requests: int, max_tokens: int) -> None:
        self.pool = pool
        self.running: list[S] = []
        self.waiting: deque[S] = deque()
        self.preemptions = 0
        self.cache = PrefixCache(pool, block_tokens)
        self._block_tokens = block_tokens
        # No more sequences than tokens per step: then those that generate leave room for a prompt that does not.
        self._max_running = min(max_requests, max_tokens)
        self._max_tokens = max_tokens

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, sequence: S) -> None:
        """Queue ``sequence``, which alone must fit the whole cache."""
        fits = self._blocks_for(sequence.max_length) <= self.pool.total
        check(fits, f"a sequence of up to {sequence.max_length} tokens fits the whole KV cache")
        self.waiting.append(sequence)

    def remove(self, sequence: S, *, distrusted: bool = False) -> None:
        """Forget ``sequence``, whether it ended or was cancelled, and free its blocks.

        What a ``distrusted`` sequence shared, others find no more.
        """
        if distrusted and sequence.nodes:
            self.cache.forget(sequence.nodes[0])
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._free(sequence)

    def schedule(self) -> Step[S]:
        """Choose the next step. After computing it, call ``commit``."""
        fresh: list[int] = []
        self._grow_running(fresh)
        chunks = self._continue_running()
        self._admit(chunks, fresh)
        return Step(chunks, fresh)

    def commit(self, step: Step[S]) -> None:
        """Note that the keys and values of ``step`` are in the cache, and share the blocks that they filled."""
        for chunk in step.chunks:
            s = chunk.sequence
            s.computed = chunk.start + chunk.count
            if s.scope and s.computed >= (len(s.nodes) + 1) * self._block_tokens:
                self.cache.publish(s.scope, s.adapter, s.nodes, s.token_ids[: s.computed], s.blocks)

    def check_integrity(self) -> None:
        """Raise ``InvariantError`` unless blocks and queues agree. For use between steps."""
        check(all(not s.blocks and not s.computed for s in self.waiting), "a waiting sequence holds no KV blocks")
        for s in self.running:
            check(s.computed <= len(s.blocks) * self._block_tokens, "computed tokens lie within the block table")
            check(len(s.nodes) * self._block_tokens <= s.computed, "only computed blocks are shared")
            check(s.blocks[: len(s.nodes)] == [n.block for n in s.nodes], "shared blocks begin the block table")
        self.cache.check_integrity((s.nodes for s in self.running), (s.blocks[len(s.nodes) :] for s in self.running))

    def _grow_running(self, fresh: list[int]) -> None:
        grown = 0
        while grown < len(self.running):
            sequence = self.running[grown]
            need = self._blocks_for(len(sequence.token_ids)) - len(sequence.blocks)
            if need <= self.cache.available:
                blocks = self.cache.allocate(need)
                sequence.blocks += blocks
                fresh += blocks
                grown += 1
            else:
                self._preempt_youngest()

    def _preempt_youngest(self) -> None:
        victim = self.running.pop()
        self._free(victim)
        self.waiting.appendleft(victim)
        self.preemptions += 1

    def _continue_running(self) -> list[Chunk[S]]:
        generating: list[S] = []
        prompting: list[S] = []
        for sequence in self.running:
            pending = len(sequence.token_ids) - sequence.computed
            (generating if pending == 1 else prompting).append(sequence)
        chunks = [Chunk(s, s.computed, 1) for s in generating]
        budget = self._max_tokens - len(chunks)
        for s in prompting:
            if budget > 0:
                chunks.append(Chunk(s, s.computed, min(budget, len(s.token_ids) - s.computed)))
                budget -= chunks[-1].count
        return chunks

    def _admit(self, chunks: list[Chunk[S]], fresh: list[int]) -> None:
        budget = self._max_tokens - sum(chunk.count for chunk in chunks)
        while self.waiting and budget > 0 and len(self.running) < self._max_running:
            sequence = self.waiting[0]
            found = self.cache.find(sequence.scope, sequence.adapter, sequence.token_ids)
            need = self._blocks_for(len(sequence.token_ids)) - len(found)
            idle = sum(not node.users for node in found)  # available until they are held
            # One spare block for each that runs: whoever is let in is not thrown out again by the next step.
            if need + idle + len(self.running) > self.cache.available:
                break
            self.cache.hold(found)
            blocks = self.cache.allocate(need)
            fresh += blocks
            sequence.nodes, sequence.blocks = found, [node.block for node in found] + blocks
            sequence.computed = len(found) * self._block_tokens
            if sequence.cached_tokens is None:
                sequence.cached_tokens = sequence.computed
                self._count(sequence)
            self.running.append(self.waiting.popleft())
            chunks.append(Chunk(sequence, sequence.computed, min(budget, len(sequence.token_ids) - sequence.computed)))
            budget -= chunks[-1].count

    def _count(self, sequence: S) -> None:
        """Hits and misses among the blocks of a prompt that could have been shared."""
        if sequence.scope:
            could = (len(sequence.token_ids) - 1) // self._block_tokens
            self.cache.counts.hits += len(sequence.nodes)
            self.cache.counts.misses += could - len(sequence.nodes)

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self._block_tokens)

    def _free(self, sequence: S) -> None:
        self.cache.release(sequence.nodes, sequence.blocks[len(sequence.nodes) :])
        sequence.blocks, sequence.nodes = [], []
        sequence.computed = 0
