"""Operators of ``nl`` on tiles: two operands with broadcasting, one operand, reductions along free dimensions.

Two tiles of one shape become ``tensor_tensor``, a tile and a number or ``[P, 1]`` tile ``tensor_scalar``. Operators
that the current instruction set has no name for but the older language had (division, rounding, remainder by
truncation) run as one record with their name; see ``operands.computed``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from outcrop.silicon.device import dtypes, rules
from outcrop.silicon.device.dtypes import Array, DType
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.nki import isa
from outcrop.silicon.nki.legacy import results
from outcrop.silicon.nki.legacy.dtypes import kind, promote
from outcrop.silicon.nki.legacy.indices import Index, joined
from outcrop.silicon.nki.legacy.operands import computed, index_tile, is_number, kind_or, part, tile, vector
from outcrop.silicon.nki.legacy.regions import Region
from outcrop.silicon.nki.legacy.tile import Tile, around

_COMPARISONS = frozenset(
    ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "logical_and", "logical_or", "logical_xor")
)
# What the current vector engine has no operator for. fmod takes the dividend's sign, mod the divisor's.
_EXTRA: dict[str, Callable[..., Array]] = {"divide": np.divide, "fmod": np.fmod, "mod": np.mod, "floor_mod": np.mod}


def binary(x: Any, y: Any, op: str, dtype: Any = None, mask: Any = None) -> Tile:
    """``x op y`` for tiles and numbers, at least one of them a tile."""
    one, two = _operand(x, op, "x"), _operand(y, op, "y")
    if isinstance(one, Tile) and isinstance(two, Tile):
        return _tiles(one, two, op, dtype, mask)
    swapped = not isinstance(one, Tile)
    data, number = (two, one) if swapped else (one, two)
    if not isinstance(data, Tile):
        refuse(rules.PARAMETER, f"nl.{op} got two numbers, {x!r} and {y!r}.", "At least one operand is a tile.")
        raise AssertionError("refused")
    result = _number_kind(data.kind, number, op)
    out = results.new(data.shape, kind_or(dtype, result))
    region = part(mask, data.shape)
    if region is None or not region.empty:
        _scalar_operation(out, data, number, op, region, swapped=swapped)
    return results.finish(out, region)


def _operand(value: Any, op: str, role: str) -> Any:
    if isinstance(value, Index):
        return index_tile(value)
    if isinstance(value, Tile) or is_number(value):
        return value
    refuse(rules.PARAMETER, f"nl.{op} got {role}={value!r}.", f"{role} must be a tile or a number.")
    raise AssertionError("refused")


def _number_kind(dtype: DType, number: Any, op: str) -> DType:
    if op in _COMPARISONS:
        return dtype
    fraction = isinstance(number, (float, np.floating)) or op == "divide"
    return dtypes.float32 if fraction and not dtype.is_float else dtype


def _scalar_operation(out: Tile, data: Tile, operand: Any, op: str, region: Region | None, *, swapped: bool) -> None:
    dst, src = out.device(region), data.device(region)
    bits = op.startswith(("bitwise", "left", "right", "arithmetic_shift", "logical_shift"))
    held = vector(operand, region, data.shape[0], wide=not bits)
    if op not in _EXTRA:
        isa.tensor_scalar(dst, src, op, held, swapped)
        return
    function = _EXTRA[op]
    if is_number(held):
        number = np.float32(held)
        computed("tensor_scalar", Engine.vector, dst, (src,), lambda a: function(*_order(a, number, swapped)), {
            "op0": op, "operand0": "constant", "reverse0": swapped, "op1": "",
        })  # fmt: skip
        return
    ndim = len(src.shape)

    def apply(a: Array, b: Array) -> Array:
        made: Array = function(*_order(a, b.reshape(b.shape[0], *(1,) * (ndim - 1)), swapped))
        return made

    computed("tensor_scalar", Engine.vector, dst, (src, held), apply, {
        "op0": op, "operand0": "vector", "reverse0": swapped, "op1": "",
    })  # fmt: skip


def _order(a: Any, b: Any, swapped: bool) -> tuple[Any, Any]:
    return (b, a) if swapped else (a, b)


def is_vector(given: Tile) -> bool:
    return given.size == given.shape[0]


def _tiles(one: Tile, two: Tile, op: str, dtype: Any, mask: Any) -> Tile:
    result = kind_or(dtype, promote(one.kind, two.kind))
    if op == "divide" and dtype is None and not result.is_float:
        result = dtypes.float32
    bits = op.startswith(("bitwise", "left", "right"))
    if one.shape != two.shape and one.shape[0] == two.shape[0] and (is_vector(one) or is_vector(two)) and not bits:
        swapped = is_vector(one) and not is_vector(two)
        data, held = (two, one) if swapped else (one, two)
        out = results.new(_wider(one, two), result)
        region = part(mask, out.shape)
        if region is None or not region.empty:
            _scalar_operation(out, results.broadcast(data, out.shape), held, op, region, swapped=swapped)
        return results.finish(out, region)
    shape = one.shape if one.shape == two.shape else joined(one.shape, two.shape)
    one, two = results.broadcast(one, shape), results.broadcast(two, shape)
    if one.buffer is MemoryRegion.psum and two.buffer is MemoryRegion.psum:
        two = results.copied(two)
    out = results.new(shape, result)
    region = part(mask, shape)
    if region is not None and region.empty:
        return results.finish(out, region)
    dst, a, b = out.device(region), one.device(region), two.device(region)
    if op in _EXTRA:
        computed("tensor_tensor", Engine.vector, dst, (a, b), _EXTRA[op], {"op": op})
    else:
        isa.tensor_tensor(dst, a, b, op)
    return results.finish(out, region)


def _wider(one: Tile, two: Tile) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(one.shape, two.shape)
    except ValueError:
        return one.shape if one.size >= two.size else two.shape


# -- one operand ------------------------------------------------------------------------------------------------------

_ROUNDING: dict[str, Callable[..., Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "sign": np.sign,
    "cos": np.cos,
    "tan": np.tan,
    "erf_dx": lambda x: (2 / math.sqrt(math.pi)) * np.exp(-np.square(x)),
}
_ALIKE = {"arctan": "arctan", "absolute": "abs"}


def unary(x: Any, op: str, dtype: Any = None, mask: Any = None) -> Tile:
    """An activation function, on the scalar engine, or one of the older language's roundings."""
    data = tile(x, "x")
    region = part(mask, data.shape)
    out = results.new(data.shape, kind_or(dtype, data.kind))
    if region is not None and region.empty:
        return results.finish(out, region)
    dst, src = out.device(region), data.device(region)
    if op == "reciprocal":
        isa.reciprocal(dst, src)
    elif op == "negative":
        isa.tensor_scalar(dst, src, "multiply", -1.0)
    elif op == "invert":
        isa.tensor_scalar(dst, src, "bitwise_xor", -1 if data.kind.numpy.kind == "i" else _ones(data.kind))
    elif op == "logical_not":
        isa.tensor_scalar(dst, src, "equal", 0.0)
    elif op in _ROUNDING:
        function = _ROUNDING[op]
        computed("tensor_scalar", Engine.vector, dst, (src,), function, {"op0": op, "operand0": "", "op1": ""})
    else:
        isa.activation(dst, op, src)
    return results.finish(out, region)


