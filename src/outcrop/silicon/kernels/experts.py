"""A layer of experts: top-k routing, products grouped by expert, and the weighted sum of what they return.

Design. Three stages with HBM between them. Routing takes 128 tokens at a time: the tensor engine scores them, Vector's
``max8`` and ``find_index8`` name the best experts, and a product with a triangle of ones counts how many earlier tokens
chose each, which is the token's place in its expert's list; its number is scattered there by DMA. Then each expert
gathers its tokens by that list and is a gated layer as any other, its weights streamed once. At last every token
gathers its k results by place and adds them with their weights, so that nothing is ever summed in HBM. Lists have a
fixed ``capacity``: what comes after it is dropped, as the reference does, and unused places are skipped by the DMA.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.silicon.kernels import swiglu
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
from outcrop.silicon.kernels.matmul import MatmulTuning, multiply_block
from outcrop.silicon.kernels.moves import P, copy, steps, tile_of
from outcrop.silicon.kernels.turned import load_rows_of, turn_rows

_BEST = 8  # that max8 finds
_UNSEEN = -1e30  # score of columns that are no expert


@dataclass(frozen=True)
class ExpertsTuning(Tuning):
    """Hidden columns of a weight tile, and rows of weights (in 128s) that a DMA brings."""

    hidden: int = choice(512, 128, 256, 1024)
    load_rows: int = choice(4, 2, 8)


@jit
def experts(
    x: nl.NkiTensor,
    router: nl.NkiTensor,
    w_gate: nl.NkiTensor,
    w_up: nl.NkiTensor,
    w_down: nl.NkiTensor,
    best: int = 2,
    capacity: int = 128,
    tuning: ExpertsTuning = ExpertsTuning(),
) -> nl.NkiTensor:
    """``x`` is ``[T, D]``, ``router`` ``[D, E]``, weights ``[E, D, F]`` and ``[E, F, D]``; E at most 512, best 8."""
    length, size = x.shape
    count = router.shape[1]
    places = count * capacity
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    results = nl.ndarray((places, size), x.dtype, buffer=nl.private_hbm)
    numbers = nl.ndarray((places, 1), nl.int32, buffer=nl.private_hbm)
    fill_numbers(numbers, length)
    chosen = route(x, router, numbers, best, capacity)
    inner = swiglu.SwigluTuning(hidden=tuning.hidden, load_rows=tuning.load_rows)
    outer = MatmulTuning(block_n=512, load_rows=tuning.load_rows)
    for expert in range(count):
        blocks = []
        parts = steps(capacity, nl.tile_size.gemm_moving_fmax)
        for first, width in parts:
            start = expert * capacity + first
            blocks.append(turn_rows(gather_tokens(x, numbers[start : start + width, :])))
        hidden = swiglu.hidden_tiles(blocks, w_gate[expert], w_up[expert], inner)
        for column, columns in steps(size, outer.block_n):
            weights = swiglu.weight_tiles(w_down[expert][:, column : column + columns], tuning.load_rows)
            for at in range(len(parts)):
                start, width = expert * capacity + parts[at][0], parts[at][1]
                here = results[start : start + width, column : column + columns]
                multiply_block(here, swiglu.as_rows(hidden[at]), weights, False, outer, 0)
    for start, height in steps(length, P):
        slots, shares = chosen[start // P]
        add_results(out[start : start + height, :], results, slots, shares)
    return out


def fill_numbers(numbers: nl.NkiTensor, number: int) -> None:
    """Set every place to a token that is not there."""
    places = numbers.shape[0]
    for start, height in steps(places, P):
        tile = nl.ndarray((height, 1), nl.int32)
        nisa.memset(tile, number)
        copy(numbers[start : start + height, :], tile)


def route(
    x: nl.NkiTensor, router: nl.NkiTensor, numbers: nl.NkiTensor, best: int, capacity: int
) -> list[tuple[nl.NkiTensor, nl.NkiTensor]]:
    """Fill the lists of tokens; for each 128 tokens, the places of their results and the weights, ``[128, best]``."""
    length = x.shape[0]
    count = router.shape[1]
    weights = swiglu.weight_tiles(router, 4)
    experts_row = nl.ndarray((P, count), nl.float32)
    nisa.iota(experts_row, [[1, count]], 0, 0)
    starts = nl.ndarray((P, count), nl.float32)
    nisa.tensor_scalar(starts, experts_row, nl.multiply, float(capacity))
    ones = nl.ndarray((P, P), nl.float32)
    nisa.memset(ones, 1.0)
    earlier = nl.ndarray((P, P), nl.float32)  # 1 where the row's token comes before the column's
    nisa.affine_select(earlier, [[1, P]], -1, ones, 0.0, nl.greater, offset=0)
    before = nl.ndarray((1, count), nl.float32)
    nisa.memset(before, 0.0)
    chosen = []
    for start, height in steps(length, P):
        scores = token_scores(x[start : start + height, :], weights, count)
        picked, shares = best_experts(scores, best)
        marks = []
        for at in range(best):
            mark = nl.ndarray((height, count), nl.float32)
            nisa.tensor_scalar(mark, experts_row[0:height, :], nl.equal, picked[:, at : at + 1])
            marks.append(mark)
        total = nl.ndarray((height, count), nl.float32)
        nisa.tensor_copy(total, marks[0])
        for mark in marks[1:]:
            nisa.tensor_tensor(total, total, mark, nl.add)
        counted = nl.ndarray((height, count), nl.float32, buffer=nl.psum)
        nisa.nc_matmul(counted, earlier[0:height, 0:height], total)
        nisa.nc_matmul(counted, ones[0:1, 0:height], before)
        slots = token_places(marks, counted, starts[0:height, :], capacity, numbers.shape[0])
        more = nl.ndarray((1, count), nl.float32, buffer=nl.psum)
        nisa.nc_matmul(more, ones[0:height, 0:1], total)
        following = nl.ndarray((1, count), nl.float32)
        nisa.tensor_tensor(following, before, more, nl.add)
        before = following
        own = nl.ndarray((height, 1), nl.int32)
        nisa.iota(own, [[1, 1]], start, 1)
        for at in range(best):
            target = numbers.vector_select(0, slots[:, at : at + 1])
            nisa.dma_copy(target, own, oob_mode=nisa.oob_mode.skip)
        chosen.append((slots, shares))
    return chosen


def token_scores(x: nl.NkiTensor, weights: list[nl.NkiTensor], count: int) -> nl.NkiTensor:
    """Scores of all experts for up to 128 tokens, in float32, at least eight columns."""
    height = x.shape[0]
    turned = turn_rows(load_rows_of(x))
    made = nl.ndarray((height, count), nl.float32, buffer=nl.psum)
    row = 0
    for tile in weights:
        for place in range(tile.shape[1]):
            nisa.nc_matmul(made, turned[row], tile[:, place, :])
            row += 1
    scores = nl.ndarray((height, max(count, _BEST)), nl.float32)
    if count < _BEST:
        nisa.memset(scores, _UNSEEN)
    nisa.tensor_copy(scores[:, 0:count], made)
    return scores


def best_experts(scores: nl.NkiTensor, best: int) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """The best experts of each token by number in float32, and the softmax of their scores."""
    height = scores.shape[0]
    largest = nl.ndarray((height, _BEST), nl.float32)
    which = nl.ndarray((height, _BEST), nl.uint32)
    picked = nl.ndarray((height, _BEST), nl.float32)
    nisa.max8(largest, scores)
    nisa.nc_find_index8(which, scores, largest)
    nisa.tensor_copy(picked, which)
    shift = nl.ndarray((height, 1), nl.float32)
    share = nl.ndarray((height, 1), nl.float32)
    powers = nl.ndarray((height, best), nl.float32)
    shares = nl.ndarray((height, best), nl.float32)
    nisa.tensor_scalar(shift, largest[:, 0:1], nl.multiply, -1.0)
    nisa.activation_reduce(powers, nl.exp, largest[:, 0:best], nl.add, share, bias=shift)
    nisa.reciprocal(share, share)
    nisa.tensor_scalar(shares, powers, nl.multiply, share)
    return picked, shares


def token_places(
    marks: list[nl.NkiTensor], counted: nl.NkiTensor, starts: nl.NkiTensor, capacity: int, outside: int
) -> nl.NkiTensor:
    """``[128, best]``: where each of a token's experts lists it; outside of all lists where its list is full."""
    height, count = counted.shape
    full = nl.ndarray((height, count), nl.float32)
    spot = nl.ndarray((height, count), nl.float32)
    slots = nl.ndarray((height, len(marks)), nl.int32)
    nisa.tensor_scalar(full, counted, nl.greater_equal, float(capacity), op1=nl.multiply, operand1=float(outside))
    nisa.tensor_tensor(spot, counted, starts, nl.add)
    nisa.tensor_tensor(spot, spot, full, nl.add)
    for at in range(len(marks)):
        mine = nl.ndarray((height, count), nl.float32)
        nisa.tensor_tensor(mine, spot, marks[at], nl.multiply)
        nisa.tensor_reduce(slots[:, at : at + 1], nl.add, mine, 1)
    return slots


