"""What collectives share: the cores of all ranks of a group meet, and the last to come moves everyone's data.

A rank is a logical core. All its cores call the collective; where they name the same tensors (in shared HBM) it
happens once, where each names its own (in SBUF) the first cores of all ranks form one collective, the second cores
another. So a collective on shared HBM also waits for the other core of the rank, which may have written its half.

Reductions add, or take the smaller or larger of, float32 values in the order of the group's list and round once. All
other collectives move bits.

Choices where the documentation is silent: integers are reduced in float32 too, as DMA engines calculate; a rank that is
nobody's target in ``collective_permute`` keeps its destination as it was, and one that no pair names does not wait.
Shapes are compared dimension by dimension. Not covered: restrictions on which ranks may form a group on which instance,
other than those on the number of ranks and cores; they are left to the topology's owner.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.ops.dma import check_priority, dma_operand
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.source import Source, caller
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

NKI_COLLECTIVES = "AWS Neuron, nki.collectives API reference (NKI 0.6.0)"
REPLICA_GROUP = rules.rule(
    "replica-group", "A collective's groups name ranks of the run, each once.", NKI_COLLECTIVES, relaxable=False
)
COLLECTIVE_MISMATCH = rules.rule(
    "collective-mismatch",
    "All ranks of a group call a collective with the same tensors' shapes, types and options.",
    NKI_COLLECTIVES,
    relaxable=False,
)
COLLECTIVE_LIMITS = rules.rule(
    "collective-limits", "A collective gets the numbers of tensors, ranks and channels that it takes.", NKI_COLLECTIVES
)
REDUCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "minimum": np.minimum,
    "maximum": np.maximum,
}
MOST_CHANNELS = 4

Groups = tuple[tuple[int, ...], ...]


class Call(NamedTuple):
    """What one core brings: its sources and destinations, in lists of equal length, and the options."""

    srcs: tuple[Tensor, ...]
    dsts: tuple[Tensor, ...]
    options: tuple[Hashable, ...]  # that must be the same on all ranks
    source: Source
    extra: tuple[Tensor, ...] = ()  # metadata


Reads = Sequence[tuple["Core", Call]]  # the members of one collective, in the order of the group
Mover = Callable[[Reads], None]


def run(
    core: Core, op: str, group: tuple[int, ...], call: Call, move: Mover, params: Mapping[str, Any], name: str | None
) -> Instruction:
    """Meet all cores of the group's ranks, move the data once, and record."""
    members = [each for each in core.machine.cores if each.rank in group]

    def complete(calls: dict[Core, Call]) -> int:
        _require_equal(op, group, calls)
        if core.values:
            for lane in _lanes(group, calls):
                move(lane)
        return core.machine.next_meeting()

    meeting = core.machine.meet(core, (op, group), members, f"{op} over ranks {list(group)}", call, complete)
    made = {"group": group, **params, "meeting": meeting}
    return core.record(op, Engine.dma, call.dsts, (*call.srcs, *call.extra), made, name)


def _require_equal(op: str, group: tuple[int, ...], calls: dict[Core, Call]) -> None:
    (first_core, first), *others = calls.items()
    for core, call in others:
        same = call.options == first.options and all(
            [(t.shape, t.dtype) for t in mine] == [(t.shape, t.dtype) for t in theirs]
            for mine, theirs in ((call.srcs, first.srcs), (call.dsts, first.dsts))
        )
        if not same:
            refuse(
                COLLECTIVE_MISMATCH,
                f"{op} over ranks {list(group)}: rank {first_core.rank} calls it with {_told(first)}, rank {core.rank} "
                f"with {_told(call)}.",
                "All ranks of the group must call it with the same shapes, types and options.",
            )


def _told(call: Call) -> str:
    tensors = ", ".join(each.describe() for each in (*call.srcs, *call.dsts))
    return f"{tensors}, options {list(call.options)} at {call.source}"


