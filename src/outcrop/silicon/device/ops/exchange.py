"""Between the cores of a logical core: sendrecv exchanges tiles, core_barrier waits for the other.

Both are meetings: a core that comes first sleeps until the other has come (see ``turns``). The records of the cores
have the meeting's number under ``meeting``, by which a clock or a search for races joins them.

Choices where the documentation is silent: the barrier reads and writes ``data`` as far as the record tells, since it
orders what was done to it before against what is done after. A logical core of one core may wait for itself, ``(0,)``.
The whole core stops at a meeting here, as its instructions run in program order; on the chip only one engine does.
Kernels send tiles padded to 16 partitions, as the GpSimd engine's own transfers need: elements that nothing wrote may
be sent beside others, and count as unwritten where they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import checks, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.ops.dma import dma_operand, index_operand, index_operands
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import is_relaxed, refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.source import Source, caller
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.device.turns import DEADLOCK

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

LOGICAL_CORE = rules.rule(
    "logical-core",
    "Cores name each other only within a logical core of several, by its numbers.",
    f"{rules.NKI_ISA}, sendrecv and core_barrier",
    relaxable=False,
)
# Bytes of one partition that the GpSimd engine's own DMA carries, by the size of an element.
GPSIMD_DMA_BYTES = {4: 1024, 2: 512, 1: 256}
_BARRIER_ENGINES = (Engine.gpsimd, Engine.vector, Engine.scalar, Engine.tensor, Engine.sync)


class _Parcel(NamedTuple):
    """What one core brings to a sendrecv."""

    to_core: int
    from_core: int
    src: Tensor
    dst: Tensor
    values: Array | None
    missing: Array | None  # elements of them that nothing wrote
    source: Source


class _Delivered(NamedTuple):
    meeting: int
    parcels: dict[int, _Parcel]  # by the core that sent them


def sendrecv(
    core: Core,
    src: Tensor,
    dst: Tensor,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: int,
    dma_engine: str = "dma",
    name: str | None = None,
) -> Instruction:
    """Send ``src`` to one core's ``dst`` and receive another's into this ``dst``, once both have come."""
    indices = (*index_operands(src), *index_operands(dst))
    params: Mapping[str, Any] = core.checked(
        _check_sendrecv, src, dst, send_to_rank, recv_from_rank, pipe_id, dma_engine, *indices
    )
    missing = _missing(src, dst) if core.values else None
    values = None
    if core.values:
        values = np.array(core.read(src) if missing is None else src.array)
    parcel = _Parcel(send_to_rank, recv_from_rank, src, dst, values, missing, caller())
    cores = [each for each in core.machine.cores if each.rank == core.rank]
    delivered = core.machine.meet(
        core, ("sendrecv", core.rank, pipe_id), cores, f"sendrecv with pipe_id={pipe_id}", parcel, _deliver
    )
    received = delivered.parcels[recv_from_rank]
    if received.values is not None:
        core.write(dst, received.values)
        if received.missing is not None:
            dst.storage.forget(dst, received.missing)
    engine = Engine.gpsimd if dma_engine == "gpsimd_dma" else Engine.dma
    params = {**params, "meeting": delivered.meeting}
    return core.record("sendrecv", engine, (dst,), (src, *indices), params, name)


def _deliver(parcels: dict[Core, _Parcel]) -> _Delivered:
    by_index = {core.index: parcel for core, parcel in parcels.items()}
    for index, parcel in by_index.items():
        target = by_index[parcel.to_core]
        if target.from_core != index or by_index[parcel.from_core].to_core != index:
            each = "; ".join(
                f"core {at} sends to {one.to_core} and receives from {one.from_core} at {one.source}"
                for at, one in sorted(by_index.items())
            )
            refuse(
                DEADLOCK,
                f"The cores of a sendrecv wait for each other in vain: {each}.",
                "Whoever sends must be received from: on two cores both ranks are nl.program_id(0) ^ 1.",
            )
        if target.dst.shape != parcel.src.shape or target.dst.dtype is not parcel.src.dtype:
            refuse(
                rules.OPERAND_SHAPE,
                f"sendrecv sends {parcel.src.describe()} from core {index} to {target.dst.describe()} of core "
                f"{parcel.to_core}.",
                "What is sent and where it is received have the same shape and type.",
            )
    meeting = next(iter(parcels)).machine.next_meeting()
    return _Delivered(meeting, by_index)


def _missing(src: Tensor, dst: Tensor) -> Array | None:
    """Which elements of a part-written tile nothing wrote; None where all are, or where reading it is refused."""
    if src.is_indirect() or dst.is_indirect() or src.storage.whole or src.storage.clobbered_by is not None:
        return None
    missing = src.storage.unwritten(src)
    return None if missing is None or missing.all() or is_relaxed(rules.UNINITIALIZED_READ) else missing


def _check_sendrecv(
    core: Core,
    src: Tensor,
    dst: Tensor,
    send_to_rank: int,
    recv_from_rank: int,
    pipe_id: int,
    dma_engine: str,
    *indices: Tensor,
) -> Mapping[str, Any]:
    checks.feature(core, "sendrecv", "logical_cores", "a transfer between the cores of a logical core")
    dma_operand("sendrecv", "src", src)
    dma_operand("sendrecv", "dst", dst, is_written=True)
    for role, tensor in (("src", src), ("dst", dst)):
        index_operand("sendrecv", tensor)
        if tensor.buffer is not MemoryRegion.sbuf:
            refuse(
                rules.OPERAND_MEMORY,
                f"sendrecv cannot use {tensor.describe()} as {role}.",
                f"{role} must be in SBUF; tensors in shared HBM are seen by both cores anyway.",
            )
    if src.dtype is not dst.dtype:
        refuse(
            rules.OPERAND_DTYPE,
            f"sendrecv got src {src.describe()} and dst {dst.describe()}.",
            "Both must have the same type: convert with nisa.tensor_copy first.",
        )
    if src.shape != dst.shape:
        refuse(
            rules.OPERAND_SHAPE,
            f"sendrecv got src {src.describe()} and dst {dst.describe()}.",
            "Both must have the same shape.",
        )
    count = core.machine.cores_per_rank
    for role, rank in (("send_to_rank", send_to_rank), ("recv_from_rank", recv_from_rank)):
        if rank not in range(count) or count < 2:
            refuse(
                LOGICAL_CORE,
                f"sendrecv got {role}={rank!r} on core {core.index} of {count}.",
                "It is the number of a core of the logical core, 0 or 1: launch with kernel[2](...).",
            )
    if dma_engine not in ("dma", "gpsimd_dma"):
        refuse(rules.PARAMETER, f"sendrecv got dma_engine={dma_engine!r}.", "It is a member of nisa.dma_engine.")
    size = src.free_size * src.dtype.itemsize
    limit = GPSIMD_DMA_BYTES[src.dtype.itemsize]
    if dma_engine == "gpsimd_dma" and size > limit:
        refuse(
            rules.PARAMETER,
            f"sendrecv by dma_engine.gpsimd_dma got src {src.describe()} with {size} bytes in each partition.",
            f"That engine carries {limit} bytes of {src.dtype.itemsize}-byte elements: send it in parts, or use "
            "dma_engine.dma.",
        )
    return {
        "send_to_rank": send_to_rank,
        "recv_from_rank": recv_from_rank,
        "pipe_id": pipe_id,
        "dma_engine": dma_engine,
    }


def core_barrier(
    core: Core, data: Tensor, cores: tuple[int, ...], engine: Engine = Engine.gpsimd, name: str | None = None
) -> Instruction:
    """Wait until every core of the logical core has come here."""
    chosen: Engine = core.checked(_check_barrier, data, cores, engine)
    members = [each for each in core.machine.cores if each.rank == core.rank]
    meeting = core.machine.meet(
        core, ("core_barrier", core.rank, data.storage), members, f"core_barrier on {data.name}", None, _number
    )
    params = {"cores": cores, "meeting": meeting}
    return core.record("core_barrier", chosen, (data,), (data,), params, name)


def _number(arrivals: dict[Core, None]) -> int:
    return next(iter(arrivals)).machine.next_meeting()


def _check_barrier(core: Core, data: Tensor, cores: tuple[int, ...], engine: Engine) -> Engine:
    checks.feature(core, "core_barrier", "logical_cores", "a barrier between the cores of a logical core")
    dma_operand("core_barrier", "data", data)
    if data.buffer is not MemoryRegion.shared_hbm:
        refuse(
            rules.OPERAND_MEMORY,
            f"core_barrier cannot use {data.describe()} as data.",
            "data is what the cores share: a tensor in shared HBM.",
        )
    count = core.machine.cores_per_rank
    if cores != tuple(range(count)):
        refuse(
            LOGICAL_CORE,
            f"core_barrier got cores={cores} on a logical core of {count}.",
            f"It names all cores: {tuple(range(count))}" + (", or launch with kernel[2](...)." if count == 1 else "."),
        )
    return checks.engine_in(core, "core_barrier", engine, _BARRIER_ENGINES)
