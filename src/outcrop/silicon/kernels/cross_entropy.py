"""Cross-entropy over a large vocabulary, forward and backward, streaming over the logits.

Design. 128 rows lie in partitions and their logits pass by in pieces of some thousand columns, each read once. Forward,
Vector finds the largest of a piece by halving it (a maximum of two bfloat16 tiles runs at twice the rate of a
reduction), Scalar sums exponentials of the differences, and what was summed before is scaled down. Backward, Scalar
alone makes the probabilities, already multiplied by the gradient of the loss through its bias. The logit of the target,
and the gradient at it, are one element in a row: they go by DMAs that pick elements of HBM by number, so that no engine
looks for them among the others.
"""

from __future__ import annotations

import math
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
from outcrop.silicon.kernels.moves import P, copy, halved, steps, tile_of


@dataclass(frozen=True)
class CrossEntropyTuning(Tuning):
    """Columns of a piece, and how often it is halved before the reduction."""

    columns: int = choice(8192, 2048, 4096)
    halvings: int = choice(2, 0, 1, 3)


@jit
def cross_entropy(
    logits: nl.NkiTensor, targets: nl.NkiTensor, tuning: CrossEntropyTuning = CrossEntropyTuning()
) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """Losses and logarithms of the sums, float32 ``[T, 1]`` each, of ``logits`` ``[T, V]`` and int32 ``[T]``."""
    rows, width = logits.shape
    losses = nl.ndarray((rows, 1), nl.float32, buffer=nl.shared_hbm)
    logs = nl.ndarray((rows, 1), nl.float32, buffer=nl.shared_hbm)
    for start, height in steps(rows, P):
        here = slice(start, start + height)
        shift = nl.ndarray((height, 1), nl.float32)
        total = nl.ndarray((height, 1), nl.float32)
        for column, columns in steps(width, tuning.columns):
            tile = tile_of(logits[here, column : column + columns])  # not by Scalar, the busiest here
            shift, total = add_piece(tile, shift, total, column == 0, tuning)
        picked = element_of_target(logits, targets[here], start)
        log = nl.ndarray((height, 1), nl.float32)
        loss = nl.ndarray((height, 1), nl.float32)
        nisa.activation(log, nl.log, total)
        nisa.tensor_tensor(log, log, shift, nl.subtract)
        nisa.tensor_tensor(loss, log, picked[0], nl.subtract)
        copy(logs[here, :], log)
        copy(losses[here, :], loss)
    return losses, logs


def add_piece(
    tile: nl.NkiTensor, shift: nl.NkiTensor, total: nl.NkiTensor, is_first: bool, tuning: CrossEntropyTuning
) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """The negated maximum and the sum of exponentials with one more piece of the logits."""
    height, width = tile.shape
    smaller = halved(tile, tuning.halvings)
    new_shift = nl.ndarray((height, 1), nl.float32)
    new_total = nl.ndarray((height, 1), nl.float32)
    powers = nl.ndarray((height, width), nl.bfloat16)  # only their sum, in float32, is used
    nisa.tensor_reduce(new_shift, nl.maximum, smaller, 1, negate=True)
    if not is_first:
        nisa.tensor_tensor(new_shift, new_shift, shift, nl.minimum)
    nisa.activation_reduce(powers, nl.exp, tile, nl.add, new_total, bias=new_shift)
    if not is_first:
        ratio = nl.ndarray((height, 1), nl.float32)
        nisa.activation(ratio, nl.exp, shift, bias=new_shift, scale=-1.0)
        nisa.scalar_tensor_tensor(new_total, total, nl.multiply, ratio, nl.add, new_total)
    return new_shift, new_total


def element_of_target(table: nl.NkiTensor, targets: nl.NkiTensor, start: int) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """The logit of each row's target in float32, and its number among all elements of the table."""
    height = targets.shape[0]
    rows, width = table.shape
    columns = tile_of(targets.expand_dim(1))
    places = nl.ndarray((height, 1), nl.int32)
    nisa.iota(places, [[1, 1]], start * width, width)
    nisa.tensor_tensor(places, places, columns, nl.add, engine=nisa.engine.gpsimd)
    narrow = nl.ndarray((height, 1), table.dtype)
    nisa.dma_copy(narrow, table.reshape(rows * width, 1).vector_select(0, places))
    picked = nl.ndarray((height, 1), nl.float32)
    nisa.tensor_copy(picked, narrow)
    return picked, places


