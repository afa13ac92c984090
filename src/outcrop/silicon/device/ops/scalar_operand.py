"""Instructions with operands broadcast along the free dimensions: a number, or one float32 for each partition.

``tensor_scalar`` applies one or two operators, ``scalar_tensor_tensor`` a scalar and then a tensor operand. Semantics
after the vendor's reference (NKI 0.6.0). Arithmetic is float32 with one rounding at the end, for 32-bit integers too.

Not covered: the vendor's reference names, without describing it, a form of tensor_scalar for address arithmetic on
32-bit integers; here integers of more than 24 bits are rounded by the up-cast to float32 like all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import alu, checks, rules
from outcrop.silicon.device.dtypes import Array, float32
from outcrop.silicon.device.ops import operands
from outcrop.silicon.device.ops.elementwise import write_bits
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core


def operand_form(value: Any) -> str:
    """For records: whether a scalar operand is a number or a vector."""
    return "vector" if isinstance(value, Tensor) else "constant"


def scalar_operator(
    core: Core, op: str, role: str, name: str, seen: Any, partitions: int, which: str = ""
) -> alu.Operator:
    """An operator with its scalar operand; unary ones take None or a number, which must be 0 (see ``require_zero``)."""
    operator = alu.lookup(core, op, role, name)
    which = which or role.replace("op", "operand")
    if not operator.unary:
        operands.scalar(core, op, which, seen, partitions, None if operator.bitvec else (float32,))
    elif isinstance(seen, Tensor):
        refuse(
            rules.PARAMETER,
            f"{op} got {role}=nl.{name}, which takes one operand, and {which} {seen.describe()}.",
            f"Leave {which} out, or make it 0.",
        )
    return operator


def require_zero(op: str, role: str, operator: alu.Operator, value: Any) -> None:
    """Unary operators take no second operand."""
    if operator.unary and value is not None and value != 0:
        refuse(
            rules.PARAMETER,
            f"{op} got {role}={value!r} with nl.{operator.name}, which takes one operand.",
            f"Leave {role} out, or make it 0.",
        )


def apply_scalar(operator: alu.Operator, values: Array, operand: Any, reverse: bool, out: Array | None) -> Array:
    """The operator with a scalar operand in place; ``out`` may be one of the inputs."""
    if operator.unary:
        return operator.apply(values, out)
    return operator.apply(operand, values, out) if reverse else operator.apply(values, operand, out)


# -- tensor_scalar ----------------------------------------------------------------------------------------------------


class _TensorScalar(NamedTuple):
    """How a tensor_scalar is computed."""

    engine: Engine
    first: alu.Operator
    second: alu.Operator | None


def _tensor_scalar_rules(
    core: Core, dst: Tensor, data: Tensor, op0: str, operand0: Any, op1: str, operand1: Any, engine: Engine
) -> _TensorScalar:
    op = "tensor_scalar"
    checks.engine_operand(core, op, "dst", dst)
    checks.engine_operand(core, op, "data", data)
    partitions = data.shape[0]
    first = scalar_operator(core, op, "op0", op0, operand0, partitions)
    second: alu.Operator | None = None
    if op1:
        second = scalar_operator(core, op, "op1", op1, operand1, partitions)
        if first.bitvec != second.bitvec:
            refuse(
                alu.OPERATOR,
                f"{op} got op0=nl.{op0} and op1=nl.{op1}, one bitwise and one arithmetic.",
                "Both must be bitwise, or both arithmetic: use two instructions.",
            )
    elif operand1 is not None:
        refuse(rules.PARAMETER, f"{op} got operand1 without op1.", "Give op1 too, or leave operand1 out.")
    if first.bitvec:
        operands.integral(core, op, op0, dst=dst, data=data)
    else:
        operands.numeric(core, op, dst=dst, data=data)
    engine = _tensor_scalar_engine(core, op, [each for each in (op0, op1) if each], engine, dst, data, first.bitvec)
    operands.within_reach(op, engine, dst=dst, data=data, operand0=operand0, operand1=operand1)
    operands.scatter(op, engine, dst, data)
    checks.same_elements(core, op, dst=dst, data=data)
    return _TensorScalar(engine, first, second)


def _tensor_scalar_engine(
    core: Core, op: str, names: list[str], engine: Engine, dst: Tensor, data: Tensor, bitvec: bool
) -> Engine:
    """rsqrt needs GpSimd; GpSimd has rsqrt and power only; ScalarE is limited by generation."""
    what = f"{op} with {' and '.join('nl.' + each for each in names)}"
    if bitvec:
        return checks.engine_in(core, what, engine, (Engine.vector,))
    if "rsqrt" in names:
        return checks.engine_in(core, what, engine, (Engine.gpsimd,))
    if "power" in names:
        either = (Engine.gpsimd, Engine.vector)
        return checks.engine_in(core, what, engine, either[::-1] if operands.in_psum(dst, data) else either)
    if engine is Engine.scalar:
        checks.feature(core, op, "scalar_tensor_scalar", "the scalar engine")
        if names not in (["multiply", "add"], ["multiply"], ["add"]) and not core.has("scalar_any_operator"):
            refuse(
                rules.ENGINE,
                f"{what} was asked to run on the scalar engine.",
                "There it takes op0=nl.multiply with op1=nl.add, or one of the two alone; the vector engine takes all.",
            )
        return engine
    return checks.engine_in(core, what, engine, (Engine.vector, Engine.scalar))


def tensor_scalar(
    core: Core,
    dst: Tensor,
    data: Tensor,
    op0: str,
    operand0: Any,
    reverse0: bool,
    op1: str,
    operand1: Any,
    reverse1: bool,
    engine: Engine,
    name: str | None = None,
) -> Instruction:
    """``(data <op0> operand0) <op1> operand1``; each may be reversed. ``op1`` is empty where there is none."""
    plan = core.checked(
        _tensor_scalar_rules, dst, data, op0, operands.form(operand0), op1, operands.form(operand1), engine
    )
    first, second = plan.first, plan.second
    if first.unary:
        require_zero("tensor_scalar", "operand0", first, operand0)
    if second is not None and second.unary:
        require_zero("tensor_scalar", "operand1", second, operand1)
    if core.values:
        with np.errstate(all="ignore"):
            if first.bitvec:
                _bitwise_scalars(core, dst, data, first, operand0, reverse0, second, operand1, reverse1)
            else:
                values = core.read_float32(data)
                out = operands.in_place(dst, values.shape)
                result = apply_scalar(
                    first,
                    values,
                    None if first.unary else operands.scalar_float32(core, operand0, values.ndim),
                    reverse0,
                    out if second is None else None,
                )
                if second is not None:
                    other = None if second.unary else operands.scalar_float32(core, operand1, values.ndim)
                    result = apply_scalar(second, result, other, reverse1, result if out is None else out)
                operands.finish(core, dst, result, out)
    reads = [data]
    params: dict[str, Any] = {"op0": op0, "operand0": operand_form(operand0), "reverse0": reverse0}
    if isinstance(operand0, Tensor):
        reads.append(operand0)
    if op1:
        params |= {"op1": op1, "operand1": operand_form(operand1), "reverse1": reverse1}
        if isinstance(operand1, Tensor):
            reads.append(operand1)
    return core.record("tensor_scalar", plan.engine, (dst,), tuple(reads), params, name)


def _bitwise_scalars(
    core: Core,
    dst: Tensor,
    data: Tensor,
    first: alu.Operator,
    operand0: Any,
    reverse0: bool,
    second: alu.Operator | None,
    operand1: Any,
    reverse1: bool,
) -> None:
    values = core.read(data)
    steps = [(first, operand0, reverse0, "operand0")]
    if second is not None:
        steps.append((second, operand1, reverse1, "operand1"))
    for operator, operand, reverse, role in steps:
        if operator.unary:
            values = alu.of_bits(operator, values, None, values.dtype)
        else:
            values = _bitwise_scalar(core, role, operator, values, operand, reverse)
    result = alu.resized_bits(values, dst.dtype.numpy)
    write_bits(core, dst, result)


def _bitwise_scalar(core: Core, role: str, operator: alu.Operator, values: Array, operand: Any, reverse: bool) -> Array:
    """One step, in the width of the tensor operand."""
    if isinstance(operand, Tensor):
        pattern = core.read(operand)
        other = alu.resized_bits(pattern.reshape(pattern.shape[0], *(1,) * (values.ndim - 1)), values.dtype)
    else:
        whole = int(operand)
        if whole != operand:
            refuse(
                rules.PARAMETER,
                f"tensor_scalar got {role}={operand!r} with nl.{operator.name}.",
                "Bitwise operators take integers.",
            )
        bits = whole & ((1 << 8 * values.itemsize) - 1)
        other = np.asarray(bits, f"u{values.itemsize}").view(values.dtype)
    if not reverse:
        return alu.of_bits(operator, values, other, values.dtype)
    return alu.of_bits(operator, np.broadcast_to(other, values.shape), values, values.dtype)


# -- scalar_tensor_tensor ---------------------------------------------------------------------------------------------


def _scalar_tensor_tensor_rules(
    core: Core, dst: Tensor, data: Tensor, op0: str, operand0: Any, op1: str, operand1: Tensor
) -> tuple[alu.Operator, alu.Operator, tuple[int, ...]]:
    op = "scalar_tensor_tensor"
    for role, each in (("dst", dst), ("data", data), ("operand1", operand1)):
        checks.engine_operand(core, op, role, each)
    first = alu.arithmetic(core, op, "op0", op0)
    second = alu.arithmetic(core, op, "op1", op1, unary=False)
    on_vector(op, first)
    scalar_operator(core, op, "op0", op0, operand0, data.shape[0])
    operands.numeric(core, op, dst=dst, data=data, operand1=operand1)
    operands.not_both_in_psum(core, op, data=data, operand1=operand1)
    operands.same_base(core, op, data=data, operand1=operand1)
    return first, second, operands.unbroadcast(core, op, dst, data=data, operand1=operand1)


def on_vector(op: str, operator: alu.Operator) -> None:
    """Instructions that only the vector engine has cannot use GpSimd's operator."""
    if operator.name == "rsqrt":
        refuse(
            alu.OPERATOR,
            f"{op} got nl.rsqrt, which the vector engine does not have.",
            "Use nisa.tensor_scalar with op0=nl.rsqrt (GpSimd), or nisa.activation (ScalarE).",
        )


