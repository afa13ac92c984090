"""Stands for ``allpairspy``: rows that cover every pair of parameter values, under a filter on rows begun.

Its rows are not those of the original, so suites that fill their cases from it have as many, and other ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_Pair = tuple[int, int, int, int]  # (parameter, value, later parameter, value), by index
_PATIENCE = 2_000  # steps of a search, after which all rows are listed once where that is possible
_LISTABLE = 1 << 19  # rows


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
        listable = math.prod(map(len, sizes)) <= _LISTABLE
        listed: list[tuple[int, ...]] | None = None
        while open_pairs:
            pair = next(iter(open_pairs))
            row: Sequence[int] | None
            if listed is None:
                try:
                    row = self._complete(
                        {pair[0]: pair[1], pair[2]: pair[3]}, open_pairs, _PATIENCE if listable else 10 * _PATIENCE
                    )
                except _GivesUp:
                    row = None
                    if listable:
                        listed = self._list()
            if listed is not None:
                row = _most_useful(listed, pair, open_pairs)
            open_pairs.pop(pair)  # covered now, or no row has it
            if row is None:
                continue
            for one, two in itertools.combinations(range(len(row)), 2):
                open_pairs.pop((one, row[one], two, row[two]), None)
            yield [values[at] for values, at in zip(self.parameters, row, strict=True)]

    def _complete(self, fixed: dict[int, int], open_pairs: dict[_Pair, None], most: int) -> list[int] | None:
        """Depth first with the most useful value first; raises ``_GivesUp`` after ``most`` steps."""
        steps = 0

        def extend(row: list[int]) -> list[int] | None:
            nonlocal steps
            steps += 1
            if steps > most:
                raise _GivesUp
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

    def _list(self) -> list[tuple[int, ...]]:
        """All rows that the filter allows, by index: for filters that leave few."""
        rows: list[tuple[int, ...]] = [()]
        for values in self.parameters:
            longer = [(*row, value) for row in rows for value in range(len(values))]
            rows = [row for row in longer if self.allowed([self.parameters[i][each] for i, each in enumerate(row)])]
            if not rows:
                break
        return rows


class _GivesUp(Exception):
    """A search took too long."""


def _most_useful(rows: list[tuple[int, ...]], pair: _Pair, open_pairs: dict[_Pair, None]) -> tuple[int, ...] | None:
    """Of the rows that have the pair, the one with most other open pairs."""
    one, a, two, b = pair
    having = [row for row in rows if row[one] == a and row[two] == b]

    def gain(row: tuple[int, ...]) -> int:
        places = itertools.combinations(range(len(row)), 2)
        return sum((first, row[first], second, row[second]) in open_pairs for first, second in places)

    return max(having, key=gain, default=None)
