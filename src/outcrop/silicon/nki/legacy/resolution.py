"""What an instruction gets of a tile: the device tensor for the positions that its mask leaves.

Not covered: partitions chosen in another order than one after the other (the hardware's access patterns have none).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.tensor import Dynamic, ElementIndex, Tensor
from outcrop.silicon.nki.legacy.access import Bound, composed, require_inside
from outcrop.silicon.nki.legacy.indices import Index
from outcrop.silicon.nki.legacy.regions import Region

if TYPE_CHECKING:
    from outcrop.silicon.nki.legacy.tile import Tile


def resolve(tile: Tile, region: Region | None) -> Tensor:
    """The device tensor for the positions of ``tile`` that a region leaves."""
    source = tile.source
    if region is None:
        require_inside(tile, tile.bounds)
        if tile.elements is not None:
            return _listed(tile, tile.elements, None)
        _require_layout(tile)
        return Tensor(source.storage, tile.shape, _steps(tile), tile.offset, source.dtype, tile.dynamic)
    if region.box is None:
        return _masked(tile, region.truth_for(tile.shape))
    ranges = region.ranges_for(tile.shape)
    shape = tuple(high - low for low, high in ranges)
    cut = tuple(Index((), low) + Index((size,), 0, (1,)) for (low, _), size in zip(ranges, shape, strict=True))
    grid = [each[tuple(slice(None) if d == at else None for d in range(len(shape)))] for at, each in enumerate(cut)]
    for bound in tile.bounds:
        require_inside(tile, [Bound(composed(bound.along.spread(tile.shape), grid, shape), bound.size, bound.dim)])
    if tile.elements is not None:
        return _listed(tile, tile.elements[tuple(slice(low, high) for low, high in ranges)], None)
    _require_layout(tile)
    steps = _steps(tile)
    offset = tile.offset + sum(low * step for (low, _), step in zip(ranges, tile.strides, strict=True))
    return Tensor(source.storage, shape, steps, offset, source.dtype, _cut(tile.dynamic, ranges[0]))


def _cut(dynamic: Dynamic | None, rows: tuple[int, int]) -> Dynamic | None:
    if dynamic is None or dynamic.vector is None:
        return dynamic
    return dynamic._replace(vector=dynamic.vector[rows[0] : rows[1]])


def _masked(tile: Tile, truth: Array) -> Tensor:
    for bound in tile.bounds:
        values = bound.along.spread(tile.shape).values()
        outside = ((values < 0) | (values >= bound.size)) & truth
        if outside.any():
            refuse(
                rules.OUT_OF_BOUNDS,
                f"The mask leaves index {int(values[outside][0])} of dimension {bound.dim} of {tile.describe()}.",
                f"The dimension has elements 0 to {bound.size - 1}.",
            )
    elements = tile.elements
    if elements is None:
        if tile.dynamic is not None:
            refuse(
                rules.PARAMETER,
                f"{tile.describe()} has a run-time address and a mask that is no box.",
                "Mask whole rows or columns.",
            )
        elements = Index(tile.shape, tile.offset, tile.strides).values()
    return _listed(tile, np.where(truth, np.broadcast_to(elements, tile.shape), 0), truth)


def _listed(tile: Tile, elements: Array, valid: Array | None) -> Tensor:
    source = tile.source
    row = source.row_elements
    strides = (row, *((1,) * (len(elements.shape) - 1))) if tile.partition >= 0 else (1,) * len(elements.shape)
    return Tensor(
        source.storage, elements.shape, strides, tile.offset, source.dtype, None, ElementIndex(elements, valid)
    )


def _steps(tile: Tile) -> tuple[int, ...]:
    """The strides; along partitions of size 1 the storage's own, along rows that an index picks their distance."""
    if tile.dynamic is not None and tile.dynamic.vector is not None:
        return (tile.dynamic.stride, *tile.strides[1:])
    if tile.partition < 0 or tile.shape[0] != 1:
        return tile.strides
    return (tile.source.row_elements, *tile.strides[1:])


def _require_layout(tile: Tile) -> None:
    if tile.partition < 0:
        return
    if tile.partition != 0 or (tile.shape[0] > 1 and tile.strides[0] % tile.source.row_elements):
        refuse(
            rules.PARTITION_STEP,
            f"{tile.describe()} is indexed so that its partitions are not along the first dimension of the result.",
            "Index the partition dimension with an expression of the first dimension, such as nl.arange(128)[:, None].",
        )


def same_place(one: Tile, two: Tile) -> bool:
    """Whether both are the same elements of the same storage in the same order."""
    return (
        one.source.storage is two.source.storage
        and one.shape == two.shape
        and one.offset == two.offset
        and one.strides == two.strides
        and one.elements is two.elements
        and one.dynamic is None
        and two.dynamic is None
        and one.dtype == two.dtype
    )
