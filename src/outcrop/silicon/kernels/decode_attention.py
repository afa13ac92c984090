"""Attention of one new token for each sequence over a paged cache.

Design. Memory bound: every key and value is read once, so the DMA must never wait. Pages are gathered by number, 128 to
a tile, one to a partition, so that a descriptor is a whole page; tokens of equal place in their pages then make a
matrix, and scores come in that order, which softmax does not mind. Keys are turned by the tensor engine, and all query
heads are multiplied with all keys at once: the stationary operand holds one group's queries and zeros for the others,
so that the groups add up to ``[heads, tokens]`` without moving a partition. Softmax then runs over the free dimension
for all heads together, and positions past a sequence's length drop out by a comparison with the length, which is data.
Products with the values compute all pairs of heads and groups; only the blocks that belong together are stored.
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

_MASKED = -1e30


@dataclass(frozen=True)
class DecodeTuning(Tuning):
    """Tokens of each page that a gather brings, and the engines that empty PSUM of turned keys."""

    tokens: int = choice(8, 4, 16)
    copy_engine: str = choice("both", "vector")


@jit
def decode_attention(
    q: nl.NkiTensor,
    k_pages: nl.NkiTensor,
    v_pages: nl.NkiTensor,
    page_table: nl.NkiTensor,
    lengths: nl.NkiTensor,
    tuning: DecodeTuning = DecodeTuning(),
) -> nl.NkiTensor:
    """Attention of ``q`` ``[B, H, d]`` over caches ``[pages, page, G, d]``; H and d are at most 128.

    ``page_table`` is int32 ``[B, pages of a sequence]`` and valid throughout, ``lengths`` int32 ``[B, 1]``, each of at
    least 1.
    """
    count, heads, size = q.shape
    page, groups = k_pages.shape[1], k_pages.shape[2]
    length = page_table.shape[1] * page
    out = nl.ndarray(q.shape, q.dtype, buffer=nl.shared_hbm)
    positions = nl.ndarray((heads, length), nl.float32)
    for first, height in steps(page_table.shape[1], P):
        here = slice(first * page, (first + height) * page)
        nisa.iota(positions[:, here], [[1, page], [page, height]], first * page, 0)
    for at in range(count):
        queries = spread_queries(q[at], groups)
        scores = nl.ndarray((heads, length), nl.float32)
        numbers = []
        for first, height in steps(page_table.shape[1], P):
            picks = tile_of(page_table[at, first : first + height].expand_dim(1))
            numbers.append(picks)
            for token, tokens in steps(page, tuning.tokens):
                start = first * page + token * height
                rows = gather(k_pages, picks, token, tokens)
                score_tokens(scores[:, start : start + tokens * height], queries, rows, tuning)
        limit = limit_of(lengths[at], heads)
        powers, share = masked_softmax(scores, positions, limit, size**-0.5, q.dtype)
        mixed = mix_values(powers, v_pages, numbers, tuning)
        store_groups(out[at], mixed, share, groups)
    return out


def gather(pages: nl.NkiTensor, picks: nl.NkiTensor, token: int, tokens: int) -> nl.NkiTensor:
    """Some tokens of up to 128 pages, one page to a partition: ``[pages, tokens, groups * d]``."""
    count, page, groups, size = pages.shape
    rows = nl.ndarray((picks.shape[0], tokens, groups * size), pages.dtype)
    flat = pages.reshape(count, page, groups * size)[:, token : token + tokens, :]
    nisa.dma_copy(rows, flat.vector_select(0, picks))
    return rows


def score_tokens(scores: nl.NkiTensor, queries: nl.NkiTensor, rows: nl.NkiTensor, tuning: DecodeTuning) -> None:
    """Scores of all heads with some tokens of up to 128 pages, token after token."""
    height, tokens = rows.shape[0], rows.shape[1]
    size, groups, heads = queries.shape
    for token, count in steps(tokens, nl.tile_size.gemm_moving_fmax // P):
        made = nl.ndarray((heads, count * height), nl.float32, buffer=nl.psum)
        for group in range(groups):
            columns = slice(group * size, (group + 1) * size)
            turned = turn_keys(rows[:, token : token + count, columns], column_turn(group, tuning))
            nisa.nc_matmul(made, queries[:, group, :], turned)
        nisa.tensor_copy(scores[:, token * height : (token + count) * height], made)


def column_turn(group: int, tuning: DecodeTuning) -> int:
    """Whose turn it is to empty PSUM: even is Vector's, odd is Scalar's."""
    if tuning.copy_engine == "vector" or nisa.get_nc_version() < nisa.nc_version.gen3:
        return 0
    return group % 2


def spread_queries(q: nl.NkiTensor, groups: int) -> nl.NkiTensor:
    """``[d, groups, heads]``: the turned queries of one group each, zeros for the heads of other groups."""
    heads, size = q.shape
    per_group = heads // groups
    turned = nl.ndarray((size, heads), q.dtype, buffer=nl.psum)
    nisa.nc_transpose(turned, tile_of(q))
    spread = nl.ndarray((size, groups, heads), q.dtype)
    nisa.memset(spread, 0.0)
    for group in range(groups):
        here = slice(group * per_group, (group + 1) * per_group)
        nisa.tensor_copy(spread[:, group, here], turned[:, here])
    return spread


def even(count: int) -> int:
    """The next even number: results of 16 bits start at even elements of PSUM."""
    return count + count % 2


def turn_keys(keys: nl.NkiTensor, turn: int) -> nl.NkiTensor:
    """``[d, tokens * pages]`` of one group from ``[pages, tokens, d]``."""
    height, tokens, size = keys.shape
    bank = nl.ndarray((size, tokens, even(height)), keys.dtype, buffer=nl.psum)
    for at in range(tokens):
        nisa.nc_transpose(bank[:, at, 0:height], keys[:, at, :])
    turned = nl.ndarray((size, tokens * height), keys.dtype)
    nisa.tensor_copy(turned, bank[:, :, 0:height], engine=nisa.engine.scalar if turn % 2 else nisa.engine.vector)
    return turned


def limit_of(length: nl.NkiTensor, heads: int) -> nl.NkiTensor:
    """The length of a sequence in float32, in every head's partition."""
    whole = tile_of(length.reshape(1, 1).broadcast(0, heads))
    limit = nl.ndarray((heads, 1), nl.float32)
    nisa.tensor_copy(limit, whole)
    return limit


