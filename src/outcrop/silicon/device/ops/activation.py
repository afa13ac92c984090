"""activation, activation_reduce and activate2 on the scalar engine.

All compute in float32: the input is up-cast, the arithmetic before the function rounds after each step, the function is
one of ``activation_functions``, and the result is rounded once to the destination. The reduction over the free
dimensions adds up float32 results before that rounding; it goes into the accumulator registers of the partitions that
the data lies in (see ``accumulators``), which are read out into ``reduce_res`` after ``dst`` was written.

Choices where the documentation is silent: ``data * scale + bias`` rounds after the product; ``activation`` has no
slope, so its prelu is relu; the order of a sum is NumPy's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import accumulators, alu, checks, rules
from outcrop.silicon.device.activation_functions import ACTIVATIONS, Activation, prelu
from outcrop.silicon.device.dtypes import Array, float32
from outcrop.silicon.device.ops.operands import scalar_float32, scatter
from outcrop.silicon.device.ops.tiles import (
    INPUTS,
    column,
    conclude,
    constant,
    in_place,
    indices_of,
    kind,
    reads_of,
    require_command,
    tile,
)
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import advise, refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

Operand = float | Tensor

ACTIVATION_RANGE = rules.rule(
    "activation-range",
    "Inputs of an activation function lie in the range that its approximation covers.",
    "AWS Neuron, NKI ISA API common fields (NKI 0.6.0): supported activation functions, valid input range",
    advisory=True,
)
# The first and second operators that activate2's tensor-scalar stage can be set to.
STAGES = (
    ("multiply", "add"),
    ("multiply", "subtract"),
    ("multiply", "bypass"),
    ("add", "bypass"),
    ("subtract", "bypass"),
    ("bypass", "bypass"),
)
_SCALAR_COMMANDS = ("idle", "reset", "reduce", "reset_reduce")
_ANY_REDUCTION = ("add", "maximum", "minimum", "abs_max", "abs_min")


class Plan(NamedTuple):
    """What the static check found out."""

    function: Activation
    lanes: slice  # the accumulator registers it uses
    params: Mapping[str, Any]


# -- static checks -----------------------------------------------------------------------------------------------------


def function_named(op: str, name: str) -> Activation:
    found = ACTIVATIONS.get(name)
    if found is None:
        refuse(
            alu.OPERATOR,
            f"{op} got op={f'nl.{name}' if name else None}, which is not an activation function.",
            f"Activation functions are: {', '.join(ACTIVATIONS)}.",
        )
        raise AssertionError("refused")
    return found


def _operands(core: Core, op: str, dst: Tensor, data: Tensor, reduce_res: Tensor | None) -> None:
    tile(core, op, "dst", dst)
    tile(core, op, "data", data)
    checks.same_elements(core, op, data=data, dst=dst)
    scatter(op, Engine.scalar, dst, data)
    if reduce_res is not None:
        column(core, op, "reduce_res", reduce_res, data)


def _reduction(
    core: Core, op: str, reduce_op: str, command: str, commands: tuple[str, ...], operators: tuple[str, ...]
) -> None:
    require_command(op, command, commands)
    if reduce_op or command in ("reduce", "reset_reduce"):
        alu.among(core, op, "reduce_op", reduce_op, operators)


def _activation_plan(
    core: Core,
    op: str,
    dst: Tensor,
    function: str,
    data: Tensor,
    bias: Operand | None,
    scale: Operand,
    reduce_op: str,
    reduce_res: Tensor | None,
    command: str,
) -> Plan:
    found = function_named(op, function)
    _operands(core, op, dst, data, reduce_res)
    if isinstance(scale, Tensor):
        column(core, op, "scale", scale, data, (float32,))
    if isinstance(bias, Tensor):
        column(core, op, "bias", bias, data, INPUTS)
    elif bias is not None:
        checks.feature(core, op, "scalar_constant_bias", "a bias that is a constant instead of a [P, 1] tensor")
    if bias is not None and function == "reciprocal":
        checks.feature(core, op, "scalar_reciprocal_bias", "a bias with op=nl.reciprocal")
    _reduction(core, op, reduce_op, command, _SCALAR_COMMANDS, ("add",))
    params = {
        "op": function,
        "scale": kind(scale),
        "bias": kind(bias),
        "reduce_op": reduce_op,
        "reduce_cmd": command,
        "reduce_res": reduce_res is not None,
    }
    return Plan(found, accumulators.lanes(data), params)


def _activate2_plan(
    core: Core,
    dst: Tensor,
    function: str,
    data: Tensor,
    imm0: Operand,
    imm1: Operand,
    stage: tuple[str, str],
    relu_param: Operand,
    reverse: tuple[bool, bool],
    reduce_op: str,
    reduce_res: Tensor | None,
    command: str,
) -> Plan:
    op = "activate2"
    checks.feature(core, op, "activate2", "the instruction")
    found = function_named(op, function)
    _operands(core, op, dst, data, reduce_res)
    if stage not in STAGES:
        refuse(
            alu.OPERATOR,
            f"{op} got op0=nl.{stage[0]} and op1=nl.{stage[1]}.",
            f"(op0, op1) must be one of: {', '.join(f'({one}, {two})' for one, two in STAGES)}.",
        )
    for at in (0, 1):
        if reverse[at] and stage[at] == "bypass":
            refuse(
                rules.PARAMETER,
                f"{op} got reverse{at}=True without op{at}.",
                f"Leave reverse{at} out, or give an operator whose operands it swaps.",
            )
    for role, value in (("imm0", imm0), ("imm1", imm1), ("relu_param", relu_param)):
        if isinstance(value, Tensor):
            column(core, op, role, value, data, INPUTS)
    if isinstance(imm0, Tensor) and isinstance(imm1, Tensor) and imm0.dtype is not imm1.dtype:
        refuse(
            rules.OPERAND_DTYPE,
            f"{op} got imm0 {imm0.describe()} and imm1 {imm1.describe()}.",
            "Both must have the same data type.",
        )
    _reduction(core, op, reduce_op, command, _SCALAR_COMMANDS, _ANY_REDUCTION)
    params = {
        "op": function,
        "op0": stage[0],
        "op1": stage[1],
        "imm0": kind(imm0),
        "imm1": kind(imm1),
        "reverse0": reverse[0],
        "reverse1": reverse[1],
        "relu_param": kind(relu_param),
        "reduce_op": reduce_op,
        "reduce_cmd": command,
        "reduce_res": reduce_res is not None,
    }
    return Plan(found, accumulators.lanes(data), params)


# -- execution ---------------------------------------------------------------------------------------------------------


def activation(
    core: Core,
    dst: Tensor,
    function: str,
    data: Tensor,
    bias: Operand | None,
    scale: Operand,
    reduce_op: str,
    reduce_res: Tensor | None,
    command: str,
    name: str | None = None,
    *,
    op: str = "activation",
) -> Instruction:
    """function(data * scale + bias). ``op`` is the name it was called by: activation_reduce is the same instruction."""
    scale = constant(op, "scale", scale)
    if bias is not None:
        bias = constant(op, "bias", bias)
    plan = core.checked(_activation_plan, op, dst, function, data, bias, scale, reduce_op, reduce_res, command)
    result: Array | None = None
    if core.values:
        values = core.read_float32(data)
        with np.errstate(all="ignore"):
            scaled = scale.__class__ is not float or scale != 1.0
            if scaled:
                values = values * scalar_float32(core, scale, values.ndim)
            if bias is not None and (bias.__class__ is not float or bias != 0.0):
                other = scalar_float32(core, bias, values.ndim)
                values = np.add(values, other, values if scaled else None)
            result = _apply(op, plan.function, values, data, in_place(dst, values.shape))
    conclude(core, op, Engine.scalar, plan.lanes, dst, result, reduce_op, reduce_res, command)
    reads = reads_of(data, scale, bias) + indices_of(dst)
    writes = (dst,) if reduce_res is None else (dst, reduce_res)
    return core.record(op, Engine.scalar, writes, reads, plan.params, name)


def activate2(
    core: Core,
    dst: Tensor,
    function: str,
    data: Tensor,
    imm0: Operand,
    imm1: Operand,
    op0: str,
    op1: str,
    relu_param: Operand,
    reverse0: bool,
    reverse1: bool,
    reduce_op: str,
    reduce_res: Tensor | None,
    command: str,
    name: str | None = None,
) -> Instruction:
    """function((data op0 imm0) op1 imm1); operands of a step that is bypassed are not looked at."""
    stage = (op0 or "bypass", op1 or "bypass")
    first = 0.0 if stage[0] == "bypass" else constant("activate2", "imm0", imm0)
    second = 0.0 if stage[1] == "bypass" else constant("activate2", "imm1", imm1)
    slope = constant("activate2", "relu_param", relu_param) if function == "prelu" else 0.0
    reverse = (bool(reverse0), bool(reverse1))
    plan = core.checked(
        _activate2_plan,
        dst,
        function,
        data,
        first,
        second,
        stage,
        slope,
        reverse,
        reduce_op,
        reduce_res,
        command,
    )
    result: Array | None = None
    if core.values:
        values = core.read_float32(data)
        with np.errstate(all="ignore"):
            for each, operand, swap in zip(stage, (first, second), reverse, strict=True):
                if each != "bypass":
                    other = scalar_float32(core, operand, values.ndim)
                    apply = alu.OPERATORS[each].apply
                    values = apply(other, values) if swap else apply(values, other)
            if function == "prelu":
                result = prelu(values, scalar_float32(core, slope, values.ndim))
            else:
                result = _apply("activate2", plan.function, values, data)
    conclude(core, "activate2", Engine.scalar, plan.lanes, dst, result, reduce_op, reduce_res, command)
    reads = reads_of(data, first, second, slope) + indices_of(dst)
    writes = (dst,) if reduce_res is None else (dst, reduce_res)
    return core.record("activate2", Engine.scalar, writes, reads, plan.params, name)


def _apply(op: str, function: Activation, values: Array, data: Tensor, out: Array | None = None) -> Array:
    """The function, with advice where inputs lie outside its range."""
    if function.limited:
        far = function.outside(values)
        if far.any():
            count = int(np.count_nonzero(far))
            advise(
                ACTIVATION_RANGE,
                f"{op} with op=nl.{function.name} got {count} of {far.size} inputs outside its valid range, such as "
                f"{float(values[far][0])!r}, from {data.describe()}.",
                f"The range, after scale and bias, is {function.range_text()}: beyond it the hardware's result is "
                "invalid. Bring the inputs into it first.",
            )
    return function(values, out)
