"""``neuronxcc.nki.isa`` part one: element-wise, reducing and normalising instructions, which return their results.

Each allocates its result and calls the current instruction on the part that ``mask`` leaves. Types follow the older
reference: a result has its input's type, two inputs promote, unless ``dtype`` is given.
"""

from __future__ import annotations

from typing import Any

from outcrop.silicon.device.regions import Engine
from outcrop.silicon.nki import isa
from outcrop.silicon.nki.isa.constants import reduce_cmd
from outcrop.silicon.nki.legacy import arithmetic, results
from outcrop.silicon.nki.legacy.dtypes import kind
from outcrop.silicon.nki.legacy.operands import (
    is_number,
    kind_or,
    number,
    part,
    rows_of,
    tile,
    to_sbuf,
    vector,
)  # fmt: skip
from outcrop.silicon.nki.legacy.tile import Tile
from outcrop.silicon.nki.operators import operator_name


def activation(
    op: Any,
    data: Any,
    *,
    bias: Any = None,
    scale: Any = 1.0,
    reduce_op: Any = None,
    reduce_res: Any = None,
    reduce_cmd: Any = reduce_cmd.idle,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Tile:
    """``op(data * scale + bias)`` on the scalar engine, with its accumulator registers."""
    given = tile(data, "data")
    region = part(mask, given.shape)
    out = results.new(given.shape, kind_or(dtype, given.kind))
    if region is not None and region.empty:
        return results.finish(out, region)
    rows = given.shape[0]
    held = tile(reduce_res, "reduce_res").device(rows_of(region, reduce_res.shape)) if reduce_res is not None else None
    isa.activation(
        out.device(region),
        op,
        given.device(region),
        vector(bias, region, rows),
        vector(scale, region, rows),
        reduce_op,
        held,
        reduce_cmd,
    )
    return results.finish(out, region)


def activation_reduce(
    op: Any,
    data: Any,
    *,
    reduce_op: Any,
    reduce_res: Any,
    bias: Any = None,
    scale: Any = 1.0,
    mask: Any = None,
    dtype: Any = None,
    **kwargs: Any,
) -> Tile:
    """``activation`` that also writes the sum of its results along the free dimensions to ``reduce_res``."""
    return activation(
        op, data, bias=bias, scale=scale, reduce_op=reduce_op, reduce_res=reduce_res,
        reduce_cmd=reduce_cmd.reset_reduce, mask=mask, dtype=dtype,
    )  # fmt: skip


def tensor_tensor(
    data1: Any, data2: Any, op: Any, *, dtype: Any = None, mask: Any = None, engine: Any = Engine.unknown, **kwargs: Any
) -> Tile:
    """``data1 op data2`` for two tiles of one shape."""
    one, two = tile(data1, "data1"), tile(data2, "data2")
    name = operator_name(op)
    if one.shape != two.shape or name in arithmetic._EXTRA:
        return arithmetic.binary(one, two, name, dtype, mask)
    region = part(mask, one.shape)
    out = results.new(one.shape, kind_or(dtype, arithmetic.promoted(one, two)))
    if region is None or not region.empty:
        isa.tensor_tensor(out.device(region), one.device(region), two.device(region), name, engine)
    return results.finish(out, region)


def tensor_scalar(
    data: Any,
    op0: Any,
    operand0: Any,
    reverse0: bool = False,
    op1: Any = None,
    operand1: Any = None,
    reverse1: bool = False,
    *,
    dtype: Any = None,
    mask: Any = None,
    engine: Any = Engine.unknown,
    **kwargs: Any,
) -> Tile:
    """``(data op0 operand0) op1 operand1``; operands are numbers or one element per partition."""
    given = tile(data, "data")
    first, second = operator_name(op0), operator_name(op1)
    if first in arithmetic._EXTRA or second in arithmetic._EXTRA:
        x, y = (operand0, given) if reverse0 else (given, operand0)
        made = arithmetic.binary(x, y, first, None if second else dtype, mask)
        if not second:
            return made
        x, y = (operand1, made) if reverse1 else (made, operand1)
        return arithmetic.binary(x, y, second, dtype, mask)
    region = part(mask, given.shape)
    out = results.new(given.shape, kind_or(dtype, given.kind))
    if region is None or not region.empty:
        wide, rows = not first.startswith(("bitwise", "left", "right")), given.shape[0]
        isa.tensor_scalar(
            out.device(region),
            given.device(region),
            first,
            vector(operand0, region, rows, wide=wide),
            reverse0,
            second or None,
            vector(operand1, region, rows, wide=wide),
            reverse1,
            engine,
        )
    return results.finish(out, region)


def scalar_tensor_tensor(
    *,
    data: Any,
    op0: Any,
    operand0: Any,
    op1: Any,
    operand1: Any,
    reverse0: bool = False,
    reverse1: bool = False,
    dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> Tile:
    """``(data op0 operand0) op1 operand1``; operand1 is a tile of the data's shape."""
    given, other = tile(data, "data"), tile(operand1, "operand1")
    region = part(mask, given.shape)
    out = results.new(given.shape, kind_or(dtype, given.kind))
    if region is None or not region.empty:
        isa.scalar_tensor_tensor(
            out.device(region),
            given.device(region),
            op0,
            vector(operand0, region, given.shape[0]),
            op1,
            results.broadcast(other, given.shape).device(region),
            reverse0,
            reverse1,
        )
    return results.finish(out, region)


def tensor_scalar_reduce(
    *,
    data: Any,
    op0: Any,
    operand0: Any,
    reduce_op: Any,
    reduce_res: Any,
    reverse0: bool = False,
    dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> Tile:
    """``data op0 operand0``, and its reduction along the free dimensions in ``reduce_res``."""
    given = tile(data, "data")
    region = part(mask, given.shape)
    out = results.new(given.shape, kind_or(dtype, given.kind))
    if region is None or not region.empty:
        held = tile(reduce_res, "reduce_res")
        isa.tensor_scalar_reduce(
            out.device(region),
            given.device(region),
            op0,
            vector(operand0, region, given.shape[0]),
            reduce_op,
            held.device(rows_of(region, held.shape)),
            reverse0,
        )
    return results.finish(out, region)


def tensor_scalar_cumulative(
    *,
    src: Any,
    dst: Any,
    op0: Any,
    op1: Any,
    imm0: Any,
    imm1: Any = None,
    reduce_cmd: Any = reduce_cmd.reset_reduce,
    mask: Any = None,
    **kwargs: Any,
) -> None:
    """A running reduction of ``src op0 imm0`` by ``op1`` along the free dimensions, into ``dst``."""
    given, target = tile(src, "src"), tile(dst, "dst")
    region = part(mask, given.shape)
    if region is not None and region.empty:
        return
    rows = given.shape[0]
    loads = (
        reduce_cmd.name == "load_reduce"
    )  # the older language takes a start value with other commands, and no notice
    isa.tensor_scalar_cumulative(
        target.device(region),
        given.device(region),
        op0,
        op1,
        vector(imm0, region, rows),
        vector(imm1, region, rows) if loads else None,
        reduce_cmd,
    )


def tensor_tensor_scan(
    data0: Any,
    data1: Any,
    initial: Any,
    op0: Any,
    op1: Any,
    reverse0: bool = False,
    reverse1: bool = False,
    *,
    dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> Tile:
    """``result[i] = (data0[i] op0 result[i - 1]) op1 data1[i]`` along the free dimension."""
    one, two = tile(data0, "data0"), tile(data1, "data1")
    region = part(mask, one.shape)
    out = results.new(one.shape, kind_or(dtype, arithmetic.promoted(one, two)))
    if region is None or not region.empty:
        isa.tensor_tensor_scan(
            out.device(region),
            one.device(region),
            two.device(region),
            vector(initial, region, one.shape[0]),
            op0,
            op1,
            reverse0,
            reverse1,
        )
    return results.finish(out, region)


def tensor_reduce(
    op: Any,
    data: Any,
    axis: Any,
    *,
    mask: Any = None,
    dtype: Any = None,
    negate: bool = False,
    keepdims: bool = False,
    **kwargs: Any,
) -> Tile:
    """Reduce free dimensions on the vector engine."""
    return arithmetic.reduce(operator_name(op), data, axis, dtype, mask, negate=negate, keepdims=keepdims)


def tensor_partition_reduce(op: Any, data: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """Reduce over partitions on the gpsimd engine: a tile of one partition."""
    given = to_sbuf(tile(data, "data"))
    region = part(mask, given.shape)
    out = results.new((1, *given.shape[1:]), kind_or(dtype, given.kind))
    if region is None or not region.empty:
        target = out if region is None or region.box is None else out[
            (slice(0, 1), *(slice(low, high) for low, high in region.box.ranges[1:]))
        ]  # fmt: skip
        isa.tensor_partition_reduce(target.device(), op, given.device(region))
    return results.finish(out, region)


def tensor_copy(src: Any, *, mask: Any = None, dtype: Any = None, engine: Any = Engine.unknown, **kwargs: Any) -> Tile:
    """A copy on chip, in SBUF unless assigned to a PSUM tile."""
    given = tile(src, "src")
    return results.copied(given, kind_or(dtype, given.kind), part(mask, given.shape), engine)


def tensor_copy_dynamic_src(
    src: Any, *, mask: Any = None, dtype: Any = None, engine: Any = Engine.unknown, **kwargs: Any
) -> Tile:
    """A copy from a place that a run-time index in brackets gives."""
    return tensor_copy(src, mask=mask, dtype=dtype, engine=engine)


def tensor_copy_dynamic_dst(
    *, dst: Any, src: Any, mask: Any = None, dtype: Any = None, engine: Any = Engine.unknown, **kwargs: Any
) -> None:
    """A copy to a place that a run-time index in brackets gives."""
    target, given = tile(dst, "dst"), tile(src, "src")
    region = part(mask, given.shape)
    if region is None or not region.empty:
        isa.tensor_copy(target.device(region), given.device(region), engine)


def memset(
    shape: Any, value: Any, dtype: Any, *, mask: Any = None, engine: Any = Engine.unknown, **kwargs: Any
) -> Tile:
    """A tile filled with a number; the first dimension is the partitions, whatever par_dim says."""
    sizes = tuple(int(each) for each in shape)
    region = part(mask, sizes)
    out = results.new(sizes, kind(dtype))
    if region is None or not region.empty:
        isa.memset(out.device(region), number(value), engine)
    return results.finish(out, region)


def reciprocal(data: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Tile:
    """``1 / data`` on the vector engine."""
    return arithmetic.unary(data, "reciprocal", dtype, mask)


def bn_stats(data: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """Count, mean and variance times count of even and odd elements: six per partition."""
    given = tile(data, "data")
    region = part(mask, given.shape)
    out = results.new((given.shape[0], 6), kind_or(dtype, given.kind))
    if region is None or not region.empty:
        isa.bn_stats(out.device(rows_of(region, out.shape)), given.device(region))
    return results.finish(out, region)


def bn_aggr(data: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """Mean and variance of what ``bn_stats`` counted."""
    given = tile(data, "data")
    region = part(mask, given.shape)
    out = results.new((given.shape[0], 2), kind_or(dtype, given.kind))
    if region is None or not region.empty:
        isa.bn_aggr(out.device(rows_of(region, out.shape)), given.device(region))
    return results.finish(out, region)


def dropout(data: Any, prob: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """Zero elements at random, with a probability that is a number or one per partition."""
    given = tile(data, "data")
    region = part(mask, given.shape)
    out = results.new(given.shape, kind_or(dtype, given.kind))
    if region is None or not region.empty:
        held = vector(prob, region, given.shape[0])
        isa.dropout(out.device(region), given.device(region), float(held) if is_number(held) else held)
    return results.finish(out, region)
