"""Element-wise operators of two operands: arithmetic, comparisons, logic and bits.

Each becomes one instruction: ``tensor_tensor`` for two tiles of one shape, ``tensor_scalar`` for a tile and a number or
a ``[P, 1]`` tile. Tiles of other shapes are broadcast to each other first, along free dimensions by a view, along
partitions by a copy. Results are new tiles in SBUF. The functions also are the tokens by which instructions name their
operators: ``op=nl.add``.

Documentation is silent on the type of a result of two types; here it is the one that holds both kinds: a float with an
integer gives the float, otherwise the wider wins, and two different 16-bit floats give float32.
"""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.alu import DIVIDE
from outcrop.silicon.device.core import current
from outcrop.silicon.device.dtypes import DType, find, float32
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import SBUF
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki.language.movement import broadcast_to, copy_to_sbuf


class Comparison(Tensor):
    """The result of a comparison. In a simulation it has a truth value: whether every element holds.

    On the device a kernel cannot branch on values; this is for assertions.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        core = current()
        return bool(np.all(core.read(self) != 0)) if core.values else True


def _is_number(value: object) -> bool:
    return isinstance(value, (numbers.Number, np.generic))


def common_type(x: DType, y: DType) -> DType:
    """The type of a result of two tiles; see the module."""
    if x is y:
        return x
    if x.is_float != y.is_float:
        return x if x.is_float else y
    if x.itemsize != y.itemsize:
        return x if x.itemsize > y.itemsize else y
    return float32 if x.is_float else x


def _binary(op: str, x: Any, y: Any, dtype: Any, *, kind: type[Tensor] = Tensor) -> Tensor:
    for role, operand in (("x", x), ("y", y)):
        if not isinstance(operand, Tensor) and not _is_number(operand):
            refuse(
                rules.PARAMETER,
                f"nl.{op} got {role}={operand!r}, a {type(operand).__name__}.",
                f"{role} must be a tile or a number.",
            )
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        made = _tile_tile(op, x, y, common_type(x.dtype, y.dtype) if dtype is None else find(dtype))
    elif isinstance(x, Tensor):
        made = _new(x.shape, x.dtype if dtype is None else find(dtype))
        nisa.tensor_scalar(made, x, op, _constant(x, y))
    elif isinstance(y, Tensor):
        made = _new(y.shape, y.dtype if dtype is None else find(dtype))
        nisa.tensor_scalar(made, y, op, _constant(y, x), True)
    else:
        refuse(rules.PARAMETER, f"nl.{op} got two numbers, {x!r} and {y!r}.", "At least one operand must be a tile.")
        raise AssertionError("refused")
    return made if kind is Tensor else kind(made.storage, made.shape, made.strides, made.offset, made.dtype)


def _constant(tile: Tensor, value: Any) -> Any:
    """A number as the instruction takes it: an integer stays one only beside integers."""
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    number = value.item() if isinstance(value, np.generic) else value
    return number if tile.dtype.is_integer else float(number)


def _new(shape: tuple[int, ...], dtype: DType) -> Tensor:
    return current().allocate(shape, dtype, SBUF, "")


def _tile_tile(op: str, x: Tensor, y: Tensor, dtype: DType) -> Tensor:
    if x.shape == y.shape:
        made = _new(x.shape, dtype)
        nisa.tensor_tensor(made, x, y, op)
        return made
    shape = _broadcast_shape(op, x, y)
    x, y = _on_partitions(x, shape), _on_partitions(y, shape)
    made = _new(shape, dtype)
    if y.free_size == 1 and x.shape == shape:
        nisa.tensor_scalar(made, x, op, _column(y))
    elif x.free_size == 1 and y.shape == shape:
        nisa.tensor_scalar(made, y, op, _column(x), True)
    else:
        nisa.tensor_tensor(made, _expanded(x, shape), _expanded(y, shape), op)
    return made


def _broadcast_shape(op: str, x: Tensor, y: Tensor) -> tuple[int, ...]:
    fits = len(x.shape) == len(y.shape) and all(a == b or 1 in (a, b) for a, b in zip(x.shape, y.shape, strict=True))
    if not fits:
        refuse(
            rules.OPERAND_SHAPE,
            f"nl.{op} got x {x.describe()} and y {y.describe()}.",
            "They need as many dimensions, each of the same size or 1.",
        )
    return tuple(max(a, b) for a, b in zip(x.shape, y.shape, strict=True))


def _on_partitions(tile: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tile if tile.shape[0] == shape[0] else broadcast_to(tile, (shape[0], *tile.shape[1:]))


def _expanded(tile: Tensor, shape: tuple[int, ...]) -> Tensor:
    for dim in range(1, len(shape)):
        if tile.shape[dim] != shape[dim]:
            tile = tile.broadcast(dim, shape[dim])
    return tile


def _column(tile: Tensor) -> Tensor:
    """A ``[P, 1]`` operand of tensor_scalar, which must be float32."""
    column = tile.reshape((tile.shape[0], 1))
    return column if column.dtype is float32 else copy_to_sbuf(column, float32)


def add(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """x + y."""
    return _binary("add", x, y, dtype)


def subtract(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """x - y."""
    return _binary("subtract", x, y, dtype)


def multiply(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """x * y."""
    return _binary("multiply", x, y, dtype)


def divide(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """x / y, which no engine computes: refused, or where that rule is relaxed, x times the reciprocal of y."""
    named = " and ".join(each.describe() for each in (x, y) if isinstance(each, Tensor))
    refuse(
        DIVIDE,
        f"nl.divide of {named}: no engine divides.",
        "Multiply by the reciprocal: nl.multiply(x, nl.reciprocal(y)).",
    )
    if not isinstance(y, Tensor):
        return _binary("multiply", x, 1.0 / y, dtype)
    inverse = _new(y.shape, float32)
    nisa.reciprocal(inverse, y)
    if dtype is None:
        dtype = common_type(x.dtype, y.dtype) if isinstance(x, Tensor) else y.dtype
    return _binary("multiply", x, inverse, dtype)


def maximum(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The larger of x and y."""
    return _binary("maximum", x, y, dtype)


