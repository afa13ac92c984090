"""Element-wise instructions on whole tensors: copies, constants, operators of two tensors, reciprocals.

Semantics after the vendor's reference (NKI 0.6.0). Arithmetic is float32 with one rounding at the end; what is exact
is said at each instruction. Not covered: which engine the vendor's compiler would choose from its load; where the
choice is left to it, this takes the vector engine unless the instruction needs another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import access, alu, checks, rules
from outcrop.silicon.device.dtypes import Array, DType, int32, store, uint8, uint16, uint32
from outcrop.silicon.device.ops import operands
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

_PREDICATES = (uint8, uint16, uint32)
_WORDS = (int32, uint32)


# -- tensor_copy ------------------------------------------------------------------------------------------------------


def _copy_rules(core: Core, dst: Tensor, src: Tensor, engine: Engine) -> tuple[Engine, bool]:
    """The engine, and whether bits are copied."""
    op = "tensor_copy"
    engine = checks.engine_in(core, op, engine, (Engine.vector, Engine.scalar, Engine.gpsimd))
    checks.engine_operand(core, op, "dst", dst)
    checks.engine_operand(core, op, "src", src)
    if engine is Engine.gpsimd and (operands.is_indirect(dst) or operands.is_indirect(src)):
        checks.engine_in(core, f"{op} of an indirect() view", engine, (Engine.vector, Engine.scalar))
    operands.within_reach(op, engine, dst=dst, src=src)
    operands.scatter(op, engine, dst, src)
    if engine is Engine.scalar:
        checks.feature(core, op, "scalar_tensor_copy", "the scalar engine (nisa.activation with op=nl.copy instead)")
    checks.same_elements(core, op, dst=dst, src=src)
    packed = src.dtype.lanes != 1 or dst.dtype.lanes != 1
    if packed and src.dtype is not dst.dtype:
        operands.numeric(core, op, src=src, dst=dst)
    return engine, src.dtype is dst.dtype and (packed or engine is not Engine.scalar)


def tensor_copy(core: Core, dst: Tensor, src: Tensor, engine: Engine, name: str | None = None) -> Instruction:
    """Bits where both have one type and the engine is not ScalarE; else through float32."""
    engine, exact = core.checked(_copy_rules, dst, src, engine)
    if core.values:
        if exact:
            write_bits(core, dst, core.read(src))
        else:
            core.write(dst, operands.shaped(core.read_float32(src), dst.shape))
    return core.record("tensor_copy", engine, (dst,), (src,), {"exact": exact}, name)


def write_bits(core: Core, dst: Tensor, values: Array) -> None:
    """Move elements of ``dst``'s own type without looking at them."""
    values = operands.shaped(values, dst.shape)
    if dst.dynamic is None and dst.index is None and dst.storage.accumulation is None:
        np.copyto(dst.array, values)
        core.mark_written(dst)
    else:
        core.write(dst, values)


# -- tensor_copy_predicated -------------------------------------------------------------------------------------------


def _predicated_rules(core: Core, dst: Tensor, src: Any, predicate: Tensor) -> bool:
    """Whether each element of ``dst`` has a place of its own."""
    op = "tensor_copy_predicated"
    checks.engine_operand(core, op, "dst", dst)
    checks.engine_operand(core, op, "predicate", predicate)
    checks.dtype_in(core, op, "predicate", predicate, _PREDICATES)
    operands.scatter(op, Engine.vector, dst, predicate)
    if isinstance(src, Tensor):
        checks.engine_operand(core, op, "src", src)
        checks.same_elements(core, op, dst=dst, src=src, predicate=predicate)
        operands.not_both_in_psum(core, op, src=src, predicate=predicate)
        if src.dtype is not dst.dtype:
            refuse(
                rules.OPERAND_DTYPE,
                f"{op} got src {src.describe()} and dst {dst.describe()}.",
                "src and dst must have the same data type: convert src with nisa.tensor_copy first.",
            )
        return operands.is_apart(dst)
    operands.scalar(core, op, "src", src, dst.shape[0])
    operands.numeric(core, op, dst=dst)
    checks.same_elements(core, op, dst=dst, predicate=predicate)
    return operands.is_apart(dst)


