"""Which examples a step learns from, and how they lie in rows.

A step takes some of the epoch's shuffled examples and packs their documents into rows; documents of one row never see
each other and their positions start at 0, so that packing changes nothing but speed. All of it follows from the seed
and the step's number alone: a run can go on from any step without having seen those before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from outcrop.base.errors import check
from outcrop.training.shards import WEIGHT_UNIT, Batch, Document, pack, positions_of
from outcrop.training.tuning.encoding import Encoded


@dataclass(frozen=True, slots=True)
class Plan:
    """How many steps a run has, and what each one takes. Steps count from 0."""

    examples: int
    batch_examples: int
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        check(self.examples >= 1, "there is at least one example to learn from")

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.examples // self.batch_examples)

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """From 0."""
        return step // self.steps_per_epoch

    def chosen(self, step: int) -> list[int]:
        """Numbers of the examples of a step; the last step of an epoch may have fewer."""
        order = np.random.default_rng([self.seed, self.epoch(step)]).permutation(self.examples)
        start = step % self.steps_per_epoch * self.batch_examples
        return [int(number) for number in order[start : start + self.batch_examples]]


def documents_of(encoded: Iterable[Encoded]) -> list[Document]:
    return [document for example in encoded for document in example.documents]


def micro_batches(
    documents: Sequence[Document], row_tokens: int, micro_tokens: int, device: torch.device
) -> Iterator[Batch]:
    """The documents in packed rows, some rows at a time; rows are as wide as the fullest of their batch."""
    rows = sorted(pack(documents, row_tokens), key=_width)
    group: list[list[Document]] = []
    for row in rows:
        if group and (len(group) + 1) * _width(row) > micro_tokens:
            yield _batch(group, device)
            group = []
        group.append(row)
    if group:
        yield _batch(group, device)


def _width(row: Sequence[Document]) -> int:
    return sum(len(document.tokens) for document in row)


def _batch(rows: Sequence[Sequence[Document]], device: torch.device) -> Batch:
    width = max(_width(row) for row in rows)
    tokens = np.zeros((len(rows), width), np.int64)
    weights = np.zeros((len(rows), width), np.float32)
    owners = np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        owners[index] = len(row)  # what is left over at the end belongs to nobody
        start = 0
        for number, document in enumerate(row):
            end = start + len(document.tokens)
            tokens[index, start:end] = document.tokens
            weights[index, start + 1 : end] = np.asarray(document.weights[1:], np.float32) / WEIGHT_UNIT
            owners[index, start:end] = number
            start = end
    documents = torch.from_numpy(owners)
    return Batch(
        tokens=torch.from_numpy(tokens).to(device),
        weights=torch.from_numpy(weights).to(device),
        documents=documents.to(device),
        positions=positions_of(documents).to(device),
    )