def scalar_tensor_tensor(
    core: Core,
    dst: Tensor,
    data: Tensor,
    op0: str,
    operand0: Any,
    op1: str,
    operand1: Tensor,
    reverse0: bool,
    reverse1: bool,
    name: str | None = None,
) -> Instruction:
    """``(data <op0> operand0) <op1> operand1`` with a scalar ``operand0`` and a tensor ``operand1``."""
    first, second, shape = core.checked(
        _scalar_tensor_tensor_rules, dst, data, op0, operands.form(operand0), op1, operand1
    )
    if first.unary:
        require_zero("scalar_tensor_tensor", "operand0", first, operand0)
    if core.values:
        with np.errstate(all="ignore"):
            values = operands.shaped(core.read_float32(data), shape)
            scalar = None if first.unary else operands.scalar_float32(core, operand0, values.ndim)
            result = apply_scalar(first, values, scalar, reverse0, None)
            other = operands.shaped(core.read_float32(operand1), shape)
            out = operands.in_place(dst, shape)
            operands.finish(core, dst, apply_scalar(second, result, other, reverse1, out), out)
    reads = (data, operand0, operand1) if isinstance(operand0, Tensor) else (data, operand1)
    params = {
        "op0": op0,
        "operand0": operand_form(operand0),
        "reverse0": reverse0,
        "op1": op1,
        "reverse1": reverse1,
    }
    return core.record("scalar_tensor_tensor", Engine.vector, (dst,), reads, params, name)
