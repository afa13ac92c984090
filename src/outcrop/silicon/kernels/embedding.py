"""Rows of an embedding table, and the gradient of the table: a gather and a scatter with sums.

Design. The gather is DMA alone, from the table straight to the result, 128 rows a time, with descriptors that GpSimd
makes from the row numbers. The gradient must add rows of equal numbers, which one DMA cannot: so within 128 rows a
product with the matrix of equal numbers gives each its group's sum, all but the first of a group are sent outside the
table, where the DMA skips them, and the rest are added to the table's rows on the way. Tiles of rows follow one
another, since they may meet in the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.silicon.kernels.base import (
    Array,
    KernelCase,
    Sizes,
    Tolerance,
    Tuning,
    Values,
    Work,
    choice,
    item_bytes,
    wide,
)
from outcrop.silicon.kernels.front import jit, nisa, nl
from outcrop.silicon.kernels.moves import P, steps, tile_of


@dataclass(frozen=True)
class GatherTuning(Tuning):
    """Whether rows go straight to the result, or by way of SBUF."""

    is_direct: bool = choice(True, False)


@dataclass(frozen=True)
class ScatterTuning(Tuning):
    """Columns of a product of equal rows."""

    columns: int = choice(512, 128, 256)


@jit
def embedding(table: nl.NkiTensor, ids: nl.NkiTensor, tuning: GatherTuning = GatherTuning()) -> nl.NkiTensor:
    """``table[ids]``: ``table`` is ``[V, D]``, ``ids`` int32 ``[T]``."""
    count, width = ids.shape[0], table.shape[1]
    out = nl.ndarray((count, width), table.dtype, buffer=nl.shared_hbm)
    for start, height in steps(count, P):
        picks = tile_of(ids[start : start + height].expand_dim(1))
        rows = table.vector_select(0, picks)
        if tuning.is_direct:
            nisa.dma_copy(out[start : start + height, :], rows)
        else:
            tile = nl.ndarray((height, width), table.dtype)
            nisa.dma_copy(tile, rows)
            nisa.dma_copy(out[start : start + height, :], tile)
    return out


@jit
def embedding_gradient(
    table: nl.NkiTensor, ids: nl.NkiTensor, rows: nl.NkiTensor, tuning: ScatterTuning = ScatterTuning()
) -> nl.NkiTensor:
    """Add ``rows`` ``[T, D]`` to the rows ``ids`` of the gradient ``table`` ``[V, D]`` float32, which it updates."""
    count, width = rows.shape
    for start, height in steps(count, P):
        here = slice(start, start + height)
        picks = tile_of(ids[here].expand_dim(1))
        own, equal = equal_rows(picks, ids[here], height)
        tile = tile_of(rows[here, :])
        sums = nl.ndarray((height, width), nl.float32)
        if rows.dtype == nl.float32:
            marks = equal
        else:
            marks = nl.ndarray((height, height), rows.dtype)
            nisa.tensor_copy(marks, equal)
        for column, columns in steps(width, tuning.columns):
            total = nl.ndarray((height, columns), nl.float32, buffer=nl.psum)
            nisa.nc_matmul(total, marks, tile[:, column : column + columns])
            nisa.tensor_copy(sums[:, column : column + columns], total)
        targets = first_of_equal(own, equal, table.shape[0])
        picked = table.vector_select(0, targets)
        nisa.dma_compute(picked, [picked, sums], nl.add, oob_mode=nisa.oob_mode.skip)
    return table


def equal_rows(picks: nl.NkiTensor, ids: nl.NkiTensor, height: int) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """The numbers as float32 ``[T, 1]``, and 1.0 where those of two rows are equal, ``[T, T]``."""
    own = nl.ndarray((height, 1), nl.float32)
    nisa.tensor_copy(own, picks)
    others = tile_of(ids.reshape(1, height).broadcast(0, height))
    equal = nl.ndarray((height, height), nl.float32)
    nisa.tensor_scalar(equal, others, nl.equal, own)
    return own, equal


def first_of_equal(own: nl.NkiTensor, equal: nl.NkiTensor, outside: int) -> nl.NkiTensor:
    """The row numbers, those that occurred in an earlier row moved outside of the table."""
    height = own.shape[0]
    earlier = nl.ndarray((height, height), nl.float32)
    nisa.affine_select(earlier, [[-1, height]], 1, equal, 0.0, nl.greater, offset=0)
    repeated = nl.ndarray((height, 1), nl.float32)
    nisa.tensor_reduce(repeated, nl.maximum, earlier, 1)
    targets = nl.ndarray((height, 1), nl.int32)
    nisa.scalar_tensor_tensor(targets, repeated, nl.multiply, float(outside), nl.add, own)
    return targets


def gather_reference(table: Array, ids: Array) -> Array:
    """The rows in float64."""
    picked: Array = np.asarray(table, np.float64)[ids]
    return picked


def gradient_reference(table: Array, ids: Array, rows: Array) -> Array:
    """The sum in float64."""
    total, added = wide(table, rows)
    total = total.copy()
    np.add.at(total, ids, added)
    return total


def gather_inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    return values.normal((sizes["V"], sizes["D"]), dtype), values.integers((sizes["T"],), sizes["V"])


def gradient_inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    return (
        values.normal((sizes["V"], sizes["D"]), "fp32"),
        values.integers((sizes["T"],), sizes["V"]),
        values.normal((sizes["T"], sizes["D"]), dtype),
    )


def gather_work(sizes: Sizes, dtype: str) -> Work:
    """Each row moves once: a DMA reads and writes."""
    return Work(0.0, sizes["T"] * (sizes["D"] * float(item_bytes(dtype)) + 4.0))


def gradient_work(sizes: Sizes, dtype: str) -> Work:
    """Rows come in, and are added to rows of the table on their way out."""
    return Work(0.0, sizes["T"] * (sizes["D"] * (item_bytes(dtype) + 4.0) + 4.0))


CASES = (
    KernelCase(
        name="embedding",
        summary="rows of an embedding table",
        kernel=embedding,
        inputs=gather_inputs,
        reference=gather_reference,
        work=gather_work,
        tuning=GatherTuning,
        small={"V": 50, "D": 96, "T": 200},
        large={"V": 32_000, "D": 4096, "T": 4096},
        tolerance={"fp32": Tolerance(0.0, 0.0), "bf16": Tolerance(0.0, 0.0)},
    ),
    KernelCase(
        name="embedding_gradient",
        summary="sums into rows of an embedding table's gradient",
        kernel=embedding_gradient,
        inputs=gradient_inputs,
        reference=gradient_reference,
        work=gradient_work,
        tuning=ScatterTuning,
        small={"V": 50, "D": 96, "T": 200},
        large={"V": 32_000, "D": 4096, "T": 4096},
        tolerance={"fp32": Tolerance(1e-5, 1e-5), "bf16": Tolerance(1e-5, 1e-5)},
    ),
)
