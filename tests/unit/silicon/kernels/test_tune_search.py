"""The search alone, over costs that are known: what it asks for, that it finds the best, that a seed repeats it."""

from __future__ import annotations

import math

import pytest

from outcrop.silicon.kernels.search import changes, descend, exhaust, picked, search, size_of

CHOICES = {"a": (3, 0, 1, 2, 4), "b": (8, 1, 2, 4), "c": ("x", "y"), "d": (0.5, 0.0, 1.0)}


def cost(variant):
    """One valley, its floor at (1, 2, "y", 0.0); some of it is not legal."""
    a, b, c, d = variant
    if a == 4 and b == 1:
        return math.inf
    return (a - 1) ** 2 + abs(b - 2) + (c != "y") + d


def asked_by(steps, cost=cost):
    batches = []
    try:
        batch = next(steps)
        while True:
            batches.append(batch)
            batch = steps.send({each: cost(each) for each in batch})
    except StopIteration:
        return batches


def test_few_variants_are_all_tried_the_likely_ones_first():
    (batch,) = asked_by(search(CHOICES, 120, 0))
    assert size_of(CHOICES) == 120 == len(set(batch))
    assert batch[0] == picked(CHOICES) == (3, 8, "x", 0.5)
    distances = [changes(each, batch[0]) for each in batch]
    assert distances == sorted(distances)
    assert asked_by(exhaust(CHOICES)) == [batch]


def test_many_variants_are_searched_and_none_is_asked_for_twice():
    batches = asked_by(search(CHOICES, 60, 0))
    asked = [each for batch in batches for each in batch]
    assert len(asked) == len(set(asked)) == 60
    assert batches[0] == [picked(CHOICES)]
    assert min(asked, key=cost) == (1, 2, "y", 0.0)


@pytest.mark.parametrize("most", [1, 2, 5, 23, 119])
def test_no_more_is_asked_for_than_was_allowed(most):
    assert sum(map(len, asked_by(descend(CHOICES, most, 1)))) == most


def test_a_seed_repeats_itself_and_another_starts_elsewhere():
    first, again, other = (asked_by(descend(CHOICES, 70, seed)) for seed in (5, 5, 6))
    assert first == again != other


def test_a_valley_of_its_own_is_found_from_another_start():
    def two(variant):
        return 0.0 if variant == (0, 4, "y", 1.0) else 10.0 + cost(variant)

    asked = [each for batch in asked_by(descend(CHOICES, 119, 0), two) for each in batch]
    assert min(asked, key=two) == (0, 4, "y", 1.0)


def test_where_nothing_is_legal_the_search_still_ends():
    assert sum(map(len, asked_by(descend(CHOICES, 50, 0), lambda variant: math.inf))) == 50


def test_a_single_variant_is_no_search():
    assert asked_by(descend({"a": (1,)}, 9, 0), lambda variant: 1.0) == [[(1,)]]
