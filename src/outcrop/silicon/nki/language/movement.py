"""Moving tiles and changing their layout: loads, stores, transposes, broadcasts, and the plain matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.dtypes import DType, find, float32, uint32
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import PSUM, SBUF
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa


def _require_tensor(role: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        refuse(rules.PARAMETER, f"{role} is {value!r}, a {type(value).__name__}.", f"{role} must be a tensor.")
        raise AssertionError("refused")
    return value


def _wanted(x: Tensor, dtype: Any) -> DType:
    return x.dtype if dtype is None else find(dtype)


def load(src: Tensor, dtype: Any = None) -> Tensor:
    """A tensor in HBM, copied to a new tile in SBUF: its first dimension becomes the partitions.

    Engine: DMA, by ``nisa.dma_copy``.
    """
    source = _require_tensor("src of nl.load", src)
    tile = current().allocate(source.shape, _wanted(source, dtype), SBUF, "")
    nisa.dma_copy(tile, source if len(source.shape) > 1 else source.expand_dim(1))
    return tile


def store(dst: Tensor, value: Tensor) -> None:
    """Copy a tile to a tensor in HBM of the same shape. Engine: DMA; a tile in PSUM goes through SBUF first."""
    target = _require_tensor("dst of nl.store", dst)
    tile = _require_tensor("value of nl.store", value)
    if tile.buffer is PSUM:
        tile = copy_to_sbuf(tile, tile.dtype)
    nisa.dma_copy(target, tile)


def copy_to_sbuf(x: Tensor, dtype: DType) -> Tensor:
    """A new tile in SBUF with the values of another."""
    made = current().allocate(x.shape, dtype, SBUF, "")
    nisa.tensor_copy(made, x)
    return made


def load_transpose2d(src: Tensor, dtype: Any = None) -> Tensor:
    """A two-dimensional tensor in HBM, transposed into a new tile in SBUF.

    By ``nisa.dma_transpose`` where the type has two bytes, which is what the hardware's own path takes; else loaded and
    transposed by the tensor engine (32-bit) after a cast to a type that it takes.
    """
    source = _require_tensor("src of nl.load_transpose2d", src)
    _require_two_dimensions("nl.load_transpose2d", source)
    wanted = _wanted(source, dtype)
    if source.dtype.itemsize == 2 and source.shape[1] <= current().limits.partitions:
        tile = current().allocate((source.shape[1], source.shape[0]), source.dtype, SBUF, "")
        nisa.dma_transpose(tile, source)
        return tile if wanted is source.dtype else copy_to_sbuf(tile, wanted)
    rows, columns = source.shape
    step = current().limits.partitions
    made = current().allocate((columns, rows), wanted, SBUF, "")
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        part = transpose(load(source[start:stop, :]))
        nisa.tensor_copy(made[:, start:stop], part)
    return made


def transpose(x: Tensor, dtype: Any = None) -> Tensor:
    """A two-dimensional tile transposed by the tensor engine into a new tile in PSUM.

    32-bit integers travel as the float32 of the same bits, where the engine passes bits through.
    """
    tile = _require_tensor("x of nl.transpose", x)
    _require_two_dimensions("nl.transpose", tile)
    wanted = _wanted(tile, dtype)
    made = current().allocate((tile.shape[1], tile.shape[0]), tile.dtype, PSUM, "")
    nisa.nc_transpose(made, tile)
    if wanted is tile.dtype:
        return made
    cast = current().allocate(made.shape, wanted, PSUM, "")
    nisa.tensor_copy(cast, made)
    return cast


def _require_two_dimensions(what: str, x: Tensor) -> None:
    if len(x.shape) != 2:
        refuse(rules.OPERAND_SHAPE, f"{what} got {x.describe()}.", "It takes two dimensions; slice or reshape first.")


def matmul(x: Tensor, y: Tensor, transpose_x: bool = False) -> Tensor:
    """``x @ y`` (``x.T @ y`` with ``transpose_x``) in float32 as a new tile in PSUM.

    The contraction runs over partitions of both operands, so ``x`` is transposed first unless it comes transposed.
    """
    left, right = _require_tensor("x of nl.matmul", x), _require_tensor("y of nl.matmul", y)
    if not transpose_x:
        turned = transpose(left)
        left = copy_to_sbuf(turned, left.dtype)
    made = current().allocate((left.free_size, *right.shape[1:]), float32, PSUM, "")
    nisa.nc_matmul(made, left, right)
    return made


def broadcast_to(x: Tensor, shape: Sequence[int], dtype: Any = None) -> Tensor:
    """A tile repeated along its dimensions of size 1.

    Along free dimensions it is copied from a view that repeats (``tensor_copy``); along partitions the tensor engine
    multiplies a column of ones with the one row, which is exact.
    """
    tile = _require_tensor("x of nl.broadcast_to", x)
    sizes = tuple(int(each) for each in shape)
    wanted = _wanted(tile, dtype)
    fits = len(sizes) == len(tile.shape) and all(a in (1, b) for a, b in zip(tile.shape, sizes, strict=False))
    if not fits:
        refuse(
            rules.OPERAND_SHAPE,
            f"nl.broadcast_to of {tile.describe()} to {list(sizes)}.",
            "Give as many dimensions, each the same or grown from 1.",
        )
    if sizes == tile.shape:
        return tile if wanted is tile.dtype else copy_to_sbuf(tile, wanted)
    if tile.shape[0] != sizes[0]:
        tile = _to_partitions(tile, sizes[0])
    view = tile
    for dim in range(1, len(sizes)):
        if view.shape[dim] != sizes[dim]:
            view = view.broadcast(dim, sizes[dim])
    if view.shape == tile.shape and tile.dtype is wanted and tile.buffer is SBUF:
        return tile
    return copy_to_sbuf(view, wanted)


def _to_partitions(row: Tensor, count: int) -> Tensor:
    """The one partition of a tile, repeated on ``count``."""
    core = current()
    limit = core.limits.moving_free["fp32"]
    flat = row.reshape((1, row.free_size))
    if flat.dtype is not float32 or flat.buffer is not SBUF:
        flat = copy_to_sbuf(flat, float32)
    made = core.allocate((count, *row.shape[1:]), row.dtype, SBUF, "")
    target = made.reshape((count, row.free_size))
    column = core.allocate((1, count), float32, SBUF, "")
    nisa.memset(column, 1.0)
    for start in range(0, row.free_size, limit):
        stop = min(start + limit, row.free_size)
        product = core.allocate((count, stop - start), float32, PSUM, "")
        nisa.nc_matmul(product, column, flat[:, start:stop])
        nisa.tensor_copy(target[:, start:stop], product)
    return made


def expand_dims(x: Tensor, axis: int) -> Tensor:
    """A view with one more dimension, of size 1, at ``axis`` of the result."""
    tile = _require_tensor("x of nl.expand_dims", x)
    return tile.expand_dim(axis + len(tile.shape) + 1 if axis < 0 else axis)


def gather_flattened(data: Tensor, indices: Tensor, axis: int = 0, dtype: Any = None) -> Tensor:
    """``data``'s elements picked by position within each partition's flattened free dimensions.

    Engine: gpsimd, by ``nisa.nc_n_gather``; indices that are not uint32 are converted first.
    """
    tile, picks = _require_tensor("data of nl.gather_flattened", data), _require_tensor("indices", indices)
    if axis not in (0, 1):
        raise UserError(f"nl.gather_flattened got axis={axis}.", "It gathers within partitions: leave axis out.")
    if picks.dtype is not uint32:
        picks = copy_to_sbuf(picks, uint32)
    made = current().allocate(picks.shape, _wanted(tile, dtype), SBUF, "")
    nisa.nc_n_gather(made, tile, picks)
    return made