def _ones(dtype: DType) -> int:
    return int(np.iinfo(dtype.numpy).max)


# -- reductions -------------------------------------------------------------------------------------------------------


def free_axes(given: Tile, axis: Any) -> tuple[int, ...]:
    """Reduction axes as a sorted tuple; none is the partition dimension."""
    axes = tuple(axis) if isinstance(axis, (list, tuple)) else (axis,)
    made = tuple(sorted({int(each) % given.ndim for each in axes}))
    if not made or made[0] == 0:
        refuse(
            rules.PARAMETER,
            f"A reduction of {given.describe()} along axis={axis!r}.",
            "It reduces free dimensions, 1 and above; use nl.transpose or tensor_partition_reduce for partitions.",
        )
    return made


def reduce(
    op: str,
    x: Any,
    axis: Any,
    dtype: Any = None,
    mask: Any = None,
    *,
    negate: bool = False,
    keepdims: bool = False,
) -> Tile:
    """Reduce free dimensions; those reduced may stand anywhere, the access pattern puts them last."""
    data = tile(x, "data")
    axes = free_axes(data, axis)
    kept = tuple(d for d in range(1, data.ndim) if d not in axes)
    rest = tuple(data.shape[d] for d in kept)
    out = results.new((data.shape[0], *(rest or (1,))), kind_or(dtype, data.kind))
    region = part(mask, data.shape)
    if region is None or not region.empty:
        if region is not None and region.box is None:
            refuse(
                rules.OPERAND_SHAPE,
                f"A reduction of {data.describe()} has a mask that is no box.",
                "Replace the elements to leave out first, with nl.where or nisa.affine_select.",
            )
        source = data.device(region).permute((0, *kept, *axes))
        target = out.device(_kept(region, out.shape, kept))
        isa.tensor_reduce(
            target, op, source, tuple(range(1 + len(kept), data.ndim)), negate=negate,
        )  # fmt: skip
    made = results.finish(out, region)
    if not keepdims or (not rest and data.ndim == 2):
        return made
    whole = tuple(1 if d in axes else size for d, size in enumerate(data.shape))
    shown = around(made.source.reshape(whole))
    shown.made = None
    return shown


def _kept(region: Region | None, shape: tuple[int, ...], kept: tuple[int, ...]) -> Region | None:
    if region is None or region.box is None:
        return None
    ranges = (region.box.ranges[0], *(region.box.ranges[d] for d in kept))
    full = ranges if kept else (*ranges, (0, 1))
    return Region(shape, type(region.box)(full), None, (0,) * len(shape))


def promoted(*tiles: Tile) -> DType:
    """The type of a result of all of them."""
    made = tiles[0].kind
    for each in tiles[1:]:
        made = promote(made, each.kind)
    return made


def named_kind(dtype: Any) -> DType:
    return kind(dtype)
