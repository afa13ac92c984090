"""range_select and select_reduce on the vector engine: take an element or a fill value, and keep the row's maximum.

Values go through float32 and are rounded once to ``dst``; the maximum is of the float32 values, before that rounding.
It goes into the vector engine's accumulator registers of the partitions that the input lies in, starting from minus
infinity on a reset; ``reduce_cmd.idle`` leaves them undefined (see ``accumulators``).

Choices where the documentation is silent: NaN wins every maximum, as in NumPy; a predicate is true where it is not 0,
and reversing it swaps that (the reference's bitwise NOT would make 1 and 254 alike).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import accumulators, alu, checks, rules
from outcrop.silicon.device.dtypes import Array, float32, int8, int16, int32, uint8, uint16, uint32
from outcrop.silicon.device.ops.operands import not_both_in_psum, same_base, scalar_float32
from outcrop.silicon.device.ops.tiles import (
    FLOATS,
    INPUTS,
    column,
    conclude,
    constant,
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

FILL = float(np.finfo(np.float32).min)  # the only value that range_select fills in
_LARGEST_INDEX = 2**24  # beyond, float32 skips integers
_COMPARISONS = ("equal", "less", "less_equal", "greater", "greater_equal")
_COMPARE = {each: getattr(np, each) for each in _COMPARISONS}
_COMMANDS = ("idle", "reset", "reduce", "reset_reduce")
_PREDICATES = (int8, uint8, int16, uint16)
_SELECTABLE = tuple(each for each in INPUTS if each not in (int32, uint32))


class Plan(NamedTuple):
    """What the static check found out."""

    lanes: slice
    params: Mapping[str, Any]


def _reduction(core: Core, op: str, reduce_op: str, command: str) -> None:
    require_command(op, command, _COMMANDS)
    alu.among(core, op, "reduce_op", reduce_op, ("maximum",))


def _range_plan(
    core: Core,
    dst: Tensor,
    on_true: Tensor,
    comparisons: tuple[str, str],
    bound0: Tensor,
    bound1: Tensor,
    command: str,
    reduce_res: Tensor | None,
    reduce_op: str,
    start: int,
    fill: float | Tensor,
) -> Plan:
    op = "range_select"
    checks.feature(core, op, "range_select", "the instruction")
    tile(core, op, "dst", dst)
    tile(core, op, "on_true_tile", on_true, FLOATS)
    checks.same_elements(core, op, on_true_tile=on_true, dst=dst)
    for role, bound in (("bound0", bound0), ("bound1", bound1)):
        column(core, op, role, bound, on_true, (float32,))
    for role, each in zip(("comp_op0", "comp_op1"), comparisons, strict=True):
        alu.among(core, op, role, each, _COMPARISONS)
    _reduction(core, op, reduce_op, command)
    if reduce_res is not None:
        column(core, op, "reduce_res", reduce_res, on_true)
    last = start + on_true.free_size - 1
    if max(abs(start), abs(last)) > _LARGEST_INDEX:
        refuse(
            rules.PARAMETER,
            f"{op} got range_start={start} for on_true_tile {on_true.describe()}: indices {start} to {last}.",
            f"Indices are compared in float32, which is exact up to {_LARGEST_INDEX}: keep them within it, and the "
            "bounds relative to them.",
        )
    if isinstance(fill, Tensor) or np.float32(fill) != np.float32(FILL):
        refuse(
            rules.PARAMETER,
            f"{op} got on_false_value={fill!r}.",
            f"It can only be the smallest float32, {FILL!r}: leave it out.",
        )
    params = {
        "comp_op0": comparisons[0],
        "comp_op1": comparisons[1],
        "range_start": start,
        "reduce_op": reduce_op,
        "reduce_cmd": command,
        "reduce_res": reduce_res is not None,
    }
    return Plan(accumulators.lanes(on_true), params)


def range_select(
    core: Core,
    dst: Tensor,
    on_true: Tensor,
    comp_op0: str,
    comp_op1: str,
    bound0: Tensor,
    bound1: Tensor,
    command: str,
    reduce_res: Tensor | None,
    reduce_op: str,
    start: int,
    fill: float | Tensor,
    name: str | None = None,
) -> Instruction:
    """Keep the elements whose index (from ``start`` on) passes both comparisons with its partition's bounds."""
    plan = core.checked(
        _range_plan, dst, on_true, (comp_op0, comp_op1), bound0, bound1, command, reduce_res, reduce_op, start, fill
    )
    result: Array | None = None
    if core.values:
        values = core.read_float32(on_true).reshape(on_true.shape[0], -1)
        indices = np.arange(start, start + values.shape[1], dtype=np.float32)
        keep = _COMPARE[comp_op0](indices, core.read(bound0).reshape(-1, 1))
        keep &= _COMPARE[comp_op1](indices, core.read(bound1).reshape(-1, 1))
        result = np.where(keep, values, np.float32(FILL))
        core.carry_as(lambda missing: missing.reshape(keep.shape) & keep, on_true)
    conclude(core, "range_select", Engine.vector, plan.lanes, dst, result, reduce_op, reduce_res, command)
    reads = reads_of(on_true, bound0, bound1) + indices_of(dst)
    writes = (dst,) if reduce_res is None else (dst, reduce_res)
    return core.record("range_select", Engine.vector, writes, reads, plan.params, name)


