"""Greedy generation for evaluation: one conversation at a time, with a plain growing cache."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from outcrop.models.decoder import Decoder


class _GrowingCache:
    """Causal attention of a few new tokens over all earlier ones. For decoders without sliding windows."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if layer in self._kept:
            old_k, old_v = self._kept[layer]
            k, v = torch.cat((old_k, k), 1), torch.cat((old_v, v), 1)
        self._kept[layer] = (k, v)
        out = functional.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            is_causal=q.shape[1] > 1,
            enable_gqa=q.shape[2] != k.shape[2],
        )
        return out.transpose(1, 2)


@torch.inference_mode()
def greedy(decoder: Decoder, prompt: Sequence[int], stop: Collection[int], max_tokens: int) -> list[int]:
    """The most likely continuation, without the token that ended it."""
    cache = _GrowingCache()
    fresh, at = list(prompt), 0
    made: list[int] = []
    while len(made) < max_tokens:
        tokens = torch.tensor([fresh])
        positions = torch.arange(at, at + len(fresh))[None]
        hidden = decoder.hidden(tokens, positions, cache)
        chosen = int(decoder.logits(hidden[0, -1]).argmax())
        if chosen in stop:
            break
        made.append(chosen)
        at += len(fresh)
        fresh = [chosen]
    return made
