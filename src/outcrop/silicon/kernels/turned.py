"""Tensors on their way to the contraction: rows of HBM as chunks of 128 partitions, or turned so that columns are.

The tensor engine turns 128 x 128 at a time, and Vector empties a PSUM bank of them at once. That is for operands which
are used many times afterwards; it asks nothing of the DMA but whole rows.
"""

from __future__ import annotations

from outcrop.silicon.kernels.front import nisa, nl
from outcrop.silicon.kernels.moves import P, copy, steps

_CHUNKS = 16  # rows in 128s that one DMA brings


def load_chunks(src: nl.NkiTensor, turn: int = 0) -> list[nl.NkiTensor]:
    """Rows of a ``[T, d]`` tensor in HBM as tiles ``[128, d]``, the last one perhaps of fewer rows."""
    length, size = src.shape
    whole = length // P
    chunks = []
    for first, count in steps(whole, _CHUNKS):
        tile = nl.ndarray((P, count, size), src.dtype)
        rows = src[first * P : (first + count) * P, :]
        copy(tile, rows.reshape_dim(0, (count, P)).permute((1, 0, 2)), turn + first // _CHUNKS)
        for at in range(count):
            chunks.append(tile[:, at, :])
    if length % P:
        tile = nl.ndarray((length % P, size), src.dtype)
        copy(tile, src[whole * P : length, :], turn)
        chunks.append(tile)
    return chunks


def turn_chunks(chunks: list[nl.NkiTensor]) -> nl.NkiTensor:
    """``[d, T]`` in SBUF from chunks ``[128, d]`` with d at most 128."""
    size = chunks[0].shape[1]
    length = P * (len(chunks) - 1) + chunks[-1].shape[0]
    turned = nl.ndarray((size, length), chunks[0].dtype)
    per_bank = nl.tile_size.psum_bank_fmax
    for start, width in steps(length, per_bank):
        bank = nl.ndarray((size, width), chunks[0].dtype, buffer=nl.psum)
        for at, height in steps(width, P):
            nisa.nc_transpose(bank[:, at : at + height], chunks[(start + at) // P])
        nisa.tensor_copy(turned[:, start : start + width], bank)
    return turned


def load_turned(src: nl.NkiTensor, turn: int = 0) -> nl.NkiTensor:
    """A ``[T, d]`` tensor in HBM with d at most 128 as ``[d, T]`` in SBUF."""
    return turn_chunks(load_chunks(src, turn))


def turn_rows(rows: list[nl.NkiTensor]) -> list[nl.NkiTensor]:
    """Tiles ``[128 of d, T]`` from tiles of rows ``[128, d]`` with any d: what a contraction over d takes."""
    size, dtype = rows[0].shape[1], rows[0].dtype
    length = P * (len(rows) - 1) + rows[-1].shape[0]
    made = []
    for start, width in steps(size, P):
        turned = nl.ndarray((width, length), dtype)
        for first, columns in steps(length, nl.tile_size.psum_bank_fmax):
            bank = nl.ndarray((width, columns), dtype, buffer=nl.psum)
            for at, height in steps(columns, P):
                nisa.nc_transpose(bank[:, at : at + height], rows[(first + at) // P][:, start : start + width])
            nisa.tensor_copy(turned[:, first : first + columns], bank)
        made.append(turned)
    return made


def load_rows_of(src: nl.NkiTensor) -> list[nl.NkiTensor]:
    """Rows of ``[T, d]`` in HBM as tiles ``[128, d]``, one DMA each: for few rows of many columns."""
    tiles = []
    for start, height in steps(src.shape[0], P):
        tile = nl.ndarray((height, src.shape[1]), src.dtype)
        copy(tile, src[start : start + height, :], start // P)
        tiles.append(tile)
    return tiles


def turn_matrix(src: nl.NkiTensor) -> nl.NkiTensor:
    """A ``[T, D]`` matrix in HBM as a new ``[D, T]`` one, by way of the tensor engine, 512 rows at a time."""
    length, size = src.shape
    made = nl.ndarray((size, length), src.dtype, buffer=nl.private_hbm)
    for start, height in steps(length, nl.tile_size.psum_bank_fmax):
        tiles = turn_rows(load_rows_of(src[start : start + height, :]))
        for at in range(len(tiles)):
            copy(made[at * P : at * P + tiles[at].shape[0], start : start + height], tiles[at], at)
    return made
