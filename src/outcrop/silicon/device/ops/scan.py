"""Scans along the free dimensions on the vector engine: each result enters the next one.

Semantics after the vendor's reference (NKI 0.6.0). Every step rounds to float32, in the order of the elements, as the
reference's pseudo code does: nothing here regroups a sum. Running sums, products, maxima and minima are NumPy's
accumulations, which keep that order; other recurrences take one step for all partitions at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device import accumulators, alu, carry, checks
from outcrop.silicon.device.dtypes import (
    ALL,
    Array,
    bfloat16,
    float8_e4m3,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    int8,
    int16,
    uint8,
    uint16,
)
from outcrop.silicon.device.ops import operands
from outcrop.silicon.device.ops.scalar_operand import (
    apply_scalar,
    on_vector,
    operand_form,
    require_zero,
    scalar_operator,
)
from outcrop.silicon.device.ops.scalar_reduce import accumulator_operands
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

_NUMERIC = tuple(each for each in ALL if each.lanes == 1)
_CUMULATIVE_TYPES = (
    bfloat16, float16, float32, float8_e4m3, float8_e4m3fn, float8_e5m2, uint8, uint16, int8, int16,
)  # fmt: skip
_CUMULATIVE = ("add", "subtract", "multiply", "maximum", "minimum")
_ORDERED = {  # op1 of a scan whose op0 leaves the state as it is: state <op1> data1, in order
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
}


# -- tensor_tensor_scan -----------------------------------------------------------------------------------------------


def _scan_rules(
    core: Core, dst: Tensor, data0: Tensor, data1: Tensor, initial: Any, op0: str, op1: str
) -> tuple[alu.Operator, alu.Operator]:
    op = "tensor_tensor_scan"
    for role, each in (("dst", dst), ("data0", data0), ("data1", data1)):
        checks.engine_operand(core, op, role, each)
    first = alu.arithmetic(core, op, "op0", op0, unary=False)
    second = alu.arithmetic(core, op, "op1", op1, unary=False)
    operands.scalar(core, op, "initial", initial, data0.shape[0], _NUMERIC)
    operands.numeric(core, op, dst=dst, data0=data0, data1=data1)
    operands.not_both_in_psum(core, op, data0=data0, data1=data1)
    operands.same_base(core, op, data0=data0, data1=data1)
    checks.same_elements(core, op, dst=dst, data0=data0, data1=data1)
    return first, second


def tensor_tensor_scan(
    core: Core,
    dst: Tensor,
    data0: Tensor,
    data1: Tensor,
    initial: Any,
    op0: str,
    op1: str,
    reverse0: bool,
    reverse1: bool,
    name: str | None = None,
) -> Instruction:
    """``state = (data0[i] <op0> state) <op1> data1[i]``, each state written; each operator may be reversed."""
    first, second = core.checked(_scan_rules, dst, data0, data1, operands.form(initial), op0, op1)
    if core.values:
        partitions = dst.shape[0]
        with np.errstate(all="ignore"):
            factors = core.read_float32(data0).reshape(partitions, -1)
            terms = core.read_float32(data1).reshape(partitions, -1)
            start = operands.scalar_float32(core, initial, 1)
            if op0 == "multiply" and op1 in _ORDERED and not (op1 == "subtract" and reverse1) and np.all(factors == 1):
                result = _accumulated(_ORDERED[op1], start, terms)
            else:
                result = _stepped(first, second, factors, terms, start, reverse0, reverse1)
            core.carry_as(carry.onwards)
            core.write(dst, result if result.shape == dst.shape else result.reshape(dst.shape))
    reads = (data0, data1, initial) if isinstance(initial, Tensor) else (data0, data1)
    params = {"op0": op0, "op1": op1, "reverse0": reverse0, "reverse1": reverse1, "initial": operand_form(initial)}
    return core.record("tensor_tensor_scan", Engine.vector, (dst,), reads, params, name)


def _accumulated(operator: np.ufunc, start: Any, terms: Array) -> Array:
    """start, then each state <operator> term, along the rows; the states without the start."""
    line = np.empty((terms.shape[0], terms.shape[1] + 1), np.float32)
    line[:, 0] = start
    line[:, 1:] = terms
    found: Array = operator.accumulate(line, axis=1)[:, 1:]
    return found


def _stepped(
    first: alu.Operator,
    second: alu.Operator,
    factors: Array,
    terms: Array,
    start: Any,
    reverse0: bool,
    reverse1: bool,
) -> Array:
    """One step after the other for all partitions; rows of the transposed tensors, so that each step reads densely."""
    left, right = np.ascontiguousarray(factors.T), np.ascontiguousarray(terms.T)
    states = np.empty(left.shape, np.float32)
    state = np.empty(left.shape[1], np.float32)
    state[:] = start
    inner, outer = first.apply, second.apply
    if reverse0 or reverse1:
        for a, b, out in zip(left, right, states, strict=True):
            between = inner(state, a, out) if reverse0 else inner(a, state, out)
            state = outer(b, between, out) if reverse1 else outer(between, b, out)
    else:
        for a, b, out in zip(left, right, states, strict=True):
            state = outer(inner(a, state, out), b, out)
    found: Array = states.T
    return found


# -- tensor_scalar_cumulative -----------------------------------------------------------------------------------------


def _cumulative_rules(
    core: Core, dst: Tensor, src: Tensor, op0: str, op1: str, imm0: Any, imm1: Any, command: str
) -> alu.Operator:
    op = "tensor_scalar_cumulative"
    for role, each in (("dst", dst), ("src", src)):
        checks.engine_operand(core, op, role, each)
        checks.dtype_in(core, op, role, each, _CUMULATIVE_TYPES)
    first = alu.arithmetic(core, op, "op0", op0)
    on_vector(op, first)
    scalar_operator(core, op, "op0", op0, imm0, src.shape[0], which="imm0")
    alu.among(core, op, "op1", op1, _CUMULATIVE)
    accumulator_operands(core, op, command, "imm1", imm1, src.shape[0])
    operands.scatter(op, Engine.vector, dst, src)
    checks.same_elements(core, op, dst=dst, src=src)
    return first


def tensor_scalar_cumulative(
    core: Core,
    dst: Tensor,
    src: Tensor,
    op0: str,
    op1: str,
    imm0: Any,
    imm1: Any,
    command: str,
    name: str | None = None,
) -> Instruction:
    """``register = (src[i] <op0> imm0) <op1> register``, each state written; the last stays in the accumulators."""
    op = "tensor_scalar_cumulative"
    first = core.checked(_cumulative_rules, dst, src, op0, op1, operands.form(imm0), operands.form(imm1), command)
    if first.unary:
        require_zero(op, "imm0", first, imm0)
    registers, lanes = accumulators.of(core, Engine.vector), accumulators.lanes(src)
    with np.errstate(all="ignore"):
        loaded = operands.scalar_float32(core, imm1, 1) if command == "load_reduce" and core.values else None
        start = registers.start(lanes, op, command, alu.identity(op1), loaded)
        if core.values:
            values = core.read_float32(src)
            scalar = None if first.unary else operands.scalar_float32(core, imm0, values.ndim)
            terms = apply_scalar(first, values, scalar, False, None).reshape(values.shape[0], -1)
            result = _cumulated(op1, start, terms)
            start = result[:, -1]
            core.carry_as(carry.onwards)
            if command == "reduce":
                registers.carry_out(core, lanes, dst)
            registers.follow(core, lanes, command)
            core.write(dst, result.reshape(dst.shape))
        registers.hold(lanes, start)
    reads = (src, *(each for each in (imm0, imm1) if isinstance(each, Tensor)))
    params = {"op0": op0, "op1": op1, "imm0": operand_form(imm0), "reduce_cmd": command}
    return core.record(op, Engine.vector, (dst,), reads, params, name)


def _cumulated(op1: str, start: Array, terms: Array) -> Array:
    """term <op1> register: subtracting the register flips its sign at each step, which is exact in float32."""
    if op1 != "subtract":
        return _accumulated(_ORDERED[op1], start, terms)
    signs = np.ones(terms.shape[1], np.float32)
    signs[1::2] = -1
    return _accumulated(np.add, -start, terms * signs) * signs
