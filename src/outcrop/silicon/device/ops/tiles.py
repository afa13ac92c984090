"""Operands beside the data: one number for all elements, or one for each partition; and operands picked by an index."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from outcrop.silicon.device import checks, rules
from outcrop.silicon.device.dtypes import ALL, Array, DType, float32, tfloat32
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

NUMBERS = tuple(each for each in ALL if each.lanes == 1)  # what engines convert to float32: all but packed types
INPUTS = tuple(each for each in NUMBERS if each is not tfloat32)
FLOATS = tuple(each for each in NUMBERS if each.is_float)
INDIRECTION = "tensor_indirection"


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


def tile(core: Core, op: str, role: str, tensor: Tensor, allowed: Collection[DType] = NUMBERS) -> None:
    """A data operand: on chip, of one of those types; with ``indirect()`` only where the chip has it."""
    checks.engine_operand(core, op, role, tensor)
    checks.dtype_in(core, op, role, tensor, allowed)
    if tensor.dynamic is not None and tensor.dynamic.columns is not None:
        checks.feature(core, op, INDIRECTION, f"{role} made with indirect()")


def scattered(core: Core, op: str, dst: Tensor) -> None:
    """The scalar engine cannot scatter into PSUM."""
    if dst.dynamic is not None and dst.dynamic.columns is not None and dst.buffer is MemoryRegion.psum:
        refuse(
            rules.OPERAND_MEMORY,
            f"{op} scatters into {dst.describe()}.",
            "On the scalar engine, a dst made with indirect() must be in SBUF.",
        )


def column(core: Core, op: str, role: str, tensor: Tensor, data: Tensor, allowed: Collection[DType] = NUMBERS) -> None:
    """An operand with one element in each of the data's partitions."""
    checks.engine_operand(core, op, role, tensor)
    if tensor.shape[0] != data.shape[0] or tensor.free_size != 1:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {tensor.describe()} for data {data.describe()}.",
            f"{role} must have shape [{data.shape[0]}, 1]: one element in each partition of the data.",
        )
    checks.dtype_in(core, op, role, tensor, allowed)
    if tensor.dynamic is not None and tensor.dynamic.columns is not None:
        refuse(
            rules.PARAMETER,
            f"{op} got {role} {tensor.describe()} made with indirect().",
            f"Only data operands may be picked by an index: copy {role} first.",
        )


def spread(core: Core, operand: float | Tensor, ndim: int) -> float | Array:
    """The operand's values as they broadcast against data of ``ndim`` dimensions."""
    if isinstance(operand, Tensor):
        return core.read_float32(operand).reshape((-1,) + (1,) * (ndim - 1))
    return operand


def kind(operand: float | Tensor | None) -> float | str | None:
    """For records: the constant, or that it is a vector."""
    return "vector" if isinstance(operand, Tensor) else operand


def in_place(dst: Tensor, shape: tuple[int, ...]) -> Array | None:
    """``dst``'s own elements where a float32 result of ``shape`` may be computed into them; then call ``finish``.

    Each must have a place of its own, since the result may be read again for a reduction.
    """
    if (
        dst.dtype is float32
        and dst.shape == shape
        and dst.dynamic is None
        and dst.index is None
        and dst.storage.accumulation is None
        and dst.is_contiguous()
    ):
        return dst.array
    return None


def finish(core: Core, dst: Tensor, result: Array) -> None:
    """Round and write the result, or only note it where it was computed in place."""
    if dst.dynamic is None and dst.index is None and result is dst.array:
        core.mark_written(dst)
    else:
        core.write(dst, result if result.shape == dst.shape else result.reshape(dst.shape))


def reads_of(*operands: object) -> tuple[Tensor, ...]:
    """For records: the operands that are tensors, each followed by the tensors that hold its run-time address."""
    found: list[Tensor] = []
    for operand in operands:
        if isinstance(operand, Tensor):
            found.append(operand)
            dynamic = operand.dynamic
            if dynamic is not None:
                found.extend(
                    each for each in (dynamic.scalar, dynamic.vector, dynamic.columns) if isinstance(each, Tensor)
                )
    return tuple(found)


def indices_of(tensor: Tensor) -> tuple[Tensor, ...]:
    """For records: the tensors that hold a destination's run-time address."""
    return () if tensor.dynamic is None else reads_of(tensor)[1:]
