"""Small steps that the kernels share: cutting dimensions into tiles, and moving tiles between HBM and SBUF.

A DMA is triggered by the Sync or the Scalar engine where the chip makes descriptors in hardware; loads that take turns
on both queues overlap. Elsewhere the choice is left open.
"""

from __future__ import annotations

from outcrop.silicon.kernels.front import nisa, nl

P = 128  # partitions of every chip so far: nl.tile_size.pmax, known when this file is read


def steps(total: int, size: int) -> list[tuple[int, int]]:
    """``(start, length)`` of tiles of ``size``, the last one perhaps shorter."""
    return [(start, min(size, total - start)) for start in range(0, total, size)]


def copy(dst: nl.NkiTensor, src: nl.NkiTensor, turn: int = 0) -> None:
    """A DMA between tensors of one type; ``turn`` even goes by the Sync queue, odd by the Scalar queue."""
    if nisa.get_nc_version() >= nisa.nc_version.gen3:
        engine = nisa.engine.scalar if turn % 2 else nisa.engine.sync
        nisa.dma_copy(dst, src, dge_mode=nisa.dge_mode.hwdge, engine=engine)
    else:
        nisa.dma_copy(dst, src)


def tile_of(src: nl.NkiTensor, dtype: object = None, turn: int = 0) -> nl.NkiTensor:
    """A new tile in SBUF with a tensor in HBM of at most 128 rows; ``dtype`` converts on the way in."""
    if dtype is None or dtype == src.dtype:
        tile = nl.ndarray(src.shape, src.dtype)
        copy(tile, src, turn)
    else:
        tile = nl.ndarray(src.shape, dtype)
        nisa.dma_copy(tile, src)
    return tile


def on_all_partitions(row: nl.NkiTensor, dtype: object = None) -> nl.NkiTensor:
    """A one-dimensional tensor in HBM as a tile with the same row in each of the 128 partitions."""
    return tile_of(row.reshape(1, row.shape[0]).broadcast(0, P), dtype)


def halved(tile: nl.NkiTensor, times: int) -> nl.NkiTensor:
    """A tile whose largest value in each row is that of ``tile``, with half of its columns, and so on.

    A maximum of two tiles runs at twice the rate of a reduction, so the first halvings pay.
    """
    for _ in range(times):
        width = tile.shape[1]
        if width % 2 == 0:
            larger = nl.ndarray((tile.shape[0], width // 2), tile.dtype)
            nisa.tensor_tensor(larger, tile[:, 0 : width // 2], tile[:, width // 2 : width], nl.maximum)
            tile = larger
    return tile


def scale_rows(dst: nl.NkiTensor, src: nl.NkiTensor, factors: nl.NkiTensor, vector_share: float) -> None:
    """``src * factors``, one factor for each row: the first columns on Vector, the others on GpSimd."""
    width = src.shape[1]
    split = int(width * vector_share)
    if split > 0:
        nisa.tensor_scalar(dst[:, 0:split], src[:, 0:split], nl.multiply, factors)
    if split < width:  # GpSimd takes two tensors only
        rest = slice(split, width)
        wide_factors = factors.broadcast(1, width - split)
        nisa.tensor_tensor(dst[:, rest], src[:, rest], wide_factors, nl.multiply, engine=nisa.engine.gpsimd)


def engine_named(name: str) -> nisa.engine:
    """The engine that a tuning names."""
    if name == "gpsimd":
        return nisa.engine.gpsimd
    if name == "scalar":
        return nisa.engine.scalar
    return nisa.engine.vector
