"""Which variants of a kernel to try next: every one, or those around the best seen so far, from several starts.

A search is a generator: it yields variants that may be tried at the same time, and is sent their costs (infinite for a
variant that does not run). What it yields depends on the choices, the seed and the costs alone, so that a search that
was cut off repeats itself from kept costs.

Not covered: models of the cost. A descent over one choice at a time sees no gain that needs two changes at once, but
for what its random starts find.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

Variant: TypeAlias = tuple[Any, ...]  # one value for each choice, in the order of the choices
Costs: TypeAlias = Mapping[Variant, float]
Search: TypeAlias = Generator[list[Variant], Costs, None]

_DRAWS = 1000  # for a variant that was not tried, before a search takes it that there are none


def size_of(choices: Mapping[str, Sequence[Any]]) -> int:
    """How many variants there are."""
    return math.prod(len(each) for each in choices.values())


def search(choices: Mapping[str, Sequence[Any]], most: int, seed: int) -> Search:
    """All variants if there are at most so many, else so many of them by ``descend``."""
    return exhaust(choices) if size_of(choices) <= most else descend(choices, most, seed)


def exhaust(choices: Mapping[str, Sequence[Any]]) -> Search:
    """Every variant, those nearest to the picked one first: whoever runs out of time has seen the likely ones."""
    yield sorted(product(*choices.values()), key=lambda variant: changes(variant, picked(choices)))


def descend(choices: Mapping[str, Sequence[Any]], most: int, seed: int) -> Search:
    """From the picked variant, then from random ones: try every change of one choice, and go on from the best."""
    legal = list(choices.values())
    # Not for secrets: the same seed must give the same variants.
    draws = random.Random(seed)  # noqa: S311
    costs: dict[Variant, float] = {}
    start: Variant | None = picked(choices)
    while start is not None:
        costs.update((yield [start]))
        here = start
        while len(costs) < most:
            around = list(neighbours(here, legal))
            untried = [each for each in around if each not in costs][: most - len(costs)]
            if untried:
                costs.update((yield untried))
            best = min((here, *around), key=lambda variant: costs.get(variant, math.inf))
            if best == here:
                break
            here = best
        start = _untried(legal, costs, draws) if len(costs) < most else None


def picked(choices: Mapping[str, Sequence[Any]]) -> Variant:
    """What a person picked: the first of each choice."""
    return tuple(each[0] for each in choices.values())


def changes(variant: Variant, other: Variant) -> int:
    """In how many choices two variants differ."""
    return sum(mine != theirs for mine, theirs in zip(variant, other, strict=True))


def neighbours(variant: Variant, legal: Sequence[Sequence[Any]]) -> Iterator[Variant]:
    """Every variant that differs in one choice."""
    for at, values in enumerate(legal):
        for value in values:
            if value != variant[at]:
                yield (*variant[:at], value, *variant[at + 1 :])


def _untried(legal: Sequence[Sequence[Any]], costs: Costs, draws: random.Random) -> Variant | None:
    for _ in range(_DRAWS):
        drawn = tuple(draws.choice(values) for values in legal)
        if drawn not in costs:
            return drawn
    return None