@jit
def cross_entropy_backward(
    logits: nl.NkiTensor,
    targets: nl.NkiTensor,
    logs: nl.NkiTensor,
    scale: float = 1.0,
    tuning: CrossEntropyTuning = CrossEntropyTuning(),
) -> nl.NkiTensor:
    """``scale * (softmax(logits) - one at the target)``; ``logs`` from ``cross_entropy``, ``scale`` above 0."""
    rows, width = logits.shape
    out = nl.ndarray(logits.shape, logits.dtype, buffer=nl.shared_hbm)
    for start, height in steps(rows, P):
        here = slice(start, start + height)
        bias = tile_of(logs[here, :])
        nisa.tensor_scalar(bias, bias, nl.multiply, -1.0, op1=nl.add, operand1=math.log(scale))
        for column, columns in steps(width, tuning.columns):
            turn = column // tuning.columns
            tile = tile_of(logits[here, column : column + columns], turn=turn)
            result = nl.ndarray((height, columns), logits.dtype)
            nisa.activation(result, nl.exp, tile, bias=bias)
            copy(out[here, column : column + columns], result, turn)
        picked, places = element_of_target(logits, targets[here], start)
        at_target = nl.ndarray((height, 1), logits.dtype)
        nisa.activation(picked, nl.exp, picked, bias=bias)
        nisa.tensor_scalar(at_target, picked, nl.subtract, scale)
        nisa.dma_copy(out.reshape(rows * width, 1).vector_select(0, places), at_target)
    return out


def reference(logits: Array, targets: Array) -> tuple[Array, Array]:
    """Losses and logarithms of the sums in float64."""
    (values,) = wide(logits)
    largest = values.max(axis=1, keepdims=True)
    logs = np.log(np.exp(values - largest).sum(axis=1, keepdims=True)) + largest
    return logs - np.take_along_axis(values, targets[:, None], 1), logs


def backward_reference(logits: Array, targets: Array, logs: Array, scale: float = 1.0) -> Array:
    """The gradient in float64."""
    values, sums = wide(logits, logs)
    result: Array = np.exp(values - sums)
    result[np.arange(len(targets)), targets] -= 1.0
    return scale * result


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    return values.normal((sizes["T"], sizes["V"]), dtype, 2.0), values.integers((sizes["T"],), sizes["V"])


def backward_inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    logits, targets = inputs(sizes, dtype, values)
    if values.seed is None:
        return logits, targets, values.normal((sizes["T"], 1), "fp32")
    return logits, targets, reference(logits, targets)[1].astype(np.float32)


def work(sizes: Sizes, dtype: str) -> Work:
    return Work(0.0, sizes["T"] * (sizes["V"] * float(item_bytes(dtype)) + 12.0))


def backward_work(sizes: Sizes, dtype: str) -> Work:
    return Work(0.0, sizes["T"] * (2.0 * sizes["V"] * item_bytes(dtype) + 8.0))


_SMALL, _LARGE = {"T": 130, "V": 2500}, {"T": 512, "V": 131_072}

CASES = (
    KernelCase(
        name="cross_entropy",
        summary="losses over a large vocabulary",
        kernel=cross_entropy,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=CrossEntropyTuning,
        small=_SMALL,
        large=_LARGE,
        tolerance={"fp32": Tolerance(1e-5, 1e-5), "bf16": Tolerance(1e-5, 1e-5)},
    ),
    KernelCase(
        name="cross_entropy_backward",
        summary="gradient of the losses over a large vocabulary",
        kernel=cross_entropy_backward,
        inputs=backward_inputs,
        reference=backward_reference,
        work=backward_work,
        tuning=CrossEntropyTuning,
        small=_SMALL,
        large=_LARGE,
        tolerance={"fp32": Tolerance(1e-5, 1e-7), "bf16": Tolerance(1e-2, 1e-6)},
    ),
)
