"""nki.collectives: communication between ranks, under the vendor's names and signatures (NKI 0.6.0).

A rank is a logical core; a run has as many as it was started with, all in one process. All cores of all ranks of a
group must call a collective, with tensors of the same shapes and types. ``priority`` is 0 to 3 on chips that have it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops import collectives, collectives_v
from outcrop.silicon.device.ops.ranks import COLLECTIVE_LIMITS, REPLICA_GROUP, Groups
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.objects import NKIObject
from outcrop.silicon.nki.operators import operator_name

__all__ = [
    "ReplicaGroup",
    "all_gather",
    "all_gather_v",
    "all_reduce",
    "all_to_all",
    "all_to_all_v",
    "collective_permute",
    "collective_permute_implicit",
    "collective_permute_implicit_current_processing_rank_id",
    "collective_permute_implicit_reduce",
    "rank_id",
    "reduce_scatter",
]

Tensors = Sequence[Tensor]


class ReplicaGroup(NKIObject):
    """Lists of ranks that take part together: ``ReplicaGroup([[0, 1], [2, 3]])``. No rank is in two of them."""

    groups: Groups

    def __init__(self, groups: Iterable[Iterable[int]]) -> None:
        self.groups = tuple(tuple(operator.index(rank) for rank in group) for group in groups)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplicaGroup) and self.groups == other.groups

    def __hash__(self) -> int:
        return hash(self.groups)

    def __repr__(self) -> str:
        return f"ReplicaGroup({[list(group) for group in self.groups]})"


def all_reduce(
    srcs: Tensors, dsts: Tensors, replica_group: ReplicaGroup, op: Any, priority: int | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Every rank's ``dsts`` get the sum (``nl.add``), minimum or maximum of all ranks' ``srcs``, in float32.

    All tensors in HBM, or one in SBUF; destinations have the sources' shapes.
    """
    collectives.all_reduce(current(), srcs, dsts, _groups(replica_group), operator_name(op), priority, name)


