"""Bytes that nothing wrote, carried through computations until they would be seen.

Kernels for the chip read tiles of which a part was never written, and overwrite or leave out what comes of it. So an
instruction that reads such a part marks what it computes from it as not written either; what is refused is a tensor of
which nothing at all was written, and the moment when an unwritten byte decides something: when it reaches shared HBM,
another core, a register, an address or a matrix product. The refusal names the first read and the line it was in.

Which results depend on which inputs is judged by shape: element by element where an operand has the result's shape, by
partition where it has the result's partitions, and as a whole otherwise. An instruction for which that is not so, a
scan or a gather, says with ``Core.carry_as`` what it makes of the unwritten places. Accumulator registers remember them
between instructions (``accumulators``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.source import Source, caller
from outcrop.silicon.device.tensor import Tensor

REMEDY = "Write them first (dma_copy, memset, or a compute instruction), or read only what was written."


class Origin(NamedTuple):
    """The read that brought unwritten bytes into a computation."""

    what: str
    source: Source


class Carried(NamedTuple):
    """One operand of the current instruction of which a part was not written."""

    tensor: Tensor
    missing: Array
    origin: Origin


def carried(tensor: Tensor, missing: Array) -> Carried:
    """The operand with where its unwritten part comes from: an earlier instruction, or this read."""
    origin = tensor.storage.origin
    if origin is None:
        origin = Origin(told(tensor, missing), caller())
    return Carried(tensor, missing, origin)


def told(tensor: Tensor, missing: Array) -> str:
    """What is missing, in words."""
    first = [int(each) for each in np.unravel_index(int(missing.argmax()), missing.shape)]
    return (
        f"{int(np.count_nonzero(missing))} of {missing.size} elements of {tensor.describe()}, the first at {first}, "
        f"were never written (allocated at {tensor.storage.allocation.source})"
    )


def mask_for(dst: Tensor, operands: list[Carried]) -> Array:
    """Which elements of an instruction's result depend on something that nothing wrote; of the result's shape."""
    mask = np.zeros(dst.shape, np.bool_)
    for tensor, missing, _ in operands:
        if missing.size == mask.size:
            mask |= missing.reshape(mask.shape)
        elif tensor.shape[0] == dst.shape[0]:
            rows = missing.reshape(missing.shape[0], -1).any(axis=1)
            mask |= rows.reshape(-1, *(1,) * (mask.ndim - 1))
        else:
            mask[...] = True
    return mask


def rows(missing: Array) -> Array:
    """For ``Core.carry_as``: every element of a partition depends on all of it."""
    lost = missing.reshape(missing.shape[0], -1).any(axis=1)
    found: Array = np.broadcast_to(lost.reshape(-1, *(1,) * (missing.ndim - 1)), missing.shape)
    return found


def onwards(missing: Array) -> Array:
    """For ``Core.carry_as``: each element depends on those before it in its partition."""
    found: Array = np.logical_or.accumulate(missing.reshape(missing.shape[0], -1), axis=1).reshape(missing.shape)
    return found


def refuse_sight(operands: list[Carried], op: str, dst: Tensor | None) -> None:
    """Refuse that unwritten bytes are seen: what came of the first of ``operands`` reaches ``dst``."""
    origin = operands[0].origin
    where = f"{op} in line {caller().line}" + (f" makes of them what it writes to {dst.describe()}" if dst else "")
    here = origin.source == caller()
    message = f"{origin.what}." if here else f"{origin.what}; {where}."
    refuse(rules.UNINITIALIZED_READ, message, REMEDY, source=origin.source)
