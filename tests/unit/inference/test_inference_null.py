from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from outcrop.base.errors import EngineStopped, Overloaded, PromptTooLong, UserError
from outcrop.inference.base import Completed, FinishReason, GenerationRequest, SamplingParams, TextDelta
from outcrop.inference.null import NullEngine


def request(prompt: int = 5, max_tokens: int = 100, stops: tuple[str, ...] = ()) -> GenerationRequest:
    return GenerationRequest("r", tuple(range(prompt)), SamplingParams(max_tokens, stop_sequences=stops))


async def collect(engine: NullEngine, r: GenerationRequest) -> list[TextDelta | Completed]:
    return [item async for item in engine.generate(r)]


def outcome(engine: NullEngine, r: GenerationRequest) -> tuple[list[str], FinishReason, int]:
    *deltas, completed = asyncio.run(collect(engine, r))
    assert isinstance(completed, Completed)
    return [d.text for d in deltas if isinstance(d, TextDelta)], completed.reason, completed.output_tokens


def test_answers_its_script() -> None:
    assert outcome(NullEngine(["a", "b", "c"]), request()) == (["a", "b", "c"], FinishReason.END_TURN, 3)
    assert outcome(NullEngine([]), request()) == ([], FinishReason.END_TURN, 0)


def test_honours_the_limits() -> None:
    engine = NullEngine(["a", "b", "c"], max_context_tokens=7)
    assert outcome(engine, request(max_tokens=2, prompt=1)) == (["a", "b"], FinishReason.MAX_TOKENS, 2)
    assert outcome(engine, request(prompt=6)) == (["a"], FinishReason.CONTEXT_WINDOW, 1)
    assert outcome(engine, request(max_tokens=3, prompt=1)) == (["a", "b", "c"], FinishReason.MAX_TOKENS, 3)
    with pytest.raises(PromptTooLong):
        outcome(engine, request(prompt=7))


def test_honours_stop_sequences_across_deltas() -> None:
    engine = NullEngine(["one <", "en", "d> two"])
    assert outcome(engine, request(stops=("<end>",))) == (["one "], FinishReason.STOP_SEQUENCE, 3)
    assert outcome(engine, request(stops=("> twos",))) == (["one <", "en", "d", "> two"], FinishReason.END_TURN, 3)


def test_fails_where_told() -> None:
    async def run() -> None:
        generation = NullEngine(["a", "b"], fail_after=1, failure=ZeroDivisionError()).generate(request())
        assert await anext(generation) == TextDelta("a", 1)
        with pytest.raises(ZeroDivisionError):
            await anext(generation)

    asyncio.run(run())


def test_a_hanging_answer_is_cancelled_and_counted() -> None:
    async def run() -> None:
        engine = NullEngine(["a", "b"], hang_after=1)
        reader = asyncio.create_task(collect(engine, request()))
        while not engine.stats().tokens_generated:
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        generation = engine.generate(request())
        await anext(generation)
        await generation.aclose()
        assert engine.cancellations == 2
        assert engine.stats().running == 0

    asyncio.run(run())


def test_an_answer_read_to_its_end_is_no_cancellation() -> None:
    async def run() -> None:
        engine = NullEngine(["a"])
        generation = engine.generate(request())
        while not isinstance(await anext(generation), Completed):
            pass
        await generation.aclose()
        assert engine.cancellations == 0

    asyncio.run(run())


def test_refuses_what_is_too_much_and_what_it_cannot_do() -> None:
    async def run() -> None:
        engine = NullEngine(["a", "b"], max_requests=1, hang_after=1)
        generation = engine.generate(request())
        await anext(generation)
        with pytest.raises(Overloaded):
            await collect(engine, request())
        await generation.aclose()
        with pytest.raises(UserError, match="adapter 'x'"):
            await collect(engine, GenerationRequest("r", (1,), SamplingParams(1), adapter="x"))

    asyncio.run(run())


def test_closing_ends_what_hangs_and_refuses_what_comes() -> None:
    async def run() -> None:
        engine = NullEngine(["a", "b"], hang_after=1)
        reader = asyncio.create_task(collect(engine, request()))
        while not engine.stats().tokens_generated:
            await asyncio.sleep(0)
        await engine.close()
        await engine.close()
        with pytest.raises(EngineStopped):
            await reader
        with pytest.raises(EngineStopped):
            await collect(engine, request())

    asyncio.run(run())


def test_needs_neither_torch_nor_numpy() -> None:
    program = "import outcrop.inference.null, sys; print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
