"""Choosing the next token: greedy, or drawn from the model's distribution as the request filters it.

Order of filters as in the reference implementations: temperature, then ``top_k``, then ``top_p`` on what is left,
renormalised. A draw is one uniform number from the request's own generator, looked up in the cumulative
distribution: the same seed draws the same numbers whatever else is in the batch.

Not covered: the distribution itself may differ in its last bits with the composition of the batch, so a draw that
falls within such a difference of a boundary (about one in a million in fp32) can go the other way.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from outcrop.base.errors import UserError
from outcrop.inference.base import SamplingParams

_CANDIDATES = (128, 1024, 8192)
"""How many of the likeliest tokens are sorted at first, and then; ``top_p`` seldom needs more."""

_SLAB_ELEMENTS = 2**20
"""Scores filtered and summed at a time: copies of more do not stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token; where asked for, its log-probability and the likeliest tokens with theirs."""

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def validate(params: SamplingParams) -> None:
    """Raise ``UserError`` for a parameter outside its domain."""
    for name, value, valid, domain in (
        ("max_tokens", params.max_tokens, params.max_tokens >= 1, "at least 1"),
        ("temperature", params.temperature, 0 <= params.temperature < math.inf, "at least 0"),
        ("top_p", params.top_p, 0 <= params.top_p <= 1, "between 0 and 1"),
        ("top_k", params.top_k, params.top_k >= 0, "at least 0"),
        ("logprobs", params.logprobs, params.logprobs is None or params.logprobs >= 0, "at least 0"),
    ):
        if not valid:
            raise UserError(f"{name} is {value}.", f"It must be {domain}.")


def choose(
    logits_RV: Tensor, params: Sequence[SamplingParams], randoms: Sequence[random.Random]
) -> list[Choice | None]:
    """One token per row; ``None`` for a row with NaN or infinite scores, whose model is broken."""
    logits_RV = logits_RV.float()
    best_R, ids_R = logits_RV.max(-1)  # NaN wins
    ids: list[int] = ids_R.tolist()
    sound: list[bool] = best_R.isfinite().tolist()
    drawing = [row for row, p in enumerate(params) if p.temperature > 0 and sound[row]]
    if drawing:
        drawn = _draw(logits_RV[drawing], [params[r] for r in drawing], [randoms[r].random() for r in drawing])
        for row, token_id in zip(drawing, drawn, strict=True):
            ids[row] = token_id
    choices: list[Choice | None] = [Choice(id) if ok else None for id, ok in zip(ids, sound, strict=True)]
    asking = [row for row, p in enumerate(params) if p.logprobs is not None and sound[row]]
    if asking:
        _add_logprobs(choices, asking, logits_RV[asking], params)
    return choices


def _draw(logits_RV: Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]) -> list[int]:
    vocab, device = logits_RV.shape[1], logits_RV.device
    ids = [0] * len(params)
    filtered = [row for row, p in enumerate(params) if 0 < p.top_k < vocab or p.top_p < 1]
    plain = [row for row in range(len(params)) if row not in filtered]
    slab_rows = max(1, _SLAB_ELEMENTS // vocab)
    for kind in (plain, filtered):
        for first in range(0, len(kind), slab_rows):
            rows = kind[first : first + slab_rows]
            temperature_R1 = torch.tensor([[_fp32(params[row].temperature)] for row in rows], device=device)
            u_R1 = torch.tensor([[uniforms[row]] for row in rows], dtype=torch.float64, device=device)
            scores_RV = logits_RV[rows]
            # The maximum goes first: a tiny temperature then makes the others minus infinity, never all infinite.
            weights_RV = ((scores_RV - scores_RV.amax(-1, keepdim=True)) / temperature_R1).exp_()
            if kind is plain:
                drawn = _look_up(weights_RV.double(), u_R1).tolist()
            else:
                drawn = _draw_filtered(weights_RV, [params[row] for row in rows], u_R1)
            for row, token_id in zip(rows, drawn, strict=True):
                ids[row] = token_id
    return ids


def _fp32(temperature: float) -> float:
    """``temperature`` kept from becoming 0 or infinite in fp32, which would make weights that are no numbers."""
    return min(max(temperature, torch.finfo(torch.float32).tiny), torch.finfo(torch.float32).max)


def _draw_filtered(weights_RV: Tensor, params: Sequence[SamplingParams], u_R1: Tensor) -> list[int]:
    vocab, device = weights_RV.shape[1], weights_RV.device
    k_R1 = torch.tensor([[min(p.top_k, vocab) or vocab] for p in params], device=device)
    p_R1 = torch.tensor([[p.top_p] for p in params], dtype=torch.float64, device=device)
    total_R1 = weights_RV.sum(-1, keepdim=True, dtype=torch.float64)
    ids = [0] * len(params)
    rows = list(range(len(params)))
    for size in (*(s for s in _CANDIDATES if s < vocab), vocab):
        top_RT, ids_RT = weights_RV[rows].topk(size)
        rank_T = torch.arange(size, device=device)
        kept_RT = top_RT.double().masked_fill_(rank_T >= k_R1[rows], 0)
        cumulative_RT = kept_RT.cumsum(-1)
        mass_R1 = torch.where(k_R1[rows] <= size, cumulative_RT[:, -1:], total_R1[rows]) * p_R1[rows]
        enough = (cumulative_RT[:, -1] >= mass_R1[:, 0]).tolist() if size < vocab else [True] * len(rows)
        # A token stays while those before it fall short of top_p; the likeliest always stays.
        kept_RT.masked_fill_((cumulative_RT - kept_RT >= mass_R1) & (rank_T > 0), 0)
        drawn = ids_RT.gather(1, _look_up(kept_RT, u_R1[rows])[:, None])[:, 0].tolist()
        for row, token_id in zip(rows, drawn, strict=True):
            ids[row] = token_id  # final where enough was looked at, else done again below
        rows = [row for row, done in zip(rows, enough, strict=True) if not done]
        if not rows:
            break
    return ids


def _look_up(weights_RV: Tensor, u_R1: Tensor) -> Tensor:
    """Where ``u`` of each row's whole weight lies; never at a weight of 0. Weights are fp64: sums stay exact."""
    cumulative_RV = weights_RV.cumsum(-1)
    total_R1 = cumulative_RV[:, -1:]
    target_R1 = torch.minimum(u_R1 * total_R1, total_R1.nextafter(torch.zeros_like(total_R1)))
    return torch.searchsorted(cumulative_RV, target_R1, right=True)[:, 0]


def _add_logprobs(
    choices: list[Choice | None], rows: Sequence[int], logits_RV: Tensor, params: Sequence[SamplingParams]
) -> None:
    """Natural logarithms of the unmodified distribution."""
    logprobs_RV = logits_RV.log_softmax(-1)
    most = min(max(params[row].logprobs or 0 for row in rows), logits_RV.shape[1])
    top = logprobs_RV.topk(most)
    for row, logprobs_V, values, ids in zip(rows, logprobs_RV, top.values.tolist(), top.indices.tolist(), strict=True):
        choice, wanted = choices[row], params[row].logprobs or 0
        assert choice is not None
        pairs = tuple(zip(ids[:wanted], values[:wanted], strict=True))
        choices[row] = Choice(choice.token_id, float(logprobs_V[choice.token_id]), pairs)
