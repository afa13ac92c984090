from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
import torch

from outcrop.base.errors import EngineStopped, InvariantError, Overloaded, PromptTooLong, UserError
from outcrop.inference.base import (
    Completed,
    EngineConfig,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    TextDelta,
)
from outcrop.inference.engine import PagedEngine
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder

VOCAB, WINDOW = 61, 64
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
CONFIG = DecoderConfig("LlamaForCausalLM", VOCAB, 32, 48, 4, 2, 8, WINDOW, (LayerConfig(),) * 2)
TOKEN_BYTES = 2 * 2 * 2 * 8 * 4  # layers, key and value, heads, head_dim, fp32


class Letters:
    """One letter per token."""

    def __init__(self, eos: Sequence[int] = ()) -> None:
        self.eos_token_ids = frozenset(eos)

    def token_bytes(self, token_id: int) -> bytes:
        return LETTERS[token_id].encode()

    def token_text(self, token_id: int) -> str:
        return LETTERS[token_id]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(map(self.token_text, ids))


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    torch.manual_seed(1)
    decoder = Decoder(CONFIG).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.dim() == 2:
            parameter.mul_(8)
    return decoder


def request(prompt: Sequence[int] = (1, 2, 3), name: str = "r", adapter: str | None = None, **sampling: object):
    values = {"max_tokens": 12, "temperature": 0.0, **sampling}
    return GenerationRequest(name, tuple(prompt), SamplingParams(**values), adapter=adapter)  # type: ignore[arg-type]


async def collect(engine: PagedEngine, r: GenerationRequest) -> tuple[str, Completed, list[TextDelta]]:
    *deltas, completed = [item async for item in engine.generate(r)]
    assert isinstance(completed, Completed)
    return "".join(d.text for d in deltas), completed, deltas  # type: ignore[union-attr,return-value]


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def idle(engine: PagedEngine) -> bool:
    stats = engine.stats()
    return stats.running == stats.waiting == 0 and stats.kv_blocks_free == stats.kv_blocks_total


def test_counts_tokens_and_times(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters())
        text, completed, deltas = await collect(engine, request())
        assert len(text) == 12
        assert sum(delta.tokens for delta in deltas) == 12
        assert (completed.reason, completed.input_tokens, completed.output_tokens) == (FinishReason.MAX_TOKENS, 3, 12)
        assert 0 <= completed.first_token_s <= completed.total_s
        assert engine.stats().tokens_generated == 12
        assert idle(engine)
        await engine.close()

    asyncio.run(run())


def test_an_end_token_ends_the_turn_without_text(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters())
        text, _, _ = await collect(engine, request())
        await engine.close()
        last = text[5]
        engine = PagedEngine(decoder, Letters(eos=[LETTERS.index(last)]))
        short, completed, _ = await collect(engine, request())
        assert short == text[: text.index(last)]
        assert completed.reason is FinishReason.END_TURN
        assert completed.output_tokens == len(short) + 1
        await engine.close()

    asyncio.run(run())


def test_a_stop_sequence_ends_the_answer_and_frees_its_blocks(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters())
        text, _, _ = await collect(engine, request(max_tokens=40))
        stop = text[6:9]
        cut, completed, _ = await collect(engine, request(max_tokens=40, stop_sequences=("~", stop)))
        assert cut == text[: text.index(stop)]
        assert (completed.reason, completed.stop_sequence) == (FinishReason.STOP_SEQUENCE, stop)
        assert completed.output_tokens == text.index(stop) + 3
        assert idle(engine)
        await engine.close()

    asyncio.run(run())


def test_the_context_window_ends_an_answer(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters())
        assert engine.max_context_tokens == WINDOW
        text, completed, _ = await collect(engine, request([1] * (WINDOW - 5), max_tokens=1000))
        assert (len(text), completed.reason) == (5, FinishReason.CONTEXT_WINDOW)
        with pytest.raises(PromptTooLong, match=f"{WINDOW} tokens; the context window holds {WINDOW}"):
            await collect(engine, request([1] * WINDOW))
        await engine.close()

    asyncio.run(run())


def test_a_small_cache_narrows_the_window_and_says_so(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters(), EngineConfig(block_tokens=4, kv_cache_bytes=17 * TOKEN_BYTES))
        assert engine.max_context_tokens == 16
        with pytest.raises(PromptTooLong, match="kv_cache_bytes"):
            await collect(engine, request([1] * 16))
        text, completed, _ = await collect(engine, request([1] * 9, max_tokens=50))
        assert (len(text), completed.reason) == (7, FinishReason.CONTEXT_WINDOW)
        await engine.close()

    asyncio.run(run())


