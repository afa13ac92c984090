"""Collectives whose sizes are known only at run time: each rank's counts and places come from a metadata tensor.

Tensors are flat buffers of elements. Metadata has a row of counts to send, one of places to send from, one of counts
received, which the collective fills in unless ``recv_counts_known``, and perhaps one of places to receive at; one
column for each rank of the group. Without places to receive at, the destination is divided into equal slots, one for
each sender.

Choices where the documentation is silent: elements of a destination that nothing was sent to stay as they were; a count
or place outside a buffer, or a chunk larger than its slot, is refused as out of bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from outcrop.silicon.device import checks, rules
from outcrop.silicon.device.dtypes import Array, uint32
from outcrop.silicon.device.ops import ranks
from outcrop.silicon.device.ops.dma import dma_operand
from outcrop.silicon.device.ops.ranks import COLLECTIVE_LIMITS, Call, Groups, Mover, Reads, call_of
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outcrop.silicon.device.core import Core

GATHER_RANKS, GATHER_CORES = 4, 2  # all_gather_v: ranks in a list, cores of a rank


class _Layout(NamedTuple):
    counts_known: bool
    has_places: bool
    gathers: bool  # all_gather_v: one chunk for everyone, in the first column


def all_gather_v(
    core: Core,
    srcs: Sequence[Tensor],
    dsts: Sequence[Tensor],
    groups: Groups,
    metadata: Tensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """Every rank gets a chunk of every rank's source, each in its slot."""
    op = "all_gather_v"
    group = ranks.group_of(core, op, groups)
    if has_rdispls:
        refuse(COLLECTIVE_LIMITS, f"{op} got has_rdispls=True.", "It lays chunks out in equal slots: leave it out.")
    if len(group) != GATHER_RANKS or core.machine.cores_per_rank != GATHER_CORES:
        refuse(
            COLLECTIVE_LIMITS,
            f"{op} over {len(group)} ranks of {core.machine.cores_per_rank} cores.",
            f"It takes lists of {GATHER_RANKS} ranks, each of {GATHER_CORES} cores.",
        )
    layout = _Layout(recv_counts_known, has_rdispls, gathers=True)
    return _run(core, op, srcs, dsts, group, metadata, layout, priority, name)


def all_to_all_v(
    core: Core,
    srcs: Sequence[Tensor],
    dsts: Sequence[Tensor],
    groups: Groups,
    metadata: Tensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """Every rank sends a chunk of its source to each rank of the group."""
    op = "all_to_all_v"
    group = ranks.group_of(core, op, groups)
    if has_rdispls:
        checks.feature(core, op, "receive_places", "has_rdispls=True")
    layout = _Layout(recv_counts_known, has_rdispls, gathers=False)
    return _run(core, op, srcs, dsts, group, metadata, layout, priority, name)


def _run(
    core: Core,
    op: str,
    srcs: Sequence[Tensor],
    dsts: Sequence[Tensor],
    group: tuple[int, ...],
    metadata: Tensor,
    layout: _Layout,
    priority: int | None,
    name: str | None,
) -> Instruction:
    ranks.check_operands(core, op, srcs, dsts, priority, sbuf=False, most=1)
    _check_metadata(op, metadata, len(group), layout)
    params = {
        "recv_counts_known": layout.counts_known,
        "has_rdispls": layout.has_places,
        "tensors": 1,
        "priority": priority,
    }
    call = call_of(srcs, dsts, layout, extra=(metadata,))
    return ranks.run(core, op, group, call, _mover(op, layout), params, name)


def _check_metadata(op: str, metadata: Tensor, count: int, layout: _Layout) -> None:
    dma_operand(op, "metadata_tensor", metadata)
    if metadata.dtype is not uint32:
        refuse(rules.OPERAND_DTYPE, f"{op} got metadata {metadata.describe()}.", "Metadata is nl.uint32.")
    rows = 4 if layout.has_places else 3
    legal: list[tuple[int, ...]] = [
        (rows, count),
        (4, count),
    ]  # row 3 may be left out, and is not looked at, without has_rdispls
    if metadata.on_chip:
        legal = [(1, *shape) for shape in legal]
    if metadata.shape not in legal or not metadata.is_contiguous():
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} over {count} ranks got metadata {metadata.describe()}.",
            f"It has shape {list(legal[0])} and lies densely.",
        )


def _mover(op: str, layout: _Layout) -> Mover:
    def move(lane: Reads) -> None:
        plans = [_plan(core, call, len(lane), layout) for core, call in lane]
        chunks = [
            [_chunk(op, core, call, int(counts[at]), int(places[at])) for at in range(len(lane))]
            for (core, call), (counts, places, _) in zip(lane, plans, strict=True)
        ]
        for at, (core, call) in enumerate(lane):
            received = [chunks[sender][at] for sender in range(len(lane))]
            _place(op, core, call, received, plans[at][2])
            if not layout.counts_known:
                row = _row(call.extra[0], 2)
                core.write(row, np.array([each.size for each in received], np.uint32).reshape(row.shape))

    return move


def _row(metadata: Tensor, row: int) -> Tensor:
    return metadata[:, row : row + 1] if metadata.on_chip else metadata[row : row + 1]


def _plan(core: Core, call: Call, count: int, layout: _Layout) -> tuple[Array, Array, Array | None]:
    """Counts and places by destination, and places to receive at where the metadata has them."""
    metadata = call.extra[0]

    def read(row: int) -> Array:
        if layout.gathers:
            first: Array = core.read(_row(metadata, row)[..., 0:1]).reshape(-1)
            return np.broadcast_to(first, (count,))
        flat: Array = core.read(_row(metadata, row)).reshape(-1)
        return flat

    return read(0), read(1), read(3) if layout.has_places else None


def _chunk(op: str, core: Core, call: Call, count: int, place: int) -> Array:
    src = call.srcs[0]
    if place + count > src.size:
        refuse(
            rules.OUT_OF_BOUNDS,
            f"{op} on rank {core.rank} sends {count} elements from {place} on of {src.describe()}, which has "
            f"{src.size}.",
            "Counts and places in the metadata must lie inside the source.",
        )
    if not count:
        return np.empty(0, src.dtype.numpy)
    if src.is_contiguous():
        view = src.ap([[1, count]], offset=src.offset + place)
        return np.array(core.read(view))
    flat: Array = core.read(src).reshape(-1)
    return flat[place : place + count].copy()


def _place(op: str, core: Core, call: Call, received: Sequence[Array], places: Array | None) -> None:
    dst = call.dsts[0]
    slot = dst.size // len(received)
    values = np.zeros(dst.size, dst.dtype.numpy)
    mask = np.zeros(dst.size, np.bool_)
    for sender, chunk in enumerate(received):
        start = sender * slot if places is None else int(places[sender])
        room = slot if places is None else dst.size - start
        if chunk.size > room:
            refuse(
                rules.OUT_OF_BOUNDS,
                f"{op} brings rank {core.rank} {chunk.size} elements for {dst.describe()} at {start}, where "
                f"{max(room, 0)} have room.",
                "Make the destination larger, or send less.",
            )
        values[start : start + chunk.size] = chunk
        mask[start : start + chunk.size] = True
    core.write(dst, values.reshape(dst.shape), mask.reshape(dst.shape))
