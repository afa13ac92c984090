"""One step of a decoder over a paged cache: flat tokens in, scores of the rows that are sampled out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from outcrop.base.errors import UserError
from outcrop.inference import scheduler
from outcrop.inference.base import EngineConfig
from outcrop.inference.paged_attention import PagedAttention, PagedCache, Span, batch_order
from outcrop.inference.scheduler import Chunk, Step
from outcrop.models.config import DecoderConfig
from outcrop.models.decoder import Decoder

S = TypeVar("S", bound=scheduler.Sequence)


class ModelRunner:
    """A decoder with its cache. The cache is the only state."""

    def __init__(self, decoder: Decoder, cache_blocks: int, block_tokens: int) -> None:
        self.vocab_size = decoder.config.vocab_size
        self._decoder = decoder
        weight = decoder.lm_head.weight
        self._device = weight.device
        self._cache = PagedCache(decoder.config, cache_blocks, block_tokens, weight.dtype, weight.device)

    def run(self, step: Step[S]) -> tuple[list[S], Tensor]:
        """Compute ``step``: the sequences whose next token is to be chosen, and their scores ``[R, V]``.

        To be called in PyTorch's inference mode.
        """
        self._cache.clear(step.fresh_blocks)
        pairs = [(Span(c.start, c.count, c.sequence.blocks), c) for c in step.chunks]
        pairs.sort(key=lambda pair: batch_order(pair[0]))
        chunks = [chunk for _, chunk in pairs]
        token_ids = [i for c in chunks for i in c.sequence.token_ids[c.start : c.start + c.count]]
        positions = [at for c in chunks for at in range(c.start, c.start + c.count)]
        hidden_NC = self._decoder.hidden(
            torch.tensor(token_ids, device=self._device),
            torch.tensor(positions, device=self._device),
            PagedAttention(self._cache, [span for span, _ in pairs]),
        )
        sampled, rows = _sampled(chunks)
        if len(rows) < len(token_ids):
            hidden_NC = hidden_NC[rows]
        return sampled, self._decoder.logits(hidden_NC)


def _sampled(chunks: Sequence[Chunk[S]]) -> tuple[list[S], list[int]]:
    """The sequences that get a token in this step, and the row of each one's last known token."""
    sequences, rows, end = [], [], 0
    for chunk in chunks:
        end += chunk.count
        if chunk.samples:
            sequences.append(chunk.sequence)
            rows.append(end - 1)
    return sequences, rows


def cache_blocks(model: DecoderConfig, config: EngineConfig, dtype: torch.dtype) -> int:
    """How many blocks the cache has: what ``kv_cache_bytes`` pays for, and no more than can ever be in use."""
    block_bytes = PagedCache.block_bytes(model, config.block_tokens, dtype)
    needed = config.max_batch_requests * -(-model.max_positions // config.block_tokens)
    blocks = min(config.kv_cache_bytes // block_bytes, needed)
    if blocks < 1:
        raise UserError(
            f"A KV cache of {config.kv_cache_bytes} bytes has no room for one block of this model.",
            f"Raise kv_cache_bytes to at least {block_bytes}; one block holds {config.block_tokens} tokens.",
        )
    return blocks