def test_the_pool_is_no_bigger_than_can_be_used_at_once(decoder: Decoder) -> None:
    engine = PagedEngine(decoder, Letters(), EngineConfig(max_batch_requests=3, block_tokens=10))
    assert engine.stats().kv_blocks_total == 3 * 7
    with pytest.raises(UserError, match="no room for one block"):
        PagedEngine(decoder, Letters(), EngineConfig(kv_cache_bytes=100))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (request([]), "no tokens"),
        (request([1, VOCAB]), "0 to 60"),
        (request([-1]), "0 to 60"),
        (request(adapter="a"), "adapter 'a'"),
        (request(max_tokens=0), "max_tokens"),
        (request(stop_sequences=("",)), "stop sequence is empty"),
    ],
)
def test_a_request_that_cannot_be_done_is_refused_and_costs_nothing(decoder: Decoder, bad, message: str) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters())
        with pytest.raises(UserError, match=message):
            await collect(engine, bad)
        assert engine.stats().steps == 0
        await engine.close()

    asyncio.run(run())


def test_a_configuration_that_cannot_work_is_refused(decoder: Decoder) -> None:
    with pytest.raises(UserError, match="max_batch_tokens is 0"):
        PagedEngine(decoder, Letters(), EngineConfig(max_batch_tokens=0))


class Stepwise(Decoder):
    """A decoder that computes only as many steps as it is allowed to."""

    def allow(self, steps: int) -> None:
        self.steps.release(steps)

    def hidden(self, token_ids_N, positions_N, attention):
        assert self.steps.acquire(timeout=60)
        return super().hidden(token_ids_N, positions_N, attention)


@pytest.fixture
def stepwise(decoder: Decoder) -> Stepwise:
    twin = Stepwise(CONFIG).eval().requires_grad_(False)
    twin.load_state_dict(decoder.state_dict())
    twin.steps = threading.Semaphore(0)
    return twin


def test_closing_the_iterator_frees_the_blocks_before_the_next_step(stepwise: Stepwise) -> None:
    async def run() -> None:
        engine = PagedEngine(stepwise, Letters())
        stepwise.allow(1)
        generation = engine.generate(request(max_tokens=60))
        await anext(generation)
        await generation.aclose()
        stepwise.allow(1)  # the worker may have begun the second step before it heard
        await until(lambda: idle(engine))
        assert engine.stats().tokens_generated <= 2
        await engine.close()

    asyncio.run(run())


def test_cancelling_the_reader_frees_the_blocks_of_running_and_waiting_requests(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters(), EngineConfig(max_batch_requests=2))
        readers = [asyncio.create_task(collect(engine, request(max_tokens=60))) for _ in range(6)]
        await until(lambda: engine.stats().tokens_generated > 4)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await until(lambda: idle(engine))
        text, _, _ = await collect(engine, request())
        assert len(text) == 12
        await engine.close()

    asyncio.run(run())


def test_a_full_queue_refuses_and_takes_again_later(stepwise: Stepwise) -> None:
    async def run() -> None:
        engine = PagedEngine(stepwise, Letters(), EngineConfig(max_batch_requests=1, max_queue_requests=2))
        readers = [asyncio.create_task(collect(engine, request(max_tokens=3))) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="3 requests"):
            await collect(engine, request())
        stepwise.allow(3 * 3 + 3)
        await asyncio.gather(*readers)
        await collect(engine, request(max_tokens=3))
        await engine.close()

    asyncio.run(run())


def test_the_same_seed_gives_the_same_text_in_any_company(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters(), EngineConfig(max_batch_tokens=9))
        seeded = [request(temperature=1.0, seed=7), request(temperature=1.0, seed=8, top_p=0.9)]
        alone = [(await collect(engine, r))[0] for r in seeded]
        others = [request([5] * n, temperature=1.0, max_tokens=n) for n in range(1, 15)]
        together = await asyncio.gather(*(collect(engine, r) for r in (*others, *seeded)))
        assert [text for text, _, _ in together[-2:]] == alone
        unseeded = {(await collect(engine, request(temperature=1.0)))[0] for _ in range(3)}
        assert len(unseeded) == 3
        await engine.close()

    asyncio.run(run())


