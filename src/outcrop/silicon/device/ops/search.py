"""The vector engine's searches for eight values in each partition: max8, nc_find_index8, nc_match_replace8.

Values are compared after the up-cast to float32, so integers beyond 2^24 may count as equal, and -0 equals +0.
Source: NKI ISA API (NKI 0.6.0) of the three instructions.

Not covered: what the hardware does with NaN is not documented. Here NaN is the largest value of max8, and never found.
Where nc_match_replace8 finds no match, ``dst_idx`` becomes all ones as nc_find_index8 documents for its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import carry, checks, dtypes, rules
from outcrop.silicon.device.dtypes import Array, store
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

EIGHT = 8
_SHORTEST, _LONGEST = 8, 16384
_INDEX_TYPES = (dtypes.uint16, dtypes.uint32)
_FREE_DIMENSIONS = 2
_AT_ONCE = 8192  # elements up to which one comparison with all eight values is faster than eight


def max8(core: Core, dst: Tensor, src: Tensor, name: str | None) -> Instruction:
    """The 8 largest values of each partition in descending order."""
    core.checked(_check_max8, dst, src)
    if core.values:
        values = core.read_float32(src).reshape(src.shape[0], -1)
        count = values.shape[1]
        largest = values if count == EIGHT else np.partition(values, count - EIGHT, axis=1)[:, count - EIGHT :]
        core.carry_as(carry.rows)
        core.write(dst, np.sort(largest, axis=1)[:, ::-1].reshape(dst.shape))
    return core.record("max8", Engine.vector, (dst,), (src,), name=name)


def nc_find_index8(core: Core, dst: Tensor, data: Tensor, vals: Tensor, name: str | None) -> Instruction:
    """For each of 8 values the position of its first occurrence; equal values take occurrences in ascending order."""
    core.checked(_check_find, dst, data, vals)
    if core.values:
        positions, found = _pair(core, data, vals, range(EIGHT))
        core.carry_as(carry.rows)
        core.write(dst, _indices(positions, found, dst).reshape(dst.shape))
    return core.record("nc_find_index8", Engine.vector, (dst,), (data, vals), name=name)


def nc_match_replace8(
    core: Core, dst: Tensor, data: Tensor, vals: Tensor, imm: float, dst_idx: Tensor | None, name: str | None
) -> Instruction:
    """``data`` with the first occurrence of each of 8 values replaced by ``imm``; the positions go to ``dst_idx``.

    Equal values take occurrences in descending order of their columns: the last column gets the first occurrence.
    """
    replacement = float(imm)
    core.checked(_check_replace, dst, data, vals, *(() if dst_idx is None else (dst_idx,)))
    if core.values:
        positions, found = _pair(core, data, vals, range(EIGHT - 1, -1, -1))
        core.carry_as(carry.rows)
        source = core.read(data)
        result = (source if dst.dtype is data.dtype else dtypes.to_float32(source, data.dtype)).copy()
        flat = result.reshape(data.shape[0], -1)
        rows = np.arange(flat.shape[0])[:, None]
        if found.all():
            flat[rows, positions] = _rounded(replacement, flat.dtype, dst)
        else:
            kept, column = np.nonzero(found)
            flat[kept, positions[kept, column]] = _rounded(replacement, flat.dtype, dst)
        core.write(dst, result.reshape(dst.shape))
        if dst_idx is not None:
            core.write(dst_idx, _indices(positions, found, dst_idx).reshape(dst_idx.shape))
    writes = (dst,) if dst_idx is None else (dst, dst_idx)
    params = {"indices": dst_idx is not None}
    return core.record("nc_match_replace8", Engine.vector, writes, (data, vals), params, name)


def _pair(core: Core, data: Tensor, vals: Tensor, order: range) -> tuple[Array, Array]:
    """``[P, 8]`` positions and whether there is one: each value takes its first occurrence that no earlier one took."""
    wanted = core.read_float32(vals).reshape(vals.shape[0], -1)
    if data.size <= _AT_ONCE:
        ordered = np.sort(wanted, axis=1)
        if not (ordered[:, 1:] == ordered[:, :-1]).any():
            matches = core.read_float32(data).reshape(data.shape[0], 1, -1) == wanted[:, :, None]
            positions = matches.argmax(axis=2)
            return positions, np.take_along_axis(matches, positions[:, :, None], axis=2)[:, :, 0]
    rest = core.read(data).astype(np.float32).reshape(data.shape[0], -1)  # a copy: what is taken becomes NaN
    rows = np.arange(rest.shape[0])
    positions = np.empty((rest.shape[0], EIGHT), np.int64)
    found = np.empty((rest.shape[0], EIGHT), np.bool_)
    for each in order:
        matches = rest == wanted[:, each, None]
        at = matches.argmax(axis=1)
        hit = matches[rows, at]
        rest[rows[hit], at[hit]] = np.nan
        positions[:, each] = at
        found[:, each] = hit
    return positions, found


def _indices(positions: Array, found: Array, target: Tensor) -> Array:
    chosen: Array = np.where(found, positions, -1).astype(target.dtype.numpy)  # -1 is all ones
    return chosen


def _rounded(value: float, kind: np.dtype[np.generic], dst: Tensor) -> Array:
    """``value`` as it lies in an array of ``kind``: dst's own type, else float32 that is rounded later."""
    one = np.empty(1, kind)
    if kind == dst.dtype.numpy:
        store(one, np.array([value], np.float32), dst.dtype)
    else:
        one[0] = value
    return one


