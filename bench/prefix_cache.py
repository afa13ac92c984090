"""How much sooner the first token comes when a prompt's beginning is in the prefix cache, on the default model.

    python bench/prefix_cache.py

Every prompt is a beginning of 400 random tokens and 16 of its own. A hit finds the beginning, which the same scope
sent just before; a miss finds nothing; "off" is an engine without the cache. Median over the repeats of the engine's
own time to the first token. Not covered: tokenising, the network service, and prompts in a batch with others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
from pathlib import Path

from outcrop.inference.base import Completed, EngineConfig, GenerationRequest, SamplingParams
from outcrop.inference.engine import PagedEngine
from outcrop.models.registry import ModelRegistry

MODEL_ID = "outcrop.pebble-v1:0"
PREFIX_TOKENS, OWN_TOKENS = 400, 16


async def ask(engine: PagedEngine, prompt: tuple[int, ...]) -> Completed:
    request = GenerationRequest("bench", prompt, SamplingParams(1, 0.0), cache_scope=b"bench")
    async for item in engine.generate(request):
        if isinstance(item, Completed):
            return item
    raise AssertionError("an answer ends with Completed")


async def run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded = ModelRegistry(Path(folder)).load(MODEL_ID)
    on = PagedEngine(loaded.decoder, loaded.tokenizer, EngineConfig(threads=arguments.threads))
    off = PagedEngine(loaded.decoder, loaded.tokenizer, EngineConfig(threads=arguments.threads, prefix_cache=False))
    draw = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(loaded.config.vocab_size) for _ in range(count))

    times_ms: dict[str, list[float]] = {"hit": [], "miss": [], "off": []}
    await ask(on, tokens(PREFIX_TOKENS))
    await ask(off, tokens(PREFIX_TOKENS))
    for _ in range(arguments.repeats):
        prefix = tokens(PREFIX_TOKENS)
        for name, engine in (("off", off), ("miss", on), ("hit", on)):
            completed = await ask(engine, prefix + tokens(OWN_TOKENS))
            assert completed.cached_tokens == (PREFIX_TOKENS if name == "hit" else 0)
            times_ms[name].append(completed.first_token_s * 1000)
    await on.close()
    await off.close()
    medians = {name: round(statistics.median(values), 2) for name, values in times_ms.items()}
    print(json.dumps({**vars(arguments), "model": MODEL_ID, "first_token_ms": medians}, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
