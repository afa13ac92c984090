"""RMSNorm and LayerNorm over the last dimension, with weights.

Design. 128 rows at a time, one to a partition; the weights lie in every partition from the start. RMSNorm touches each
element twice: Scalar squares and sums, Vector multiplies with the reciprocal root and the weight in one instruction.
LayerNorm takes its statistics from ``bn_stats``, which is exact for large means and runs once per 512 columns on
Vector; then Scalar subtracts and scales in one activation (a scale and a bias for each partition), GpSimd multiplies
with the weight row, and the bias row is added by GpSimd and Vector, some columns each. Whatever a chip's engines, no
element is read twice from HBM.
"""

from __future__ import annotations

from collections.abc import Callable
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
from outcrop.silicon.kernels.moves import P, copy, on_all_partitions, scale_rows, steps, tile_of

EPSILON = 1e-5
_STATISTICS = 512  # columns that one bn_stats takes


@dataclass(frozen=True)
class RmsNormTuning(Tuning):
    """``fused`` multiplies with root and weight in one instruction, else in two that may use Vector's fast modes.

    GpSimd does its share of the columns in two instructions. ``by_sync`` lets the Sync queue alone send results off.
    """

    fused: bool = choice(True, False)
    gpsimd_share: float = choice(0.0, 0.125, 0.25)
    by_sync: bool = choice(False, True)


@dataclass(frozen=True)
class LayerNormTuning(Tuning):
    """Vector's shares of the columns that are multiplied with the weight and that the bias is added to.

    GpSimd has the others. ``store_turn`` 1 sends a tile off by the other queue than it came by.
    """

    weight_share: float = choice(0.0, 0.125, 0.25, 0.5, 1.0)
    vector_share: float = choice(0.5, 0.0, 0.25, 0.375, 0.625, 0.75, 1.0)
    store_turn: int = choice(0, 1)


def reciprocal_root(dst: nl.NkiTensor, mean: nl.NkiTensor, scale: float) -> None:
    """``1 / sqrt(mean * scale + epsilon)`` for each partition, on Vector and Scalar."""
    nisa.tensor_scalar(dst, mean, nl.multiply, scale, op1=nl.add, operand1=EPSILON)
    nisa.activation(dst, nl.sqrt, dst)
    nisa.reciprocal(dst, dst)


@jit
def rms_norm(x: nl.NkiTensor, weight: nl.NkiTensor, tuning: RmsNormTuning = RmsNormTuning()) -> nl.NkiTensor:
    """``x / sqrt(mean(x^2) + 1e-5) * weight`` over the columns of ``x`` ``[T, D]``; ``weight`` is ``[D]``."""
    rows, width = x.shape
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    weights = on_all_partitions(weight)
    for start, height in steps(rows, P):
        turn = start // P
        tile = tile_of(x[start : start + height, :], turn=turn)
        total = nl.ndarray((height, 1), nl.float32)
        squares = nl.ndarray((height, width), nl.bfloat16)  # only their sum, in float32, is used
        result = nl.ndarray((height, width), x.dtype)
        nisa.activation_reduce(squares, nl.square, tile, nl.add, total)
        reciprocal_root(total, total, 1.0 / width)
        split = width - int(width * tuning.gpsimd_share)
        here, rest = slice(0, split), slice(split, width)
        if tuning.fused:
            nisa.scalar_tensor_tensor(
                result[:, here], tile[:, here], nl.multiply, total, nl.multiply, weights[0:height, here]
            )
        else:
            nisa.tensor_scalar(result[:, here], tile[:, here], nl.multiply, total)
            nisa.tensor_tensor(result[:, here], result[:, here], weights[0:height, here], nl.multiply)
        if split < width:
            scale_rows(result[:, rest], tile[:, rest], total, 0.0)
            nisa.tensor_tensor(
                result[:, rest], result[:, rest], weights[0:height, rest], nl.multiply, engine=nisa.engine.gpsimd
            )
        copy(out[start : start + height, :], result, 0 if tuning.by_sync else turn)
    return out


