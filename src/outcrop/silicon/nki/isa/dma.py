"""Data movement by DMA, between cores, and barriers."""

from __future__ import annotations

from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa.constants import dge_mode, dma_engine, engine, oob_mode


def dma_copy(
    dst: Tensor,
    src: Tensor,
    priority: Any = None,
    oob_mode: Any = oob_mode.error,
    dge_mode: Any = dge_mode.unknown,
    engine: Any = engine.unknown,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.dma_copy is not built yet.")


def dma_transpose(
    dst: Tensor,
    src: Tensor,
    axes: Any = None,
    priority: Any = None,
    dge_mode: Any = dge_mode.unknown,
    oob_mode: Any = oob_mode.error,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.dma_transpose is not built yet.")


def dma_compute(
    dst: Tensor,
    srcs: Any,
    reduce_op: Any,
    scales: Any = None,
    unique_indices: Any = True,
    oob_mode: Any = oob_mode.error,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.dma_compute is not built yet.")


def sendrecv(
    src: Any,
    dst: Any,
    send_to_rank: Any,
    recv_from_rank: Any,
    pipe_id: Any,
    dma_engine: Any = dma_engine.dma,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.sendrecv is not built yet.")


def core_barrier(data: Tensor, cores: Any, engine: Any = engine.gpsimd, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.core_barrier is not built yet.")