def _lanes(group: tuple[int, ...], calls: dict[Core, Call]) -> list[Reads]:
    """The collectives that the calls make up: one for each core of a rank that names tensors of its own."""
    by_place = {(core.rank, core.index): (core, call) for core, call in calls.items()}
    lanes: list[Reads] = []
    seen: set[Hashable] = set()
    for index in sorted({core.index for core in calls}):
        lane = [by_place[rank, index] for rank in group if (rank, index) in by_place]
        key = tuple((id(each.storage), each.key) for _, call in lane for each in (*call.srcs, *call.dsts))
        if key not in seen:
            seen.add(key)
            lanes.append(lane)
    return lanes


# -- movers -----------------------------------------------------------------------------------------------------------


def reduce_all(op: str) -> Mover:
    def move(lane: Reads) -> None:
        for at in range(len(lane[0][1].srcs)):
            total = _reduced(op, lane, at)
            for core, call in lane:
                core.write(call.dsts[at], total)

    return move


def _reduced(op: str, lane: Reads, at: int) -> Array:
    combine = REDUCTIONS[op]
    core, call = lane[0]
    total = np.array(core.read_float32(call.srcs[at], defined=True))
    with np.errstate(over="ignore", invalid="ignore"):
        for other, theirs in lane[1:]:
            total = combine(total, other.read_float32(theirs.srcs[at], defined=True))
    return total


def reduce_parts(op: str) -> Mover:
    def move(lane: Reads) -> None:
        for at in range(len(lane[0][1].srcs)):
            parts = np.split(_reduced(op, lane, at), len(lane), axis=0)
            for (core, call), part in zip(lane, parts, strict=True):
                core.write(call.dsts[at], part)

    return move


def gather_all(dim: int) -> Mover:
    def move(lane: Reads) -> None:
        for at in range(len(lane[0][1].srcs)):
            joined = np.concatenate([core.read(call.srcs[at], defined=True) for core, call in lane], axis=dim)
            for core, call in lane:
                core.write(call.dsts[at], joined)

    return move


def exchange_parts(lane: Reads) -> None:
    for at in range(len(lane[0][1].srcs)):
        parts = [np.split(core.read(call.srcs[at], defined=True), len(lane), axis=0) for core, call in lane]
        received = [np.concatenate([parts[sender][place] for sender in range(len(lane))]) for place in range(len(lane))]
        for (core, call), values in zip(lane, received, strict=True):
            core.write(call.dsts[at], values)


def permute(receives_from: Mapping[int, int]) -> Mover:
    """``receives_from`` maps a rank to the one whose source it gets."""

    def move(lane: Reads) -> None:
        sent = {core.rank: [np.array(core.read(each, defined=True)) for each in call.srcs] for core, call in lane}
        for core, call in lane:
            sender = receives_from.get(core.rank)
            if sender is not None:
                for dst, values in zip(call.dsts, sent[sender], strict=True):
                    core.write(dst, values)

    return move


def permute_reduced(op: str, receives_from: Mapping[int, int]) -> Mover:
    """As ``permute``; what is sent is the reduction of the two halves of each call's sources."""

    def move(lane: Reads) -> None:
        sent: dict[int, list[Array]] = {}
        for core, call in lane:
            half = len(call.srcs) // 2
            with np.errstate(over="ignore", invalid="ignore"):
                sent[core.rank] = [
                    REDUCTIONS[op](core.read_float32(one, defined=True), core.read_float32(two, defined=True))
                    for one, two in zip(call.srcs[:half], call.srcs[half:], strict=True)
                ]
        for core, call in lane:
            for dst, values in zip(call.dsts, sent[receives_from[core.rank]], strict=True):
                core.write(dst, values)

    return move


# -- rules ------------------------------------------------------------------------------------------------------------


def group_of(core: Core, op: str, groups: Groups) -> tuple[int, ...]:
    """The list of ranks that this core's rank belongs to."""
    flat = [rank for group in groups for rank in group]
    ranks = core.machine.ranks
    if not groups or not all(groups) or len(set(flat)) != len(flat):
        refuse(
            REPLICA_GROUP,
            f"{op} got the groups {[list(group) for group in groups]}.",
            "Give lists of ranks, none of them empty and every rank at most once.",
        )
    outside = [rank for rank in flat if not 0 <= rank < ranks]
    if outside:
        refuse(
            REPLICA_GROUP,
            f"{op} got the groups {[list(group) for group in groups]}, and this run has {ranks} ranks.",
            f"Ranks are 0 to {ranks - 1}: run the kernel with as many ranks as the groups name.",
        )
    for group in groups:
        if core.rank in group:
            return group
    refuse(
        REPLICA_GROUP,
        f"Rank {core.rank} calls {op} with the groups {[list(group) for group in groups]}.",
        "The rank that calls must be in one of the groups.",
    )
    raise AssertionError("refused")