def tensor_copy_predicated(
    core: Core, dst: Tensor, src: Any, predicate: Tensor, reverse_pred: bool, name: str | None = None
) -> Instruction:
    """``dst`` where the predicate is not 0 (or is 0, reversed); other elements stay as they are, written or not."""
    apart = core.checked(_predicated_rules, dst, operands.form(src), predicate)
    is_tensor = isinstance(src, Tensor)
    if core.values:
        chosen = np.equal(core.read(predicate), 0) if reverse_pred else np.not_equal(core.read(predicate), 0)
        if is_tensor:
            needed = operands.shaped(chosen, src.shape)
            values = operands.shaped(access.read_needed(core, src, needed), dst.shape)
        else:
            values = constant(src, dst.dtype)
        if apart:
            _write_chosen(core, dst, values, operands.shaped(chosen, dst.shape))
        else:  # of several elements for one place, the last one chosen stays
            core.write(dst, np.broadcast_to(values, dst.shape), operands.shaped(chosen, dst.shape))
    reads = (src, predicate) if is_tensor else (predicate,)
    params = {"src": "tensor" if is_tensor else "constant", "reverse_pred": reverse_pred, "predicated": True}
    return core.record("tensor_copy_predicated", Engine.vector, (dst,), reads, params, name)


def _write_chosen(core: Core, dst: Tensor, values: Array, chosen: Array) -> None:
    """Write elements of ``dst``'s own type where ``chosen``; on bits, whose time no pattern changes."""
    if dst.dynamic is not None or dst.index is not None or dst.storage.accumulation is not None:
        core.write(dst, values, mask=chosen)
        return
    bits = np.dtype(f"u{dst.dtype.itemsize}")
    target = dst.array.view(bits)
    change = np.bitwise_xor(target, values.view(bits))
    change &= np.negative(chosen.view(np.uint8).astype(bits))
    target ^= change
    core.mark_written(dst, chosen)


# -- memset -----------------------------------------------------------------------------------------------------------


def _memset_rules(core: Core, dst: Tensor, value: Any, engine: Engine) -> Engine:
    op = "memset"
    engine = checks.engine_in(core, op, engine, (Engine.vector, Engine.gpsimd))
    checks.engine_operand(core, op, "dst", dst)
    operands.within_reach(op, engine, dst=dst)
    operands.scalar(core, op, "value", value, dst.shape[0])
    if isinstance(value, Tensor):
        refuse(
            rules.PARAMETER,
            f"{op} got value {value.describe()}.",
            "memset takes a number known before the kernel runs.",
        )
    return engine


def memset(core: Core, dst: Tensor, value: Any, engine: Engine, name: str | None = None) -> Instruction:
    """The constant, rounded to ``dst``'s type, in every element; packed types take 0 only."""
    engine = core.checked(_memset_rules, dst, operands.form(value), engine)
    if dst.dtype.lanes != 1 and value != 0:
        refuse(
            rules.PARAMETER,
            f"memset got value={value!r} for {dst.describe()}.",
            "A packed type can be set to 0 only; view() it as an unsigned integer to set its bits.",
        )
    if core.values:
        write_bits(core, dst, np.broadcast_to(constant(value, dst.dtype), dst.shape))
    return core.record("memset", engine, (dst,), (), {"value": float(value)}, name)


def constant(value: Any, dtype: DType) -> Array:
    """A number as one element of a type: rounded as every result is; an integer too large for the type is refused."""
    made = np.empty((), dtype.numpy)
    if dtype.is_integer and float(value).is_integer():
        info = np.iinfo(dtype.numpy)
        if not info.min <= int(value) <= info.max:
            refuse(
                rules.PARAMETER,
                f"The constant {value!r} does not fit {dtype.name}.",
                f"{dtype.name} holds {info.min} to {info.max}.",
            )
        made[...] = int(value)
    elif dtype.lanes != 1:
        made[...] = 0
    else:
        with np.errstate(all="ignore"):
            store(made, np.asarray(value, np.float32), dtype)
    return made


