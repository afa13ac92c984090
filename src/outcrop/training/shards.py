"""Packed training rows on disk, memory-mapped, and a cursor over them that can be saved and restored.

A shard is three arrays of the same shape ``[rows, row_tokens]``: ``tokens.u16``, ``weights.u8`` (hundredths of the
loss weight of predicting that token; 0: not trained) and ``documents.u16`` (which document of its row a token
belongs to), described by ``shard.json``. Documents never see each other and their positions start at 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outcrop.base.errors import UserError, check

WEIGHT_UNIT = 100
"""A stored weight of 100 counts once in the loss."""
OPEN_ROWS = 16


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids and, for each, the weight (0 to 255, in hundredths) of predicting it. The first is never predicted."""

    tokens: Sequence[int]
    weights: Sequence[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """``[batch, time]`` each; ``weights[b, t]`` belongs to predicting ``tokens[b, t]`` from what precedes it."""

    tokens: Tensor
    weights: Tensor
    documents: Tensor
    positions: Tensor


class Shard:
    """One shard directory, read through memory maps."""

    def __init__(self, directory: Path) -> None:
        described = directory / "shard.json"
        if not described.is_file():
            raise UserError(f"No shard in {directory}: shard.json is missing.", "Build the shard first.")
        meta = json.loads(described.read_text())
        shape = (int(meta["rows"]), int(meta["row_tokens"]))
        self.rows, self.row_tokens = shape
        self._tokens = np.memmap(directory / "tokens.u16", np.uint16, "r", shape=shape)
        self._weights = np.memmap(directory / "weights.u8", np.uint8, "r", shape=shape)
        self._documents = np.memmap(directory / "documents.u16", np.uint16, "r", shape=shape)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """The rows as tensors: int64 tokens, documents and positions; fp32 weights."""
        documents = torch.from_numpy(self._documents[rows].astype(np.int64))
        return Batch(
            tokens=torch.from_numpy(self._tokens[rows].astype(np.int64)),
            weights=torch.from_numpy(self._weights[rows].astype(np.float32)) / WEIGHT_UNIT,
            documents=documents,
            positions=positions_of(documents),
        )


def positions_of(documents: Tensor) -> Tensor:
    """Positions ``[batch, time]`` that start at 0 where a row's document changes."""
    at = torch.arange(documents.shape[1]).expand_as(documents)
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return at - torch.where(starts, at, 0).cummax(dim=1).values


def pack(documents: Iterable[Document], row_tokens: int) -> Iterator[list[Document]]:
    """Groups of documents that fit one row: each goes to the first open row with room for it.

    At most ``OPEN_ROWS`` rows are open; the fullest is closed for a document that fits none. A document longer than a
    row is cut.
    """
    rows: list[list[Document]] = []
    room: list[int] = []
    for document in documents:
        cut = Document(document.tokens[:row_tokens], document.weights[:row_tokens])
        size = len(cut.tokens)
        index = next((i for i, free in enumerate(room) if free >= size), None)
        if index is None:
            if len(rows) == OPEN_ROWS:
                fullest = room.index(min(room))
                room.pop(fullest)
                yield rows.pop(fullest)
            index = len(rows)
            rows.append([])
            room.append(row_tokens)
        rows[index].append(cut)
        room[index] -= size
    yield from rows


def write_shard(directory: Path, documents: Iterable[Document], row_tokens: int) -> int:
    """Pack documents into a new shard directory and return its number of rows. Unused tail positions weigh 0."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = 0
    with (
        (directory / "tokens.u16").open("wb") as tokens_file,
        (directory / "weights.u8").open("wb") as weights_file,
        (directory / "documents.u16").open("wb") as documents_file,
    ):
        for row in pack(documents, row_tokens):
            tokens = np.zeros(row_tokens, np.uint16)
            weights = np.zeros(row_tokens, np.uint8)
            owners = np.full(row_tokens, len(row), np.uint16)
            start = 0
            for index, document in enumerate(row):
                end = start + len(document.tokens)
                tokens[start:end] = document.tokens
                weights[start + 1 : end] = document.weights[1:]
                owners[start:end] = index
                start = end
            tokens_file.write(tokens.tobytes())
            weights_file.write(weights.tobytes())
            documents_file.write(owners.tobytes())
            rows += 1
    (directory / "shard.json").write_text(json.dumps({"rows": rows, "row_tokens": row_tokens}))
    return rows


@dataclass(slots=True)
class Cursor:
    """Where a pass over shuffled rows stands. Equal state and seed give equal batches, whatever happened before."""

    rows: int
    batch_rows: int
    seed: int
    epoch: int = 0
    taken: int = 0

    def __post_init__(self) -> None:
        check(0 < self.batch_rows <= self.rows, "a batch has at least one row and at most a whole epoch")

    def next_rows(self) -> NDArray[np.int64]:
        """The next batch's row numbers; a new epoch, newly shuffled, begins where fewer than a batch remain."""
        if self.taken + self.batch_rows > self.rows:
            self.epoch, self.taken = self.epoch + 1, 0
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        chosen = order[self.taken : self.taken + self.batch_rows]
        self.taken += self.batch_rows
        return chosen

    def state(self) -> dict[str, int]:
        return {"epoch": self.epoch, "taken": self.taken}

    def restore(self, state: dict[str, int]) -> None:
        self.epoch, self.taken = state["epoch"], state["taken"]
