"""``neuronxcc.nki.isa``: instructions that select elements by predicates, positions or bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from outcrop.silicon.device.regions import Engine
from outcrop.silicon.nki import isa
from outcrop.silicon.nki.isa.constants import reduce_cmd
from outcrop.silicon.nki.legacy import results
from outcrop.silicon.nki.legacy.dtypes import fp32
from outcrop.silicon.nki.legacy.indices import Predicate
from outcrop.silicon.nki.legacy.operands import computed, kind_or, part, rows_of, tile, to_sbuf, truth_bits, vector
from outcrop.silicon.nki.legacy.tile import Tile

_COMPARISONS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
}  # fmt: skip


def tensor_copy_predicated(
    *,
    src: Any,
    dst: Any,
    predicate: Any,
    reverse_pred: bool = False,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> None:
    """Copy where the predicate is true; other elements of ``dst`` stay."""
    target = tile(dst, "dst")
    region = part(mask, target.shape)
    if region is not None and region.empty:
        return
    source = src
    if isinstance(src, Tile):
        same = src if src.kind is target.kind else results.copied(src, target.kind)
        source = same.device(region)
    held = truth_bits(tile(predicate, "predicate"), region)
    isa.tensor_copy_predicated(target.device(region), source, held, reverse_pred)


def affine_select(
    pred: Any, on_true_tile: Any, on_false_value: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any
) -> Tile:
    """The tile's element where the predicate on positions is true, else a constant.

    An affine predicate is the instruction of the gpsimd engine, which reads SBUF: a PSUM tile is copied there first.
    Other predicates, which the older reference refuses, are computed all the same.
    """
    given = to_sbuf(tile(on_true_tile, "on_true_tile"))
    region = part(mask, given.shape)
    out = results.new(given.shape, kind_or(dtype, given.kind))
    if region is not None and region.empty:
        return results.finish(out, region)
    dst, src = out.device(region), given.device(region)
    affine = pred.affine if isinstance(pred, Predicate) else None
    if affine is not None and region is None and given.ndim <= 5:
        line = affine.expression.spread(given.shape)
        pattern = [[step, size] for step, size in zip(line.steps[1:], given.shape[1:], strict=True)]
        name = _COMPARISONS[affine.op.__name__]
        isa.affine_select(dst, pattern, line.steps[0], src, float(on_false_value), name, line.start)
        return results.finish(out, region)
    truth = np.broadcast_to(pred.values() if isinstance(pred, Predicate) else bool(pred), given.shape)
    if region is not None and region.box is not None:
        truth = truth[tuple(slice(low, high) for low, high in region.box.ranges)]
    fill = np.float32(on_false_value)
    computed(
        "affine_select", Engine.gpsimd, dst, (src,), lambda values: np.where(truth, values, fill), {"cmp_op": "listed"}
    )
    return results.finish(out, region)


def range_select(
    *,
    on_true_tile: Any,
    comp_op0: Any,
    comp_op1: Any,
    bound0: Any,
    bound1: Any,
    reduce_cmd: Any = reduce_cmd.idle,
    reduce_res: Any = None,
    reduce_op: Any = np.amax,
    range_start: int = 0,
    on_false_value: Any = fp32.min,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Tile:
    """Elements whose position lies between two bounds of their partition, else float32's lowest number."""
    given = tile(on_true_tile, "on_true_tile")
    region = part(mask, given.shape)
    out = results.new(given.shape, kind_or(dtype, given.kind))
    if region is None or not region.empty:
        rows = given.shape[0]
        held = None if reduce_res is None else tile(reduce_res, "reduce_res").device()
        isa.range_select(
            out.device(region),
            given.device(region),
            comp_op0,
            comp_op1,
            vector(bound0, region, rows),
            vector(bound1, region, rows),
            reduce_cmd,
            held,
            reduce_op,
            range_start,
            on_false_value,
        )
    return results.finish(out, region)


def select_reduce(
    *,
    dst: Any,
    predicate: Any,
    on_true: Any,
    on_false: Any,
    reduce_res: Any = None,
    reduce_cmd: Any = reduce_cmd.idle,
    reduce_op: Any = np.amax,
    reverse_pred: bool = False,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> None:
    """Select by a predicate into ``dst``, and the maximum of what was selected into ``reduce_res``."""
    target, given = tile(dst, "dst"), tile(on_true, "on_true")
    region = part(mask, target.shape)
    if region is not None and region.empty:
        return
    held = None if reduce_res is None else tile(reduce_res, "reduce_res").device(rows_of(region, reduce_res.shape))
    isa.select_reduce(
        target.device(region),
        truth_bits(tile(predicate, "predicate"), region),
        given.device(region),
        vector(on_false, region, target.shape[0]),
        held,
        reduce_cmd,
        reduce_op,
        reverse_pred,
    )
