from __future__ import annotations

import random

import pytest
import torch

from outcrop.inference.paged_attention import PagedAttention, PagedCache, Span, batch_order
from outcrop.models.config import DecoderConfig, LayerConfig
from outcrop.models.decoder import DenseAttention

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 8


def config(*windows: int | None) -> DecoderConfig:
    layers = tuple(LayerConfig(sliding_window=window) for window in windows)
    return DecoderConfig("LlamaForCausalLM", 10, 48, 48, HEADS, KV_HEADS, HEAD_DIM, 4096, layers)


class Conversation:
    """Queries, keys and values of a whole sequence, fed to the pages bit by bit."""

    def __init__(self, model: DecoderConfig, length: int, blocks: list[int], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.q, self.k, self.v = (
            torch.randn(length, heads, HEAD_DIM, generator=generator) for heads in (HEADS, KV_HEADS, KV_HEADS)
        )
        dense = DenseAttention(model)
        self.expected = [dense(layer, self.q[None], self.k[None], self.v[None])[0] for layer in range(model.num_layers)]
        self.blocks = blocks
        self.done = 0


def attend(cache: PagedCache, parts: list[tuple[Conversation, int]]) -> None:
    """Compute the next ``count`` tokens of each conversation in one step and compare with dense attention."""
    pairs = [(Span(c.done, count, c.blocks), c) for c, count in parts]
    pairs.sort(key=lambda pair: batch_order(pair[0]))
    attention = PagedAttention(cache, [span for span, _ in pairs])
    rows = [(c, slice(s.start, s.start + s.count)) for s, c in pairs]
    q, k, v = (torch.cat([getattr(c, name)[at] for c, at in rows]) for name in "qkv")
    for layer in range(cache.config.num_layers):
        out = attention(layer, q, k, v)
        expected = torch.cat([c.expected[layer][at] for c, at in rows])
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for c, count in parts:
        c.done += count


@pytest.mark.parametrize("block_tokens", [1, 3, 16])
def test_equals_dense_attention_for_any_mixture_of_chunks(block_tokens: int) -> None:
    model = config(None, 7, None, 33)
    draw = random.Random(block_tokens)
    lengths = [1, 5, 40, 90, 17, 64, 200]
    cache = PagedCache(model, 500, block_tokens, torch.float32, torch.device("cpu"))
    cache.clear(range(500))
    numbers = draw.sample(range(500), 500)
    conversations = []
    for seed, length in enumerate(lengths):
        blocks = [numbers.pop() for _ in range(-(-length // block_tokens))]
        conversations.append(Conversation(model, length, blocks, seed))
    while pending := [c for c in conversations if c.done < len(c.q)]:
        chosen = draw.sample(pending, draw.randint(1, len(pending)))
        attend(cache, [(c, min(len(c.q) - c.done, draw.choice((1, 1, 1, 2, 30)))) for c in chosen])


def test_what_a_former_owner_left_reaches_nobody() -> None:
    model = config(None, 4)
    cache = PagedCache(model, 8, 4, torch.float32, torch.device("cpu"))
    cache.data.fill_(float("nan"))
    short, long = Conversation(model, 3, [0], 1), Conversation(model, 14, [4, 2, 6, 7], 2)
    cache.clear([*short.blocks, *long.blocks])
    attend(cache, [(short, 2), (long, 13)])
    attend(cache, [(short, 1), (long, 1)])


def test_nan_in_one_sequence_stays_there() -> None:
    model = config(None)
    cache = PagedCache(model, 8, 4, torch.float32, torch.device("cpu"))
    cache.clear(range(8))
    sick, well = Conversation(model, 6, [0, 1], 1), Conversation(model, 11, [3, 2, 5], 2)
    sick.v[0] = float("nan")
    sick.expected = [torch.full_like(e, float("nan")) for e in sick.expected]
    rows = [Span(0, 5, sick.blocks), Span(0, 10, well.blocks)]
    for spans in (rows, [Span(5, 1, sick.blocks), Span(10, 1, well.blocks)]):
        parts = list(zip(spans, (sick, well), strict=True))
        q, k, v = (torch.cat([getattr(c, n)[s.start : s.start + s.count] for s, c in parts]) for n in "qkv")
        out = PagedAttention(cache, spans)(0, q, k, v)
        assert torch.isfinite(out[spans[0].count :]).all()


def test_block_bytes_is_what_a_block_takes() -> None:
    model = config(None, None, 5)
    cache = PagedCache(model, 10, 16, torch.bfloat16, torch.device("cpu"))
    assert cache.data.nbytes == 10 * PagedCache.block_bytes(model, 16, torch.bfloat16)
