"""The feed-forward layer with a gate, forward: ``(silu(x Wg) * (x Wu)) Wd``.

Design. A block of 512 tokens is turned once, then both products of the first half are made with the weights as the
stationary operand and tokens moving, so that their results come with the hidden dimension in partitions: as the
contraction of the second half wants them. Scalar takes silu straight from PSUM, Vector multiplies it with the other
half from PSUM; nothing but the result leaves the chip. Weights stream through SBUF once for each block of tokens, in
tiles of whole KiB of each partition; 512 tokens make two and a half times as much work of each byte as the DMA needs.
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
from outcrop.silicon.kernels.matmul import MatmulTuning, load_rows, multiply_block
from outcrop.silicon.kernels.moves import P, steps
from outcrop.silicon.kernels.turned import load_rows_of, turn_rows


@dataclass(frozen=True)
class SwigluTuning(Tuning):
    """Tokens in a block, hidden columns of a weight tile, rows of weights (in 128s) that a DMA brings."""

    tokens: int = choice(512, 128, 256)
    hidden: int = choice(512, 128, 256, 1024)
    load_rows: int = choice(4, 2, 8)


@jit
def swiglu(
    x: nl.NkiTensor,
    w_gate: nl.NkiTensor,
    w_up: nl.NkiTensor,
    w_down: nl.NkiTensor,
    tuning: SwigluTuning = SwigluTuning(),
) -> nl.NkiTensor:
    """``x`` is ``[T, D]``, ``w_gate`` and ``w_up`` are ``[D, F]``, ``w_down`` is ``[F, D]``."""
    length, size = x.shape
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    second = MatmulTuning(block_n=512, load_rows=tuning.load_rows)
    for start, width in steps(length, tuning.tokens):
        turned = turn_rows(load_rows_of(x[start : start + width, :]))
        hidden = hidden_tiles([turned], w_gate, w_up, tuning)[0]
        for column, columns in steps(size, second.block_n):
            weights = weight_tiles(w_down[:, column : column + columns], tuning.load_rows)
            here = out[start : start + width, column : column + columns]
            multiply_block(here, as_rows(hidden), weights, False, second, 0)
    return out


def weight_tiles(w: nl.NkiTensor, count: int) -> list[nl.NkiTensor]:
    """All rows of a weight matrix as tiles ``[128, up to count, columns]``."""
    tiles = []
    for row, rows in steps(w.shape[0], P * count):
        tiles += load_rows(w[row : row + rows, :], row // (P * count))
    return tiles


def as_rows(tiles: list[nl.NkiTensor]) -> list[nl.NkiTensor]:
    """Each ``[p, T]`` as ``[p, 1, T]``: one row of 128s."""
    made = []
    for tile in tiles:
        made.append(tile.expand_dim(1))
    return made


def hidden_tiles(
    blocks: list[list[nl.NkiTensor]], w_gate: nl.NkiTensor, w_up: nl.NkiTensor, tuning: SwigluTuning
) -> list[list[nl.NkiTensor]]:
    """``silu(x Wg) * (x Wu)`` of each block of turned tokens as tiles ``[128 of F, tokens]``; weights load once."""
    made: list[list[nl.NkiTensor]] = []
    for _ in blocks:
        made.append([])
    for column, columns in steps(w_gate.shape[1], tuning.hidden):
        gates = weight_tiles(w_gate[:, column : column + columns], tuning.load_rows)
        ups = weight_tiles(w_up[:, column : column + columns], tuning.load_rows)
        for block in range(len(blocks)):
            turned = blocks[block]
            dtype, width = turned[0].dtype, turned[0].shape[1]
            for first, height in steps(columns, P):
                gate = nl.ndarray((height, width), nl.float32, buffer=nl.psum)
                up = nl.ndarray((height, width), nl.float32, buffer=nl.psum)
                contract(gate, gates, turned, first)
                contract(up, ups, turned, first)
                activated = nl.ndarray((height, width), dtype)
                hidden = nl.ndarray((height, width), dtype)
                nisa.activation(activated, nl.silu, gate)
                nisa.tensor_tensor(hidden, activated, up, nl.multiply)
                made[block].append(hidden)
    return made


def contract(total: nl.NkiTensor, weights: list[nl.NkiTensor], turned: list[nl.NkiTensor], column: int) -> None:
    """Sum ``weights^T turned`` over all rows into PSUM: some columns of the weights, all tokens."""
    row = 0
    for tile in weights:
        for at in range(tile.shape[1]):
            nisa.nc_matmul(total, tile[:, at, column : column + total.shape[0]], turned[row])
            row += 1


def silu(values: Array) -> Array:
    """``x * sigmoid(x)``."""
    result: Array = values / (1.0 + np.exp(-values))
    return result


def reference(x: Array, w_gate: Array, w_up: Array, w_down: Array) -> Array:
    """The layer in float64."""
    x64, gate, up, down = wide(x, w_gate, w_up, w_down)
    result: Array = (silu(x64 @ gate) * (x64 @ up)) @ down
    return result


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    length, size, hidden = sizes["T"], sizes["D"], sizes["F"]
    return (
        values.normal((length, size), dtype),
        values.normal((size, hidden), dtype, size**-0.5),
        values.normal((size, hidden), dtype, size**-0.5),
        values.normal((hidden, size), dtype, hidden**-0.5),
    )


def work(sizes: Sizes, dtype: str) -> Work:
    length, size, hidden = sizes["T"], sizes["D"], sizes["F"]
    return Work(6.0 * length * size * hidden, (2.0 * length * size + 3.0 * size * hidden) * item_bytes(dtype))


CASES = (
    KernelCase(
        name="swiglu",
        summary="gated feed-forward layer, forward",
        kernel=swiglu,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=SwigluTuning,
        small={"T": 140, "D": 160, "F": 300},
        large={"T": 2048, "D": 4096, "F": 8192},
        tolerance={"fp32": Tolerance(1e-4, 1e-5), "bf16": Tolerance(2e-2, 2e-2)},
        bound="tensor",
    ),
)
