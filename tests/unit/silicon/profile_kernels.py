"""Small kernels for the tests of profiles: each has one thing that a profile should tell, and a twin without it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl
from outcrop.silicon.nki.run import Run, run


def executed(kernel: Any, *shapes: tuple[int, ...], dtype: Any = ml_dtypes.bfloat16, **options: Any) -> Run:
    return run(kernel, [np.zeros(shape, dtype) for shape in shapes], timing_only=True, **options)


def products(a: Any, b: Any, hoisted: bool = False) -> Any:
    """``a.T @ b``; every tile is loaded for every product, or each once."""
    inner, rows = a.shape
    _, wide = b.shape
    out = nl.ndarray((rows, wide), a.dtype, buffer=nl.shared_hbm)
    known: dict[Any, Any] = {}

    def loaded(source: Any, k: int, at: int, columns: int) -> Any:
        key = (columns, k, at)
        if not hoisted or key not in known:
            known[key] = nl.ndarray((128, columns), source.dtype, buffer=nl.sbuf)
            nisa.dma_copy(known[key], source[k * 128 : (k + 1) * 128, at : at + columns])
        return known[key]

    for row in range(0, rows, 128):
        for at in range(0, wide, 512):
            total = nl.ndarray((128, 512), nl.float32, buffer=nl.psum)
            for k in range(inner // 128):
                nisa.nc_matmul(total, loaded(a, k, row, 128), loaded(b, k, at, 512))
            result = nl.ndarray((128, 512), a.dtype, buffer=nl.sbuf)
            nisa.tensor_copy(result, total)
            nisa.dma_copy(out[row : row + 128, at : at + 512], result)
    return out


def hoisted_products(a: Any, b: Any) -> Any:
    return products(a, b, hoisted=True)


def copied(a: Any, pieces: int = 16) -> Any:
    """Columns of ``a`` in so many pieces through SBUF, doubled on the vector engine."""
    out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
    wide = a.shape[1] // pieces
    for piece in range(pieces):
        tile = nl.ndarray((128, wide), a.dtype, buffer=nl.sbuf)
        nisa.dma_copy(tile, a[:, piece * wide : (piece + 1) * wide])
        twice = nl.ndarray((128, wide), a.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(twice, tile, nl.multiply, 2.0)
        nisa.dma_copy(out[:, piece * wide : (piece + 1) * wide], twice)
    return out


def copied_by_two(a: Any) -> Any:
    """The same, with transfers triggered by two engines in turn."""
    out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
    wide = a.shape[1] // 16
    mode, engines = nisa.dge_mode.hwdge, (nisa.engine.scalar, nisa.engine.sync)
    for piece in range(16):
        tile = nl.ndarray((128, wide), a.dtype, buffer=nl.sbuf)
        nisa.dma_copy(tile, a[:, piece * wide : (piece + 1) * wide], dge_mode=mode, engine=engines[0])
        twice = nl.ndarray((128, wide), a.dtype, buffer=nl.sbuf)
        nisa.tensor_scalar(twice, tile, nl.multiply, 2.0)
        nisa.dma_copy(out[:, piece * wide : (piece + 1) * wide], twice, dge_mode=mode, engine=engines[1])
    return out


def gathered(a: Any, pieces: int = 64) -> Any:
    """The sum of every column over the whole width, from so many loads of neighbouring columns."""
    out = nl.ndarray((128, 64), nl.float32, buffer=nl.shared_hbm)
    sums = nl.ndarray((128, 64), nl.float32, buffer=nl.sbuf)
    wide, part = a.shape[1] // pieces, a.shape[1] // 64
    for piece in range(pieces):
        tile = nl.ndarray((128, wide), a.dtype, buffer=nl.sbuf)
        nisa.dma_copy(tile, a[:, piece * wide : (piece + 1) * wide])
        for inside in range(64 // pieces):
            at = piece * (64 // pieces) + inside
            mine = tile[:, inside * part : (inside + 1) * part]
            nisa.tensor_reduce(sums[:, at : at + 1], nl.add, mine, axis=1)
    nisa.dma_copy(out, sums)
    return out


def gathered_in_fewer(a: Any) -> Any:
    return gathered(a, pieces=8)


def one_buffer(a: Any) -> Any:
    """One tile that every piece goes through: the next load waits until the last has been read."""
    return _through(a, buffers=1)


def two_buffers(a: Any) -> Any:
    return _through(a, buffers=2)


def _through(a: Any, buffers: int) -> Any:
    out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
    wide = a.shape[1] // 16
    tiles = [nl.ndarray((128, wide), a.dtype, buffer=nl.sbuf) for _ in range(buffers)]
    for piece in range(16):
        tile = tiles[piece % buffers]
        nisa.dma_copy(tile, a[:, piece * wide : (piece + 1) * wide])
        result = nl.ndarray((128, wide), a.dtype, buffer=nl.sbuf)
        nisa.tensor_copy(result, tile)
        nisa.dma_copy(out[:, piece * wide : (piece + 1) * wide], result)
    return out


def adding(a: Any, engines: tuple[str, ...] = ("vector",)) -> Any:
    """A long chain of independent additions on the engines in turn, in SBUF."""
    out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(a.shape, a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(tile, a)
    for number in range(32):
        result = nl.ndarray(a.shape, a.dtype, buffer=nl.sbuf)
        nisa.tensor_tensor(result, tile, tile, nl.add, engine=getattr(nisa.engine, engines[number % len(engines)]))
    nisa.dma_copy(out, result)
    return out


def adding_on_two(a: Any) -> Any:
    return adding(a, engines=("vector", "gpsimd"))


def halves(a: Any) -> Any:
    """Each of two cores doubles half of the rows."""
    out = nl.ndarray(a.shape, a.dtype, buffer=nl.shared_hbm)
    rows = a.shape[0] // nl.num_programs()
    first = nl.program_id(0) * rows
    tile = nl.ndarray((rows, a.shape[1]), a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(tile, a[nl.ds(first, rows)])
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    nisa.dma_copy(out[nl.ds(first, rows)], tile)
    return out