# -- static rules ------------------------------------------------------------------------------------------------------


def _check_max8(core: Core, dst: Tensor, src: Tensor) -> None:
    checks.engine_operand(core, "max8", "dst", dst)
    _check_searched(core, "max8", "src", src)
    _check_eight("max8", "dst", dst, src)


def _check_find(core: Core, dst: Tensor, data: Tensor, vals: Tensor) -> None:
    op = "nc_find_index8"
    checks.engine_operand(core, op, "dst", dst)
    _check_searched(core, op, "data", data)
    checks.engine_operand(core, op, "vals", vals)
    _check_eight(op, "vals", vals, data)
    _check_eight(op, "dst", dst, data)
    checks.dtype_in(core, op, "dst", dst, _INDEX_TYPES)


def _check_replace(core: Core, dst: Tensor, data: Tensor, vals: Tensor, dst_idx: Tensor | None = None) -> None:
    op = "nc_match_replace8"
    checks.engine_operand(core, op, "dst", dst)
    _check_searched(core, op, "data", data)
    checks.engine_operand(core, op, "vals", vals)
    checks.same_elements(core, op, data=data, dst=dst)
    _check_eight(op, "vals", vals, data)
    if dst_idx is not None:
        checks.engine_operand(core, op, "dst_idx", dst_idx)
        _check_eight(op, "dst_idx", dst_idx, data)
        checks.dtype_in(core, op, "dst_idx", dst_idx, _INDEX_TYPES)


def _check_searched(core: Core, op: str, role: str, data: Tensor) -> None:
    checks.engine_operand(core, op, role, data)
    if not _SHORTEST <= data.free_size <= _LONGEST:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {data.describe()}: {data.free_size} elements per partition.",
            f"It searches {_SHORTEST} to {_LONGEST} elements per partition: pad or split the free dimension.",
        )
    if checks.free_dimensions(data) > _FREE_DIMENSIONS:
        refuse(
            rules.FREE_DIMENSIONS,
            f"{op} got {role} {data.describe()} with pattern {data.get_pattern()}.",
            f"{role} has at most {_FREE_DIMENSIONS} free dimensions after merging those that lie back to back.",
        )


def _check_eight(op: str, role: str, tensor: Tensor, beside: Tensor) -> None:
    if tensor.free_size != EIGHT or tensor.shape[0] != beside.shape[0]:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {tensor.describe()} beside {beside.describe()}.",
            f"{role} must be [{beside.shape[0]}, {EIGHT}]: 8 elements in each of the same partitions.",
        )