@jit
def layer_norm(
    x: nl.NkiTensor, weight: nl.NkiTensor, bias: nl.NkiTensor, tuning: LayerNormTuning = LayerNormTuning()
) -> nl.NkiTensor:
    """``(x - mean) / sqrt(variance + 1e-5) * weight + bias`` over the columns of ``x`` ``[T, D]``."""
    rows, width = x.shape
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    weights, biases = on_all_partitions(weight), on_all_partitions(bias)
    parts = steps(width, _STATISTICS)
    for start, height in steps(rows, P):
        turn = start // P
        tile = tile_of(x[start : start + height, :], turn=turn)
        statistics = nl.ndarray((height, 6 * len(parts)), nl.float32)
        for at in range(len(parts)):
            column, count = parts[at]
            nisa.bn_stats(statistics[:, 6 * at : 6 * at + 6], tile[:, column : column + count])
        moments = nl.ndarray((height, 2), nl.float32)
        nisa.bn_aggr(moments, statistics)
        root = nl.ndarray((height, 1), nl.float32)
        shift = nl.ndarray((height, 1), nl.float32)
        reciprocal_root(root, moments[:, 1:2], 1.0)
        nisa.scalar_tensor_tensor(shift, moments[:, 0:1], nl.multiply, -1.0, nl.multiply, root)
        scaled = nl.ndarray((height, width), x.dtype)
        result = nl.ndarray((height, width), x.dtype)
        nisa.activation(scaled, nl.copy, tile, bias=shift, scale=root)
        combine_shared(scaled, scaled, weights[0:height, :], nl.multiply, tuning.weight_share)
        combine_shared(result, scaled, biases[0:height, :], nl.add, tuning.vector_share)
        copy(out[start : start + height, :], result, turn + tuning.store_turn)
    return out


def combine_shared(
    dst: nl.NkiTensor, a: nl.NkiTensor, b: nl.NkiTensor, operator: Callable[..., object], vector_share: float
) -> None:
    """An operation on two tiles: the first columns on Vector, the others on GpSimd."""
    width = dst.shape[1]
    split = int(width * vector_share)
    parts = [(slice(0, split), nisa.engine.vector), (slice(split, width), nisa.engine.gpsimd)]
    for here, engine in parts:
        if here.start < here.stop:
            nisa.tensor_tensor(dst[:, here], a[:, here], b[:, here], operator, engine=engine)


def rms_norm_reference(x: Array, weight: Array) -> Array:
    """RMSNorm in float64."""
    values, weights = wide(x, weight)
    result: Array = values / np.sqrt((values**2).mean(axis=-1, keepdims=True) + EPSILON) * weights
    return result


def layer_norm_reference(x: Array, weight: Array, bias: Array) -> Array:
    """LayerNorm in float64."""
    values, weights, biases = wide(x, weight, bias)
    centred = values - values.mean(axis=-1, keepdims=True)
    result: Array = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON) * weights + biases
    return result


def rms_norm_inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    return values.normal((sizes["T"], sizes["D"]), dtype, 2.0), values.normal((sizes["D"],), dtype)


def layer_norm_inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    return (*rms_norm_inputs(sizes, dtype, values), values.normal((sizes["D"],), dtype))


def work(sizes: Sizes, dtype: str) -> Work:
    return Work(0.0, 2.0 * sizes["T"] * sizes["D"] * item_bytes(dtype))


_SMALL = {"T": 130, "D": 700}
_LARGE = {"T": 8192, "D": 4096}

CASES = (
    KernelCase(
        name="rms_norm",
        summary="RMSNorm with a weight",
        kernel=rms_norm,
        inputs=rms_norm_inputs,
        reference=rms_norm_reference,
        work=work,
        tuning=RmsNormTuning,
        small=_SMALL,
        large=_LARGE,
        tolerance={"fp32": Tolerance(2e-5, 1e-6), "bf16": Tolerance(1.5e-2, 1e-3)},
    ),
    KernelCase(
        name="layer_norm",
        summary="LayerNorm with weight and bias",
        kernel=layer_norm,
        inputs=layer_norm_inputs,
        reference=layer_norm_reference,
        work=work,
        tuning=LayerNormTuning,
        small=_SMALL,
        large=_LARGE,
        tolerance={"fp32": Tolerance(2e-5, 1e-5), "bf16": Tolerance(1.5e-2, 4e-2)},
    ),
)
