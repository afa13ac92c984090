"""Data movement by DMA, between cores, and barriers."""

from __future__ import annotations

from enum import Enum
from typing import Any

from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops import dma as ops
from outcrop.silicon.device.ops import dma_compute as computes
from outcrop.silicon.device.ops import dma_transpose as transposes
from outcrop.silicon.device.ops import exchange as exchanges
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa import constants
from outcrop.silicon.nki.isa.constants import dge_mode, dma_engine, engine, oob_mode
from outcrop.silicon.nki.operators import operator_name


def dma_copy(
    dst: Tensor,
    src: Tensor,
    priority: Any = None,
    oob_mode: Any = oob_mode.error,
    dge_mode: Any = dge_mode.unknown,
    engine: Any = engine.unknown,
    name: Any = None,
) -> Instruction:
    """Copy ``src`` to ``dst`` by DMA: as many elements, in row-major order, in HBM or SBUF.

    Equal types are copied bit by bit, others through float32. Either operand may have a run-time start (a slice with a
    register, ``ap`` with ``scalar_offset``); a tensor in HBM may have its rows picked by a ``[P, 1]`` tensor of indices
    (``vector_select``, ``ap`` with ``vector_offset``): a gather as ``src``, a scatter as ``dst``. Indices outside the
    tensor are refused, or with ``oob_mode.skip`` their rows are left as they are.

    ``dge_mode`` says who makes the descriptors: ``hwdge`` needs a chip that has it, and with it ``engine`` may be sync
    or scalar; gathers and scatters need ``swdge``. ``priority`` is 0 to 3 on chips that have it.
    """
    return ops.dma_copy(
        current(), dst, src, priority, _is_skip(oob_mode), _mode(dge_mode, constants.dge_mode), engine, name
    )


def dma_transpose(
    dst: Tensor,
    src: Tensor,
    axes: Any = None,
    priority: Any = None,
    dge_mode: Any = dge_mode.unknown,
    oob_mode: Any = oob_mode.error,
    name: Any = None,
) -> Instruction:
    """Transpose ``src`` (HBM or SBUF) into ``dst`` (SBUF, the same type, the transposed shape) by DMA, bit by bit.

    A 2-D source is transposed by ``(1, 0)``, a 3-D one by ``(2, 1, 0)``, a 4-D one by ``(3, 1, 2, 0)``. Elements have
    2 bytes, in the 4-D form perhaps 4, and rows of ``dst`` are a multiple of 32 bytes apart.

    With ``dge_mode.hwdge``: 16 rows in 2-D; in 3-D and 4-D 1, 2, 4, 8 or 16, whose product with the last dimension but
    one is a multiple of 16; at most 128 columns; 2 bytes.

    Rows of a source in HBM may be picked by ``indices`` (``vector_offset``), a ``[16 to 128, 1]`` or ``[128, N]``
    tensor of uint32 in SBUF that is read column by column: then ``src`` has a multiple of 16 rows of at most 128
    elements of 2 bytes, and one of two middle dimensions is 1. ``oob_mode.skip`` leaves columns out whose row lies
    outside.
    """
    order = None if axes is None else tuple(axes)
    return transposes.dma_transpose(
        current(), dst, src, order, priority, _mode(dge_mode, constants.dge_mode), _is_skip(oob_mode), name
    )


def dma_compute(
    dst: Tensor,
    srcs: Any,
    reduce_op: Any,
    scales: Any = None,
    unique_indices: Any = True,
    oob_mode: Any = oob_mode.error,
    name: Any = None,
) -> Instruction:
    """Add 1 to 16 tensors in HBM or SBUF by DMA, in float32 and in the order given, rounded once to ``dst``'s type.

    All have as many elements. ``reduce_op`` is ``nl.add``; ``scales`` are all 1.0 or left out. With rows picked by
    ``vector_offset`` there are two sources, one of them ``dst`` itself: ``dst`` in HBM picks the rows that a tile in
    SBUF is added to, or a source in HBM picks the rows that are added to ``dst`` in SBUF. Indices must be unique.
    """
    given = None if scales is None else tuple(scales)
    return computes.dma_compute(
        current(), dst, srcs, operator_name(reduce_op), given, bool(unique_indices), _is_skip(oob_mode), name
    )


def sendrecv(
    src: Any,
    dst: Any,
    send_to_rank: Any,
    recv_from_rank: Any,
    pipe_id: Any,
    dma_engine: Any = dma_engine.dma,
    name: Any = None,
) -> Instruction:
    """Exchange tiles with the other core of a logical core: send ``src``, receive into ``dst``.

    Both lie in SBUF and have the same shape and type. Ranks are numbers of cores, 0 or 1. Both cores must come with the
    same ``pipe_id`` and ranks that match. ``dma_engine.gpsimd_dma`` carries at most 1024, 512 or 256 bytes of each
    partition for elements of 4, 2 or 1 bytes.
    """
    return exchanges.sendrecv(
        current(), src, dst, send_to_rank, recv_from_rank, pipe_id, _mode(dma_engine, constants.dma_engine), name
    )


def core_barrier(data: Tensor, cores: Any, engine: Any = engine.gpsimd, name: Any = None) -> Instruction:
    """Wait until both cores of a logical core have come here, having finished what they did to ``data``.

    ``data`` is a tensor in shared HBM, ``cores`` is ``(0, 1)``; ``engine`` is the one that waits on the chip.
    """
    return exchanges.core_barrier(current(), data, tuple(cores), engine, name)


def _mode(given: Any, modes: type[Enum]) -> str:
    """A mode by its name: a member, its number as older kernels write it, or ``None`` for the first, the default."""
    if isinstance(given, modes):
        return given.name
    for member in modes:
        if given == member.value or (given is None and member.value == 0):
            return member.name
    return str(getattr(given, "name", given))  # for the check to refuse


def _is_skip(mode: Any) -> bool:
    return _mode(mode, constants.oob_mode) == "skip"
