"""Whether the time to the first token tells one tenant what another has asked: a two-sample test, and its twin.

In each trial tenant A asks for a prompt that nobody asked for before; then a prober asks either for the same prompt or
for another new one, by the toss of a coin. Where the prober is of another scope, both kinds of times should come from
one distribution; where it is A itself, the same test must tell them apart, or it could not have told anything.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence

import torch

from outcrop.inference.base import Completed, EngineConfig, GenerationRequest, SamplingParams
from outcrop.inference.engine import PagedEngine
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder

TRIALS = 4000  # 2000 of each kind, about
PROMPT_TOKENS = 256
VOCAB = 512
CONFIG = DecoderConfig("LlamaForCausalLM", VOCAB, 64, 128, 4, 2, 16, 512, (LayerConfig(),) * 2)
ALPHA = 0.001  # once in a thousand runs the first test fails by chance
A, B = b"tenant a", b"tenant b"


class NoText:
    eos_token_ids: frozenset[int] = frozenset()

    def token_bytes(self, token_id: int) -> bytes:
        return b"."

    def token_text(self, token_id: int) -> str:
        return "."

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "." * len(ids)


async def first_token_s(engine: PagedEngine, prompt: tuple[int, ...], scope: bytes) -> float:
    request = GenerationRequest("r", prompt, SamplingParams(1, temperature=0.0), cache_scope=scope)
    async for item in engine.generate(request):
        if isinstance(item, Completed):
            return item.first_token_s
    raise AssertionError("an answer ends with Completed")


def probe(prober: bytes, seed: int) -> tuple[list[float], list[float]]:
    """Times to the first token for what A had asked, and for what nobody had."""
    torch.manual_seed(seed)
    draw = random.Random(seed)

    def fresh() -> tuple[int, ...]:
        return tuple(draw.randrange(VOCAB) for _ in range(PROMPT_TOKENS))

    async def run() -> tuple[list[float], list[float]]:
        engine = PagedEngine(Decoder(CONFIG).eval().requires_grad_(False), NoText(), EngineConfig(threads=1))
        known: list[float] = []
        unknown: list[float] = []
        for trial in range(TRIALS + 50):
            asked, other = fresh(), fresh()
            await first_token_s(engine, asked, A)
            same = draw.random() < 0.5
            time_s = await first_token_s(engine, asked if same else other, prober)
            if trial >= 50:  # the first ones warm up
                (known if same else unknown).append(time_s)
        await engine.close()
        return known, unknown

    return asyncio.run(run())


def mann_whitney_p(x: Sequence[float], y: Sequence[float]) -> float:
    """Two-sided p-value of the Mann-Whitney U test, normal approximation, ties at their mean rank."""
    ranked = sorted([(value, 0) for value in x] + [(value, 1) for value in y])
    rank_sum = ties = 0.0
    at = 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        rank_sum += sum(kind == 0 for _, kind in ranked[at:end]) * (at + end + 1) / 2
        ties += (end - at) ** 3 - (end - at)
        at = end
    n, m = len(x), len(y)
    u = rank_sum - n * (n + 1) / 2
    spread = math.sqrt(n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1))))
    return math.erfc(abs(u - n * m / 2) / spread / math.sqrt(2))


def test_the_statistic_tells_what_differs_and_passes_what_does_not() -> None:
    draw = random.Random(1)
    x = [draw.gauss(0, 1) for _ in range(2000)]
    assert mann_whitney_p(x, [draw.gauss(0, 1) for _ in range(2000)]) > ALPHA
    assert mann_whitney_p(x, [draw.gauss(0.2, 1) for _ in range(2000)]) < ALPHA
    assert mann_whitney_p([1.0] * 30, [1.0] * 29 + [2.0]) > ALPHA


def test_another_tenants_prompt_takes_as_long_as_one_that_nobody_asked() -> None:
    known, unknown = probe(B, seed=11)
    assert min(len(known), len(unknown)) > 0.45 * TRIALS
    assert mann_whitney_p(known, unknown) > ALPHA


def test_ones_own_prompt_is_told_from_one_that_nobody_asked() -> None:
    known, unknown = probe(A, seed=12)
    assert mann_whitney_p(known, unknown) < 1e-9
    assert sorted(known)[len(known) // 2] < sorted(unknown)[len(unknown) // 2]
