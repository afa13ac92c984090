"""exponential on the vector engine: exp(src - max_value), and its sum over each partition, in float32.

The subtraction rounds before the exponential, and the sum is of float32 results before ``dst`` rounds them. It goes
into the vector engine's accumulator registers of the partitions that the input lies in, which ``reduce_cmd.idle``
leaves undefined (see ``accumulators``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import accumulators, checks, rules
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
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

Operand = float | Tensor

_COMMANDS = ("idle", "reduce", "reset_reduce", "load_reduce")
_RESULTS = (float8_e4m3, float8_e5m2, float16, bfloat16, float32, tfloat32)
_DST = (*_RESULTS, int8, int16, int32, uint8, uint16)
_SRC = (*(each for each in _DST if each is not tfloat32), uint32)


class Plan(NamedTuple):
    """What the static check found out."""

    lanes: slice  # the accumulator registers it uses
    params: Mapping[str, Any]


def _plan(
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
    tile(core, op, "dst", dst, _DST)
    tile(core, op, "src", src, _SRC)
    checks.same_elements(core, op, src=src, dst=dst)
    scatter(op, Engine.vector, dst, src)
    if isinstance(max_value, Tensor):
        column(core, op, "max_value", max_value, src, (float32,))
    if reduce_res is not None:
        column(core, op, "reduce_res", reduce_res, src, _RESULTS)
    require_command(op, command, _COMMANDS)
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
    return Plan(accumulators.lanes(src), params)


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
    plan = core.checked(_plan, dst, src, max_value, reduce_res, command, reduce_init)
    result: Array | None = None
    loaded: float | Array = 0.0
    if core.values:
        values = core.read_float32(src)
        loaded = scalar_float32(core, reduce_init, 2)
        with np.errstate(all="ignore"):
            if max_value.__class__ is not float or max_value != 0.0:
                values = values - scalar_float32(core, max_value, values.ndim)
            result = np.exp(values, in_place(dst, values.shape))
    conclude(core, "exponential", Engine.vector, plan.lanes, dst, result, "add", reduce_res, command, loaded)
    reads = reads_of(src, max_value, reduce_init) + indices_of(dst)
    writes = (dst,) if reduce_res is None else (dst, reduce_res)
    return core.record("exponential", Engine.vector, writes, reads, plan.params, name)
