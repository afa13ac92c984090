from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor

from outcrop.base.errors import UserError
from outcrop.inference.base import SamplingParams
from outcrop.inference.sampling import choose, validate

DRAWS = 8_000


def logits(vocab: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    return torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * spread


def params(**values: object) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 1, **values})  # type: ignore[arg-type]


def one(row: Tensor, p: SamplingParams, seed: int = 1) -> int:
    choice = choose(row[None], [p], [random.Random(seed)])[0]
    assert choice is not None
    return choice.token_id


def frequencies(row: Tensor, p: SamplingParams) -> Tensor:
    """How often each token is drawn, in ``DRAWS`` draws of one generator."""
    shared = random.Random(12345)
    choices = choose(row.expand(DRAWS, -1), [p] * DRAWS, [shared] * DRAWS)
    ids = torch.tensor([choice.token_id for choice in choices if choice])
    return ids.bincount(minlength=len(row)) / DRAWS


def exact(row: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """The filtered distribution, straight from its definition, one token at a time."""
    p = (row.double() / temperature).softmax(-1)
    order = p.argsort(descending=True).tolist()
    kept = order[: top_k or len(order)]
    mass = sum(p[i].item() for i in kept)
    nucleus, sum_ = [], 0.0
    for i in kept:
        if nucleus and sum_ >= top_p * mass:
            break
        nucleus.append(i)
        sum_ += p[i].item()
    out = torch.zeros_like(p)
    out[nucleus] = p[nucleus] / sum_
    return out


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 1.0},
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 0.7, "top_k": 12, "top_p": 0.6},
        {"temperature": 1.0, "top_k": 1000, "top_p": 0.95},
    ],
)
def test_draws_follow_the_filtered_distribution(values: dict[str, float]) -> None:
    row = logits(40)
    seen, expected = frequencies(row, params(**values)), exact(row, **values)  # type: ignore[arg-type]
    assert seen[expected == 0].sum() == 0
    # Five standard deviations of a binomial, for a seed that is fixed: not a matter of luck at run time.
    allowed = 5 * (expected * (1 - expected) / DRAWS).sqrt() + 1e-9
    assert ((seen - expected).abs() <= allowed).all()


def test_top_p_looks_beyond_the_first_candidates_where_it_must() -> None:
    flat = logits(5000, spread=0.01)
    choices = choose(flat.expand(300, -1), [params(top_p=0.99)] * 300, [random.Random(seed) for seed in range(300)])
    drawn = {choice.token_id for choice in choices if choice}
    cut = exact(flat, top_p=0.99)
    assert all(cut[token] > 0 for token in drawn)
    ranks = flat.argsort(descending=True).argsort()
    assert max(ranks[token].item() for token in drawn) > 4000


@pytest.mark.parametrize(
    "values", [{"temperature": 0}, {"top_k": 1}, {"top_p": 0.0}, {"temperature": 1e-30}, {"temperature": 5e-324}]
)
def test_greedy_and_its_limits_take_the_likeliest(values: dict[str, float]) -> None:
    row = logits(500, seed=3)
    assert one(row, params(**values)) == row.argmax().item()


def test_the_same_seed_draws_the_same_token_whatever_is_in_the_batch() -> None:
    row = logits(300)
    strangers = [params(temperature=0), params(top_k=3), params(top_p=0.5), params(temperature=2.0)]
    for p in (params(temperature=1.0), params(top_p=0.9), params(top_k=20)):
        alone = [one(row, p, seed) for seed in range(40)]
        batch = torch.stack([row, *(logits(300, seed=9 + i) for i in range(4))])
        together = []
        for seed in range(40):
            randoms = [random.Random(seed), *(random.Random(1000 + seed + i) for i in range(4))]
            choice = choose(batch, [p, *strangers], randoms)[0]
            assert choice is not None
            together.append(choice.token_id)
        assert together == alone
        assert len(set(alone)) > 5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_fails_alone(bad: float) -> None:
    batch = torch.stack([logits(20), logits(20, seed=1), logits(20, seed=2)])
    batch[1, 7] = bad
    for temperature in (0.0, 1.0):
        choices = choose(batch, [params(temperature=temperature, logprobs=2)] * 3, [random.Random(i) for i in range(3)])
        assert choices[1] is None
        assert choices[0] is not None
        assert choices[2] is not None


def test_values_beyond_fp32_and_int64_filter_nothing() -> None:
    row = logits(50)
    row[0] = -math.inf
    drawn = {one(row, params(temperature=1e308, top_k=2**80, top_p=0.999), seed) for seed in range(300)}
    assert len(drawn) > 40
    assert 0 not in drawn


def test_minus_infinity_is_never_drawn() -> None:
    row = torch.full((50,), float("-inf"))
    row[[3, 17]] = torch.tensor([0.0, 1.0])
    assert {one(row, params(), seed) for seed in range(50)} == {3, 17}


def test_logprobs_are_of_the_unmodified_distribution() -> None:
    row = logits(30)
    p = params(temperature=0.3, top_k=2, logprobs=4)
    choice = choose(row[None], [p], [random.Random(5)])[0]
    assert choice is not None
    expected = row.double().log_softmax(-1)
    assert choice.logprob == pytest.approx(expected[choice.token_id].item(), abs=1e-5)
    best = expected.topk(4)
    assert [token for token, _ in choice.top] == best.indices.tolist()
    assert [logprob for _, logprob in choice.top] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_logprobs_come_only_to_those_who_ask() -> None:
    batch = logits(30).expand(3, -1)
    asks = [params(temperature=0), params(temperature=0, logprobs=0), params(temperature=0, logprobs=99)]
    none, chosen, everything = choose(batch, asks, [random.Random(0)] * 3)
    assert none is not None
    assert chosen is not None
    assert everything is not None
    assert (none.logprob, none.top) == (None, ())
    assert chosen.logprob is not None
    assert chosen.top == ()
    assert len(everything.top) == 30


@pytest.mark.parametrize(
    "values",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"top_k": -1},
        {"logprobs": -1},
    ],
)
def test_parameters_outside_their_domain_are_named(values: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(values))):
        validate(params(**values))
