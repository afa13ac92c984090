"""activation, activation_reduce and activate2 on the scalar engine, and exponential on the vector engine.

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
from outcrop.silicon.device.dtypes import (
    Array,
    bfloat16,
    float8_e4m3,
    float8_e5m2,
    float16,
    float32,
    int8,
    int16,
    int32,
    tfloat32,
    uint8,
    uint16,
    uint32,
)
from outcrop.silicon.device.ops.operands import scalar_float32, scatter
from outcrop.silicon.device.ops.tiles import (
    INPUTS,
    column,
    constant,
    finish,
    in_place,
    indices_of,
    kind,
    reads_of,
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
_EXPONENTIAL_COMMANDS = ("idle", "reduce", "reset_reduce", "load_reduce")
_ANY_REDUCTION = ("add", "maximum", "minimum", "abs_max", "abs_min")
_RESULTS = (float8_e4m3, float8_e5m2, float16, bfloat16, float32, tfloat32)
_EXPONENTIAL_DST = (*_RESULTS, int8, int16, int32, uint8, uint16)
_EXPONENTIAL_SRC = (*(each for each in _EXPONENTIAL_DST if each is not tfloat32), uint32)


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


def require_command(op: str, command: str, allowed: tuple[str, ...]) -> None:
    if command not in allowed:
        refuse(
            rules.PARAMETER,
            f"{op} got reduce_cmd.{command}.",
            f"It takes: {', '.join('reduce_cmd.' + each for each in allowed)}.",
        )


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


def _exponential_plan(
    core: Core,
    dst: Tensor,
    src: Tensor,
    max_value: Operand,
    reduce_res: Tensor | None,
    command: str,
    reduce_init: Operand,
) -> Plan:
    op = "exponential"
    checks.feature(core, op, "exponential", "the instruction")
    tile(core, op, "dst", dst, _EXPONENTIAL_DST)
    tile(core, op, "src", src, _EXPONENTIAL_SRC)
    checks.same_elements(core, op, src=src, dst=dst)
    scatter(op, Engine.vector, dst, src)
    if isinstance(max_value, Tensor):
        column(core, op, "max_value", max_value, src, (float32,))
    if reduce_res is not None:
        column(core, op, "reduce_res", reduce_res, src, _RESULTS)
    require_command(op, command, _EXPONENTIAL_COMMANDS)
    if isinstance(reduce_init, Tensor):
        column(core, op, "reduce_init", reduce_init, src, (float32,))
    if command != "load_reduce" and (isinstance(reduce_init, Tensor) or reduce_init != 0):
        refuse(
            rules.PARAMETER,
            f"{op} got reduce_init and reduce_cmd.{command}.",
            "reduce_init goes with reduce_cmd.load_reduce only: leave it out, or use load_reduce.",
        )
    params = {
        "op": "exp",
        "max_value": kind(max_value),
        "reduce_op": "add",
        "reduce_cmd": command,
        "reduce_init": kind(reduce_init),
        "reduce_res": reduce_res is not None,
    }
    return Plan(ACTIVATIONS["exp"], accumulators.lanes(src), params)


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
    _finish(core, op, plan, dst, result, reduce_op, reduce_res, command)
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
    _finish(core, "activate2", plan, dst, result, reduce_op, reduce_res, command)
    reads = reads_of(data, first, second, slope) + indices_of(dst)
    writes = (dst,) if reduce_res is None else (dst, reduce_res)
    return core.record("activate2", Engine.scalar, writes, reads, plan.params, name)


def exponential(
    core: Core,
    dst: Tensor,
    src: Tensor,
    max_value: Operand,
    reduce_res: Tensor | None,
    command: str,
    reduce_init: Operand,
    name: str | None = None,
) -> Instruction:
    """exp(src - max_value), and the sum of it in the vector engine's accumulator registers."""
    max_value = constant("exponential", "max_value", max_value)
    reduce_init = constant("exponential", "reduce_init", reduce_init)
    plan = core.checked(_exponential_plan, dst, src, max_value, reduce_res, command, reduce_init)
    result: Array | None = None
    loaded: float | Array = 0.0
    if core.values:
        values = core.read_float32(src)
        loaded = scalar_float32(core, reduce_init, 2)
        with np.errstate(all="ignore"):
            if max_value.__class__ is not float or max_value != 0.0:
                values = values - scalar_float32(core, max_value, values.ndim)
            result = np.exp(values, in_place(dst, values.shape))
    _finish(core, "exponential", plan, dst, result, "add", reduce_res, command, Engine.vector, loaded)
    reads = reads_of(src, max_value, reduce_init) + indices_of(dst)
    writes = (dst,) if reduce_res is None else (dst, reduce_res)
    return core.record("exponential", Engine.vector, writes, reads, plan.params, name)


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


def _finish(
    core: Core,
    op: str,
    plan: Plan,
    dst: Tensor,
    result: Array | None,
    reduce_op: str,
    reduce_res: Tensor | None,
    command: str,
    engine: Engine = Engine.scalar,
    loaded: float | Array = 0.0,
) -> None:
    """Accumulate, then write ``dst``, then read the registers out: ``dst`` may be the data, and overlap both."""
    accumulate(core, op, plan.lanes, result, reduce_op or "add", command, engine, loaded)
    if result is not None:
        finish(core, dst, result)
    if reduce_res is not None:
        read_out(core, op, plan.lanes, reduce_res, engine)


def accumulate(
    core: Core,
    op: str,
    lanes: slice,
    result: Array | None,
    reduce_op: str,
    command: str,
    engine: Engine,
    loaded: float | Array = 0.0,
) -> None:
    """What ``reduce_cmd`` asks of an engine's registers; ``result`` is ``None`` where no values are computed."""
    if command == "idle":
        if engine is Engine.vector:
            accumulators.of(core, engine).poison(lanes, op)
        return
    registers = accumulators.of(core, engine)
    total = registers.start(lanes, op, command, alu.identity(reduce_op), loaded)
    if result is not None and command != "reset":
        with np.errstate(all="ignore"):
            folded = alu.fold(reduce_op, result.reshape(result.shape[0], -1))
            total = alu.OPERATORS[reduce_op].apply(total, folded)
    registers.hold(lanes, total)


def read_out(core: Core, op: str, lanes: slice, reduce_res: Tensor, engine: Engine) -> None:
    """Write the registers, one for each partition, into ``reduce_res``."""
    values = accumulators.of(core, engine).read(lanes, op)
    if core.values:
        core.write(reduce_res, values.reshape(reduce_res.shape))
