"""Quantisation of activations by row, to int8 or float8, with the scale of each row.

Design. One row to a partition. The work on each element is divided over three engines, as the DMA moves but three bytes
of it: Scalar takes absolute values, Vector finds the largest, GpSimd multiplies with the reciprocal scale and converts.
Rounding is that of the conversion: to the nearest, ties to even.
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

_SMALLEST = 1e-12  # largest value of a row of zeros, so that its scale is not 0


@dataclass(frozen=True)
class QuantiseTuning(Tuning):
    """Vector's share of the columns that are scaled, and how often a row is halved before its largest is found."""

    vector_share: float = choice(0.0, 0.125, 0.25, 0.5, 1.0)
    halvings: int = choice(1, 0, 2, 3)


@jit
def quantise(
    x: nl.NkiTensor, to_float8: bool = False, tuning: QuantiseTuning = QuantiseTuning()
) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """``x`` ``[T, D]`` as int8 (or float8_e4m3) and float32 scales ``[T, 1]``: ``x`` is about their product."""
    rows, width = x.shape
    limit = 240.0 if to_float8 else 127.0
    out = nl.ndarray(x.shape, nl.float8_e4m3 if to_float8 else nl.int8, buffer=nl.shared_hbm)
    scales = nl.ndarray((rows, 1), nl.float32, buffer=nl.shared_hbm)
    for start, height in steps(rows, P):
        turn = start // P
        tile = tile_of(x[start : start + height, :], turn=0)
        sizes = nl.ndarray((height, width), x.dtype)
        scale = nl.ndarray((height, 1), nl.float32)
        share = nl.ndarray((height, 1), nl.float32)
        result = nl.ndarray((height, width), out.dtype)
        nisa.activation(sizes, nl.abs, tile)
        nisa.tensor_reduce(scale, nl.maximum, halved(sizes, tuning.halvings), 1)
        nisa.tensor_scalar(scale, scale, nl.maximum, _SMALLEST, op1=nl.multiply, operand1=1.0 / limit)
        nisa.reciprocal(share, scale)
        scale_rows(result, tile, share, tuning.vector_share)
        copy(out[start : start + height, :], result, turn)
        copy(scales[start : start + height, :], scale, turn)
    return out, scales


def reference(x: Array, to_float8: bool = False) -> tuple[Array, Array]:
    """Quantised values before rounding, and scales, in float64."""
    (values,) = wide(x)
    scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), _SMALLEST) / (240.0 if to_float8 else 127.0)
    return values / scales, scales


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array]:
    return (values.normal((sizes["T"], sizes["D"]), dtype, 3.0),)


def work(sizes: Sizes, dtype: str) -> Work:
    return Work(0.0, sizes["T"] * (sizes["D"] * (item_bytes(dtype) + 1.0) + 4.0))


_SMALL, _LARGE = {"T": 130, "D": 700}, {"T": 8192, "D": 4096}
_INT8 = Tolerance(0.0, 0.501)  # half a step of rounding

CASES = (
    KernelCase(
        name="quantise_int8",
        summary="quantisation by row to int8",
        kernel=quantise,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=QuantiseTuning,
        small=_SMALL,
        large=_LARGE,
        tolerance={"fp32": _INT8, "bf16": _INT8},
    ),
    KernelCase(
        name="quantise_fp8",
        summary="quantisation by row to float8",
        kernel=quantise,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=QuantiseTuning,
        small=_SMALL,
        large=_LARGE,
        tolerance={"fp32": Tolerance(0.0626, 2e-3), "bf16": Tolerance(0.0626, 2e-3)},
        options={"to_float8": True},
    ),
)
