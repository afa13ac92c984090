"""One step of AdamW over parameters of any shape, flattened.

Design. Parameters lie 128 to a column; each tile is loaded, updated and stored once, 28 bytes of traffic for each
parameter, which leaves every engine idle half of the time. Scalar scales the gradient, squares it, and takes the root
and the reciprocal; Vector does the fused multiply-adds. Constants of the step (learning rate, bias corrections)
are folded into two scales, so that the update is one product and one sum.
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
from outcrop.silicon.kernels.moves import P, copy, steps, tile_of

_SMALLEST = 1e-30  # the Scalar engine takes no root of 0; far below the square of any epsilon


@dataclass(frozen=True)
class AdamwTuning(Tuning):
    """Columns of a tile."""

    columns: int = choice(2048, 512, 1024, 4096)


@jit
def adamw(
    p: nl.NkiTensor,
    g: nl.NkiTensor,
    m: nl.NkiTensor,
    v: nl.NkiTensor,
    rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.95,
    epsilon: float = 1e-8,
    decay: float = 0.1,
    step: int = 10,
    tuning: AdamwTuning = AdamwTuning(),
) -> tuple[nl.NkiTensor, nl.NkiTensor, nl.NkiTensor]:
    """New parameters and moments, all ``[N]`` in float32; the gradient ``g`` may be of a narrower type."""
    count = p.shape[0]
    new_p = nl.ndarray(p.shape, p.dtype, buffer=nl.shared_hbm)
    new_m = nl.ndarray(m.shape, m.dtype, buffer=nl.shared_hbm)
    new_v = nl.ndarray(v.shape, v.dtype, buffer=nl.shared_hbm)
    whole = count // P * P
    turn = 0
    for start, stop in [(0, whole), (whole, count)]:
        if start < stop:
            rows = min(P, stop - start)
            views = []
            for each in (p, g, m, v, new_p, new_m, new_v):
                views.append(each[start:stop].reshape(rows, (stop - start) // rows))
            for column, columns in steps(views[0].shape[1], tuning.columns):
                parts = []
                for view in views:
                    parts.append(view[:, column : column + columns])
                update_tile(parts, rate, beta1, beta2, epsilon, decay, step, turn)
                turn += 1
    return new_p, new_m, new_v


def update_tile(
    parts: list[nl.NkiTensor],
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float,
    step: int,
    turn: int,
) -> None:
    """Update one tile of each: parameters, gradient, both moments, and the three results in HBM."""
    p, g = tile_of(parts[0], turn=turn), tile_of(parts[1], turn=turn + 1)
    m, v = tile_of(parts[2], turn=turn), tile_of(parts[3], turn=turn + 1)
    shape = p.shape
    part, square = nl.ndarray(shape, nl.float32), nl.ndarray(shape, nl.float32)
    nisa.activation(part, nl.copy, g, scale=1.0 - beta1)
    nisa.activation(square, nl.square, g, scale=(1.0 - beta2) ** 0.5)
    nisa.scalar_tensor_tensor(m, m, nl.multiply, beta1, nl.add, part)
    nisa.scalar_tensor_tensor(v, v, nl.multiply, beta2, nl.add, square)
    copy(parts[5], m, turn)
    copy(parts[6], v, turn + 1)
    root = nl.ndarray(shape, nl.float32)
    nisa.tensor_scalar(root, v, nl.multiply, 1.0 / (1.0 - beta2**step), op1=nl.maximum, operand1=_SMALLEST)
    nisa.activation(root, nl.sqrt, root)
    scale = (1.0 - beta1**step) / rate
    nisa.tensor_scalar(root, root, nl.multiply, scale, op1=nl.add, operand1=epsilon * scale)
    nisa.activation(root, nl.reciprocal, root)
    nisa.tensor_tensor(part, m, root, nl.multiply)
    nisa.scalar_tensor_tensor(p, p, nl.multiply, 1.0 - rate * decay, nl.subtract, part)
    copy(parts[4], p, turn)


def reference(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.95,
    epsilon: float = 1e-8,
    decay: float = 0.1,
    step: int = 10,
) -> tuple[Array, Array, Array]:
    """The step in float64."""
    p64, g64, m64, v64 = wide(p, g, m, v)
    new_m = beta1 * m64 + (1 - beta1) * g64
    new_v = beta2 * v64 + (1 - beta2) * g64**2
    update = new_m / (1 - beta1**step) / (np.sqrt(new_v / (1 - beta2**step)) + epsilon)
    return p64 * (1 - rate * decay) - rate * update, new_m, new_v


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    shape = (sizes["N"],)
    return (
        values.normal(shape, "fp32"),
        values.normal(shape, dtype),
        values.normal(shape, "fp32", 0.1),
        values.uniform(shape, "fp32", 1e-3),
    )


def work(sizes: Sizes, dtype: str) -> Work:
    return Work(0.0, sizes["N"] * (24.0 + item_bytes(dtype)))


CASES = (
    KernelCase(
        name="adamw",
        summary="one step of AdamW",
        kernel=adamw,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=AdamwTuning,
        small={"N": 40_037},
        large={"N": 2**24},
        tolerance={"fp32": Tolerance(2e-5, 1e-6), "bf16": Tolerance(2e-5, 1e-6)},
    ),
)
