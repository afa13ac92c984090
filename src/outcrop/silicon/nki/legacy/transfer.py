"""Between HBM and the chip: ``nl.load``, ``nl.store``, transposing loads, ``nisa.dma_copy`` and read-modify-write.

An index tile in brackets makes a gather or scatter. Where its numbers leave the tensor and ``oob_mode`` is error, the
older simulator's documented behaviour is an ``IndexError`` with the flat index; it carries this device's own refusal as
its cause and as a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa
from outcrop.silicon.nki.isa.constants import dge_mode, oob_mode
from outcrop.silicon.nki.legacy import results
from outcrop.silicon.nki.legacy.operands import kind_or, part, tile, to_sbuf
from outcrop.silicon.nki.legacy.regions import Region
from outcrop.silicon.nki.legacy.tile import Tile, arranged
from outcrop.silicon.nki.operators import operator_name


@contextmanager
def _index_errors(*tiles: Tile) -> Iterator[None]:
    try:
        yield
    except KernelRefused as refusal:
        for each in tiles:
            flat = _first_outside(each)
            if refusal.rule is rules.OUT_OF_BOUNDS and flat is not None:
                allocation = each.source.storage.allocation
                size = allocation.size_bytes // each.itemsize
                error = IndexError(f"index {flat} is out of bounds for axis 0 with size {size}")
                error.add_note(str(refusal))
                raise error from refusal
        raise


def _first_outside(given: Tile) -> int | None:
    """The flat index of the first element that a tile of indices picks outside of the tensor."""
    dynamic = given.dynamic
    core = current()
    if dynamic is None or dynamic.limit is None or not core.values:
        return None
    index = dynamic.vector if dynamic.vector is not None else dynamic.scalar
    if not isinstance(index, Tensor):
        return None
    picked = core.read(index).reshape(-1).astype(np.int64)
    outside = np.flatnonzero((picked < 0) | (picked >= dynamic.limit))
    return given.offset + int(picked[outside[0]]) * dynamic.stride if outside.size else None


def load(src: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """A tile in SBUF with the elements of an HBM tensor, converted to ``dtype`` on the way."""
    given = tile(src, "src")
    if given.on_chip:
        refuse(rules.OPERAND_MEMORY, f"nl.load got {given.describe()}.", "It loads from HBM; copy with nl.copy.")
    out = results.new(given.shape or (1, 1), kind_or(dtype, given.kind))
    region = part(mask, given.shape)
    if region is None or not region.empty:
        with _index_errors(given):
            isa.dma_copy(_like(out, given, region), given.device(region))
    return results.finish(out, region)


def _like(out: Tile, given: Tile, region: Region | None) -> Tensor:
    """The part of a fresh tile for a region over a tile of the same elements (maybe without the last dimension)."""
    if region is None or len(out.shape) == len(region.shape):
        return out.device(region)
    return arranged(out.source, given.shape, (*out.strides[: len(given.shape)],), 0).device(region)


def store(dst: Any, value: Any, *, mask: Any = None, **kwargs: Any) -> None:
    """Write a tile, or a number, to HBM."""
    target = tile(dst, "dst")
    if target.on_chip:
        refuse(rules.OPERAND_MEMORY, f"nl.store got dst {target.describe()}.", "It stores to HBM; assign to tiles.")
    region = part(mask, target.shape)
    if region is not None and region.empty:
        return
    if not isinstance(value, Tile):
        _store_number(target, value, region)
        return
    source = to_sbuf(value)
    if source.partition > 0:
        target, source = _fronted(target, source.partition, source.shape), _fronted(source, source.partition, None)
        region = part(mask, target.shape) if mask is None else region
    with _index_errors(target):
        isa.dma_copy(target.device(region), _matching(source, target, region))


def _fronted(given: Tile, dim: int, shape: tuple[int, ...] | None) -> Tile:
    """With a block tensor's partition dimension moved to the front."""
    if given.elements is not None or given.dynamic is not None or (shape is not None and shape != given.shape):
        refuse(
            rules.OPERAND_SHAPE,
            f"{given.describe()} is stored with a tensor whose partitions are dimension {dim}.",
            "Index one block at a time.",
        )
    order = [dim, *(d for d in range(given.ndim) if d != dim)]
    made = arranged(
        given.source,
        tuple(given.shape[d] for d in order),
        tuple(given.strides[d] for d in order),
        0 if given.on_chip else -1,
    )
    made.offset = given.offset
    return made