def all_gather(
    srcs: Tensors, dsts: Tensors, replica_group: ReplicaGroup, collective_dim: int, priority: int | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Every rank's ``dsts`` get all ranks' ``srcs``, joined along dimension 0, in SBUF (two dimensions) also 1."""
    collectives.all_gather(current(), srcs, dsts, _groups(replica_group), collective_dim, priority, name)


def all_gather_v(
    srcs: Tensors, dsts: Tensors, replica_group: ReplicaGroup, metadata_tensor: Tensor, recv_counts_known: bool = False,
    has_rdispls: bool = False, priority: int | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Every rank gets a chunk of each rank's source, of a size known at run time, in equal slots of its destination.

    One tensor in HBM; ``metadata_tensor`` is uint32 ``[3, ranks]``: count and place of what this rank sends in the
    first column of rows 0 and 1, and in row 2, unless ``recv_counts_known``, what was received is written.
    Four ranks of two cores each.
    """
    collectives_v.all_gather_v(
        current(), srcs, dsts, _groups(replica_group), metadata_tensor, recv_counts_known, has_rdispls, priority, name
    )


def reduce_scatter(
    srcs: Tensors, dsts: Tensors, replica_group: ReplicaGroup, collective_dim: int, op: Any,
    priority: int | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Rank i of the group gets part i, along dimension 0, of the reduction of all ranks' ``srcs``."""
    collectives.reduce_scatter(
        current(), srcs, dsts, _groups(replica_group), collective_dim, operator_name(op), priority, name
    )


def all_to_all(
    srcs: Tensors, dsts: Tensors, replica_group: ReplicaGroup, collective_dim: int, priority: int | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """Rank i of the group gets part i, along dimension 0, of every rank's ``srcs``, in the ranks' order. HBM only."""
    collectives.all_to_all(current(), srcs, dsts, _groups(replica_group), collective_dim, priority, name)


def all_to_all_v(
    srcs: Tensors, dsts: Tensors, replica_group: ReplicaGroup, metadata_tensor: Tensor, recv_counts_known: bool = False,
    has_rdispls: bool = False, priority: int | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Every rank sends chunks of sizes known at run time: ``metadata_tensor`` has a column for each rank of the group.

    Rows of the metadata (uint32): elements to send, where they begin in the source, elements received (written unless
    ``recv_counts_known``) and, with ``has_rdispls``, where to put what comes. One tensor in HBM.
    """
    collectives_v.all_to_all_v(
        current(), srcs, dsts, _groups(replica_group), metadata_tensor, recv_counts_known, has_rdispls, priority, name
    )


def collective_permute(
    srcs: Tensors, dsts: Tensors, source_target_pairs: Sequence[tuple[int, int]], priority: int | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """For each pair of ranks ``(source, target)``, the target's tensor gets the source's. One tensor, HBM only."""
    pairs = tuple((operator.index(pair[0]), operator.index(pair[1])) for pair in source_target_pairs)
    collectives.collective_permute(current(), srcs, dsts, pairs, priority, name)


def collective_permute_implicit(
    srcs_by_channel: Sequence[Tensors], dsts_by_channel: Sequence[Tensors], replica_group: ReplicaGroup,
    channel_ids: Sequence[int] = (0,), priority: int | None = None, name: str | None = None,
) -> None:  # fmt: skip
    """Every rank sends to the next of its group and gets from the one before, one tensor by each channel (up to 4)."""
    collectives.collective_permute_implicit(
        current(), _by_channel(srcs_by_channel), _by_channel(dsts_by_channel), _groups(replica_group),
        tuple(channel_ids), priority, name,
    )  # fmt: skip


def collective_permute_implicit_reduce(
    srcs0_by_channel: Sequence[Tensors], srcs1_by_channel: Sequence[Tensors], dsts_by_channel: Sequence[Tensors],
    replica_group: ReplicaGroup, op: Any, channel_ids: Sequence[int] = (0,), priority: int | None = None,
    name: str | None = None,
) -> None:  # fmt: skip
    """As ``collective_permute_implicit``; each rank sends ``op`` of its two sources."""
    collectives.collective_permute_implicit_reduce(
        current(), _by_channel(srcs0_by_channel), _by_channel(srcs1_by_channel), _by_channel(dsts_by_channel),
        _groups(replica_group), operator_name(op), tuple(channel_ids), priority, name,
    )  # fmt: skip


def collective_permute_implicit_current_processing_rank_id(
    iteration_id: int | VirtualRegister, replica_group: ReplicaGroup, channel_id: int = 0, name: str | None = None
) -> VirtualRegister:
    """A register with the rank whose data this rank holds after ``iteration_id`` steps around the ring."""
    step = iteration_id.whole("iteration_id") if isinstance(iteration_id, VirtualRegister) else iteration_id
    return collectives.processing_rank(current(), step, _groups(replica_group), channel_id, name)


def rank_id(name: str | None = None) -> VirtualRegister:
    """A register with the number of this core's rank."""
    return collectives.rank_id(current(), name)


def _groups(replica_group: ReplicaGroup | Iterable[Iterable[int]]) -> Groups:
    if isinstance(replica_group, ReplicaGroup):
        return replica_group.groups
    try:
        return ReplicaGroup(replica_group).groups
    except TypeError:
        refuse(
            REPLICA_GROUP,
            f"A collective got replica_group={replica_group!r}.",
            "Give a ReplicaGroup of lists of ranks, such as ReplicaGroup([[0, 1]]).",
        )
        raise


def _by_channel(lists: Sequence[Tensors]) -> list[Tensor]:
    for at, each in enumerate(lists):
        if len(each) != 1:
            refuse(
                COLLECTIVE_LIMITS,
                f"A collective got {len(each)} tensors for channel {at}.",
                "Each channel's list has exactly one tensor.",
            )
    return [each[0] for each in lists]
