"""What activations, statistics and selections share beyond ``operands``: tiles, parameters and results.

A tile is a data operand of any number type; a parameter is a number, or a tensor with one element in each of the data's
partitions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from outcrop.silicon.device import checks, rules
from outcrop.silicon.device.dtypes import ALL, Array, DType, tfloat32
from outcrop.silicon.device.ops import operands
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

NUMBERS = tuple(each for each in ALL if each.lanes == 1)  # what engines convert to float32: all but packed types
INPUTS = tuple(each for each in NUMBERS if each is not tfloat32)
FLOATS = tuple(each for each in NUMBERS if each.is_float)


def constant(op: str, role: str, value: Any) -> float | Tensor:
    """A number as a float, a tensor as it is; anything else is refused."""
    if type(value) is float or isinstance(value, Tensor):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        refuse(
            rules.PARAMETER,
            f"{op} got {role}={value!r}, a {type(value).__name__}.",
            f"{role} must be a number, or a tensor with one element in each partition.",
        )
        raise AssertionError("refused") from None


def kind(parameter: float | Tensor | None) -> float | str | None:
    """For records: the constant, or that it is a vector."""
    return "vector" if isinstance(parameter, Tensor) else parameter


def tile(core: Core, op: str, role: str, tensor: Tensor, allowed: Collection[DType] = NUMBERS) -> None:
    checks.engine_operand(core, op, role, tensor)
    checks.dtype_in(core, op, role, tensor, allowed)


def column(core: Core, op: str, role: str, tensor: Tensor, data: Tensor, allowed: Collection[DType] = NUMBERS) -> None:
    """A tensor with one element in each of the data's partitions."""
    checks.engine_operand(core, op, role, tensor)
    operands.column(core, op, role, tensor, data.shape[0])
    checks.dtype_in(core, op, role, tensor, allowed)


def in_place(dst: Tensor, shape: tuple[int, ...]) -> Array | None:
    """As in ``operands``; and each element must have a place of its own, since a reduction reads the result again."""
    out = operands.in_place(dst, shape)
    return out if out is None or dst.is_contiguous() else None


def finish(core: Core, dst: Tensor, result: Array) -> None:
    """Round and write the result, or only note it where it was computed in place."""
    if dst.dynamic is None and dst.index is None and result is dst.array:
        core.mark_written(dst)
    else:
        core.write(dst, result if result.shape == dst.shape else result.reshape(dst.shape))


def reads_of(*given: object) -> tuple[Tensor, ...]:
    """For records: the operands that are tensors, each followed by the tensors that hold its run-time address."""
    found: list[Tensor] = []
    for each in given:
        if isinstance(each, Tensor):
            found.append(each)
            if each.dynamic is not None:
                found.extend(indices_of(each))
    return tuple(found)


def indices_of(tensor: Tensor) -> tuple[Tensor, ...]:
    """For records: the tensors that hold a run-time address, which an instruction reads even to write there."""
    dynamic = tensor.dynamic
    if dynamic is None:
        return ()
    return tuple(each for each in (dynamic.scalar, dynamic.vector, dynamic.columns) if isinstance(each, Tensor))
