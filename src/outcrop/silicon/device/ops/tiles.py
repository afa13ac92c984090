"""What activations, statistics and selections share beyond ``operands``: tiles, parameters, results, reductions.

A tile is a data operand of any number type; a parameter is a number, or a tensor with one element in each of the data's
partitions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device import accumulators, alu, checks, rules
from outcrop.silicon.device.dtypes import ALL, Array, DType, tfloat32
from outcrop.silicon.device.ops import operands
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

NUMBERS = tuple(each for each in ALL if each.lanes == 1)  # what engines convert to float32: all but packed types
INPUTS = tuple(each for each in NUMBERS if each is not tfloat32)
FLOATS = tuple(each for each in NUMBERS if each.is_float)


def constant(op: str, role: str, value: Any) -> float | Tensor:
    """A number as a float, a tensor as it is; anything else is refused."""
    if type(value) is float or isinstance(value, Tensor):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        refuse(
            rules.PARAMETER,
            f"{op} got {role}={value!r}, a {type(value).__name__}.",
            f"{role} must be a number, or a tensor with one element in each partition.",
        )
        raise AssertionError("refused") from None


def kind(parameter: float | Tensor | None) -> float | str | None:
    """For records: the constant, or that it is a vector."""
    return "vector" if isinstance(parameter, Tensor) else parameter


def tile(core: Core, op: str, role: str, tensor: Tensor, allowed: Collection[DType] = NUMBERS) -> None:
    checks.engine_operand(core, op, role, tensor)
    checks.dtype_in(core, op, role, tensor, allowed)


def column(core: Core, op: str, role: str, tensor: Tensor, data: Tensor, allowed: Collection[DType] = NUMBERS) -> None:
    """A tensor with one element in each of the data's partitions."""
    checks.engine_operand(core, op, role, tensor)
    operands.column(core, op, role, tensor, data.shape[0])
    checks.dtype_in(core, op, role, tensor, allowed)


def in_place(dst: Tensor, shape: tuple[int, ...]) -> Array | None:
    """As in ``operands``; and each element must have a place of its own, since a reduction reads the result again."""
    out = operands.in_place(dst, shape)
    return out if out is None or dst.is_contiguous() else None


def finish(core: Core, dst: Tensor, result: Array) -> None:
    """Round and write the result, or only note it where it was computed in place."""
    if dst.dynamic is None and dst.index is None and result is dst.array:
        core.mark_written(dst)
    else:
        core.write(dst, result if result.shape == dst.shape else result.reshape(dst.shape))


def reads_of(*given: object) -> tuple[Tensor, ...]:
    """For records: the operands that are tensors, each followed by the tensors that hold its run-time address."""
    found: list[Tensor] = []
    for each in given:
        if isinstance(each, Tensor):
            found.append(each)
            if each.dynamic is not None:
                found.extend(indices_of(each))
    return tuple(found)


def indices_of(tensor: Tensor) -> tuple[Tensor, ...]:
    """For records: the tensors that hold a run-time address, which an instruction reads even to write there."""
    dynamic = tensor.dynamic
    if dynamic is None:
        return ()
    return tuple(each for each in (dynamic.scalar, dynamic.vector, dynamic.columns) if isinstance(each, Tensor))


# -- results and accumulator registers ---------------------------------------------------------------------------------


def require_command(op: str, command: str, allowed: tuple[str, ...]) -> None:
    if command not in allowed:
        refuse(
            rules.PARAMETER,
            f"{op} got reduce_cmd.{command}.",
            f"It takes: {', '.join('reduce_cmd.' + each for each in allowed)}.",
        )


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
    registers.follow(core, lanes, command)
    registers.hold(lanes, total)


def read_out(core: Core, op: str, lanes: slice, reduce_res: Tensor, engine: Engine) -> None:
    """Write the registers, one for each partition, into ``reduce_res``."""
    registers = accumulators.of(core, engine)
    values = registers.read(lanes, op)
    if core.values:
        registers.carry_out(core, lanes, reduce_res)
        core.write(reduce_res, values.reshape(reduce_res.shape))


def conclude(
    core: Core,
    op: str,
    engine: Engine,
    lanes: slice,
    dst: Tensor,
    result: Array | None,
    reduce_op: str,
    reduce_res: Tensor | None,
    command: str,
    loaded: float | Array = 0.0,
) -> None:
    """Accumulate, then write ``dst``, then read the registers out: ``dst`` may be the data, and overlap both.

    ``result`` is ``None`` where no values are computed.
    """
    accumulate(core, op, lanes, result, reduce_op or "add", command, engine, loaded)
    if result is not None:
        finish(core, dst, result)
    if reduce_res is not None:
        read_out(core, op, lanes, reduce_res, engine)
