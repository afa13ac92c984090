"""Stands for ``allpairspy``: rows that cover every pair of parameter values, under a filter on rows begun.

Its rows are not those of the original, so suites that fill their cases from it have as many, and other ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_Pair = tuple[int, int, int, int]  # (parameter, value, later parameter, value), by index


class AllPairs:
    """Iterates over rows. Greedy: each row begins with an uncovered pair and takes up as many others as it can."""

    def __init__(
        self,
        parameters: Sequence[Sequence[Any]],
        filter_func: Callable[[list[Any]], bool] = lambda row: True,
        n: int = 2,
    ) -> None:
        self.parameters = [list(values) for values in parameters]
        self.allowed = filter_func
        self._rows = self._find()

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        return next(self._rows)

    def _find(self) -> Iterator[list[Any]]:
        sizes = [range(len(values)) for values in self.parameters]
        open_pairs: dict[_Pair, None] = {
            (one, a, two, b): None
            for one, two in itertools.combinations(range(len(sizes)), 2)
            for a in sizes[one]
            for b in sizes[two]
        }
        while open_pairs:
            pair = next(iter(open_pairs))
            row = self._complete({pair[0]: pair[1], pair[2]: pair[3]}, open_pairs)
            open_pairs.pop(pair)  # covered now, or no row has it
            if row is None:
                continue
            for one, two in itertools.combinations(range(len(row)), 2):
                open_pairs.pop((one, row[one], two, row[two]), None)
            yield [values[at] for values, at in zip(self.parameters, row, strict=True)]

    def _complete(self, fixed: dict[int, int], open_pairs: dict[_Pair, None], most: int = 20_000) -> list[int] | None:
        """Depth first with the most useful value first; gives up after ``most`` steps."""
        steps = 0

        def extend(row: list[int]) -> list[int] | None:
            nonlocal steps
            steps += 1
            if steps > most:
                return None
            at = len(row)
            if at == len(self.parameters):
                return row
            choices: Sequence[int] = [fixed[at]] if at in fixed else range(len(self.parameters[at]))
            gain = {
                value: sum((before, row[before], at, value) in open_pairs for before in range(at)) for value in choices
            }
            for value in sorted(choices, key=lambda value: -gain[value]):
                longer = [*row, value]
                if not self.allowed([self.parameters[index][each] for index, each in enumerate(longer)]):
                    continue
                found = extend(longer)
                if found is not None:
                    return found
            return None

        return extend([])
