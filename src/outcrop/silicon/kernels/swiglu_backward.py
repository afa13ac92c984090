"""The feed-forward layer with a gate, backward: gradients of its input and of its three weights.

Design. The hidden layer is made again rather than kept: three products of one block of tokens (gate, up, and what comes
back through the last weights) meet in three PSUM banks, and Scalar and Vector make of them the hidden values and both
gradients, which go to HBM once. Every other product contracts over tokens or over the hidden dimension, and is the
plain blocked product; operands that lie the wrong way round are turned once on the way, which costs the tensor engine
a few percent. The gradient of the input sums two products in one pass through PSUM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.silicon.kernels import swiglu as forward
from outcrop.silicon.kernels.base import Array, KernelCase, Sizes, Tolerance, Tuning, Values, Work, choice, wide
from outcrop.silicon.kernels.front import jit, nisa, nl
from outcrop.silicon.kernels.matmul import MatmulTuning, multiply
from outcrop.silicon.kernels.moves import P, copy, steps
from outcrop.silicon.kernels.turned import load_rows_of, turn_matrix, turn_rows


@dataclass(frozen=True)
class SwigluBackwardTuning(Tuning):
    """Tokens in a block of the first stage, and rows of weights (in 128s) that a DMA brings."""

    tokens: int = choice(512, 128, 256)
    load_rows: int = choice(4, 2, 8)


@jit
def swiglu_backward(
    x: nl.NkiTensor,
    w_gate: nl.NkiTensor,
    w_up: nl.NkiTensor,
    w_down: nl.NkiTensor,
    grad: nl.NkiTensor,
    tuning: SwigluBackwardTuning = SwigluBackwardTuning(),
) -> tuple[nl.NkiTensor, nl.NkiTensor, nl.NkiTensor, nl.NkiTensor]:
    """Gradients of ``x``, ``w_gate``, ``w_up`` and ``w_down`` for ``grad`` ``[T, D]``, that of the layer's result."""
    length = x.shape[0]
    width = w_gate.shape[1]
    plain = MatmulTuning()
    hidden = nl.ndarray((length, width), x.dtype, buffer=nl.private_hbm)
    grad_gate = nl.ndarray((length, width), x.dtype, buffer=nl.private_hbm)
    grad_up = nl.ndarray((length, width), x.dtype, buffer=nl.private_hbm)
    down_turned = turn_matrix(w_down)
    for start, height in steps(length, tuning.tokens):
        here = slice(start, start + height)
        block = turn_rows(load_rows_of(x[here, :]))
        back = turn_rows(load_rows_of(grad[here, :]))
        for column, columns in steps(width, nl.tile_size.gemm_moving_fmax):
            there = slice(column, column + columns)
            weights = []
            for each in (w_gate, w_up, down_turned):
                weights.append(forward.weight_tiles(each[:, there], tuning.load_rows))
            for first, rows in steps(height, P):
                part = slice(start + first, start + first + rows)
                targets = [hidden[part, there], grad_gate[part, there], grad_up[part, there]]
                hidden_gradients(targets, [block, block, back], weights, first)
    x_grad = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    gate_grad = nl.ndarray(w_gate.shape, x.dtype, buffer=nl.shared_hbm)
    up_grad = nl.ndarray(w_up.shape, x.dtype, buffer=nl.shared_hbm)
    down_grad = nl.ndarray(w_down.shape, x.dtype, buffer=nl.shared_hbm)
    multiply(down_grad, [hidden], [grad], plain)
    multiply(gate_grad, [x], [grad_gate], plain)
    multiply(up_grad, [x], [grad_up], plain)
    turned = [turn_matrix(grad_gate), turn_matrix(grad_up)]
    multiply(x_grad, turned, [turn_matrix(w_gate), turn_matrix(w_up)], MatmulTuning(block_m=512))
    return x_grad, gate_grad, up_grad, down_grad


def hidden_gradients(
    targets: list[nl.NkiTensor], operands: list[list[nl.NkiTensor]], weights: list[list[nl.NkiTensor]], first: int
) -> None:
    """Store hidden values and the gradients of gate and up for 128 tokens and 512 hidden columns."""
    shape, dtype = targets[0].shape, targets[0].dtype
    sums = []
    for at in range(3):
        total = nl.ndarray(shape, nl.float32, buffer=nl.psum)
        row = 0
        for tile in weights[at]:
            for place in range(tile.shape[1]):
                nisa.nc_matmul(total, operands[at][row][:, first : first + shape[0]], tile[:, place, :])
                row += 1
        sums.append(total)
    gate, up, back = sums
    activated, slope = nl.ndarray(shape, nl.float32), nl.ndarray(shape, nl.float32)
    held = nl.ndarray(shape, nl.float32)
    hidden, gate_grad, up_grad = nl.ndarray(shape, dtype), nl.ndarray(shape, dtype), nl.ndarray(shape, dtype)
    nisa.activation(activated, nl.silu, gate)
    nisa.activation(slope, nl.silu_dx, gate)
    nisa.tensor_tensor(hidden, activated, up, nl.multiply)
    nisa.tensor_tensor(up_grad, activated, back, nl.multiply)
    nisa.tensor_tensor(held, slope, up, nl.multiply)
    nisa.tensor_tensor(gate_grad, held, back, nl.multiply)
    copy(targets[0], hidden, 0)
    copy(targets[1], gate_grad, 1)
    copy(targets[2], up_grad, 0)


def reference(x: Array, w_gate: Array, w_up: Array, w_down: Array, grad: Array) -> tuple[Array, ...]:
    """The gradients in float64."""
    x64, gate_w, up_w, down_w, back = wide(x, w_gate, w_up, w_down, grad)
    gate, up = x64 @ gate_w, x64 @ up_w
    sigmoid = 1.0 / (1.0 + np.exp(-gate))
    activated, slope = gate * sigmoid, sigmoid * (1.0 + gate * (1.0 - sigmoid))
    through = back @ down_w.T
    up_grad, gate_grad = through * activated, through * up * slope
    return (
        gate_grad @ gate_w.T + up_grad @ up_w.T,
        x64.T @ gate_grad,
        x64.T @ up_grad,
        (activated * up).T @ back,
    )


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    return (*forward.inputs(sizes, dtype, values), values.normal((sizes["T"], sizes["D"]), dtype))


def work(sizes: Sizes, dtype: str) -> Work:
    """Two products to make the hidden layer again and six of its gradients."""
    once = forward.work(sizes, dtype)
    return Work(once.flops / 3.0 * 8.0, once.bytes * 2.0)


CASES = (
    KernelCase(
        name="swiglu_backward",
        summary="gated feed-forward layer, gradients of input and weights",
        kernel=swiglu_backward,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=SwigluBackwardTuning,
        small={"T": 140, "D": 160, "F": 300},
        large={"T": 1024, "D": 2048, "F": 4096},
        tolerance={"fp32": Tolerance(1e-4, 2e-4), "bf16": Tolerance(5e-2, 3e-1)},
        bound="tensor",
    ),
)
