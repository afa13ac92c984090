"""tensor_scalar with one operator, whose result is also reduced into the vector engine's accumulators.

Semantics after the vendor's reference (NKI 0.6.0). What is reduced is the float32 result before it is rounded to the
type of ``dst``: the reference does not say which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device import accumulators, alu, checks, rules
from outcrop.silicon.device.ops import operands
from outcrop.silicon.device.ops.scalar_operand import (
    apply_scalar,
    on_vector,
    operand_form,
    require_zero,
    scalar_operator,
)
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

_REDUCTIONS = ("add", "multiply", "maximum", "minimum")
_COMMANDS = ("reset_reduce", "reduce", "load_reduce")


def _tensor_scalar_reduce_rules(
    core: Core,
    dst: Tensor,
    data: Tensor,
    op0: str,
    operand0: Any,
    reduce_op: str,
    reduce_res: Tensor | None,
    command: str,
    reduce_init: Any,
) -> alu.Operator:
    op = "tensor_scalar_reduce"
    checks.engine_operand(core, op, "dst", dst)
    checks.engine_operand(core, op, "data", data)
    first = alu.arithmetic(core, op, "op0", op0)
    on_vector(op, first)
    scalar_operator(core, op, "op0", op0, operand0, data.shape[0])
    alu.among(core, op, "reduce_op", reduce_op, _REDUCTIONS)
    accumulator_operands(core, op, command, "reduce_init", reduce_init, data.shape[0])
    operands.numeric(core, op, dst=dst, data=data)
    operands.scatter(op, Engine.vector, dst, data)
    checks.same_elements(core, op, dst=dst, data=data)
    if reduce_res is not None:
        checks.engine_operand(core, op, "reduce_res", reduce_res)
        operands.column(core, op, "reduce_res", reduce_res, data.shape[0])
        operands.numeric(core, op, reduce_res=reduce_res)
    return first


def accumulator_operands(core: Core, op: str, command: str, role: str, seen: Any, partitions: int) -> None:
    """The commands that go on, start from an identity, or start from a value; the value goes with load_reduce only."""
    if command not in _COMMANDS:
        refuse(
            rules.PARAMETER,
            f"{op} got reduce_cmd.{command}.",
            f"It takes reduce_cmd.{', reduce_cmd.'.join(_COMMANDS)}.",
        )
    if command == "load_reduce":
        operands.scalar(core, op, role, seen, partitions)
    elif seen is not None:
        refuse(
            rules.PARAMETER,
            f"{op} got {role} with reduce_cmd.{command}.",
            f"{role} is loaded by reduce_cmd.load_reduce only.",
        )


def tensor_scalar_reduce(
    core: Core,
    dst: Tensor,
    data: Tensor,
    op0: str,
    operand0: Any,
    reduce_op: str,
    reduce_res: Tensor | None,
    reverse0: bool,
    command: str,
    reduce_init: Any,
    reduce_res_negate: bool,
    name: str | None = None,
) -> Instruction:
    """``data <op0> operand0``, and its float32 values reduced along the free dimensions into the accumulators."""
    op = "tensor_scalar_reduce"
    first = core.checked(
        _tensor_scalar_reduce_rules,
        dst,
        data,
        op0,
        operands.form(operand0),
        reduce_op,
        reduce_res,
        command,
        operands.form(reduce_init),
    )
    if first.unary:
        require_zero(op, "operand0", first, operand0)
    if reverse0:
        refuse(rules.PARAMETER, f"{op} got reverse0=True.", "The vendor's compiler does not support it yet.")
    registers, lanes = accumulators.of(core, Engine.vector), accumulators.lanes(data)
    with np.errstate(all="ignore"):
        loaded = operands.scalar_float32(core, reduce_init, 1) if command == "load_reduce" and core.values else None
        start = registers.start(lanes, op, command, alu.identity(reduce_op), loaded)
        if core.values:
            values = core.read_float32(data)
            scalar = None if first.unary else operands.scalar_float32(core, operand0, values.ndim)
            result = apply_scalar(first, values, scalar, reverse0, None)
            total = alu.fold(reduce_op, result.reshape(result.shape[0], -1))
            start = alu.OPERATORS[reduce_op].apply(start, total, start)
            registers.follow(core, lanes, command)
            operands.finish(core, dst, result, None)
            if reduce_res is not None:
                registers.carry_out(core, lanes, reduce_res)
                core.write(reduce_res, (-start if reduce_res_negate else start).reshape(reduce_res.shape))
        registers.hold(lanes, start)
    reads = [data, *(each for each in (operand0, reduce_init) if isinstance(each, Tensor))]
    params = {
        "op0": op0,
        "operand0": operand_form(operand0),
        "reverse0": reverse0,
        "reduce_op": reduce_op,
        "reduce_cmd": command,
        "reduce_res": reduce_res is not None,
        "reduce_res_negate": reduce_res_negate,
    }
    writes = (dst,) if reduce_res is None else (dst, reduce_res)
    return core.record(op, Engine.vector, writes, tuple(reads), params, name)