def minimum(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The smaller of x and y."""
    return _binary("minimum", x, y, dtype)


def abs_max(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The operand of larger magnitude with its sign, y where they are equal; on chips that compare magnitudes."""
    return _binary("abs_max", x, y, dtype)


def abs_min(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The operand of smaller magnitude with its sign, y where they are equal; on chips that compare magnitudes."""
    return _binary("abs_min", x, y, dtype)


def power(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """x to the power of y."""
    return _binary("power", x, y, dtype)


def equal(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where x == y, else 0."""
    return _binary("equal", x, y, dtype, kind=Comparison)


def not_equal(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where x != y, else 0."""
    return _binary("not_equal", x, y, dtype, kind=Comparison)


def less(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where x < y, else 0."""
    return _binary("less", x, y, dtype, kind=Comparison)


def less_equal(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where x <= y, else 0."""
    return _binary("less_equal", x, y, dtype, kind=Comparison)


def greater(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where x > y, else 0."""
    return _binary("greater", x, y, dtype, kind=Comparison)


def greater_equal(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where x >= y, else 0."""
    return _binary("greater_equal", x, y, dtype, kind=Comparison)


def logical_and(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where neither x nor y is 0, else 0."""
    return _binary("logical_and", x, y, dtype)


def logical_or(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where x or y is not 0, else 0."""
    return _binary("logical_or", x, y, dtype)


def logical_xor(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """1 where exactly one of x and y is not 0, else 0."""
    return _binary("logical_xor", x, y, dtype)


def bitwise_and(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The bits set in both; integers of one type."""
    return _binary("bitwise_and", x, y, dtype)


def bitwise_or(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The bits set in either; integers of one type."""
    return _binary("bitwise_or", x, y, dtype)


def bitwise_xor(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The bits set in one of them; integers of one type."""
    return _binary("bitwise_xor", x, y, dtype)


def left_shift(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """x with its bits moved y places up; integers."""
    return _binary("left_shift", x, y, dtype)


def right_shift(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """x with its bits moved y places down, zeros moving in; integers."""
    return _binary("right_shift", x, y, dtype)