def _select_plan(
    core: Core,
    dst: Tensor,
    predicate: Tensor,
    on_true: Tensor,
    on_false: float | Tensor,
    reduce_res: Tensor | None,
    command: str,
    reduce_op: str,
    reverse: bool,
) -> Plan:
    op = "select_reduce"
    tile(core, op, "dst", dst)
    tile(core, op, "predicate", predicate, _PREDICATES)
    tile(core, op, "on_true", on_true, _SELECTABLE)
    checks.same_elements(core, op, on_true=on_true, predicate=predicate, dst=dst)
    not_both_in_psum(core, op, on_true=on_true, predicate=predicate)
    same_base(core, op, on_true=on_true, predicate=predicate)
    if isinstance(on_false, Tensor):
        column(core, op, "on_false", on_false, on_true, INPUTS)
    _reduction(core, op, reduce_op, command)
    if reduce_res is not None:
        column(core, op, "reduce_res", reduce_res, on_true, FLOATS)
    params = {
        "on_false": kind(on_false),
        "reverse_pred": reverse,
        "reduce_op": reduce_op,
        "reduce_cmd": command,
        "reduce_res": reduce_res is not None,
    }
    return Plan(accumulators.lanes(on_true), params)


def select_reduce(
    core: Core,
    dst: Tensor,
    predicate: Tensor,
    on_true: Tensor,
    on_false: float | Tensor,
    reduce_res: Tensor | None,
    command: str,
    reduce_op: str,
    reverse: bool,
    name: str | None = None,
) -> Instruction:
    """``on_true`` where the predicate holds, else ``on_false``."""
    on_false = constant("select_reduce", "on_false", on_false)
    plan = core.checked(_select_plan, dst, predicate, on_true, on_false, reduce_res, command, reduce_op, bool(reverse))
    result: Array | None = None
    if core.values:
        values = core.read_float32(on_true)
        holds = core.read(predicate).reshape(values.shape) != 0
        other = scalar_float32(core, on_false, values.ndim)
        result = np.where(holds, other, values) if reverse else np.where(holds, values, other)
        core.carry_as(lambda missing: missing.reshape(holds.shape) & (holds != reverse), on_true)
    conclude(core, "select_reduce", Engine.vector, plan.lanes, dst, result, reduce_op, reduce_res, command)
    reads = reads_of(on_true, predicate, on_false) + indices_of(dst)
    writes = (dst,) if reduce_res is None else (dst, reduce_res)
    return core.record("select_reduce", Engine.vector, writes, reads, plan.params, name)
