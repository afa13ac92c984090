"""The tensor engine: matrix multiplication, transposes, and quantisation for it."""

from __future__ import annotations

from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa.constants import engine, matmul_perf_mode


def nc_matmul(
    dst: Tensor,
    stationary: Tensor,
    moving: Tensor,
    is_stationary_onezero: Any = False,
    is_moving_onezero: Any = False,
    is_transpose: Any = False,
    accumulate: Any = None,
    tile_position: Any = (),
    tile_size: Any = (),
    perf_mode: Any = matmul_perf_mode.none,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.nc_matmul is not built yet.")


def nc_matmul_mx(
    dst: Tensor,
    stationary: Tensor,
    moving: Tensor,
    stationary_scale: Tensor,
    moving_scale: Tensor,
    tile_position: Any = None,
    tile_size: Any = None,
    accumulate: Any = None,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.nc_matmul_mx is not built yet.")


def nc_transpose(dst: Tensor, data: Tensor, engine: Any = engine.unknown, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.nc_transpose is not built yet.")


def quantize_mx(dst: Tensor, src: Tensor, dst_scale: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.quantize_mx is not built yet.")