def gather_tokens(x: nl.NkiTensor, numbers: nl.NkiTensor) -> list[nl.NkiTensor]:
    """Rows of ``x`` by number as tiles ``[128, D]``, zeros where a place is not used."""
    tiles = []
    for start, height in steps(numbers.shape[0], P):
        picks = tile_of(numbers[start : start + height, :])
        tile = nl.ndarray((height, x.shape[1]), x.dtype)
        nisa.memset(tile, 0.0)
        nisa.dma_copy(tile, x.vector_select(0, picks), oob_mode=nisa.oob_mode.skip)
        tiles.append(tile)
    return tiles


def add_results(out: nl.NkiTensor, results: nl.NkiTensor, slots: nl.NkiTensor, shares: nl.NkiTensor) -> None:
    """The weighted sum of what the experts of up to 128 tokens returned."""
    height, size = out.shape
    total = nl.ndarray((height, size), nl.float32)
    for at in range(slots.shape[1]):
        tile = nl.ndarray((height, size), results.dtype)
        nisa.memset(tile, 0.0, engine=nisa.engine.gpsimd)
        nisa.dma_copy(tile, results.vector_select(0, slots[:, at : at + 1]), oob_mode=nisa.oob_mode.skip)
        if at == 0:
            nisa.tensor_scalar(total, tile, nl.multiply, shares[:, 0:1])
        else:
            nisa.scalar_tensor_tensor(total, tile, nl.multiply, shares[:, at : at + 1], nl.add, total)
    held = nl.ndarray((height, size), out.dtype)
    nisa.tensor_copy(held, total)
    copy(out, held)


