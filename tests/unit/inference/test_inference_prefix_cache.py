"""What sequences share and never share: the bookkeeping, against a memory that knows who wrote what, then engines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.base.errors import InvariantError
from outcrop.inference import runner
from outcrop.inference.base import Completed, EngineConfig, GenerationRequest, SamplingParams
from outcrop.inference.blocks import BlockPool
from outcrop.inference.engine import PagedEngine
from outcrop.inference.paged_attention import PagedCache
from outcrop.inference.prefix_cache import PrefixCache
from outcrop.inference.scheduler import Scheduler, Step
from outcrop.inference.scheduler import Sequence as Tokens
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder

SIZE = 4  # tokens in a block
A, B = b"tenant a", b"tenant b"


class Memory:
    """Blocks that remember which scope wrote each token, and after which ones."""

    def __init__(self, blocks: int) -> None:
        self.slots: list[list[object]] = [[None] * SIZE for _ in range(blocks)]

    def run(self, step: Step[Tokens]) -> None:
        for block in step.fresh_blocks:
            self.slots[block] = [None] * SIZE
        for chunk in step.chunks:
            for at in range(chunk.start, chunk.start + chunk.count):
                self.slots[chunk.sequence.blocks[at // SIZE]][at % SIZE] = self.written(chunk.sequence, at)
        for chunk in step.chunks:
            for at in range(chunk.start + chunk.count):
                seen = self.slots[chunk.sequence.blocks[at // SIZE]][at % SIZE]
                assert seen == self.written(chunk.sequence, at)

    def written(self, sequence: Tokens, at: int) -> object:
        owner = sequence.scope or id(sequence)
        return owner, sequence.adapter, tuple(sequence.token_ids[: at + 1])


def advance(scheduler: Scheduler[Tokens], memory: Memory, sampled: Iterator[int]) -> Step[Tokens]:
    step = scheduler.schedule()
    memory.run(step)
    scheduler.commit(step)
    for chunk in step.chunks:
        sequence = chunk.sequence
        if sequence.computed == len(sequence.token_ids):
            sequence.token_ids.append(next(sampled))
            if len(sequence.token_ids) >= sequence.max_length:
                scheduler.remove(sequence)
    scheduler.check_integrity()
    return step


@settings(max_examples=150, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(
            st.lists(st.integers(0, 1), min_size=1, max_size=24),
            st.integers(1, 12),
            st.sampled_from([A, B, b""]),
            st.sampled_from([None, "tuned"]),
            st.integers(0, 20),
        ),
        min_size=1,
        max_size=12,
    ),
    blocks=st.integers(9, 24),
    max_requests=st.integers(1, 6),
    max_tokens=st.integers(1, 40),
    leaving=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 11), st.booleans()), max_size=6),
)
def test_every_token_read_was_written_for_the_same_beginning_in_the_same_scope(
    arrivals, blocks, max_requests, max_tokens, leaving
) -> None:
    scheduler: Scheduler[Tokens] = Scheduler(BlockPool(blocks), SIZE, max_requests, max_tokens)
    memory = Memory(blocks)
    sampled = itertools.cycle([0, 1, 1])
    sequences = [(Tokens(list(ids), len(ids) + more, scope, adapter), at) for ids, more, scope, adapter, at in arrivals]
    for round_ in range(2000):
        for sequence, at in sequences:
            if at == round_:
                scheduler.add(sequence)
        for at, index, distrusted in leaving:
            gone = sequences[index % len(sequences)][0]
            if at == round_ and (gone in scheduler.running or gone in scheduler.waiting):
                scheduler.remove(gone, distrusted=distrusted)
                scheduler.check_integrity()
        if scheduler.has_work:
            advance(scheduler, memory, sampled)
        elif round_ > 20:
            break
    assert not scheduler.has_work
    assert scheduler.cache.available == blocks


def run_alone(scheduler: Scheduler[Tokens], tokens: list[int], scope: bytes, more: int = 1) -> Tokens:
    sequence = Tokens(list(tokens), len(tokens) + more, scope)
    scheduler.add(sequence)
    while scheduler.has_work:
        scheduler.commit(scheduler.schedule())
        if sequence.computed == len(sequence.token_ids):
            sequence.token_ids.append(0)
            if len(sequence.token_ids) == sequence.max_length:
                scheduler.remove(sequence)
        scheduler.check_integrity()
    return sequence


def small(blocks: int = 12) -> Scheduler[Tokens]:
    return Scheduler(BlockPool(blocks), SIZE, 8, 64)


def test_the_last_token_is_always_computed() -> None:
    scheduler = small()
    prompt = list(range(8))
    assert run_alone(scheduler, prompt, A).cached_tokens == 0
    assert run_alone(scheduler, prompt, A).cached_tokens == 4
    assert run_alone(scheduler, [*prompt, 8], A).cached_tokens == 8
    assert run_alone(scheduler, [*prompt[:5], 99, 98, 97, 96], A).cached_tokens == 4
    assert run_alone(scheduler, [99, *prompt[1:]], A).cached_tokens == 0
    assert run_alone(scheduler, [*prompt, 8], B).cached_tokens == 0
    assert run_alone(scheduler, [*prompt, 8], b"").cached_tokens == 0
    assert run_alone(scheduler, [*prompt, 8], b"").cached_tokens == 0


def test_generated_tokens_are_shared_with_the_next_turn() -> None:
    scheduler = small()
    first = run_alone(scheduler, [1, 2, 3], A, more=7)  # the last token generated is never computed
    assert run_alone(scheduler, [*first.token_ids, 5, 6], A).cached_tokens == 8


def test_what_was_let_go_longest_ago_is_evicted_first_and_from_its_end() -> None:
    scheduler = small(blocks=6)
    run_alone(scheduler, [1] * 9, A)  # two blocks stay
    run_alone(scheduler, [2] * 9, A)
    run_alone(scheduler, [1] * 9, A)  # used again: now the younger
    run_alone(scheduler, [3] * 9, B)
    assert scheduler.cache.counts.evicted == 1
    assert run_alone(scheduler, [2] * 5, A).cached_tokens == 4
    assert run_alone(scheduler, [1] * 9, A).cached_tokens == 8


def test_a_distrusted_sequence_takes_what_it_shared_with_it() -> None:
    scheduler = small()
    run_alone(scheduler, [1] * 9, A)
    sick = Tokens([1] * 12, 14, A)
    scheduler.add(sick)
    scheduler.commit(scheduler.schedule())
    assert sick.cached_tokens == 8
    scheduler.remove(sick, distrusted=True)
    scheduler.check_integrity()
    assert scheduler.pool.free == scheduler.pool.total
    assert run_alone(scheduler, [1] * 9, A).cached_tokens == 0


def test_scopes_that_came_and_went_leave_nothing() -> None:
    scheduler = small(blocks=4)
    for number in range(50):
        run_alone(scheduler, [1] * 9, str(number).encode())
    assert len(scheduler.cache._roots) <= 2
    scheduler.check_integrity()


def test_a_block_counted_wrongly_is_noticed() -> None:
    pool = BlockPool(4)
    cache = PrefixCache(pool, SIZE)
    blocks = cache.allocate(2)
    nodes: list = []
    cache.publish(A, None, nodes, [1] * 8, blocks)
    cache.check_integrity([nodes], [])
    with pytest.raises(InvariantError, match="counts the sequences"):
        cache.check_integrity([], [])
    with pytest.raises(InvariantError):
        cache.check_integrity([nodes], [[2]])


# Engines

VOCAB, WINDOW = 61, 256
PREFIX = tuple((7 * i * i + i) % VOCAB for i in range(100))
LAYERS = {
    "llama": {"layers": (LayerConfig(),) * 2},
    "sliding": {"layers": (LayerConfig(sliding_window=20), LayerConfig(), LayerConfig(sliding_window=5))},
    "all-sliding": {"layers": (LayerConfig(sliding_window=9),) * 2},
    "nope": {"layers": (LayerConfig(), LayerConfig(use_rope=False))},
    "qwen3": {"layers": (LayerConfig(),) * 2, "qk_norm": True, "tie_embeddings": True},
    "qwen2": {"layers": (LayerConfig(),) * 2, "qkv_bias": True},
}


class Text:
    eos_token_ids: frozenset[int] = frozenset()

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id + 60).encode()

    def token_text(self, token_id: int) -> str:
        return chr(token_id + 60)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(map(self.token_text, ids))


def make_decoder(**kind: object) -> Decoder:
    torch.manual_seed(1)
    config = DecoderConfig("LlamaForCausalLM", VOCAB, 32, 48, 4, 2, 8, WINDOW, **kind)  # type: ignore[arg-type]
    decoder = Decoder(config).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.dim() == 2:
            parameter.mul_(8)
    return decoder


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return make_decoder(**LAYERS["llama"])


def request(prompt: Sequence[int], scope: bytes = b"", **sampling: object) -> GenerationRequest:
    values = {"max_tokens": 12, "temperature": 0.0, **sampling}
    return GenerationRequest("r", tuple(prompt), SamplingParams(**values), cache_scope=scope)  # type: ignore[arg-type]


async def ask(engine: PagedEngine, prompt: Sequence[int], scope: bytes = b"", **how: object) -> tuple[str, Completed]:
    *deltas, completed = [item async for item in engine.generate(request(prompt, scope, **how))]
    assert isinstance(completed, Completed)
    return "".join(d.text for d in deltas), completed  # type: ignore[union-attr]


def counts(engine: PagedEngine) -> tuple[int, int]:
    stats = engine.stats()
    return stats.prefix_hit_blocks, stats.prefix_miss_blocks


def test_the_same_scope_hits_and_another_does_not(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Text())
        text, first = await ask(engine, PREFIX, A)
        assert (first.cached_tokens, counts(engine)) == (0, (0, 6))
        again, second = await ask(engine, PREFIX, A)
        assert (second.cached_tokens, counts(engine)) == (96, (6, 6))
        other, third = await ask(engine, PREFIX, B)
        assert (third.cached_tokens, counts(engine)) == (0, (6, 12))
        assert text == again == other
        assert second.input_tokens == 100
        stats = engine.stats()
        assert stats.kv_blocks_free == stats.kv_blocks_total
        await engine.close()

    asyncio.run(run())


@pytest.mark.parametrize(("scope", "on"), [(b"", True), (A, False)])
def test_nothing_is_shared_without_a_scope_or_where_it_is_switched_off(
    decoder: Decoder, scope: bytes, on: bool
) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Text(), EngineConfig(prefix_cache=on))
        for _ in range(2):
            _, completed = await ask(engine, PREFIX, scope)
            assert completed.cached_tokens == 0
        assert counts(engine) == (0, 0)
        await engine.close()

    asyncio.run(run())


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("block_tokens", [3, 16])
def test_a_hit_gives_the_answer_of_a_miss(kind: str, block_tokens: int) -> None:
    async def run() -> None:
        config = EngineConfig(block_tokens=block_tokens, max_batch_tokens=40)
        engine = PagedEngine(make_decoder(**LAYERS[kind]), Text(), config)
        prompts = [PREFIX, (*PREFIX[:70], 1, 2, 3), (*PREFIX, 4, 5), PREFIX[:17], PREFIX[:50]]
        alone = [await ask(engine, prompt, max_tokens=20) for prompt in prompts]
        await ask(engine, PREFIX, A)
        one_by_one = [await ask(engine, prompt, A, max_tokens=20) for prompt in prompts]
        together = await asyncio.gather(*(ask(engine, prompt, A, max_tokens=20) for prompt in prompts))
        for answers in (one_by_one, together):
            assert [text for text, _ in answers] == [text for text, _ in alone]
            assert all(completed.cached_tokens for _, completed in answers)
        assert engine.stats().prefix_hit_blocks
        await engine.close()

    asyncio.run(run())


def test_logprobs_of_a_hit_are_those_of_a_miss(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Text())

        async def marks() -> list[float]:
            items = [item async for item in engine.generate(request(PREFIX, A, logprobs=0))]
            return [mark.logprob for item in items if not isinstance(item, Completed) for mark in item.logprobs]

        assert await marks() == pytest.approx(await marks(), abs=1e-4)
        assert engine.stats().prefix_hit_blocks == 6
        await engine.close()

    asyncio.run(run())


class Kept:
    """The caches that engines made while this was in place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clears: bool = True) -> None:
        self.caches: list[PagedCache] = []
        kept = self

        class Watched(PagedCache):
            def __init__(self, *given) -> None:
                super().__init__(*given)
                self.data.fill_(float("nan"))  # what a former process or owner may have left
                kept.caches.append(self)

            def clear(self, blocks: Sequence[int]) -> None:
                if clears:
                    super().clear(blocks)

        monkeypatch.setattr(runner, "PagedCache", Watched)