def test_logprobs_come_with_the_text_they_belong_to(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters())
        text, _, deltas = await collect(engine, request(logprobs=3))
        marks = [mark for delta in deltas for mark in delta.logprobs]
        assert "".join(mark.text for mark in marks) == text
        assert all(mark.raw.decode() == mark.text for mark in marks)
        assert all(mark.top[0].token_id == mark.token_id for mark in marks)  # greedy: the likeliest was chosen
        assert all(mark.top[0].logprob == pytest.approx(mark.logprob) for mark in marks)
        assert all(len(mark.top) == 3 and mark.logprob <= 0 for mark in marks)
        await engine.close()

    asyncio.run(run())


class Sabotaged(Decoder):
    """A decoder that breaks where a prompt holds the token 13."""

    mode = "nan"

    def hidden(self, token_ids_N, positions_N, attention):
        hidden_NC = super().hidden(token_ids_N, positions_N, attention)
        if self.mode == "raise" and (token_ids_N == 13).any():
            raise RuntimeError("the arithmetic unit is on fire")
        if self.mode == "exit" and (token_ids_N == 13).any():
            raise SystemExit
        return hidden_NC.masked_fill((token_ids_N == 13)[:, None], float("nan")) if self.mode == "nan" else hidden_NC


def sabotaged(decoder: Decoder, mode: str) -> Sabotaged:
    twin = Sabotaged(CONFIG).eval().requires_grad_(False)
    twin.load_state_dict(decoder.state_dict())
    twin.mode = mode
    return twin


def test_scores_that_are_not_numbers_fail_their_own_request_only(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(sabotaged(decoder, "nan"), Letters())
        good, bad = await asyncio.gather(
            collect(engine, request()), collect(engine, request([13])), return_exceptions=True
        )
        assert isinstance(bad, InvariantError)
        assert "not finite numbers" in str(bad)
        assert not isinstance(good, BaseException)
        assert len(good[0]) == 12
        assert idle(engine)
        await engine.close()

    asyncio.run(run())


def test_a_failed_step_fails_its_requests_and_the_engine_goes_on(
    decoder: Decoder, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        engine = PagedEngine(sabotaged(decoder, "raise"), Letters())
        with pytest.raises(InvariantError, match="RuntimeError: the arithmetic unit is on fire"):
            await collect(engine, request([13]))
        assert len((await collect(engine, request()))[0]) == 12
        assert idle(engine)
        await engine.close()

    asyncio.run(run())
    assert "A step of the engine failed" in caplog.text


def test_a_dead_worker_tells_those_who_wait_and_those_who_come(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(sabotaged(decoder, "exit"), Letters(), EngineConfig(max_batch_requests=1))
        outcomes = await asyncio.gather(
            collect(engine, request([13])), collect(engine, request()), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [EngineStopped, EngineStopped]
        with pytest.raises(EngineStopped, match="failed for good: SystemExit"):
            await collect(engine, request())
        await engine.close()

    asyncio.run(run())


def test_closing_ends_what_runs_and_refuses_what_comes(stepwise: Stepwise) -> None:
    async def run() -> None:
        engine = PagedEngine(stepwise, Letters())
        stepwise.allow(2)
        reader = asyncio.create_task(collect(engine, request(max_tokens=60)))
        await until(lambda: engine.stats().tokens_generated == 2)
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        stepwise.allow(1)
        await closing
        await engine.close()
        with pytest.raises(EngineStopped, match="closed"):
            await reader
        stats = engine.stats()
        assert (stats.running, stats.waiting, stats.kv_blocks_free) == (0, 0, stats.kv_blocks_total)
        with pytest.raises(EngineStopped, match="closed"):
            await collect(engine, request())
        assert "outcrop-engine" not in {thread.name for thread in threading.enumerate()}

    asyncio.run(run())


def test_an_engine_never_used_closes(decoder: Decoder) -> None:
    async def run() -> None:
        engine = PagedEngine(decoder, Letters())
        await engine.close()
        with pytest.raises(EngineStopped):
            await collect(engine, request())

    asyncio.run(run())


def test_serves_several_event_loops_and_survives_one_that_vanishes(decoder: Decoder) -> None:
    engine = PagedEngine(decoder, Letters())
    texts: list[str] = []

    def elsewhere() -> None:
        texts.append(asyncio.run(collect(engine, request()))[0])

    threads = [threading.Thread(target=elsewhere) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 3
    assert len(set(texts)) == 1

    vanishing = asyncio.new_event_loop()
    generation = engine.generate(request(max_tokens=60))
    vanishing.run_until_complete(anext(generation))
    vanishing.close()

    async def afterwards() -> None:
        await until(lambda: idle(engine))
        assert (await collect(engine, request()))[0] == texts[0]
        await engine.close()

    asyncio.run(afterwards())