def reference(
    x: Array, router: Array, w_gate: Array, w_up: Array, w_down: Array, best: int = 2, capacity: int = 128
) -> Array:
    """The layer in float64, tokens in order, with the same lists of limited length."""
    x64, scores_by = wide(x, router)
    scores = x64 @ scores_by
    used = np.zeros(scores.shape[1], int)
    out = np.zeros_like(x64)
    for token in range(len(x64)):
        picked = np.argsort(-scores[token], kind="stable")[:best]
        powers = np.exp(scores[token, picked] - scores[token, picked[0]])
        for expert, share in zip(picked, powers / powers.sum(), strict=True):
            if used[expert] < capacity:
                layer = (w_gate[expert], w_up[expert], w_down[expert])
                out[token] += share * swiglu.reference(x64[token : token + 1], *layer)[0]
            used[expert] += 1
    return out


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    """Tokens and routers of small whole numbers, so that both choose the same experts in any type."""
    length, size, count, hidden = sizes["T"], sizes["D"], sizes["E"], sizes["F"]
    shape = (length, size)
    x, router = values.normal(shape, dtype), values.normal((size, count), dtype)
    if values.seed is not None:
        x, router = np.rint(x.astype(np.float32)).astype(x.dtype), np.rint(router.astype(np.float32) * 3)
        router = (router / 8).astype(x.dtype)
    return (
        x,
        router,
        values.normal((count, size, hidden), dtype, size**-0.5),
        values.normal((count, size, hidden), dtype, size**-0.5),
        values.normal((count, hidden, size), dtype, hidden**-0.5),
    )


def work(sizes: Sizes, dtype: str) -> Work:
    """Two experts for each token; every expert's weights once."""
    length, size, count, hidden = sizes["T"], sizes["D"], sizes["E"], sizes["F"]
    moved = 3.0 * count * size * hidden + length * size * 2.0
    return Work(12.0 * length * size * hidden + 2.0 * length * size * count, moved * item_bytes(dtype))


CASES = (
    KernelCase(
        name="experts",
        summary="top-k routing with products grouped by expert",
        kernel=experts,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=ExpertsTuning,
        small={"T": 60, "D": 40, "E": 9, "F": 30},
        large={"T": 4096, "D": 2048, "E": 16, "F": 1024},
        tolerance={"fp32": Tolerance(1e-4, 1e-4), "bf16": Tolerance(3e-2, 6e-2)},
        options={"capacity": 640},
        bound="tensor",
    ),
)