def check_operands(
    core: Core,
    op: str,
    srcs: Sequence[Tensor],
    dsts: Sequence[Tensor],
    priority: int | None,
    *,
    sbuf: bool,
    most: int | None = None,
    most_in_sbuf: int = 1,
) -> None:
    """Rules on the tensors that all collectives share; ``most`` limits how many there may be."""
    check_priority(core, op, priority)
    if not srcs or len(srcs) != len(dsts):
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {len(srcs)} sources and {len(dsts)} destinations.",
            "Give lists of tensors, as many destinations as sources and at least one.",
        )
    if most is not None and len(srcs) > most:
        refuse(COLLECTIVE_LIMITS, f"{op} got {len(srcs)} tensors.", f"It takes {most}.")
    for role, tensors in (("srcs", srcs), ("dsts", dsts)):
        for at, tensor in enumerate(tensors):
            dma_operand(op, f"{role}[{at}]", tensor, is_written=role == "dsts")
            if tensor.dynamic is not None:
                refuse(
                    rules.PARAMETER,
                    f"{op} got {role}[{at}] {tensor.describe()} with a run-time address.",
                    "Collectives take static addresses: copy it with nisa.dma_copy first.",
                )
    places = {tensor.on_chip for tensor in (*srcs, *dsts)}
    if len(places) > 1:
        refuse(
            rules.OPERAND_MEMORY,
            f"{op} got {' and '.join(each.describe() for each in (*srcs, *dsts))}.",
            "All must be in HBM, or all in SBUF.",
        )
    if True in places and not sbuf:
        refuse(rules.OPERAND_MEMORY, f"{op} got {srcs[0].describe()}.", "It takes tensors in HBM only.")
    if True in places and len(srcs) > most_in_sbuf:
        refuse(COLLECTIVE_LIMITS, f"{op} got {len(srcs)} tensors in SBUF.", f"In SBUF it takes {most_in_sbuf}.")
    for src, dst in zip(srcs, dsts, strict=False):
        if src.dtype is not dst.dtype:
            refuse(
                rules.OPERAND_DTYPE,
                f"{op} got source {src.describe()} and destination {dst.describe()}.",
                "Both must have the same type.",
            )


def check_dimension(op: str, dim: int, legal: Sequence[int]) -> None:
    if dim not in legal:
        refuse(
            COLLECTIVE_LIMITS,
            f"{op} got collective_dim={dim!r}.",
            f"It takes {' or '.join(str(each) for each in legal)} here.",
        )


def check_reduction(op: str, reduction: str, tensors: Sequence[Tensor]) -> None:
    if reduction not in REDUCTIONS:
        refuse(
            rules.PARAMETER,
            f"{op} got op={reduction or None}.",
            "It reduces with nl.add, nl.minimum or nl.maximum.",
        )
    for tensor in tensors:
        if tensor.dtype.lanes > 1:
            refuse(rules.OPERAND_DTYPE, f"{op} got {tensor.describe()}.", "Packed types cannot be reduced.")


def check_shapes(op: str, src: Tensor, dst: Tensor, wanted: tuple[int, ...]) -> None:
    if dst.shape != wanted:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got source {src.describe()} and destination {dst.describe()}.",
            f"For this source and group the destination has shape {list(wanted)}.",
        )


def check_divides(op: str, tensor: Tensor, ranks: int) -> None:
    if tensor.shape[0] % ranks:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} over {ranks} ranks got {tensor.describe()}.",
            f"Its first dimension must be a multiple of {ranks}.",
        )


def call_of(srcs: Sequence[Tensor], dsts: Sequence[Tensor], *options: Hashable, extra: tuple[Tensor, ...] = ()) -> Call:
    return Call(tuple(srcs), tuple(dsts), options, caller(), extra)
