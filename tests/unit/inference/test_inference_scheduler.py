from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.base.errors import InvariantError
from outcrop.inference.blocks import BlockPool
from outcrop.inference.scheduler import Scheduler, Sequence, Step


def scheduler(
    blocks: int = 8, block_tokens: int = 4, max_requests: int = 8, max_tokens: int = 16
) -> Scheduler[Sequence]:
    return Scheduler(BlockPool(blocks), block_tokens, max_requests, max_tokens)


def sequence(prompt: int, more: int = 10) -> Sequence:
    return Sequence(list(range(prompt)), prompt + more)


def advance(s: Scheduler[Sequence]) -> Step[Sequence]:
    """One step: every sequence that samples gets a token, and leaves once it has all it may have."""
    step = s.schedule()
    s.commit(step)
    for chunk in step.chunks:
        if chunk.sequence.computed == len(chunk.sequence.token_ids):
            chunk.sequence.token_ids.append(0)
            if len(chunk.sequence.token_ids) >= chunk.sequence.max_length:
                s.remove(chunk.sequence)
    s.check_integrity()
    return step


def counts(step: Step[Sequence]) -> list[int]:
    return [chunk.count for chunk in step.chunks]


def test_a_pool_lends_the_block_freed_last() -> None:
    pool = BlockPool(10)
    first = pool.allocate(3)
    assert first == [0, 1, 2]
    pool.release(first)
    assert pool.allocate(2) == [0, 1]


def test_a_pool_refuses_to_lend_what_it_lacks() -> None:
    pool = BlockPool(2)
    with pytest.raises(InvariantError, match="3 KV blocks asked for while 2 are free"):
        pool.allocate(3)


@pytest.mark.parametrize("tables", [[[0]], [[0, 1], [1]], []])
def test_a_lost_or_doubly_lent_block_is_noticed(tables: list[list[int]]) -> None:
    pool = BlockPool(4)
    pool.allocate(2)
    with pytest.raises(InvariantError):
        pool.check_integrity(tables)


def test_a_long_prompt_is_computed_in_chunks_within_the_budget() -> None:
    s = scheduler(blocks=20, max_tokens=16)
    s.add(sequence(40))
    assert [counts(advance(s)) for _ in range(4)] == [[16], [16], [8], [1]]


def test_generating_sequences_go_first_and_prompts_share_the_rest() -> None:
    s = scheduler(blocks=40, max_tokens=8)
    s.add(sequence(3))
    advance(s)
    s.add(sequence(10))
    s.add(sequence(4))
    assert counts(advance(s)) == [1, 7]
    assert counts(advance(s)) == [1, 3, 4]


def test_the_youngest_gives_way_when_blocks_run_out() -> None:
    s = scheduler(blocks=5, block_tokens=4, max_tokens=64)
    old, young = sequence(7), sequence(4, more=8)
    s.add(old)
    s.add(young)
    advance(s)
    assert s.running == [old, young]
    while not s.preemptions:
        advance(s)
    assert s.running == [old]
    assert list(s.waiting) == [young]
    assert young.blocks == []
    while s.has_work:
        advance(s)
    assert len(young.token_ids) == young.max_length


def test_a_sequence_that_can_never_fit_is_not_taken() -> None:
    with pytest.raises(InvariantError, match="fits the whole KV cache"):
        scheduler(blocks=2, block_tokens=4).add(sequence(5, more=4))


def test_removing_a_waiting_or_a_running_sequence_frees_its_blocks() -> None:
    s = scheduler(max_requests=1)
    first, second = sequence(4), sequence(4)
    s.add(first)
    s.add(second)
    advance(s)
    s.remove(second)
    s.remove(first)
    assert not s.has_work
    assert s.pool.free == s.pool.total


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 24), st.integers(1, 12)), min_size=1, max_size=12),
    blocks=st.integers(9, 30),
    max_requests=st.integers(1, 6),
    max_tokens=st.integers(1, 40),
    leaving=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 11)), max_size=6),
)
def test_everything_ends_within_bounds_whatever_comes_and_goes(
    lengths, blocks, max_requests, max_tokens, leaving
) -> None:
    s = scheduler(blocks, 4, max_requests, max_tokens)
    sequences = [sequence(prompt, more) for prompt, more in lengths]
    for each in sequences:
        s.add(each)
    for round_ in range(2000):
        for at, index in leaving:
            gone = sequences[index % len(sequences)]
            if at == round_ and (gone in s.running or gone in s.waiting):
                s.remove(gone)
        if not s.has_work:
            break
        step = advance(s)
        assert 1 <= sum(counts(step)) <= max_tokens
        assert len(s.running) <= max_requests
        assert len({id(chunk.sequence) for chunk in step.chunks}) == len(step.chunks)
    assert not s.has_work
    assert s.pool.free == s.pool.total
