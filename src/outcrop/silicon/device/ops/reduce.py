"""Reductions: along the free dimensions on the vector engine, across partitions on GpSimd.

Semantics after the vendor's reference (NKI 0.6.0). Arithmetic is float32 with one rounding at the end; the order of
additions is NumPy's, as the hardware's is not documented. ``subtract`` takes all later elements from the first.

Not covered: whether GpSimd reduces 32-bit integers exactly is not documented for tensor_partition_reduce; it does here,
as it does in tensor_tensor.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import alu, checks, rules
from outcrop.silicon.device.dtypes import Array, int32, uint32
from outcrop.silicon.device.ops import operands
from outcrop.silicon.device.ops.elementwise import write_bits
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

_ACROSS_PARTITIONS = ("add", "average", "maximum", "bitwise_or", "bitwise_and")


# -- tensor_reduce ----------------------------------------------------------------------------------------------------


def _tensor_reduce_rules(
    core: Core, dst: Tensor, name: str, data: Tensor, axes: tuple[int, ...], negate: bool
) -> tuple[bool, int]:
    """Whether the operator is bitwise, and how many elements become one."""
    op = "tensor_reduce"
    checks.engine_operand(core, op, "dst", dst)
    checks.engine_operand(core, op, "data", data)
    operands.scatter(op, Engine.vector, dst, data)
    operator = alu.among(core, op, "op", name, tuple(each.name for each in alu.OPERATORS.values() if each.reduces))
    if operator.bitvec:
        operands.integral(core, op, name, dst=dst, data=data)
        if negate:
            refuse(rules.PARAMETER, f"{op} got negate=True with nl.{name}.", "Only arithmetic results can be negated.")
    else:
        operands.numeric(core, op, dst=dst, data=data)
    ndim = data.ndim
    reduced = sorted(each + ndim if each < 0 else each for each in axes)
    if not reduced or reduced != list(range(ndim - len(reduced), ndim)) or reduced[0] < 1:
        refuse(
            rules.PARAMETER,
            f"{op} got axis={axes} for data {data.describe()}.",
            f"The axes must be the last free ones without a gap: {_legal_axes(ndim)}. Reorder free dimensions with "
            "permute; reduce partitions with nisa.tensor_partition_reduce or a matmul with ones.",
        )
    kept = math.prod(data.shape[1 : reduced[0]])
    if dst.shape[0] != data.shape[0] or dst.free_size != kept:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} over axis {axes} of {data.describe()} gives {kept} elements in each partition, but dst is "
            f"{dst.describe()}.",
            f"dst must be {[data.shape[0], *data.shape[1 : reduced[0]]]}, or that with a 1 for each reduced axis.",
        )
    return operator.bitvec, math.prod(data.shape[reduced[0] :])


def _legal_axes(ndim: int) -> str:
    return " or ".join(str(tuple(range(first, ndim))) for first in range(ndim - 1, 0, -1))


def tensor_reduce(
    core: Core,
    dst: Tensor,
    op: str,
    data: Tensor,
    axes: tuple[int, ...],
    negate: bool,
    name: str | None = None,
) -> Instruction:
    """Reduce the last free dimensions; results may be negated before they are rounded."""
    bitvec, count = core.checked(_tensor_reduce_rules, dst, op, data, axes, negate)
    if core.values:
        values = core.read(data) if bitvec else core.read_float32(data)
        core.carry_as(lambda missing: missing.reshape(missing.shape[0], -1, count).any(axis=-1).reshape(dst.shape))
        with np.errstate(all="ignore"):
            result = alu.fold(op, values.reshape(values.shape[0], -1, count)).reshape(dst.shape)
            if bitvec:
                write_bits(core, dst, alu.resized_bits(result, dst.dtype.numpy))
            else:
                core.write(dst, np.negative(result) if negate else result)
    params = {"op": op, "negate": negate, "reduced": count}
    return core.record("tensor_reduce", Engine.vector, (dst,), (data,), params, name)


# -- tensor_partition_reduce ------------------------------------------------------------------------------------------


def _partition_reduce_rules(core: Core, dst: Tensor, name: str, data: Tensor) -> str:
    """How it is computed: on "bits", "words" (32-bit integers) or "float32"."""
    op = "tensor_partition_reduce"
    checks.engine_operand(core, op, "dst", dst, checks.SBUF_ONLY)
    checks.engine_operand(core, op, "data", data, checks.SBUF_ONLY)
    if name not in _ACROSS_PARTITIONS:
        alu.among(core, op, "op", name, _ACROSS_PARTITIONS)
    if dst.shape[0] != 1 or dst.free_size != data.free_size:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got dst {dst.describe()} and data {data.describe()}.",
            f"dst must have one partition and {data.free_size} elements: {[1, *data.shape[1:]]}.",
        )
    if alu.is_bitvec(name):
        operands.integral(core, op, name, dst=dst, data=data)
        return "bits"
    operands.numeric(core, op, dst=dst, data=data)
    words = name != "average" and dst.dtype in (int32, uint32) and data.dtype in (int32, uint32)
    return "words" if words else "float32"


def tensor_partition_reduce(core: Core, dst: Tensor, op: str, data: Tensor, name: str | None = None) -> Instruction:
    """Reduce all partitions of ``data`` to the one of ``dst``."""
    domain = core.checked(_partition_reduce_rules, dst, op, data)
    if core.values:
        values = core.read_float32(data) if domain == "float32" else core.read(data)
        core.carry_as(lambda missing: missing.any(axis=0).reshape(dst.shape))
        with np.errstate(all="ignore"):
            result = _across(op, values, domain).reshape(dst.shape)
        if domain == "bits":
            write_bits(core, dst, alu.resized_bits(result, dst.dtype.numpy))
        elif domain == "words":
            write_bits(core, dst, result.astype(dst.dtype.numpy, copy=False))
        else:
            core.write(dst, result)
    params = {"op": op, "domain": domain, "partitions": data.shape[0]}
    return core.record("tensor_partition_reduce", Engine.gpsimd, (dst,), (data,), params, name)


def _across(op: str, values: Array, domain: str) -> Array:
    found: Array
    if op == "add":
        found = np.add.reduce(values, axis=0, dtype=np.int64 if domain == "words" else np.float32)
    elif op == "average":
        found = np.add.reduce(values, axis=0) * np.float32(1 / values.shape[0])
    elif op == "maximum":
        found = np.maximum.reduce(values, axis=0)
    else:
        found = (np.bitwise_or if op == "bitwise_or" else np.bitwise_and).reduce(values, axis=0)
    return found
