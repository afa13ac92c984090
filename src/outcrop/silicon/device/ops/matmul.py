"""Matrix multiplication on the tensor engine: ``dst (+)= stationary.T @ moving``, summed in float32 into PSUM.

Products and sums are NumPy's in float32; the order in which the systolic array adds is not documented, so the last bits
of a sum are this implementation's own. Not covered: stochastic rounding of bf16 results, sparse matmul, the FP8_E3
format, and which bits of a float32 operand read as tfloat32 are dropped (none are here).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import accumulation, checks, dtypes, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.ops.tensor_engine import (
    PE_TILING,
    as_read,
    check_indirect,
    check_output,
    check_psum,
    check_sizes,
    check_tiling,
    run_time_operands,
)
from outcrop.silicon.device.ops.transpose import put_exact, require_transposable, rows_to_move
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

MATMUL_MIX = rules.rule(
    "matmul-mix",
    "float32 multiplies only float32 or tfloat32, and float8_e4m3 never float8_e4m3fn.",
    rules.NKI_ISA,
)
TRANSPOSE_IDENTITY = rules.rule(
    "transpose-identity",
    "The moving operand of a matmul with is_transpose is an identity matrix, or at most one 1 in each column.",
    rules.NKI_ISA,
)

_FLOAT8 = (dtypes.float8_e4m3, dtypes.float8_e5m2)
_WIDE = (dtypes.float32, dtypes.tfloat32)
_OPERANDS = (dtypes.bfloat16, dtypes.float16, *_WIDE, *_FLOAT8)


class Plan(NamedTuple):
    """What the static rules found out about one kind of matmul."""

    params: Mapping[str, Any]
    double_row: bool
    exact: bool  # a transpose that moves bits


def nc_matmul(
    core: Core,
    dst: Tensor,
    stationary: Tensor,
    moving: Tensor,
    onezero: tuple[bool, bool] = (False, False),
    is_transpose: bool = False,
    accumulate: bool | None = None,
    tile_position: tuple[int, ...] = (),
    tile_size: tuple[int, ...] = (),
    perf_mode: str = "none",
    name: str | None = None,
) -> Instruction:
    """``onezero`` are the hints on stationary and moving; they change time, never values."""
    dst, stationary, moving = as_read(dst), as_read(stationary), as_read(moving)
    plan = core.checked(
        _check, dst, stationary, moving, onezero, is_transpose, accumulate, tile_position, tile_size, perf_mode
    )
    if core.values:
        if plan.exact:
            _transpose(core, dst, stationary, moving)
        else:
            multiply(core, dst, _operand(core, stationary, plan), _operand(core, moving, plan), accumulate)
    reads = (stationary, moving, *run_time_operands(dst, stationary, moving))
    return core.record("nc_matmul", Engine.tensor, (dst,), reads, plan.params, name)


def multiply(core: Core, dst: Tensor, stationary: Array, moving: Array, accumulate: bool | None) -> None:
    """``dst (+)= stationary.T @ moving`` of float32 arrays ``[K, M]`` and ``[K, N]``."""
    with np.errstate(all="ignore"):  # infinities and NaN are results like others
        if len(dst.shape) == 2 and accumulation.is_fresh(dst, accumulate):
            np.matmul(stationary.T, moving, out=dst.array)
            accumulation.wrote(dst)
        else:
            accumulation.add(core, dst, np.matmul(stationary.T, moving), accumulate)


def _operand(core: Core, tensor: Tensor, plan: Plan) -> Array:
    """As a float32 matrix ``[K, free]``; both operands of a double row put their pairs in the same order."""
    values = core.read_float32(tensor, defined=True)
    shape = tensor.shape
    if plan.double_row:
        return values.reshape(2 * shape[0], -1)
    return values if len(shape) == 2 else values.reshape(shape[0], -1)


def _transpose(core: Core, dst: Tensor, data: Tensor, identity: Tensor) -> None:
    """Each column of ``identity`` picks with its 1 the row of data that becomes that column of the result."""
    rows, missing = rows_to_move(core, dst, data)
    columns = core.read_float32(identity, defined=True).reshape(identity.shape[0], -1)
    if columns.shape[0] != columns.shape[1] or not np.array_equal(columns, np.eye(len(columns), dtype=np.float32)):
        ones = columns == 1
        if not np.all(ones | (columns == 0)) or ones.sum(axis=0).max() > 1:
            refuse(
                TRANSPOSE_IDENTITY,
                f"nc_matmul with is_transpose=True got moving {identity.describe()}, which is no identity matrix.",
                "Pass nl.shared_identity_matrix(n), or call nisa.nc_transpose.",
            )
        picked, empty = np.argmax(ones, axis=0), ~ones.any(axis=0)
        rows = rows[picked]
        rows[empty] = 0
        if missing is not None:
            missing = missing[picked]
            missing[empty] = False
    put_exact(core, dst, rows.T, None if missing is None else missing.T.reshape(dst.shape))


# -- static rules -----------------------------------------------------------------------------------------------------


def _check(
    core: Core,
    dst: Tensor,
    stationary: Tensor,
    moving: Tensor,
    onezero: tuple[bool, bool],
    is_transpose: bool,
    accumulate: bool | None,
    tile_position: tuple[int, ...],
    tile_size: tuple[int, ...],
    perf_mode: str,
) -> Plan:
    op = "nc_matmul"
    for role, tensor in (("stationary", stationary), ("moving", moving)):
        checks.engine_operand(core, op, role, tensor, checks.SBUF_ONLY)
    checks.engine_operand(core, op, "dst", dst, checks.PSUM_ONLY)
    double_row = perf_mode == "double_row"
    _check_dtypes(core, stationary, moving, double_row)
    exact = is_transpose and core.has("exact_pe_transpose")
    if double_row:
        _check_double_row(core, stationary, moving, is_transpose, tile_size)
    pair = 2 if double_row else 1
    columns, free = stationary.free_size // pair, moving.free_size // pair
    check_sizes(core, op, dst, stationary, moving, columns, free)
    check_tiling(core, op, stationary, columns, tile_position, tile_size)
    check_indirect(op, dst, (stationary, moving), tile_position)
    if is_transpose and moving.is_indirect():
        _refuse_parameter(f"{op} with is_transpose=True got the indirect moving {moving.describe()}.", "Copy it first.")
    if exact:
        require_transposable(core, op, dst, stationary)
        if accumulate:
            refuse(
                accumulation.PSUM_ACCUMULATION,
                f"{op} with is_transpose=True and accumulate=True writes to {dst.describe()}.",
                "A transpose moves bits and adds nothing: leave accumulate out.",
            )
    else:
        check_output(core, op, dst)
    check_psum(core, op, dst)
    params = {
        "accumulate": accumulate,
        "is_transpose": is_transpose,
        "perf_mode": perf_mode,
        "tile_position": tile_position,
        "tile_size": tile_size,
        "is_stationary_onezero": onezero[0],
        "is_moving_onezero": onezero[1],
    }
    return Plan(params, double_row, exact)


def _refuse_parameter(message: str, remedy: str) -> None:
    refuse(rules.PARAMETER, message, remedy)


def _check_dtypes(core: Core, stationary: Tensor, moving: Tensor, double_row: bool) -> None:
    op = "nc_matmul"
    ocp = core.has("float8_e4m3fn")
    if not ocp:
        for role, tensor in (("stationary", stationary), ("moving", moving)):
            if tensor.dtype is dtypes.float8_e4m3fn:
                checks.feature(core, op, "float8_e4m3fn", f"{role} {tensor.describe()}: the type float8_e4m3fn")
    allowed = (*(_FLOAT8 if double_row else _OPERANDS), dtypes.float8_e4m3fn)
    for role, tensor in (("stationary", stationary), ("moving", moving)):
        checks.dtype_in(core, f"{op} with perf_mode double_row" if double_row else op, role, tensor, allowed)
    kinds = {stationary.dtype, moving.dtype}
    if (stationary.dtype in _WIDE) != (moving.dtype in _WIDE):
        refuse(
            MATMUL_MIX,
            f"{op} got stationary {stationary.describe()} and moving {moving.describe()}.",
            "float32 and tfloat32 multiply only each other: convert one operand with nisa.tensor_copy.",
        )
    if kinds == {dtypes.float8_e4m3, dtypes.float8_e4m3fn}:
        refuse(
            MATMUL_MIX,
            f"{op} got stationary {stationary.describe()} and moving {moving.describe()}.",
            "The legacy and the OCP form of float8_e4m3 cannot meet in one matmul: convert one operand.",
        )


def _check_double_row(
    core: Core, stationary: Tensor, moving: Tensor, is_transpose: bool, tile_size: tuple[int, ...]
) -> None:
    op = "nc_matmul"
    checks.feature(core, op, "double_row", "perf_mode double_row")
    for role, tensor in (("stationary", stationary), ("moving", moving)):
        if len(tensor.shape) < 3 or tensor.shape[1] != 2:
            refuse(
                rules.OPERAND_SHAPE,
                f"{op} with perf_mode double_row got {role} {tensor.describe()}.",
                "It takes [K, 2, free]: the contraction is split over partitions and a first free dimension of 2.",
            )
    if is_transpose:
        _refuse_parameter(f"{op} got is_transpose=True with perf_mode double_row.", "A transpose has no such mode.")
    if tile_size and int(tile_size[-1]) < core.limits.partitions:
        refuse(
            PE_TILING,
            f"{op} got tile_size={tile_size} with perf_mode double_row.",
            f"double_row takes all columns: use a column size of {core.limits.partitions}, or no perf_mode.",
        )
