"""Collectives whose sizes are known beforehand: reduce, gather, scatter, exchange, and permute over ranks.

Each checks its own shapes and says how data moves; how ranks meet, and what all collectives share, is in ``ranks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from outcrop.silicon.device import rules
from outcrop.silicon.device.ops import ranks
from outcrop.silicon.device.ops.ranks import COLLECTIVE_LIMITS, MOST_CHANNELS, REPLICA_GROUP, Groups, call_of
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

Tensors = Sequence[Tensor]


def all_reduce(
    core: Core,
    srcs: Tensors,
    dsts: Tensors,
    groups: Groups,
    reduction: str,
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """Every rank gets the reduction of all ranks' sources."""
    ranks.check_operands(core, "all_reduce", srcs, dsts, priority, sbuf=True)
    group = ranks.group_of(core, "all_reduce", groups)
    ranks.check_reduction("all_reduce", reduction, srcs)
    for src, dst in zip(srcs, dsts, strict=True):
        ranks.check_shapes("all_reduce", src, dst, src.shape)
    params = {"op": reduction, "tensors": len(srcs), "priority": priority}
    call = call_of(srcs, dsts, reduction)
    return ranks.run(core, "all_reduce", group, call, ranks.reduce_all(reduction), params, name)


def all_gather(
    core: Core,
    srcs: Tensors,
    dsts: Tensors,
    groups: Groups,
    dim: int,
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """Every rank gets all ranks' sources, one after the other along a dimension."""
    ranks.check_operands(core, "all_gather", srcs, dsts, priority, sbuf=True)
    group = ranks.group_of(core, "all_gather", groups)
    ranks.check_dimension("all_gather", dim, (0, 1) if srcs[0].on_chip else (0,))
    for src, dst in zip(srcs, dsts, strict=True):
        if src.on_chip and len(src.shape) != 2:
            refuse(
                rules.OPERAND_SHAPE,
                f"all_gather got {src.describe()}.",
                "In SBUF it takes tensors of two dimensions: view it as one with flatten_dims.",
            )
        wanted = list(src.shape)
        wanted[dim] *= len(group)
        ranks.check_shapes("all_gather", src, dst, tuple(wanted))
    params = {"dim": dim, "tensors": len(srcs), "priority": priority}
    return ranks.run(core, "all_gather", group, call_of(srcs, dsts, dim), ranks.gather_all(dim), params, name)


def reduce_scatter(
    core: Core,
    srcs: Tensors,
    dsts: Tensors,
    groups: Groups,
    dim: int,
    reduction: str,
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """Every rank gets its part of the reduction of all ranks' sources."""
    ranks.check_operands(core, "reduce_scatter", srcs, dsts, priority, sbuf=True)
    group = ranks.group_of(core, "reduce_scatter", groups)
    ranks.check_reduction("reduce_scatter", reduction, srcs)
    ranks.check_dimension("reduce_scatter", dim, (0,))
    for src, dst in zip(srcs, dsts, strict=True):
        ranks.check_divides("reduce_scatter", src, len(group))
        ranks.check_shapes("reduce_scatter", src, dst, (src.shape[0] // len(group), *src.shape[1:]))
    params = {"op": reduction, "dim": dim, "tensors": len(srcs), "priority": priority}
    call = call_of(srcs, dsts, dim, reduction)
    return ranks.run(core, "reduce_scatter", group, call, ranks.reduce_parts(reduction), params, name)


def all_to_all(
    core: Core,
    srcs: Tensors,
    dsts: Tensors,
    groups: Groups,
    dim: int,
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """Every rank sends part i of its source to rank i of the group, and gets its own part from each."""
    ranks.check_operands(core, "all_to_all", srcs, dsts, priority, sbuf=False)
    group = ranks.group_of(core, "all_to_all", groups)
    ranks.check_dimension("all_to_all", dim, (0,))
    for src, dst in zip(srcs, dsts, strict=True):
        ranks.check_divides("all_to_all", src, len(group))
        ranks.check_shapes("all_to_all", src, dst, src.shape)
    params = {"dim": dim, "tensors": len(srcs), "priority": priority}
    return ranks.run(core, "all_to_all", group, call_of(srcs, dsts, dim), ranks.exchange_parts, params, name)


def collective_permute(
    core: Core,
    srcs: Tensors,
    dsts: Tensors,
    pairs: tuple[tuple[int, int], ...],
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """For each pair ``(source, target)``, the target gets the source's tensor."""
    ranks.check_operands(core, "collective_permute", srcs, dsts, priority, sbuf=False, most=1)
    ranks.check_shapes("collective_permute", srcs[0], dsts[0], srcs[0].shape)
    senders = [pair[0] for pair in pairs]
    targets = [pair[1] for pair in pairs]
    every = range(core.machine.ranks)
    if not pairs or len(set(senders)) < len(pairs) or len(set(targets)) < len(pairs):
        refuse(
            REPLICA_GROUP,
            f"collective_permute got source_target_pairs={list(pairs)}.",
            "Give pairs (source, target) in which every rank sends at most once and receives at most once.",
        )
    if any(rank not in every for rank in (*senders, *targets)):
        refuse(
            REPLICA_GROUP,
            f"collective_permute got source_target_pairs={list(pairs)}, and this run has {len(every)} ranks.",
            f"Ranks are 0 to {len(every) - 1}: run the kernel with as many ranks as the pairs name.",
        )
    named = tuple(sorted({*senders, *targets}))
    group = named if core.rank in named else (core.rank,)
    receives_from = dict(zip(targets, senders, strict=True)) if core.rank in named else {}
    params = {"pairs": pairs, "tensors": 1, "priority": priority}
    call = call_of(srcs, dsts, pairs)
    return ranks.run(core, "collective_permute", group, call, ranks.permute(receives_from), params, name)


def collective_permute_implicit(
    core: Core,
    srcs: Tensors,
    dsts: Tensors,
    groups: Groups,
    channels: tuple[int, ...],
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """Every rank sends to the next of its group's list, one tensor by each channel; the last sends to the first."""
    op = "collective_permute_implicit"
    ranks.check_operands(core, op, srcs, dsts, priority, sbuf=True, most=MOST_CHANNELS, most_in_sbuf=MOST_CHANNELS)
    group = ranks.group_of(core, op, groups)
    _check_channels(op, channels, len(srcs))
    for src, dst in zip(srcs, dsts, strict=True):
        ranks.check_shapes(op, src, dst, src.shape)
    params = {"channels": channels, "tensors": len(srcs), "priority": priority}
    call = call_of(srcs, dsts, channels)
    return ranks.run(core, op, group, call, ranks.permute(_ring(group)), params, name)


def collective_permute_implicit_reduce(
    core: Core,
    srcs0: Tensors,
    srcs1: Tensors,
    dsts: Tensors,
    groups: Groups,
    reduction: str,
    channels: tuple[int, ...],
    priority: int | None = None,
    name: str | None = None,
) -> Instruction:
    """As ``collective_permute_implicit``; what a rank sends is the reduction of its two sources."""
    op = "collective_permute_implicit_reduce"
    for srcs in (srcs0, srcs1):
        ranks.check_operands(core, op, srcs, dsts, priority, sbuf=True, most=MOST_CHANNELS, most_in_sbuf=MOST_CHANNELS)
        ranks.check_reduction(op, reduction, srcs)
        for src, dst in zip(srcs, dsts, strict=True):
            ranks.check_shapes(op, src, dst, src.shape)
    group = ranks.group_of(core, op, groups)
    _check_channels(op, channels, len(srcs0))
    params = {"op": reduction, "channels": channels, "tensors": len(srcs0), "priority": priority}
    call = call_of((*srcs0, *srcs1), dsts, reduction, channels)
    return ranks.run(core, op, group, call, ranks.permute_reduced(reduction, _ring(group)), params, name)


def processing_rank(
    core: Core, iteration: int, groups: Groups, channel: int, name: str | None = None
) -> VirtualRegister:
    """Whose data a rank holds after so many steps around the ring: its own first, then its predecessors'."""
    op = "collective_permute_implicit_current_processing_rank_id"
    group = ranks.group_of(core, op, groups)
    if channel not in range(MOST_CHANNELS):
        refuse(COLLECTIVE_LIMITS, f"{op} got channel_id={channel}.", f"Channels are 0 to {MOST_CHANNELS - 1}.")
    made = VirtualRegister(core, group[(group.index(core.rank) - iteration) % len(group)])
    core.record(op, Engine.sync, (), (), {"group": group, "iteration": iteration, "channel": channel}, name)
    return made


def rank_id(core: Core, name: str | None = None) -> VirtualRegister:
    """The rank of this core, in a register."""
    made = VirtualRegister(core, core.rank)
    core.record("rank_id", Engine.sync, (), (), {"rank": core.rank}, name)
    return made


def _ring(group: tuple[int, ...]) -> dict[int, int]:
    return {rank: group[at - 1] for at, rank in enumerate(group)}


def _check_channels(op: str, channels: tuple[int, ...], count: int) -> None:
    if channels != tuple(range(count)):
        refuse(
            COLLECTIVE_LIMITS,
            f"{op} got channel_ids={list(channels)} for {count} lists of tensors.",
            f"Channels are numbered from 0, one for each list: {list(range(count))}.",
        )