def _matching(source: Tile, target: Tile, region: Region | None) -> Tensor:
    """The source's elements for a region over the target, which may group them otherwise."""
    if source.shape == target.shape:
        return source.device(region)
    if source.size == target.size:
        if region is None:
            return source.device()
        same_rows = bool(target.shape) and source.shape[0] == target.shape[0]
        return (source.reshape(target.shape) if same_rows else source).device(region)
    return results.broadcast(source, target.shape).device(region)


def _store_number(target: Tile, value: Any, region: Region | None) -> None:
    tensor = target.device(region)
    count = tensor.shape[0] if tensor.shape and tensor.shape[0] <= current().limits.partitions else 1
    free = tensor.size // count
    constant = current().allocate((count, 1), tensor.dtype, MemoryRegion.sbuf)
    isa.memset(constant, value)
    isa.dma_copy(tensor, constant.broadcast(1, free))


def load_transpose2d(src: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """A tile in SBUF with an HBM tensor's elements, rows and columns exchanged."""
    return dma_transpose(src, mask=mask, dtype=dtype)


_ORDERS = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}


def dma_transpose(
    src: Any, *, axes: Any = None, mask: Any = None, dtype: Any = None, dge_mode: Any = dge_mode.unknown, **kwargs: Any
) -> Tile:
    """A tile with the dimensions of ``src`` in another order: (1, 0), (2, 1, 0) or (3, 1, 2, 0).

    Follows the older reference: any size and type. The shapes that the hardware's own DMA transpose takes are those of
    the current ``nki.isa.dma_transpose``; others were lowered by the compiler to copies element by element, as here.
    """
    given = tile(src, "src")
    order: tuple[int, ...] = _ORDERS.get(given.ndim, ()) if axes is None else tuple(axes)
    if not order or order != _ORDERS.get(given.ndim):
        refuse(
            rules.PARAMETER,
            f"dma_transpose got {given.describe()} and axes={axes!r}.",
            "axes is (1, 0) for two dimensions, (2, 1, 0) for three, (3, 1, 2, 0) for four.",
        )
        raise AssertionError("refused")
    region = part(mask, given.shape)
    out = results.new(tuple(given.shape[d] for d in order), kind_or(dtype, given.kind))
    if region is not None and region.empty:
        return results.finish(out, region)
    core = current()
    with _index_errors(given):
        source = given.device(region)
        target = out.device() if region is None else _corner(out, tuple(source.shape[d] for d in order))
        if core.values:
            core.write(target, np.transpose(core.read(source), order))
        else:
            core.mark_written(target)
    mode = str(getattr(dge_mode, "name", dge_mode))
    core.record("dma_transpose", Engine.dma, (target,), (source,), {"axes": order, "dge_mode": mode})
    return results.finish(out, region)


def _corner(out: Tile, shape: tuple[int, ...]) -> Tensor:
    return out[tuple(slice(0, size) for size in shape)].device()


def dma_copy(
    *,
    dst: Any,
    src: Any,
    mask: Any = None,
    dst_rmw_op: Any = None,
    oob_mode: Any = oob_mode.error,
    dge_mode: Any = dge_mode.unknown,
    **kwargs: Any,
) -> None:
    """Copy by DMA between HBM and SBUF, or add to the destination with ``dst_rmw_op=np.add``."""
    target, source = tile(dst, "dst"), tile(src, "src")
    region = part(mask, target.shape)
    if region is not None and region.empty:
        return
    one, two = target.device(region), _matching(source, target, region)
    with _index_errors(target, source):
        if dst_rmw_op is None:
            isa.dma_copy(one, two, oob_mode=oob_mode, dge_mode=dge_mode)
        else:
            _read_modify_write(one, two, dst_rmw_op)


def _read_modify_write(dst: Tensor, src: Tensor, op: Any) -> None:
    if operator_name(op) != "add":
        refuse(rules.PARAMETER, f"A read-modify-write got op={op!r}.", "DMA engines add: np.add.")
    isa.dma_compute(dst, [dst, src], "add")


def atomic_rmw(dst: Any, value: Any, op: Any, *, mask: Any = None, **kwargs: Any) -> None:
    """Add a tile to elements of HBM that index tiles pick."""
    target = tile(dst, "dst")
    region = part(mask, target.shape)
    if region is not None and region.empty:
        return
    with _index_errors(target):
        _read_modify_write(target.device(region), _matching(tile(value, "value"), target, region), op)
