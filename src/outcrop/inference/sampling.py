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

_CANDIDATES = 1024
"""How many of the likeliest tokens are sorted at first; ``top_p`` seldom needs more."""


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
    vocab = logits_RV.shape[1]
    temperature_R1 = torch.tensor([[p.temperature] for p in params], device=logits_RV.device)
    # The maximum goes first: a tiny temperature then makes the others minus infinity, never all of them infinite.
    weights_RV = ((logits_RV - logits_RV.amax(-1, keepdim=True)) / temperature_R1).exp_()
    u_R1 = torch.tensor(uniforms, dtype=torch.float64, device=logits_RV.device)[:, None]
    filtered = [row for row, p in enumerate(params) if 0 < p.top_k < vocab or p.top_p < 1]
    plain = [row for row in range(len(params)) if row not in filtered]
    ids = [0] * len(params)
    if plain:
        for row, id in zip(plain, _look_up(weights_RV[plain].double(), u_R1[plain]).tolist(), strict=True):
            ids[row] = id
    if filtered:
        drawn_F = _draw_filtered(weights_RV[filtered], [params[r] for r in filtered], u_R1[filtered])
        for row, id in zip(filtered, drawn_F.tolist(), strict=True):
            ids[row] = id
    return ids


def _draw_filtered(weights_RV: Tensor, params: Sequence[SamplingParams], u_R1: Tensor) -> Tensor:
    vocab = weights_RV.shape[1]
    top_k = [p.top_k or vocab for p in params]
    k_R1 = torch.tensor(top_k, device=weights_RV.device)[:, None]
    p_R1 = torch.tensor([[p.top_p] for p in params], dtype=torch.float64, device=weights_RV.device)
    total_R1 = weights_RV.sum(-1, keepdim=True, dtype=torch.float64)
    enough = max([_CANDIDATES, *(p.top_k for p in params)])
    for size in (min(enough, vocab), vocab):
        top_RT, ids_RT = weights_RV.topk(size)
        rank_T = torch.arange(size, device=weights_RV.device)
        kept_RT = top_RT.double().masked_fill_(rank_T >= k_R1, 0)
        cumulative_RT = kept_RT.cumsum(-1)
        mass_R1 = torch.where(k_R1 <= size, cumulative_RT[:, -1:], total_R1) * p_R1
        if size == vocab or bool((cumulative_RT[:, -1:] >= mass_R1).all()):
            break
    # A token stays while those before it fall short of top_p; the likeliest always stays.
    kept_RT.masked_fill_((cumulative_RT - kept_RT >= mass_R1) & (rank_T > 0), 0)
    return ids_RT.gather(1, _look_up(kept_RT, u_R1)[:, None])[:, 0]


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
