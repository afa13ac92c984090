"""nc_stream_shuffle: the vector engine moves partitions within each quadrant of 32.

Source: NKI ISA API (NKI 0.6.0), ``nc_stream_shuffle``; architecture guide, "Cross-partition data movement".

Partitions that nothing wrote stay so where they arrive; a ``src`` of which nothing at all was written is refused. A
mask that names a partition which ``src`` does not access is refused where its result would land in ``dst``: the
hardware would read the neighbour's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import access, carry, checks, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

KEEP = 255


def nc_stream_shuffle(
    core: Core, dst: Tensor, src: Tensor, shuffle_mask: Sequence[int], name: str | None
) -> Instruction:
    """Partition i of each quadrant of ``dst`` takes partition ``shuffle_mask[i]`` of that quadrant of ``src``."""
    mask = tuple([int(each) for each in shuffle_mask])
    source, kept, needed = core.checked(_check, dst, src, mask)
    if core.values:
        missing: Array | None = None
        if dst.is_indirect() or src.storage.clobbered_by is not None:
            rows = access.read_needed(core, src, needed)
        else:
            rows, missing = access.read_to_move(core, src)
        moved = rows.reshape(src.shape[0], -1)[source].reshape(dst.shape)
        if kept is None:
            core.write(dst, moved)
        else:
            core.write(dst, moved, ~kept)
        if missing is not None:
            lost = missing.reshape(src.shape[0], -1)[source].reshape(dst.shape)
            _leave_unwritten(dst, lost if kept is None else lost & ~kept, carry.carried(src, missing))
    return core.record("nc_stream_shuffle", Engine.vector, (dst,), (src,), {"shuffle_mask": mask}, name)


def _leave_unwritten(dst: Tensor, lost: Array, came: carry.Carried) -> None:
    """What was moved from partitions that nothing wrote is not written in its new place either."""
    if lost.any():
        dst.storage.forget(dst, lost)
        dst.storage.origin = came.origin


def _check(core: Core, dst: Tensor, src: Tensor, mask: tuple[int, ...]) -> tuple[Array, Array | None, Array]:
    """For each partition of dst the one of src; which elements of dst stay (``None``: none); which of src are read."""
    op, quadrant = "nc_stream_shuffle", core.limits.quadrant
    if len(mask) != quadrant or any(not (0 <= each < quadrant or each == KEEP) for each in mask):
        refuse(
            rules.PARAMETER,
            f"{op} got shuffle_mask={list(mask)}.",
            f"It has {quadrant} entries, each a partition of the quadrant (0 to {quadrant - 1}) or {KEEP} to leave "
            "dst's partition alone.",
        )
    checks.engine_operand(core, op, "dst", dst)
    checks.engine_operand(core, op, "src", src)
    if dst.dtype is not src.dtype:
        refuse(
            rules.OPERAND_DTYPE,
            f"{op} got src {src.describe()} and dst {dst.describe()}.",
            "It moves bits: both must have the same data type.",
        )
    if dst.free_size != src.free_size:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got src {src.describe()} and dst {dst.describe()}.",
            "Both must have as many elements per partition.",
        )
    active = -(-max(dst.shape[0], src.shape[0]) // quadrant) * quadrant
    step = checks.start_partition_step(core, active)
    for role, tensor in (("dst", dst), ("src", src)):
        if tensor.start_partition % step:
            refuse(
                rules.START_PARTITION,
                f"{op} got {role} {tensor.describe()}: {active} partitions are active, counted in whole quadrants of "
                f"the larger operand.",
                f"With {active} active partitions an operand starts at a multiple of {step}.",
            )
    at = np.arange(dst.shape[0])
    entries = np.array(mask)[at % quadrant]
    kept = entries == KEEP
    source = np.where(kept, 0, entries + at // quadrant * quadrant)
    outside = source >= src.shape[0]
    if outside.any():
        first = int(np.argmax(outside))
        refuse(
            rules.OUT_OF_BOUNDS,
            f"{op}: partition {first} of dst {dst.describe()} takes partition {int(source[first])} of src "
            f"{src.describe()}, which accesses {src.shape[0]}.",
            f"Give src the partitions that the mask names, or put {KEEP} there.",
        )
    needed = np.zeros(src.shape[0], np.bool_)
    needed[source[~kept]] = True
    staying = np.broadcast_to(_by_partition(kept, dst), dst.shape) if kept.any() else None
    return source, staying, _by_partition(needed, src)


def _by_partition(flags: Array, tensor: Tensor) -> Array:
    return flags.reshape((-1,) + (1,) * (len(tensor.shape) - 1))
