"""What the element-wise families share: static rules on operands, scalar operands, and computing in place.

The functions that refuse something are for use under ``Core.checked``: they look at shapes, types and places only. A
scalar operand is a number or a ``[P, 1]`` tensor; ``form`` is what of it a static rule may see.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device import checks, indirection, rules
from outcrop.silicon.device.dtypes import Array, DType, float32
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

OPERAND_BROADCAST = rules.rule(
    "operand-broadcast",
    "Tensor operands are not broadcast: each has as many partitions and elements as the others.",
    "AWS Neuron, nki.isa.tensor_tensor (NKI 0.6.0); that the compiler refuses it although the vendor's simulator "
    "broadcasts: public logs of kernels compiled for trn2 (yahavb/trainium-agent-labs)",
)
BASE_PARTITION = rules.rule(
    "base-partition",
    "Two input tensors of one instruction that both lie in SBUF start at the same partition.",
    "aws-neuron/nki-library, core/embeddings/rope.py: the copy made before tensor_tensor",
)


def within_reach(op: str, engine: Engine, **operands: object) -> None:
    """GpSimd has no way to PSUM; the other compute engines reach both on-chip memories."""
    if engine is not Engine.gpsimd:
        return
    for role, tensor in operands.items():
        if isinstance(tensor, Tensor) and tensor.buffer is MemoryRegion.psum:
            refuse(
                rules.OPERAND_MEMORY,
                f"{op} on the gpsimd engine cannot use {tensor.describe()} as {role}.",
                "GpSimd does not reach PSUM: copy it to SBUF with nisa.tensor_copy, or use another engine that can.",
            )


def scatter(op: str, engine: Engine, dst: Tensor, source: Tensor) -> None:
    """Where the index of an indirect ``dst`` lies, beside ``source``; ScalarE does not scatter to PSUM."""
    if dst.dynamic is None or dst.dynamic.columns is None:
        return
    indirection.require_beside(op, dst, source)
    if engine is Engine.scalar and dst.buffer is MemoryRegion.psum:
        refuse(
            indirection.TENSOR_INDIRECTION,
            f"{op} on the scalar engine scatters to {dst.describe()}.",
            "There a scattered dst lies in SBUF; the vector engine scatters to PSUM too.",
        )


def is_indirect(tensor: Tensor) -> bool:
    """Whether ``indirect()`` made the view."""
    return tensor.dynamic is not None and tensor.dynamic.columns is not None


def is_apart(tensor: Tensor) -> bool:
    """Whether no two elements of a view surely or possibly share a place."""
    reach = 0
    for stride, size in sorted((abs(stride), size) for stride, size in zip(tensor.strides, tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return False
            reach += stride * (size - 1)
    return True


def in_psum(*tensors: object) -> bool:
    return any(isinstance(each, Tensor) and each.buffer is MemoryRegion.psum for each in tensors)


def numeric(core: Core, op: str, **operands: Tensor) -> None:
    """Arithmetic needs one number in each element: packed types have none."""
    for role, tensor in operands.items():
        if tensor.dtype.lanes != 1:
            refuse(
                rules.OPERAND_DTYPE,
                f"{op} got {role} {tensor.describe()}, a packed type.",
                "Packed types are operands of nc_matmul_mx, quantize_mx, copies and DMAs; view() shows their bytes.",
            )


def integral(core: Core, op: str, operator: str, **operands: Tensor) -> None:
    """Bitwise operators work on the bits of integers."""
    for role, tensor in operands.items():
        if not tensor.dtype.is_integer and tensor.dtype != "bool":
            refuse(
                rules.OPERAND_DTYPE,
                f"{op} with nl.{operator} got {role} {tensor.describe()}.",
                "Bitwise operators take and give integers; view() shows the bits of a float as an integer.",
            )


def not_both_in_psum(core: Core, op: str, **operands: Tensor) -> None:
    """Of two inputs, at most one lies in PSUM."""
    (role0, first), (role1, second) = operands.items()
    if first.buffer is MemoryRegion.psum and second.buffer is MemoryRegion.psum:
        refuse(
            rules.OPERAND_MEMORY,
            f"{op} got {role0} {first.describe()} and {role1} {second.describe()}, both in PSUM.",
            "At most one of them may be in PSUM: copy the other to SBUF with nisa.tensor_copy.",
        )


def same_base(core: Core, op: str, **operands: Tensor) -> None:
    """Of two inputs in SBUF, both start at the same partition."""
    (role0, first), (role1, second) = operands.items()
    sbuf = MemoryRegion.sbuf
    if first.buffer is sbuf and second.buffer is sbuf and first.start_partition != second.start_partition:
        refuse(
            BASE_PARTITION,
            f"{op} got {role0} {first.describe()} and {role1} {second.describe()}.",
            "Copy one of them to the other's partitions with nisa.tensor_copy or nisa.dma_copy.",
        )


def unbroadcast(core: Core, op: str, dst: Tensor, **operands: Tensor) -> tuple[int, ...]:
    """All have ``dst``'s partitions and elements; returns the shape that inputs are computed in.

    An input of fewer elements that NumPy would broadcast breaks its own rule, which may be relaxed.
    """
    wanted = (dst.shape[0], dst.free_size)
    short = [role for role, each in operands.items() if (each.shape[0], each.free_size) != wanted]
    first = next(iter(operands.values()))
    if not short:
        return first.shape
    try:
        shape = np.broadcast_shapes(*(each.shape for each in operands.values()), dst.shape)
    except ValueError:
        shape = ()
    if shape != dst.shape:
        checks.same_elements(core, op, dst=dst, **operands)
    listed = ", ".join(f"{role} {operands[role].describe()}" for role in short)
    refuse(
        OPERAND_BROADCAST,
        f"{op} got dst {dst.describe()}, but {listed}.",
        "Repeat a free dimension with a view: t.expand_dim(1).broadcast(1, n) or ap with step 0. A [P, 1] tensor can "
        "be operand0 of nisa.tensor_scalar instead. A row for all partitions must be copied to each (DMA, or a "
        "matmul with ones).",
    )
    return shape


def shaped(values: Array, shape: tuple[int, ...]) -> Array:
    """The same elements in another shape; as they are where NumPy is to broadcast them."""
    if values.shape == shape or values.size != math.prod(shape):
        return values
    return values.reshape(shape)


# -- scalar operands --------------------------------------------------------------------------------------------------

_NUMBERS = (int, float, np.number, np.bool_)


def form(value: Any) -> Any:
    """What static rules may see of a scalar operand: the tensor, or the type of a number."""
    if isinstance(value, Tensor) or value is None:
        return value
    return type(value)


def scalar(
    core: Core, op: str, role: str, seen: Any, partitions: int, dtypes: tuple[DType, ...] | None = (float32,)
) -> None:
    """A number, or a tensor with one element in each of ``partitions``. ``dtypes`` None allows any integer type."""
    if not isinstance(seen, Tensor):
        if seen is None or not issubclass(seen, _NUMBERS):
            refuse(
                rules.PARAMETER,
                f"{op} got {role} of type {'None' if seen is None else seen.__name__}.",
                f"{role} must be a number or a tensor of shape [{partitions}, 1].",
            )
        return
    checks.engine_operand(core, op, role, seen)
    column(core, op, role, seen, partitions)
    if dtypes is None:
        integral(core, op, "a bitwise operator", **{role: seen})
    else:
        checks.dtype_in(core, op, role, seen, dtypes)


def column(core: Core, op: str, role: str, tensor: Tensor, partitions: int) -> None:
    """One element in each partition."""
    if tensor.shape[0] != partitions or tensor.free_size != 1:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {tensor.describe()}.",
            f"{role} must have one element in each of the {partitions} partitions: shape [{partitions}, 1].",
        )


def scalar_float32(core: Core, value: Any, ndim: int) -> Any:
    """A scalar operand for arithmetic: a float32, or an array ``[P, 1, …]`` of ``ndim`` dimensions that broadcasts."""
    if not isinstance(value, Tensor):
        return np.float32(value)
    values = core.read_float32(value)
    return values.reshape(values.shape[0], *(1,) * (ndim - 1))


# -- results ----------------------------------------------------------------------------------------------------------


def in_place(dst: Tensor, shape: tuple[int, ...]) -> Array | None:
    """``dst``'s own elements where a float32 result of ``shape`` may be computed right into them."""
    if (
        dst.dtype is float32
        and dst.shape == shape
        and dst.dynamic is None
        and dst.index is None
        and dst.storage.accumulation is None
    ):
        return dst.array
    return None


def finish(core: Core, dst: Tensor, result: Array, out: Array | None) -> None:
    """Round and write ``result``, or only note it where it was computed in place."""
    if out is not None:
        core.mark_written(dst)
    else:
        core.write(dst, shaped(result, dst.shape))
