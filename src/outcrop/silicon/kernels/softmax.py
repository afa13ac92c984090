"""Softmax over the last dimension.

Design. 128 rows at a time, one to a partition, so that every reduction is along the free dimension. Each element is
touched three times after it was loaded, once by each engine: Vector finds the largest, Scalar takes the exponential of
the difference and sums it on the way (the bias is the negated largest), and a third engine multiplies with the
reciprocal sum. With that on GpSimd no engine works longer than the DMA of the same tile, and tiles in flight overlap.
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
from outcrop.silicon.kernels.moves import P, copy, halved, scale_rows, steps, tile_of


@dataclass(frozen=True)
class SoftmaxTuning(Tuning):
    """Vector's share of the columns that are multiplied with the reciprocal sums, and how often a row is halved first.

    ``store_turn`` 1 sends a tile off by the other queue than it came by.
    """

    vector_share: float = choice(0.0, 0.25, 0.5, 0.75, 1.0)
    halvings: int = choice(0, 1, 2)
    store_turn: int = choice(0, 1)


@jit
def softmax(x: nl.NkiTensor, tuning: SoftmaxTuning = SoftmaxTuning()) -> nl.NkiTensor:
    """``exp(x - max) / sum`` over the columns of ``x`` ``[T, N]``; the type of ``x`` in and out."""
    rows, width = x.shape
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    for start, height in steps(rows, P):
        turn = start // P
        tile = tile_of(x[start : start + height, :], turn=turn)
        shift = nl.ndarray((height, 1), nl.float32)
        total = nl.ndarray((height, 1), nl.float32)
        powers = nl.ndarray((height, width), x.dtype)
        result = nl.ndarray((height, width), x.dtype)
        nisa.tensor_reduce(shift, nl.maximum, halved(tile, tuning.halvings), 1, negate=True)
        nisa.activation_reduce(powers, nl.exp, tile, nl.add, total, bias=shift)
        nisa.reciprocal(total, total)
        scale_rows(result, powers, total, tuning.vector_share)
        copy(out[start : start + height, :], result, turn + tuning.store_turn)
    return out


def reference(x: Array) -> Array:
    """The softmax in float64."""
    (values,) = wide(x)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Array = powers / powers.sum(axis=-1, keepdims=True)
    return result


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array]:
    return (values.normal((sizes["T"], sizes["N"]), dtype, 3.0),)


def work(sizes: Sizes, dtype: str) -> Work:
    return Work(0.0, 2.0 * sizes["T"] * sizes["N"] * item_bytes(dtype))


CASES = (
    KernelCase(
        name="softmax",
        summary="softmax over the last dimension",
        kernel=softmax,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=SoftmaxTuning,
        small={"T": 130, "N": 700},
        large={"T": 4096, "N": 4096},
        tolerance={"fp32": Tolerance(1e-5, 1e-7), "bf16": Tolerance(1e-2, 1e-5)},
    ),
)
