"""Matrix product, blocked for SBUF and PSUM; float8 in double rows where the chip has them.

Design. ``a_t`` comes with the contraction first, as the tensor engine wants it. A block of ``block_m`` columns of it
stays in SBUF for all of K while blocks of ``block_n`` columns of ``b`` pass by, so that ``b`` is read once for each
block of rows of the result. Within a pair of blocks, ``banks`` PSUM banks sum a group of 128 x 512 results at once with
K in the outer loop: the first products start when the first rows of both operands are there, and the weights of each
product load behind the one before. The other banks are emptied meanwhile, in turns by the Vector and the Scalar engine;
each row of 128 results is collected over ``block_n`` columns, so that a store moves 2 KiB or more of each partition.
Float8 takes two rows of K for each partition and pass (``double_row``), which halves the passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outcrop.silicon.kernels.base import Array, KernelCase, Sizes, Tolerance, Tuning, Values, Work, choice, item_bytes
from outcrop.silicon.kernels.front import jit, nisa, nl
from outcrop.silicon.kernels.moves import P, copy, steps

_COLUMNS = 512  # float32 results of one partition in a PSUM bank


@dataclass(frozen=True)
class MatmulTuning(Tuning):
    """Sizes of blocks, rows of K (in 128s) that a DMA brings, and PSUM banks that a group of results takes."""

    block_m: int = choice(1024, 128, 256, 512, 2048)
    block_n: int = choice(1024, 512, 2048)
    load_rows: int = choice(4, 1, 2, 8)
    banks: int = choice(4, 1, 2, 8)


@jit
def matmul(a_t: nl.NkiTensor, b: nl.NkiTensor, tuning: MatmulTuning = MatmulTuning()) -> nl.NkiTensor:
    """``a_t.T @ b``: ``a_t`` is ``[K, M]``, ``b`` is ``[K, N]``, of one type, as is the result (bf16 for float8)."""
    is_pairs = a_t.dtype in (nl.float8_e4m3, nl.float8_e5m2)
    dtype = nl.bfloat16 if is_pairs else a_t.dtype
    out = nl.ndarray((a_t.shape[1], b.shape[1]), dtype, buffer=nl.shared_hbm)
    multiply(out, [a_t], [b], tuning)
    return out


def multiply(out: nl.NkiTensor, a_parts: list[nl.NkiTensor], b_parts: list[nl.NkiTensor], tuning: MatmulTuning) -> None:
    """``out = sum of a.T @ b`` over pairs of tensors in HBM."""
    rows, columns = out.shape
    is_pairs = a_parts[0].dtype in (nl.float8_e4m3, nl.float8_e5m2)
    turn = 0
    for m, height in steps(rows, tuning.block_m):
        a_tiles: list[nl.NkiTensor] = []
        for n, width in steps(columns, tuning.block_n):
            b_tiles: list[nl.NkiTensor] = []
            for part in range(len(a_parts)):
                a_t, b = a_parts[part], b_parts[part]
                for k, depth in steps(b.shape[0], P * tuning.load_rows):  # in the order in which products need them
                    if n == 0:
                        a_tiles += load_rows(a_t[k : k + depth, m : m + height], 0)
                    b_tiles += load_rows(b[k : k + depth, n : n + width], 1)
            turn = multiply_block(out[m : m + height, n : n + width], a_tiles, b_tiles, is_pairs, tuning, turn)


def load_rows(src: nl.NkiTensor, turn: int) -> list[nl.NkiTensor]:
    """Rows of K as tiles ``[128, whole 128s of rows, columns]``, and one more for what is left over."""
    depth, width = src.shape
    whole = depth // P
    tiles = []
    if whole:
        tile = nl.ndarray((P, whole, width), src.dtype)
        copy(tile, src[0 : whole * P, :].reshape_dim(0, (whole, P)).permute((1, 0, 2)), turn)
        tiles.append(tile)
    if depth % P:
        tile = nl.ndarray((depth % P, 1, width), src.dtype)
        copy(tile, src[whole * P : depth, :].expand_dim(1), turn)
        tiles.append(tile)
    return tiles


def multiply_block(
    out: nl.NkiTensor,
    a_tiles: list[nl.NkiTensor],
    b_tiles: list[nl.NkiTensor],
    is_pairs: bool,
    tuning: MatmulTuning,
    turn: int,
) -> int:
    """One block of the result, in groups of ``banks`` tiles of 128 rows; returns the next turn of emptying PSUM."""
    rows, columns = out.shape
    for m, height in steps(rows, P * tuning.banks):
        made = []
        parts = steps(height, P)
        for _, part in parts:
            made.append(nl.ndarray((part, columns), out.dtype))
        for n, width in steps(columns, _COLUMNS):
            sums = []
            for _, part in parts:
                total = nl.ndarray((part, width), nl.float32, buffer=nl.psum)
                sums.append(total)
            row = 0
            for b in b_tiles:
                add_products(sums, a_tiles, row, b, m, n, parts, width, is_pairs)
                row += b.shape[1]
            for at in range(len(parts)):
                engine = nisa.engine.scalar if turn % 2 else nisa.engine.vector
                if nisa.get_nc_version() < nisa.nc_version.gen3:
                    engine = nisa.engine.vector  # the only one there that copies
                nisa.tensor_copy(made[at][:, n : n + width], sums[at], engine=engine)
                turn += 1
        for at in range(len(parts)):
            start, part = parts[at]
            copy(out[m + start : m + start + part, :], made[at], at)
    return turn


def add_products(
    sums: list[nl.NkiTensor],
    a_tiles: list[nl.NkiTensor],
    first: int,
    b: nl.NkiTensor,
    m: int,
    n: int,
    parts: list[tuple[int, int]],
    width: int,
    is_pairs: bool,
) -> None:
    """Add the products of one tile of rows of K, from the ``first`` 128 on, to every sum of the group."""
    count = b.shape[1]
    row = 0
    while row < count:
        is_pair = is_pairs and row + 2 <= count
        a, place = tile_at(a_tiles, first + row)
        for at in range(len(parts)):
            start, part = parts[at]
            here = slice(m + start, m + start + part)
            there = slice(n, n + width)
            if is_pair:
                nisa.nc_matmul(
                    sums[at],
                    a[:, place : place + 2, here],
                    b[:, row : row + 2, there],
                    perf_mode=nisa.matmul_perf_mode.double_row,
                )
            else:
                nisa.nc_matmul(sums[at], a[:, place, here], b[:, row, there])
        row += 2 if is_pair else 1


def tile_at(tiles: list[nl.NkiTensor], row: int) -> tuple[nl.NkiTensor, int]:
    """The tile that holds a row of 128s, and its place there."""
    for tile in tiles:
        if row < tile.shape[1]:
            return tile, row
        row -= tile.shape[1]
    return tiles[-1], row


def reference(a_t: Array, b: Array) -> Array:
    """The product in float64."""
    product: Array = np.asarray(a_t, np.float64).T @ np.asarray(b, np.float64)
    return product


def inputs(sizes: Sizes, dtype: str, values: Values) -> tuple[Array, Array]:
    scale = sizes["K"] ** -0.25  # results of about one
    return values.normal((sizes["K"], sizes["M"]), dtype, scale), values.normal((sizes["K"], sizes["N"]), dtype, scale)


def work(sizes: Sizes, dtype: str) -> Work:
    m, k, n = sizes["M"], sizes["K"], sizes["N"]
    item = item_bytes(dtype)
    return Work(2.0 * m * k * n, (m * k + k * n) * item + m * n * max(item, 2))


_TOLERANCE = {"fp32": Tolerance(1e-5, 1e-5), "bf16": Tolerance(1e-2, 1e-2)}
_LARGE = {"M": 4096, "K": 4096, "N": 4096}

CASES = (
    KernelCase(
        name="matmul",
        summary="a_t.T @ b, blocked",
        kernel=matmul,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=MatmulTuning,
        small={"M": 200, "K": 300, "N": 600},
        large=_LARGE,
        tolerance=_TOLERANCE,
        bound="tensor",
    ),
    KernelCase(
        name="matmul_double_row",
        summary="a_t.T @ b of float8, two rows of K at a time",
        kernel=matmul,
        inputs=inputs,
        reference=reference,
        work=work,
        tuning=MatmulTuning,
        small={"M": 192, "K": 640, "N": 576},
        large=_LARGE,
        tolerance={"fp8": Tolerance(1e-2, 1e-2)},
        bound="tensor",
        feature="double_row",
    ),
)