def masked_softmax(
    scores: nl.NkiTensor, positions: nl.NkiTensor, limit: nl.NkiTensor, scale: float, dtype: object
) -> tuple[nl.NkiTensor, nl.NkiTensor]:
    """Exponentials of the scores of positions below the limit, and the reciprocals of their sums."""
    heads, length = scores.shape
    outside = nl.ndarray((heads, length), nl.float32)
    nisa.tensor_scalar(outside, positions, nl.greater_equal, limit, op1=nl.multiply, operand1=_MASKED)
    nisa.tensor_tensor(scores, scores, outside, nl.add)
    shift = nl.ndarray((heads, 1), nl.float32)
    nisa.tensor_reduce(shift, nl.maximum, scores, 1, negate=True)
    nisa.tensor_scalar(shift, shift, nl.multiply, scale)
    powers = nl.ndarray((heads, length), dtype)
    share = nl.ndarray((heads, 1), nl.float32)
    nisa.activation_reduce(powers, nl.exp, scores, nl.add, share, bias=shift, scale=scale)
    nisa.reciprocal(share, share)
    return powers, share


def mix_values(
    powers: nl.NkiTensor,
    v_pages: nl.NkiTensor,
    numbers: list[nl.NkiTensor],
    tuning: DecodeTuning,
) -> list[nl.NkiTensor]:
    """Sums over tokens of every head with the values of every group, in PSUM, 512 columns in each."""
    heads = powers.shape[0]
    page, width = v_pages.shape[1], v_pages.shape[2] * v_pages.shape[3]
    parts = steps(width, nl.tile_size.gemm_moving_fmax)
    mixed = []
    for _, columns in parts:
        total = nl.ndarray((heads, columns), nl.float32, buffer=nl.psum)
        mixed.append(total)
    start = 0
    for picks in numbers:
        height = picks.shape[0]
        for token, tokens in steps(page, tuning.tokens):
            rows = gather(v_pages, picks, token, tokens)
            held = nl.ndarray((height, tokens, heads), powers.dtype)
            for first, count in steps(tokens, nl.tile_size.psum_bank_fmax // even(heads)):
                turned = nl.ndarray((height, count, even(heads)), powers.dtype, buffer=nl.psum)
                for at in range(count):
                    nisa.nc_transpose(turned[:, at, 0:heads], powers[:, start : start + height])
                    start += height
                nisa.tensor_copy(held[:, first : first + count, :], turned[:, :, 0:heads])
            for at in range(tokens):
                for part in range(len(parts)):
                    column, columns = parts[part]
                    nisa.nc_matmul(mixed[part], held[:, at, :], rows[:, at, column : column + columns])
    return mixed


def store_groups(out: nl.NkiTensor, mixed: list[nl.NkiTensor], share: nl.NkiTensor, groups: int) -> None:
    """Divide by the sums, and store for each head the columns of its group."""
    heads, size = out.shape
    width = groups * size
    result = nl.ndarray((heads, width), out.dtype)
    start = 0
    for part in mixed:
        nisa.tensor_scalar(result[:, start : start + part.shape[1]], part, nl.multiply, share)
        start += part.shape[1]
    per_group = heads // groups
    for group in range(groups):
        here = slice(group * per_group, (group + 1) * per_group)
        copy(out[here, :], result[here, group * size : (group + 1) * size], group)


def reference(q: Array, k_pages: Array, v_pages: Array, page_table: Array, lengths: Array) -> Array:
    """The attention in float64, sequence by sequence."""
    queries, keys, values = wide(q, k_pages, v_pages)
    count, heads, size = queries.shape
    groups = keys.shape[2]
    result = np.empty_like(queries)
    for at in range(count):
        length = int(lengths[at, 0])
        mine = keys[page_table[at]].reshape(-1, groups, size)[:length]
        theirs = values[page_table[at]].reshape(-1, groups, size)[:length]
        for head in range(heads):
            group = head * groups // heads
            scores = mine[:, group] @ queries[at, head] / np.sqrt(size)
            powers = np.exp(scores - scores.max())
            result[at, head] = powers / powers.sum() @ theirs[:, group]
    return result


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, ...]:
    count, length, page = sizes["B"], sizes["T"], sizes["page"]
    pages = count * length // page
    cache = pages, page, sizes["G"], sizes["d"]
    table = values.permutation(pages).reshape(count, -1)
    lengths = values.integers((count, 1), length) + 1
    queries = values.normal((count, sizes["H"], sizes["d"]), dtype)
    return queries, values.normal(cache, dtype), values.normal(cache, dtype), table, lengths.astype(np.int32)


def work(sizes: Sizes, dtype: str) -> Work:
    """Every cached key and value once; a fixed amount of work whatever the lengths."""
    cached = sizes["B"] * sizes["T"] * sizes["G"] * sizes["d"]
    flops = 4.0 * sizes["B"] * sizes["T"] * sizes["H"] * sizes["d"]
    return Work(flops, 2.0 * cached * item_bytes(dtype))


CASES = (
    KernelCase(
        name="decode_attention",
        summary="attention of new tokens over a paged cache",
        kernel=decode_attention,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=DecodeTuning,
        small={"B": 2, "H": 8, "G": 2, "T": 256, "d": 64, "page": 16},
        large={"B": 8, "H": 32, "G": 8, "T": 4096, "d": 128, "page": 16},
        tolerance={"fp32": Tolerance(1e-4, 1e-5), "bf16": Tolerance(2e-2, 2e-2)},
    ),
)