# -- tensor_tensor ----------------------------------------------------------------------------------------------------


class _TensorTensor(NamedTuple):
    """How a tensor_tensor is computed."""

    engine: Engine
    operator: alu.Operator
    domain: str  # "bits", "words" (native 32-bit integers) or "float32"
    shape: tuple[int, ...]


def _tensor_tensor_rules(
    core: Core, dst: Tensor, data1: Tensor, data2: Tensor, name: str, engine: Engine
) -> _TensorTensor:
    op = "tensor_tensor"
    operator = alu.binary(core, op, "op", name)
    for role, each in (("dst", dst), ("data1", data1), ("data2", data2)):
        checks.engine_operand(core, op, role, each)
    words = not operator.bitvec and all(each.dtype in _WORDS for each in (dst, data1, data2))
    if operator.bitvec:
        operands.integral(core, op, name, dst=dst, data1=data1, data2=data2)
        allowed: tuple[Engine, ...] = (Engine.vector,)
    else:
        operands.numeric(core, op, dst=dst, data1=data1, data2=data2)
        if name == "power":
            allowed = (Engine.gpsimd,)
        elif words and not operands.in_psum(dst, data1, data2):
            allowed = (Engine.gpsimd, Engine.vector)
        else:
            allowed = (Engine.vector, Engine.gpsimd)
    engine = checks.engine_in(core, op if not operator.bitvec else f"{op} with nl.{name}", engine, allowed)
    operands.within_reach(f"{op} with nl.{name}", engine, dst=dst, data1=data1, data2=data2)
    operands.scatter(op, engine, dst, data1)
    operands.not_both_in_psum(core, op, data1=data1, data2=data2)
    operands.same_base(core, op, data1=data1, data2=data2)
    shape = operands.unbroadcast(core, op, dst, data1=data1, data2=data2)
    domain = "bits" if operator.bitvec else ("words" if words and engine is Engine.gpsimd else "float32")
    return _TensorTensor(engine, operator, domain, shape)


def tensor_tensor(
    core: Core, dst: Tensor, data1: Tensor, data2: Tensor, op: str, engine: Engine, name: str | None = None
) -> Instruction:
    """``data1 <op> data2``. On GpSimd, 32-bit integers are exact and wrap; on VectorE they go through float32."""
    plan = core.checked(_tensor_tensor_rules, dst, data1, data2, op, engine)
    if core.values:
        with np.errstate(all="ignore"):
            if plan.domain == "float32":
                left = operands.shaped(core.read_float32(data1), plan.shape)
                right = operands.shaped(core.read_float32(data2), plan.shape)
                out = operands.in_place(dst, plan.shape)
                operands.finish(core, dst, plan.operator.apply(left, right, out), out)
            else:
                left = operands.shaped(core.read(data1), plan.shape)
                right = operands.shaped(core.read(data2), plan.shape)
                combine = alu.of_bits if plan.domain == "bits" else alu.of_words
                write_bits(core, dst, combine(plan.operator, left, right, dst.dtype.numpy))
    return core.record("tensor_tensor", plan.engine, (dst,), (data1, data2), {"op": op, "domain": plan.domain}, name)


# -- reciprocal -------------------------------------------------------------------------------------------------------


def _reciprocal_rules(core: Core, dst: Tensor, data: Tensor) -> None:
    op = "reciprocal"
    checks.engine_operand(core, op, "dst", dst)
    checks.engine_operand(core, op, "data", data)
    operands.numeric(core, op, dst=dst, data=data)
    checks.same_elements(core, op, dst=dst, data=data)


def reciprocal(core: Core, dst: Tensor, data: Tensor, name: str | None = None) -> Instruction:
    """``1 / data`` in float32; 0 gives infinity."""
    core.checked(_reciprocal_rules, dst, data)
    if core.values:
        with np.errstate(all="ignore"):
            values = core.read_float32(data)
            out = operands.in_place(dst, values.shape)
            operands.finish(core, dst, alu.OPERATORS["reciprocal"].apply(values, out), out)
    return core.record("reciprocal", Engine.vector, (dst,), (data,), {}, name)
