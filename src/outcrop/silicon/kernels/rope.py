"""Rotary position embedding, halves rotated against each other.

Design. A partition takes T/128 neighbouring positions, so that data and tables are dense in each partition and a DMA
moves several KiB of it; a tile is a few positions with all heads, and one row of cosines and sines serves every head by
a view of step 0. Four products and two sums go over half of the columns each: the products with cosines on Vector,
those with sines on GpSimd, the sums back on Vector. Angles are an input: a table of ``[T, d/2]`` cosines and sines,
small beside the data.
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
from outcrop.silicon.kernels.moves import P, copy, engine_named, steps, tile_of


@dataclass(frozen=True)
class RopeTuning(Tuning):
    """Engines of the products with the sines and of the sums, and how many positions and heads a tile holds."""

    sine_engine: str = choice("gpsimd", "vector")
    sum_engine: str = choice("vector", "gpsimd")
    positions: int = choice(2, 1, 4)
    heads: int = choice(32, 8, 16, 64)


@jit
def rope(x: nl.NkiTensor, cosine: nl.NkiTensor, sine: nl.NkiTensor, tuning: RopeTuning = RopeTuning()) -> nl.NkiTensor:
    """Rotate ``x`` ``[T, H, d]``: ``(a cos - b sin, b cos + a sin)`` of its halves; the tables are ``[T, d/2]``."""
    length = x.shape[0]
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    whole = length // P * P
    for start, stop in [(0, whole), (whole, length)]:
        if start < stop:
            shape = (min(P, stop - start), -1)
            here = slice(start, stop)
            rotate_rows(
                out[here, :, :].reshape_dim(0, shape),
                x[here, :, :].reshape_dim(0, shape),
                cosine[here, :].reshape_dim(0, shape),
                sine[here, :].reshape_dim(0, shape),
                tuning,
            )
    return out


def rotate_rows(
    out: nl.NkiTensor, x: nl.NkiTensor, cosine: nl.NkiTensor, sine: nl.NkiTensor, tuning: RopeTuning
) -> None:
    """Rotate ``x`` ``[P, positions, H, d]`` by tables ``[P, positions, d/2]``, tile by tile."""
    height, length, count, size = x.shape
    half = size // 2
    sines, sums = engine_named(tuning.sine_engine), engine_named(tuning.sum_engine)
    cos_rows, sin_rows = tile_of(cosine, turn=0), tile_of(sine, turn=1)
    turn = 0
    for position, positions in steps(length, tuning.positions):
        here = slice(position, position + positions)
        for head, heads in steps(count, tuning.heads):
            there = slice(head, head + heads)
            tile = tile_of(x[:, here, there, :], turn=turn)
            cos = cos_rows[:, here, :].expand_dim(2).broadcast(2, heads)
            sin = sin_rows[:, here, :].expand_dim(2).broadcast(2, heads)
            shape = (height, positions, heads, half)
            by_cos_a, by_cos_b = nl.ndarray(shape, x.dtype), nl.ndarray(shape, x.dtype)
            by_sin_a, by_sin_b = nl.ndarray(shape, x.dtype), nl.ndarray(shape, x.dtype)
            result = nl.ndarray((height, positions, heads, size), x.dtype)
            low, high = tile[:, :, :, 0:half], tile[:, :, :, half:size]
            nisa.tensor_tensor(by_cos_a, low, cos, nl.multiply, engine=nisa.engine.vector)
            nisa.tensor_tensor(by_sin_b, high, sin, nl.multiply, engine=sines)
            nisa.tensor_tensor(by_cos_b, high, cos, nl.multiply, engine=nisa.engine.vector)
            nisa.tensor_tensor(by_sin_a, low, sin, nl.multiply, engine=sines)
            nisa.tensor_tensor(result[:, :, :, 0:half], by_cos_a, by_sin_b, nl.subtract, engine=sums)
            nisa.tensor_tensor(result[:, :, :, half:size], by_cos_b, by_sin_a, nl.add, engine=sums)
            copy(out[:, here, there, :], result, turn)
            turn += 1


def reference(x: Array, cosine: Array, sine: Array) -> Array:
    """The rotation in float64."""
    values, cos, sin = wide(x, cosine, sine)
    half = values.shape[-1] // 2
    low, high = values[..., :half], values[..., half:]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return np.concatenate((low * cos - high * sin, high * cos + low * sin), axis=-1)


def angles(length: int, half: int, base: float = 10_000.0) -> tuple[Array, Array]:
    """Cosines and sines of ``position * base^(-i / half)``, in float64."""
    turns = np.arange(length)[:, None] * base ** (-np.arange(half) / half)
    return np.cos(turns), np.sin(turns)


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    length, half = sizes["T"], sizes["d"] // 2
    x = values.normal((length, sizes["H"], sizes["d"]), dtype)
    cosine, sine = angles(length, half)
    return x, cosine.astype(x.dtype), sine.astype(x.dtype)


def work(sizes: Sizes, dtype: str) -> Work:
    elements = sizes["T"] * sizes["d"] * (2.0 * sizes["H"] + 1)
    return Work(0.0, elements * item_bytes(dtype))


CASES = (
    KernelCase(
        name="rope",
        summary="rotary position embedding",
        kernel=rope,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=RopeTuning,
        small={"T": 130, "H": 3, "d": 64},
        large={"T": 4096, "H": 32, "d": 128},
        tolerance={"fp32": Tolerance(1e-5, 1e-6), "bf16": Tolerance(2e-2, 2e-2)},
    ),
)
