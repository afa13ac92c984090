"""Attention, forward, for prefill: causal or not, grouped queries, sliding window; for scores of known range.

Design. Scores are made transposed, keys in partitions and 512 queries in the free dimension: then their exponentials
are at once what the tensor engine needs to multiply with the values, and nothing is transposed in the inner loop. What
this layout cannot do cheaply is a maximum for each query, so a constant ``shift`` stands for it: right for models whose
scores are bounded (normalised queries and keys, capped logits), and ``attention_online`` is for all others. Scalar only
takes exponentials, of two banks of PSUM at a time, and is the busiest engine; the tensor engine does two products; the
sums of the exponentials are kept by Vector and GpSimd in turns, by key, and meet in a product with ones at the end.
Only tiles that a mask lets through are computed, and only those on its edge are masked, by GpSimd, after the
exponential. Keys of a head stay in SBUF for all queries of all heads of its group.
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
from outcrop.silicon.kernels.moves import P, copy, steps
from outcrop.silicon.kernels.turned import load_chunks, load_turned


@dataclass(frozen=True)
class AttentionTuning(Tuning):
    """Queries in a block, 128s of keys in an exponential, and every how many-th of them GpSimd sums (0: none)."""

    queries: int = choice(512, 128, 256)
    chunks: int = choice(2, 1, 3)
    gpsimd_turn: int = choice(2, 0, 3)


@jit
def attention(
    q: nl.NkiTensor,
    k: nl.NkiTensor,
    v: nl.NkiTensor,
    causal: bool = True,
    window: int = 0,
    shift: float = 0.0,
    tuning: AttentionTuning = AttentionTuning(),
) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """``softmax(q k^T / sqrt(d)) v`` and the logarithms of its sums, ``[H, T]`` in float32.

    ``q`` is ``[H, T, d]``, ``k`` and ``v`` are ``[G, T, d]`` with H a multiple of G and d at most 128. ``window`` lets
    a query see as many keys, itself the last; 0 is no window. Scores over ``sqrt(d)`` must lie within 70 of ``shift``.
    """
    heads, length = q.shape[0], q.shape[1]
    groups = k.shape[0]
    out = nl.ndarray(q.shape, q.dtype, buffer=nl.shared_hbm)
    logs = nl.ndarray((heads, length), nl.float32, buffer=nl.shared_hbm)
    ones = nl.ndarray((P, 1), nl.float32)
    nisa.memset(ones, 1.0)
    bias = nl.ndarray((P, 1), nl.float32)
    nisa.memset(bias, -shift)
    for group in range(groups):
        keys = load_turned(k[group])
        values = load_chunks(v[group])
        for head in range(group * (heads // groups), (group + 1) * (heads // groups)):
            turned = load_turned(q[head])
            for start, width in steps(length, tuning.queries):
                queries = turned[:, start : start + width]
                sums, mixed = attend_block(queries, start, keys, values, causal, window, bias, tuning)
                here = slice(start, start + width)
                finish_block(out[head, here, :], logs[head, here], sums, mixed, ones, shift)
    return out, logs


def visible_columns(start: int, width: int, key: int, height: int, causal: bool, window: int) -> tuple[int, int]:
    """Which queries of a block see any key of a chunk: ``(first, last + 1)`` within the block."""
    low, high = 0, width
    if causal:
        low = max(low, key - start)
    if window:
        high = min(high, key + height - 1 + window - start)
    return low, high


def attend_block(
    queries: nl.NkiTensor,
    start: int,
    keys: nl.NkiTensor,
    values: list[nl.NkiTensor],
    causal: bool,
    window: int,
    bias: nl.NkiTensor,
    tuning: AttentionTuning,
) -> tuple[list[nl.NkiTensor], nl.NkiTensor]:
    """Sums of exponentials by key, in two tiles, and ``values^T`` times the exponentials, in PSUM ``[d, queries]``."""
    size, width = queries.shape
    mixed = nl.ndarray((size, width), nl.float32, buffer=nl.psum)
    sums = []
    for _ in range(2 if tuning.gpsimd_turn else 1):
        total = nl.ndarray((P, tuning.chunks, width), nl.float32)
        nisa.memset(total, 0.0, engine=nisa.engine.gpsimd)
        sums.append(total)
    groups = grouped_chunks(start, width, keys.shape[1], causal, window, tuning.chunks)
    for turn in range(len(groups)):
        group = groups[turn]
        first, low, high = group[0]
        height = min(P, keys.shape[1] - first)
        slot = width if len(group) == 1 else nl.tile_size.psum_bank_fmax  # a matmul stays within its bank
        scores = nl.ndarray((height, len(group), slot), nl.float32, buffer=nl.psum)
        powers = nl.ndarray((height, len(group), width), queries.dtype)
        for at in range(len(group)):
            key = group[at][0]
            nisa.nc_matmul(scores[:, at, low:high], keys[:, key : key + height], queries[:, low:high])
        nisa.activation(
            powers[:, :, low:high], nl.exp, scores[:, :, low:high], bias=bias[0:height, :], scale=size**-0.5
        )
        for at in range(len(group)):
            mask_edges(powers[:, at, :], start, group[at][0], low, high, causal, window)
        is_gpsimd = tuning.gpsimd_turn and turn % tuning.gpsimd_turn == 1
        total = sums[1 if is_gpsimd else 0][0:height, 0 : len(group), low:high]
        engine = nisa.engine.gpsimd if is_gpsimd else nisa.engine.vector
        nisa.tensor_tensor(total, total, powers[:, :, low:high], nl.add, engine=engine)
        for at in range(len(group)):
            nisa.nc_matmul(mixed[:, low:high], values[group[at][0] // P], powers[:, at, low:high])
    return sums, mixed


def grouped_chunks(
    start: int, width: int, length: int, causal: bool, window: int, most: int
) -> list[list[tuple[int, int, int]]]:
    """Chunks of keys ``(key, first query, last query + 1)`` that the block sees; those seen by all queries together."""
    groups: list[list[tuple[int, int, int]]] = []
    for key, height in steps(length, P):
        low, high = visible_columns(start, width, key, height, causal, window)
        if low < high:
            is_whole = low == 0 and high == width and height == P
            joins = is_whole and len(groups) > 0 and len(groups[-1]) < most
            if joins and groups[-1][0][1] == 0 and groups[-1][0][2] == width:
                groups[-1].append((key, low, high))
            else:
                groups.append([(key, low, high)])
    return groups


def mask_edges(powers: nl.NkiTensor, start: int, key: int, low: int, high: int, causal: bool, window: int) -> None:
    """Zero the exponentials of keys after the query, and of keys that left its window."""
    height = powers.shape[0]
    if causal and start + low < key + height - 1:  # some query before the last key
        stop = min(high, key + height - 1 - start)
        part = powers[:, low:stop]
        nisa.affine_select(part, [[1, stop - low]], -1, part, 0.0, nl.greater_equal, offset=start + low - key)
    if window and start + high - 1 - key >= window:
        first = max(low, key + window - start)
        part = powers[:, first:high]
        offset = window - 1 - (start + first - key)
        nisa.affine_select(part, [[-1, high - first]], 1, part, 0.0, nl.greater_equal, offset=offset)


def finish_block(
    out: nl.NkiTensor,
    logs: nl.NkiTensor,
    sums: list[nl.NkiTensor],
    mixed: nl.NkiTensor,
    ones: nl.NkiTensor,
    shift: float,
) -> None:
    """Turn the block back to queries in partitions, divide by the sums, and store."""
    size, width = mixed.shape
    held = nl.ndarray((size, width), nl.float32)
    nisa.tensor_copy(held, mixed)
    for start, height in steps(width, P):
        here = slice(start, start + height)
        total = nl.ndarray((height, 1), nl.float32, buffer=nl.psum)
        for each in sums:
            for at in range(each.shape[1]):
                nisa.nc_matmul(total, each[:, at, here], ones)
        turned = nl.ndarray((height, size), nl.float32, buffer=nl.psum)
        nisa.nc_transpose(turned, held[:, here])
        share = nl.ndarray((height, 1), nl.float32)
        nisa.reciprocal(share, total)
        result = nl.ndarray((height, size), out.dtype)
        nisa.tensor_scalar(result, turned, nl.multiply, share)
        copy(out[here, :], result)
        log = nl.ndarray((height, 1), nl.float32)
        nisa.activation(log, nl.log, total)
        if shift:
            nisa.tensor_scalar(log, log, nl.add, shift)
        copy(logs[here].expand_dim(1), log)


def reference(
    q: Array, k: Array, v: Array, causal: bool = True, window: int = 0, shift: float = 0.0
) -> tuple[Array, Array]:
    """Attention and the logarithms of the sums in float64."""
    del shift
    queries, keys, values = wide(q, k, v)
    heads, length, size = queries.shape
    keys, values = (np.repeat(each, heads // each.shape[0], axis=0) for each in (keys, values))
    scores = queries @ keys.transpose(0, 2, 1) / np.sqrt(size)
    scores = np.where(visible(length, causal, window), scores, -np.inf)
    largest = scores.max(axis=-1, keepdims=True)
    powers = np.exp(scores - largest)
    sums = powers.sum(axis=-1, keepdims=True)
    return powers / sums @ values, (np.log(sums) + largest)[..., 0]


def visible(length: int, causal: bool, window: int) -> Array:
    """``[query, key]``: which keys a query sees."""
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    seen: Array = (distance >= 0) if causal else np.ones((length, length), bool)
    return seen & (distance < window) if window else seen


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    shape = sizes["H"], sizes["T"], sizes["d"]
    grouped = sizes["G"], *shape[1:]
    return values.normal(shape, dtype), values.normal(grouped, dtype), values.normal(grouped, dtype)


def work(sizes: Sizes, dtype: str) -> Work:
    """Two products over the pairs that a causal mask without a window lets through."""
    heads, length, size = sizes["H"], sizes["T"], sizes["d"]
    pairs = length * (length + 1) / 2
    return Work(4.0 * heads * pairs * size, 2.0 * (heads + sizes["G"]) * length * size * item_bytes(dtype))


CASES = (
    KernelCase(
        name="attention",
        summary="causal attention for scores of known range, grouped queries",
        kernel=attention,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=AttentionTuning,
        small={"H": 4, "G": 2, "T": 300, "d": 64},
        large={"H": 2, "G": 1, "T": 8192, "d": 128},
        tolerance={"fp32": Tolerance(1e-4, 1e-5), "bf16": Tolerance(2e-2, 2e-2)},
        bound="tensor",
    ),
)
