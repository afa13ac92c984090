"""How fast the engine decodes and prefills: random weights of a given shape, whole requests, end to end.

    python bench/engine.py --shape pebble --threads 1

Decoding is measured at several batch sizes after a short prompt, prefill as the time to the first token of a long
one. Random weights compute as fast as trained ones. Not covered: sampling (greedy here) and the network service.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

import torch

from outcrop.inference.base import Completed, EngineConfig, GenerationRequest, SamplingParams
from outcrop.inference.engine import PagedEngine
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import Decoder

DECODE_BATCHES = (1, 8, 32)
DECODE_TOKENS = 128
PREFILL_TOKENS = (512, 1900)


def shape(name: str) -> DecoderConfig:
    """A decoder's sizes by the name of a model that has them."""
    vocab, hidden, intermediate, heads, kv_heads, head_dim, layers = {
        "pebble": (4096, 256, 640, 4, 2, 64, 6),
        "smollm2-135m": (49152, 576, 1536, 9, 3, 64, 30),
        "qwen3-0.6b": (151936, 1024, 3072, 16, 8, 128, 28),
    }[name]
    return DecoderConfig(
        architecture="LlamaForCausalLM",
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        max_positions=2048,
        layers=(LayerConfig(),) * layers,
        tie_embeddings=True,
    )


class NoText:
    """A vocabulary whose tokens have no text: only the model's own work is measured."""

    eos_token_ids: frozenset[int] = frozenset()

    def token_bytes(self, token_id: int) -> bytes:
        return b"."

    def token_text(self, token_id: int) -> str:
        return "."

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "." * len(ids)


async def one(engine: PagedEngine, prompt_tokens: int, answer_tokens: int) -> Completed:
    prompt = tuple(range(1, prompt_tokens + 1))
    async for item in engine.generate(GenerationRequest("bench", prompt, SamplingParams(answer_tokens, 0.0))):
        if isinstance(item, Completed):
            return item
    raise AssertionError("an answer ends with Completed")


async def measure(engine: PagedEngine, repeats: int) -> dict[str, float]:
    """Tokens per second, the best of ``repeats``."""
    await one(engine, 16, 8)
    speeds: dict[str, float] = {}
    for batch in DECODE_BATCHES:
        for _ in range(repeats):
            started = time.perf_counter()
            await asyncio.gather(*(one(engine, 16, DECODE_TOKENS) for _ in range(batch)))
            speed = batch * DECODE_TOKENS / (time.perf_counter() - started)
            speeds[f"d{batch}"] = max(speed, speeds.get(f"d{batch}", 0.0))
    for tokens in PREFILL_TOKENS:
        for _ in range(repeats):
            completed = await one(engine, tokens, 1)
            speeds[f"p{tokens}"] = max(tokens / completed.first_token_s, speeds.get(f"p{tokens}", 0.0))
    return speeds


async def run(arguments: argparse.Namespace) -> None:
    torch.manual_seed(0)
    dtype = getattr(torch, arguments.dtype)
    decoder = Decoder(shape(arguments.shape)).eval().requires_grad_(False).to(dtype)
    engine = PagedEngine(decoder, NoText(), EngineConfig(threads=arguments.threads, kv_cache_bytes=2**31))
    speeds = await measure(engine, arguments.repeats)
    await engine.close()
    parameters = sum(parameter.numel() for parameter in decoder.parameters())
    print(json.dumps({**vars(arguments), "parameters": parameters, "tokens_per_s": speeds}, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("pebble", "smollm2-135m", "qwen3-0.6b"), default="pebble")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
