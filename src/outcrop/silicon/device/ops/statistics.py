"""bn_stats and bn_aggr on the vector engine: mean and variance of long rows from those of their pieces.

A piece's statistics are triples (count, mean, sum of squared differences from the mean); bn_stats makes one of the
elements at even places and one of those at odd places, bn_aggr merges any number of triples. All in float32.

Choices where the documentation is silent: the mean is the sum over the count, and the squares are summed in a second
pass over the differences; an empty half (a single element has no odd ones) gives zeros. Merging adds to the sums the
squared distance of each mean from the common one; nothing but empty triples gives NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import carry, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.ops.tiles import reads_of, tile
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

BN_STATS_SIZE = rules.rule(
    "bn-stats-size", "bn_stats takes at most 512 elements in each partition.", f"{rules.NKI_ISA}: bn_stats"
)


def _check(core: Core, op: str, dst: Tensor, data: Tensor, results: int) -> bool:
    tile(core, op, "dst", dst)
    tile(core, op, "data", data)
    if dst.shape[0] != data.shape[0] or dst.free_size != results:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got dst {dst.describe()} for data {data.describe()}.",
            f"dst must have {data.shape[0]} partitions of {results} elements.",
        )
    return True


def _check_stats(core: Core, dst: Tensor, data: Tensor) -> bool:
    _check(core, "bn_stats", dst, data, 6)
    limit = core.limits.bn_stats_free
    if data.free_size > limit:
        refuse(
            BN_STATS_SIZE,
            f"bn_stats got data {data.describe()}: {data.free_size} elements in each partition.",
            f"Call it on pieces of up to {limit} elements, each writing its six results into a slice of one tensor, "
            "and merge them with one bn_aggr.",
        )
    return True


def _check_aggr(core: Core, dst: Tensor, data: Tensor) -> bool:
    _check(core, "bn_aggr", dst, data, 2)
    if data.free_size % 3:
        refuse(
            rules.OPERAND_SHAPE,
            f"bn_aggr got data {data.describe()}: {data.free_size} elements in each partition.",
            "data must be whole triples (count, mean, variance * count), as bn_stats writes two of them.",
        )
    return True


def bn_stats(core: Core, dst: Tensor, data: Tensor, name: str | None = None) -> Instruction:
    """Count, mean and sum of squared differences of the even, then of the odd elements of each partition."""
    core.checked(_check_stats, dst, data)
    if core.values:
        values = core.read_float32(data).reshape(data.shape[0], -1)
        core.carry_as(carry.rows)
        found = np.zeros((data.shape[0], 6), np.float32)
        with np.errstate(all="ignore"):
            for first in (0, 1):
                half = values[:, first::2]
                if half.shape[1]:
                    _moments(half, found[:, 3 * first : 3 * first + 3])
        core.write(dst, found.reshape(dst.shape))
    return core.record("bn_stats", Engine.vector, (dst,), reads_of(data), name=name)


def _moments(half: Array, out: Array) -> None:
    mean = half.mean(axis=1)
    off = half - mean[:, None]
    out[:, 0] = half.shape[1]
    out[:, 1] = mean
    np.einsum("pn,pn->p", off, off, out=out[:, 2])


def bn_aggr(core: Core, dst: Tensor, data: Tensor, name: str | None = None) -> Instruction:
    """Mean and variance of each partition from its triples."""
    core.checked(_check_aggr, dst, data)
    if core.values:
        triples = core.read_float32(data).reshape(data.shape[0], -1, 3)
        core.carry_as(carry.rows)
        counts, means, squares = triples[:, :, 0], triples[:, :, 1], triples[:, :, 2]
        found = np.empty((data.shape[0], 2), np.float32)
        with np.errstate(all="ignore"):
            total = counts.sum(axis=1)
            mean = (counts * means).sum(axis=1) / total
            off = means - mean[:, None]
            found[:, 0] = mean
            found[:, 1] = (squares + counts * off * off).sum(axis=1) / total
        core.write(dst, found.reshape(dst.shape))
    return core.record("bn_aggr", Engine.vector, (dst,), reads_of(data), name=name)