async def poisoned_round(decoder: Decoder, caches: list[PagedCache]) -> list[str | BaseException]:
    """Tenant A answers, all that it left unshared is poisoned, then tenant B asks twice at once."""
    engine = PagedEngine(decoder, Text())
    await ask(engine, PREFIX, A)
    shared = {node.block for node in engine._scheduler.cache._idle}
    (cache,) = caches
    free = [block for block in range(cache.data.shape[1]) if block not in shared]
    with torch.inference_mode():
        cache.data[:, free] = float("nan")
    answers = await asyncio.gather(*(ask(engine, prompt, B) for prompt in (PREFIX, PREFIX[:5])), return_exceptions=True)
    hit = await asyncio.gather(*(ask(engine, prompt, A) for prompt in (PREFIX, PREFIX[:5])), return_exceptions=True)
    await engine.close()
    return [a if isinstance(a, BaseException) else a[0] for a in (*answers, *hit)]


def test_poison_in_freed_blocks_reaches_nobody(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def clean() -> list[str]:
        engine = PagedEngine(decoder, Text())
        texts = [(await ask(engine, prompt))[0] for prompt in (PREFIX, PREFIX[:5])]
        await engine.close()
        return texts * 2

    expected = asyncio.run(clean())
    assert asyncio.run(poisoned_round(decoder, Kept(monkeypatch).caches)) == expected


def test_poison_would_show_if_blocks_were_not_cleared(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = asyncio.run(poisoned_round(decoder, Kept(monkeypatch, clears=False).caches))
    assert any(isinstance(answer, InvariantError) for answer in answers)


def test_evicted_blocks_of_one_scope_serve_another(decoder: Decoder) -> None:
    async def run() -> None:
        block_bytes = PagedCache.block_bytes(decoder.config, 16, torch.float32)
        engine = PagedEngine(decoder, Text(), EngineConfig(kv_cache_bytes=8 * block_bytes))
        text, _ = await ask(engine, PREFIX, A)
        assert (await ask(engine, PREFIX, B))[0] == text
        assert engine.stats().prefix_evicted_blocks >= 5
        assert (await ask(engine, PREFIX, A))[0] == text
        await engine.close()

    asyncio.run(run())


def test_answers_survive_preemption_among_shared_prefixes(decoder: Decoder) -> None:
    async def run() -> None:
        big = PagedEngine(decoder, Text())
        prompts = [(*PREFIX[:40], n) for n in range(6)]
        alone = [(await ask(big, prompt, max_tokens=40))[0] for prompt in prompts]
        await big.close()
        block_bytes = PagedCache.block_bytes(decoder.config, 4, torch.float32)
        engine = PagedEngine(decoder, Text(), EngineConfig(block_tokens=4, kv_cache_bytes=40 * block_bytes))
        together = await asyncio.gather(
            *(ask(engine, prompt, (A, B)[n % 2], max_tokens=40) for n, prompt in enumerate(prompts))
        )
        assert [text for text, _ in together] == alone
        assert engine.stats().extra["preemptions"]
        assert engine.stats().kv_blocks_free == engine.stats().kv_blocks_total
        await engine.close()

    asyncio.run(run())


def test_cancelling_leaves_what_others_share(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Text())
        text, _ = await ask(engine, PREFIX, A, max_tokens=60)
        stays = asyncio.create_task(ask(engine, PREFIX, A, max_tokens=60))
        goes = engine.generate(request(PREFIX, A, max_tokens=60))
        await anext(goes)
        await goes.aclose()
        answer, completed = await stays
        assert (answer, completed.cached_tokens) == (text, 96)
        async with asyncio.timeout(10):
            while engine.stats().kv_blocks_free != engine.stats().kv_blocks_total:
                await asyncio.sleep(0.001)
        assert (await ask(engine, PREFIX, A, max_tokens=60))[0] == text
        await engine.close()

    asyncio.run(run())


class Sick(Decoder):
    """A decoder that gives what is not a number while ``ill``."""

    ill = False

    def hidden(self, token_ids_N, positions_N, attention):
        hidden_NC = super().hidden(token_ids_N, positions_N, attention)
        return hidden_NC * float("nan") if self.ill else hidden_NC


def test_what_a_failed_request_computed_is_not_shared(decoder: Decoder) -> None:
    async def run() -> None:
        sick = Sick(decoder.config).eval().requires_grad_(False)
        sick.load_state_dict(decoder.state_dict())
        engine = PagedEngine(sick, Text())
        sick.ill = True
        with pytest.raises(InvariantError):
            await ask(engine, PREFIX, A)
        sick.ill = False
        _, completed = await ask(engine, PREFIX, A)
        assert completed.cached_tokens == 0
        _, completed = await ask(engine, PREFIX, A)
        assert completed.cached_tokens == 96
        await engine.close()

    asyncio.run(run())
