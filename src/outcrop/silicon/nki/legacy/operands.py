"""What legacy instructions take: tiles, numbers and ``[P, 1]`` vectors, brought to the form that the device's take."""

from __future__ import annotations

from typing import Any

import numpy as np

from outcrop.silicon.device import checks, dtypes, rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.dtypes import Array, DType
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.legacy import results
from outcrop.silicon.nki.legacy.dtypes import kind
from outcrop.silicon.nki.legacy.indices import Index
from outcrop.silicon.nki.legacy.regions import Region, region_of
from outcrop.silicon.nki.legacy.tile import Tile, around

NUMBERS = (int, float, np.generic)  # low-precision NumPy scalars too


def number(value: Any) -> Any:
    """A Python number for any of them, which the device's instructions take."""
    return value.item() if isinstance(value, np.generic) else value


def tile(value: Any, role: str) -> Tile:
    """The operand as a tile; refuses anything else."""
    if isinstance(value, Tile):
        return value
    refuse(rules.PARAMETER, f"{role} is {value!r}, a {type(value).__name__}.", f"{role} must be a tile.")
    raise AssertionError("refused")


def is_number(value: Any) -> bool:
    return isinstance(value, NUMBERS)


def kind_or(dtype: Any, otherwise: DType) -> DType:
    return otherwise if dtype is None else kind(dtype)


def vector(value: Any, region: Region | None, rows: int, *, wide: bool = True) -> Any:
    """A scalar operand: a number as it is, a tile as one element per partition (float32 where ``wide``)."""
    if value is None or is_number(value):
        return number(value)
    given = tile(value, "a scalar operand")
    if given.shape[0] == 1 and rows != 1:
        given = results.broadcast(given, (rows, *given.shape[1:]))
    if wide and given.kind is not dtypes.float32:
        given = results.copied(given, dtypes.float32)
    elif given.made is not None:
        given.made.used(given)
    return given.device(rows_of(region, given.shape))


def rows_of(region: Region | None, shape: tuple[int, ...]) -> Region | None:
    """The partitions of a region, for an operand with other free dimensions."""
    if region is None:
        return None
    if region.box is None:
        truth = np.broadcast_to(region.truth, region.shape) if region.truth is not None else None
        assert truth is not None
        some = truth.any(axis=tuple(range(1, truth.ndim)))
        if some.all():
            return None
        lead = np.asarray(some).reshape((-1,) + (1,) * (len(shape) - 1))
        return Region(shape, None, lead, (0,) * len(shape))
    whole = (region.box.ranges[0], *((0, size) for size in shape[1:]))
    if shape[0] == 1:
        return None
    return None if whole == tuple((0, size) for size in shape) else Region(shape, type(region.box)(whole), None, ())


def part(mask: Any, shape: tuple[int, ...]) -> Region | None:
    """The region of a ``mask=`` argument."""
    return region_of(mask, shape)


def to_sbuf(given: Tile) -> Tile:
    """Itself, or its copy where it lies in PSUM."""
    if given.buffer is not MemoryRegion.psum:
        return given
    made = results.copied(given)
    made.axes = given.axes
    return made


def truth_bits(given: Tile, region: Region | None) -> Tensor:
    """A tile of truth values as unsigned integers, which predicates must be."""
    tensor = given.device(region)
    names = {dtypes.bool_: dtypes.uint8, dtypes.int8: dtypes.uint8, dtypes.int16: dtypes.uint16,
             dtypes.int32: dtypes.uint32}  # fmt: skip
    unsigned = names.get(tensor.dtype)
    if unsigned is not None:
        return Tensor(
            tensor.storage, tensor.shape, tensor.strides, tensor.offset, unsigned, tensor.dynamic, tensor.index
        )
    if tensor.dtype.is_integer:
        return tensor
    return truth_bits(results.copied(given, dtypes.uint8), region)


def index_tile(index: Index, dtype: DType = dtypes.int32) -> Tile:
    """The numbers of an index expression as a tile, in one instruction of the gpsimd engine."""
    from outcrop.silicon.nki import isa  # noqa: PLC0415

    shape = index.shape if len(index.shape) > 1 else (*index.shape, 1) if index.shape else (1, 1)
    out = results.new(shape, dtype)
    lined = index[(*(slice(None),) * index.ndim, *(None,) * (len(shape) - index.ndim))]
    if lined.listed is not None or len(shape) > 5:
        computed("iota", Engine.gpsimd, out.device(), (), lined.values, {})
    else:
        pattern = [[step, size] for step, size in zip(lined.steps[1:], shape[1:], strict=True)]
        isa.iota(out.device(), pattern, lined.start, lined.steps[0])
    return results.finish(out, None)


def computed(
    op: str,
    engine: Engine,
    dst: Tensor,
    reads: tuple[Tensor, ...],
    function: Any,
    params: dict[str, Any],
) -> None:
    """An operation of the older language that no single current instruction has, as one record.

    ``function`` gets the operands as float32 arrays.
    """
    core = current()
    checks.engine_operand(core, op, "dst", dst)
    for at, each in enumerate(reads):
        checks.engine_operand(core, op, f"operand {at}", each)
    if core.values:
        with np.errstate(all="ignore"):
            made: Array = function(*(core.read_float32(each) for each in reads))
        core.write(dst, made.reshape(dst.shape) if made.size == dst.size else made)
    else:
        core.mark_written(dst)
    core.record(op, engine, (dst,), reads, params)


def flat_free(given: Tensor) -> Tile:
    """A tile over a device tensor."""
    return around(given)
