"""Greedy answers of the engine equal ``transformers`` greedy, token for token, whatever else is in the batch.

Covered: one small random model per family in fp32, with weights scaled up so that tokens vary. Not covered: bf16,
where near-ties may fall either way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch

from outcrop.inference.base import Completed, EngineConfig, FinishReason, GenerationRequest, SamplingParams, TextDelta
from outcrop.inference.engine import PagedEngine
from outcrop.models.decoder import Decoder
from outcrop.models.weights import load_decoder

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.contract

VOCAB = 97
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, Callable[[], object]] = {
    "llama3": lambda: transformers.LlamaConfig(**SIZES, head_dim=12, rope_parameters=LLAMA3_ROPE),
    "mistral": lambda: transformers.MistralConfig(**SIZES, head_dim=12, sliding_window=9),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=11, max_window_layers=2),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True),
    "smollm3": lambda: transformers.SmolLM3Config(**SIZES, no_rope_layer_interval=2),
}
BLOCK_BYTES_OF_TOKEN = 4 * 2 * 2 * 16 * 4  # layers, key and value, heads, the largest head_dim, fp32


class Ideographs:
    """A vocabulary of one character per token, so that text tells the tokens."""

    eos_token_ids: frozenset[int] = frozenset()

    def token_bytes(self, token_id: int) -> bytes:
        return self.token_text(token_id).encode()

    def token_text(self, token_id: int) -> str:
        return chr(0x4E00 + token_id)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(map(self.token_text, ids))


class Reference:
    """A family's model, in transformers and in our own decoder, with greedy continuations of some prompts."""

    def __init__(self, family: str, directory) -> None:
        torch.manual_seed(sum(family.encode()))
        model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family]()).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(20)
        model.save_pretrained(directory)
        self.decoder: Decoder = load_decoder(directory, torch.float32)
        draw = random.Random(family)
        self.prompts = [tuple(draw.randrange(VOCAB) for _ in range(length)) for length in (1, 5, 17, 33, 64)]
        self.answers = [self._greedy(model, prompt, 24) for prompt in self.prompts]
        self.least_margin = min(map(partial(self._margin, model), self.prompts, self.answers))

    @staticmethod
    def _greedy(model, prompt: tuple[int, ...], count: int) -> list[int]:
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count)
        return out[0, len(prompt) :].tolist()

    @staticmethod
    @torch.no_grad()
    def _margin(model, prompt: tuple[int, ...], tokens: list[int]) -> float:
        """How far the best score is above the second best, at its closest."""
        best = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1].topk(2).values
        return (best[:, 0] - best[:, 1]).min().item()


@pytest.fixture(scope="module", params=FAMILIES)
def reference(request, tmp_path_factory) -> Reference:
    return Reference(request.param, tmp_path_factory.mktemp(request.param))


async def answer(engine: PagedEngine, prompt: tuple[int, ...], sampling: SamplingParams) -> list[int]:
    text = ""
    async for item in engine.generate(GenerationRequest("r", prompt, sampling)):
        if isinstance(item, TextDelta):
            text += item.text
        else:
            assert isinstance(item, Completed)
            assert item.reason is FinishReason.MAX_TOKENS
    return [ord(character) - 0x4E00 for character in text]


def greedy(reference: Reference) -> SamplingParams:
    return SamplingParams(max_tokens=len(reference.answers[0]), temperature=0)


def test_the_references_are_not_trivial(reference: Reference) -> None:
    assert all(len(set(tokens)) > len(tokens) / 3 for tokens in reference.answers)
    assert len({tuple(tokens) for tokens in reference.answers}) == len(reference.answers)
    assert reference.least_margin > 1e-3


def test_alone_in_the_batch(reference: Reference) -> None:
    async def run() -> list[list[int]]:
        engine = PagedEngine(reference.decoder, Ideographs())
        answers = [await answer(engine, prompt, greedy(reference)) for prompt in reference.prompts]
        await engine.close()
        return answers

    assert asyncio.run(run()) == reference.answers


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(EngineConfig(), id="defaults"),
        pytest.param(
            EngineConfig(block_tokens=3, max_batch_tokens=7, max_batch_requests=4), id="tiny-chunks-and-blocks"
        ),
        pytest.param(EngineConfig(block_tokens=1, max_batch_tokens=200, max_batch_requests=16), id="one-token-blocks"),
    ],
)
def test_with_strangers_joining_and_leaving(reference: Reference, config: EngineConfig) -> None:
    async def run() -> list[list[int]]:
        engine = PagedEngine(reference.decoder, Ideographs(), config)
        strangers = [asyncio.create_task(stranger(engine, seed)) for seed in range(12)]
        answers = await asyncio.gather(*(answer(engine, prompt, greedy(reference)) for prompt in reference.prompts))
        await asyncio.gather(*strangers)
        await all_blocks_are_free(engine)
        await engine.close()
        return answers

    assert asyncio.run(run()) == reference.answers


async def all_blocks_are_free(engine: PagedEngine) -> None:
    async with asyncio.timeout(60):
        while engine.stats().kv_blocks_free < engine.stats().kv_blocks_total:
            await asyncio.sleep(0.001)


async def stranger(engine: PagedEngine, seed: int) -> None:
    """A sampled request that may come later and may go before its end."""
    draw = random.Random(seed)
    prompt = tuple(draw.randrange(VOCAB) for _ in range(draw.randrange(1, 90)))
    await asyncio.sleep(draw.choice((0, 0.005, 0.01)))
    generation = engine.generate(
        GenerationRequest(f"s{seed}", prompt, SamplingParams(draw.randrange(1, 30), seed=seed))
    )
    patience = draw.randrange(1, 40)
    async for _ in generation:
        patience -= 1
        if not patience:
            break
    await generation.aclose()


def test_with_a_cache_so_small_that_requests_are_preempted(reference: Reference) -> None:
    # 100 tokens at most: less than two of the longer requests, more than the longest one of 64 + 24.
    config = EngineConfig(block_tokens=4, max_batch_tokens=32, kv_cache_bytes=100 * BLOCK_BYTES_OF_TOKEN)

    async def run() -> tuple[list[list[int]], float]:
        engine = PagedEngine(reference.decoder, Ideographs(), config)
        prompts = [*reference.prompts[:4], *reference.prompts]
        answers = await asyncio.gather(*(answer(engine, prompt, greedy(reference)) for prompt in prompts))
        await all_blocks_are_free(engine)
        await engine.close()
        return answers, engine.stats().extra["preemptions"]

    answers, preemptions = asyncio.run(run())
    assert answers == [*reference.answers[:4], *reference.answers]
    assert preemptions > 0
