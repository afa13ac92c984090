"""Affine index patterns of the gpsimd engine: iota writes them, affine_select chooses by their sign.

The value at partition p and free position (w, z, y, x) is offset + p * channel_multiplier + w * step_w + … + x * step_x
in 32-bit integers, which wrap. Source: NKI ISA API (NKI 0.6.0), ``iota`` and ``affine_select``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import access, checks, dtypes, rules
from outcrop.silicon.device.dtypes import Array, store
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

Pattern = tuple[tuple[int, int], ...]

_MOST_DIMENSIONS = 4
_SIGNED_32 = range(-(2**31), 2**31)
_COMPARISONS: dict[str, Callable[[Array, int], Array]] = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
}


def iota(
    core: Core, dst: Tensor, pattern: Sequence[Sequence[int]], offset: object, channel_multiplier: int, name: str | None
) -> Instruction:
    """Write the affine values, cast to the type of ``dst``. ``offset`` may be a register."""
    steps, scale = _pattern(pattern), int(channel_multiplier)
    row = core.checked(_check_iota, dst, steps, scale)
    if core.values:
        core.write(dst, _affine(core, row, dst.shape[0], scale, offset).reshape(dst.shape))
    return core.record("iota", Engine.gpsimd, (dst,), _reads(offset), _params(steps, offset, scale), name)


def affine_select(
    core: Core,
    dst: Tensor,
    pattern: Sequence[Sequence[int]],
    channel_multiplier: int,
    on_true_tile: Tensor,
    on_false_value: float,
    cmp_op: str,
    offset: object,
    name: str | None,
) -> Instruction:
    """``on_true_tile`` where ``cmp_op(affine value, 0)`` holds, else the constant. Equal types move bits."""
    steps, scale = _pattern(pattern), int(channel_multiplier)
    other = _constant(on_false_value)
    row = core.checked(_check_select, dst, on_true_tile, steps, scale, cmp_op)
    if core.values:
        chosen = _COMPARISONS[cmp_op](_affine(core, row, dst.shape[0], scale, offset), 0)
        values = core.read(on_true_tile)
        core.carry_as(lambda missing: missing.reshape(chosen.shape) & chosen)
        if dst.dtype is on_true_tile.dtype:
            constant = np.empty(1, dst.dtype.numpy)
            store(constant, np.array([other], np.float32), dst.dtype)
        else:
            values = dtypes.to_float32(values, on_true_tile.dtype)
            constant = np.array([other], np.float32)
        core.write(dst, np.where(chosen, values.reshape(chosen.shape), constant).reshape(dst.shape))
    params = _params(steps, offset, scale) | {"cmp_op": cmp_op}
    return core.record("affine_select", Engine.gpsimd, (dst,), (on_true_tile, *_reads(offset)), params, name)


def _affine(core: Core, row: Array, partitions: int, scale: int, offset: object) -> Array:
    """``[P, elements]`` in wrapping int32."""
    start = (access.scalar_value(core, offset) + 2**31) % 2**32 - 2**31
    first = np.arange(partitions, dtype=np.int32) * np.int32(scale) + np.int32(start)
    values: Array = first[:, None] + row
    return values


def _pattern(pattern: Sequence[Sequence[int]]) -> Pattern:
    return tuple([(int(step), int(count)) for step, count in pattern])


def _reads(offset: object) -> tuple[Tensor, ...]:
    return (offset,) if isinstance(offset, Tensor) else ()


def _params(steps: Pattern, offset: object, scale: int) -> dict[str, object]:
    held = None if isinstance(offset, Tensor | VirtualRegister) else int(offset)  # type: ignore[call-overload]
    return {"pattern": steps, "offset": held, "channel_multiplier": scale}


def _constant(value: object) -> float:
    if isinstance(value, Tensor | VirtualRegister) or not hasattr(value, "__float__"):
        refuse(
            rules.PARAMETER,
            f"affine_select got on_false_value={value!r}.",
            "on_false_value is one float32 number.",
        )
    return float(value)  # type: ignore[arg-type]


# -- static rules; they also make the row of the pattern, without offset and partition ---------------------------------


def _check_iota(core: Core, dst: Tensor, steps: Pattern, scale: int) -> Array:
    checks.engine_operand(core, "iota", "dst", dst, checks.SBUF_ONLY)
    return _row("iota", dst, steps, scale)


def _check_select(core: Core, dst: Tensor, on_true_tile: Tensor, steps: Pattern, scale: int, cmp_op: str) -> Array:
    op = "affine_select"
    checks.engine_operand(core, op, "dst", dst, checks.SBUF_ONLY)
    checks.engine_operand(core, op, "on_true_tile", on_true_tile, checks.SBUF_ONLY)
    checks.same_elements(core, op, on_true_tile=on_true_tile, dst=dst)
    if cmp_op not in _COMPARISONS:
        refuse(rules.PARAMETER, f"{op} got cmp_op={cmp_op}.", f"It compares with: {', '.join(_COMPARISONS)}.")
    return _row(op, dst, steps, scale)


def _row(op: str, dst: Tensor, steps: Pattern, scale: int) -> Array:
    counts = tuple(count for _, count in steps)
    if not 1 <= len(steps) <= _MOST_DIMENSIONS or min(counts) < 1 or any(s not in _SIGNED_32 for s, _ in steps):
        refuse(
            rules.PARAMETER,
            f"{op} got pattern={[list(each) for each in steps]}.",
            f"A pattern has 1 to {_MOST_DIMENSIONS} pairs [step, count] of 32-bit integers, outermost first, with "
            "counts of at least 1.",
        )
    if scale not in _SIGNED_32:
        refuse(rules.PARAMETER, f"{op} got channel_multiplier={scale}.", "It is a signed integer of 32 bits.")
    if math.prod(counts) != dst.free_size:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got dst {dst.describe()} and pattern={[list(each) for each in steps]}, {math.prod(counts)} values.",
            f"The counts must multiply to {dst.free_size}, the elements of each partition of dst.",
        )
    row = np.zeros((1,), np.int32)
    for step, count in steps:
        row = (row[:, None] + np.arange(count, dtype=np.int32) * np.int32(step)).reshape(-1)
    return row
