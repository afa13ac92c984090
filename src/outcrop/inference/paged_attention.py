"""Attention over a paged KV cache, for prompts and generating sequences mixed in one flat batch.

Shape suffixes: N tokens of a step or chunk, B sequences, T visible positions, H query heads, K key/value heads,
G = H / K query heads per key/value head, D head_dim.

Each prompt chunk is one call of scaled-dot-product attention. Sequences with one token each are gathered, padded
to a common length and attended to in one call per bucket of similar lengths; their G query heads take the place
of query positions, so grouped-query attention repeats no keys. Layers with a sliding window gather only the pages
that it touches.

Not covered: results may differ in the last bits with what else is in the batch, because matrix products of other
shapes sum in another order. In fp32 that decides nothing but exact ties; in bf16 a near-tie can fall either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from outcrop.models.config import DecoderConfig

_ONE_BUCKET_BLOCKS = 16
"""Sequences of up to this many blocks are padded together; above, each power of two has its own bucket."""


class PagedCache:
    """Keys and values of all layers: ``data`` is ``[layers, blocks, block_tokens, 2, K, D]``.

    Uninitialised at first, so blocks that are never used cost no memory; ``clear`` a block before its first use.
    """

    def __init__(
        self, config: DecoderConfig, blocks: int, block_tokens: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.config = config
        self.block_tokens = block_tokens
        shape = (config.num_layers, blocks, block_tokens, 2, config.num_kv_heads, config.head_dim)
        self.data = torch.empty(shape, dtype=dtype, device=device)

    @staticmethod
    def block_bytes(config: DecoderConfig, block_tokens: int, dtype: torch.dtype) -> int:
        """The size of one block over all layers."""
        return config.num_layers * block_tokens * 2 * config.num_kv_heads * config.head_dim * dtype.itemsize

    def clear(self, blocks: Sequence[int]) -> None:
        """Zero ``blocks``: a sequence never meets what their last owner left, not even NaN behind a mask."""
        if blocks:
            self.data.index_fill_(1, torch.tensor(blocks, device=self.data.device), 0)


@dataclass(frozen=True, slots=True)
class Span:
    """``count`` tokens from position ``start`` of the sequence whose pages are ``blocks``."""

    start: int
    count: int
    blocks: list[int]


def batch_order(span: Span) -> int:
    """The key by which ``PagedAttention`` wants its spans sorted: single tokens by bucket, then chunks."""
    return _CHUNK if span.count > 1 else max(len(span.blocks), _ONE_BUCKET_BLOCKS).bit_length()


_CHUNK = 1 << 30


class PagedAttention:
    """The ``Attention`` of one step: writes the keys and values of ``spans`` to their pages, then attends to all.

    ``spans`` are sorted by ``batch_order``; the step's flat tokens are theirs, one span after the other.
    """

    def __init__(self, cache: PagedCache, spans: Sequence[Span]) -> None:
        self._cache = cache
        self._windows = [layer.sliding_window for layer in cache.config.layers]
        size = cache.block_tokens
        slots = [s.blocks[at // size] * size + at % size for s in spans for at in range(s.start, s.start + s.count)]
        self._slots = torch.tensor(slots, device=cache.data.device)
        self._groups: list[tuple[slice, _Group]] = []
        row = 0
        for order, bucket in groupby(spans, batch_order):
            members = list(bucket)
            groups: list[_Group] = (
                [_Chunk(cache, s) for s in members] if order == _CHUNK else [_Singles(cache, members)]
            )
            for group in groups:
                self._groups.append((slice(row, row + group.rows), group))
                row += group.rows

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pages = self._cache.data[layer]
        pages.flatten(0, 1).index_copy_(0, self._slots, torch.stack((k, v), 1))
        window = self._windows[layer]
        outs = [group.attend(pages, window, q[rows], k[rows], v[rows]) for rows, group in self._groups]
        return outs[0] if len(outs) == 1 else torch.cat(outs)


class _Group(Protocol):
    rows: int

    def attend(self, pages: Tensor, window: int | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


class _Chunk:
    """Consecutive tokens of one sequence."""

    def __init__(self, cache: PagedCache, span: Span) -> None:
        self.rows = span.count
        self._cache = cache
        self._span = span
        self._readings: dict[int | None, tuple[Tensor, slice, Tensor]] = {}

    def attend(self, pages: Tensor, window: int | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        starts_sequence = self._span.start == 0 and (window is None or window >= self._span.count)
        mask = None
        if not starts_sequence:
            blocks, visible, mask = self._reading(window)
            kv = pages.index_select(0, blocks).flatten(0, 1)[visible]
            k, v = kv[:, 0], kv[:, 1]
        heads, kv_heads = q.shape[1], k.shape[1]
        q_KGND = q.view(self.rows, kv_heads, heads // kv_heads, -1).permute(1, 2, 0, 3)
        k_KGTD, v_KGTD = (x.transpose(0, 1).unsqueeze(1).expand(-1, heads // kv_heads, -1, -1) for x in (k, v))
        out = functional.scaled_dot_product_attention(q_KGND, k_KGTD, v_KGTD, attn_mask=mask, is_causal=mask is None)
        return out.permute(2, 0, 1, 3).flatten(1, 2)

    def _reading(self, window: int | None) -> tuple[Tensor, slice, Tensor]:
        """The pages to gather, which of their positions to keep, and the mask ``[N, T]`` added to scores."""
        if window not in self._readings:
            start, end, size = self._span.start, self._span.start + self._span.count, self._cache.block_tokens
            first = 0 if window is None else max(0, start - window + 1)
            base = first // size
            device = self._cache.data.device
            blocks = torch.tensor(self._span.blocks[base : -(-end // size)], device=device)
            at_T, at_N1 = torch.arange(first, end, device=device), torch.arange(start, end, device=device)[:, None]
            mask = _mask(at_T, at_N1, window, self._cache.data.dtype)
            self._readings[window] = blocks, slice(first - base * size, end - base * size), mask
        return self._readings[window]


class _Singles:
    """One token each of several sequences, padded to a common length."""

    def __init__(self, cache: PagedCache, spans: Sequence[Span]) -> None:
        self.rows = len(spans)
        self._cache = cache
        self._spans = spans
        self._readings: dict[int | None, tuple[Tensor, slice, Tensor | None]] = {}

    def attend(self, pages: Tensor, window: int | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        blocks, visible, mask = self._reading(window)
        kv = pages.index_select(0, blocks).view(self.rows, -1, *pages.shape[2:])[:, visible]
        k_BKTD, v_BKTD = kv[:, :, 0].transpose(1, 2), kv[:, :, 1].transpose(1, 2)
        q_BKGD = q.view(self.rows, k.shape[1], q.shape[1] // k.shape[1], -1)
        return functional.scaled_dot_product_attention(q_BKGD, k_BKTD, v_BKTD, attn_mask=mask).flatten(1, 2)

    def _reading(self, window: int | None) -> tuple[Tensor, slice, Tensor | None]:
        """The pages to gather, which of their positions to keep, and the mask ``[B, 1, 1, T]`` added to scores.

        A sequence on its own needs no mask. Padding repeats a page of the same sequence: whatever is in it, numbers
        or NaN, cannot reach another.
        """
        if window not in self._readings:
            size, device = self._cache.block_tokens, self._cache.data.device
            firsts = [0 if window is None else max(0, s.start - window + 1) for s in self._spans]
            tables = [s.blocks[f // size : s.start // size + 1] for s, f in zip(self._spans, firsts, strict=True)]
            most = max(map(len, tables))
            padded = [block for t in tables for block in t + t[-1:] * (most - len(t))]
            bases = [f - f % size for f in firsts]
            longest = max(s.start + 1 - b for s, b in zip(self._spans, bases, strict=True))
            blocks = torch.tensor(padded, device=device)
            if self.rows == 1:
                self._readings[window] = blocks, slice(firsts[0] - bases[0], longest), None
            else:
                at_BT = torch.tensor(bases, device=device)[:, None] + torch.arange(longest, device=device)
                at_B1 = torch.tensor([s.start for s in self._spans], device=device)[:, None]
                mask = _mask(at_BT, at_B1, window, self._cache.data.dtype)
                self._readings[window] = blocks, slice(0, longest), mask[:, None, None]
        return self._readings[window]


def _mask(keys: Tensor, queries: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """0 where the key's position is visible from the query's, else minus infinity."""
    visible = keys <= queries
    if window is not None:
        visible &= keys > queries - window
    return torch.zeros((), dtype=dtype, device=keys.device).masked_fill(~visible, float("-inf"))
