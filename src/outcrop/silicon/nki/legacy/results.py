"""Results of instructions: where a returned tile lies, what assigning it does, and accumulation in PSUM.

In the older language an instruction has no destination: it returns a tile, which may then be assigned to a part of a
tensor. The device's instructions have one. So an instruction here writes a new tensor; when its result is assigned
straight away, the values move to the place assigned to, and the instruction's record names that place instead.

Decisions where the documentation is silent: positions that a mask leaves out hold zero in a returned tile, and in a
tensor assigned to if nothing wrote them before (on the hardware they hold anything); ``+=`` of a matmul's result onto
PSUM bytes that nothing wrote starts the sum; ``nl.zeros`` in PSUM costs no instruction: the first matmul does it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from outcrop.silicon.device import checks, rules
from outcrop.silicon.device.core import Core, current
from outcrop.silicon.device.dtypes import DType
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa
from outcrop.silicon.nki.legacy import resolution
from outcrop.silicon.nki.legacy.dtypes import kind
from outcrop.silicon.nki.legacy.regions import Region
from outcrop.silicon.nki.legacy.tile import Tile, around


class Made:
    """The instruction that returned a tile, while nothing else has looked at the tile.

    It does not hold the tile: a cycle would keep the bytes of dead tiles until the garbage collector runs.
    """

    __slots__ = ("instruction", "moved", "region")

    def __init__(self, instruction: Instruction | None, region: Region | None) -> None:
        self.instruction = instruction
        self.region = region
        self.moved = False

    def used(self, tile: Tile) -> None:
        """Someone reads the tile itself: if its values had been moved, the instruction wrote here as well."""
        tile.made = None
        if self.moved and self.instruction is not None:
            allocation = tile.source.storage.allocation
            self.instruction.writes = (*self.instruction.writes, tile.source.access())
            allocation.first_use = self.instruction.index


def new(shape: tuple[int, ...], dtype: DType, region: MemoryRegion = MemoryRegion.sbuf) -> Tile:
    """A tile for a result."""
    return around(current().allocate(shape, dtype, region))


def finish(tile: Tile, region: Region | None, instruction: Instruction | None = None) -> Tile:
    """Return a result; ``instruction`` is the one that wrote it, the last of the trace where not given."""
    core = current()
    if region is not None:
        zero_rest(core, tile)
    if region is not None and region.empty:
        tile.made = Made(None, region)
    elif instruction is not None or core.trace:
        tile.made = Made(instruction or core.trace[-1], region)
    return tile


def zero_rest(core: Core, tile: Tile) -> None:
    """Zero where nothing was written: what a mask left out."""
    if not core.values:
        return
    tensor = resolution.resolve(tile, None)
    missing = tensor.storage.unwritten(tensor)
    if missing is not None:
        core.write(
            tensor, np.zeros((1,) * len(tensor.shape), tensor.dtype.numpy), np.broadcast_to(missing, tensor.shape)
        )


# -- assignment -------------------------------------------------------------------------------------------------------


class LoopReduction(NamedTuple):
    """What ``nl.loop_reduce`` returns: an operation whose other operand is the tile assigned to."""

    tile: Tile
    op: str
    dtype: Any
    mask: Any


def _reduce_into(target: Tile, value: LoopReduction) -> None:
    from outcrop.silicon.nki.legacy import arithmetic  # noqa: PLC0415  (arithmetic makes results)

    tensor = resolution.resolve(target, None)
    missing = tensor.storage.unwritten(tensor)
    if missing is not None and missing.all():
        assign(target, copied(value.tile, value.dtype))
    else:
        assign(target, arithmetic.binary(target, value.tile, value.op, value.dtype, value.mask))


def assign(target: Tile, value: Any) -> None:
    """``tensor[...] = value``."""
    if isinstance(value, LoopReduction):
        _reduce_into(target, value)
        return
    if isinstance(value, Tile):
        if resolution.same_place(target, value):
            return
        if target.size != value.size and value.on_chip and target.on_chip:
            value = broadcast(value, target.shape)
        if target.size != value.size:
            refuse(
                rules.OPERAND_SHAPE,
                f"{value.describe()} is assigned to {target.describe()}.",
                "Both must have the same number of elements.",
            )
        if not _retarget(target, value):
            _copy(target, value)
        return
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, (int, float)):
        refuse(rules.PARAMETER, f"{value!r} is assigned to {target.describe()}.", "Assign a tile or a number.")
    tensor = target.device()
    if not target.on_chip:
        refuse(
            rules.OPERAND_MEMORY,
            f"A number is assigned to {target.describe()}.",
            "Write HBM with nl.store(dst, value).",
        )
    core = current()
    if tensor.start_partition % checks.start_partition_step(core, tensor.shape[0]):
        core.write(tensor, np.full((1,) * len(tensor.shape), value))  # the compiler finds a way: a DMA of a constant
        core.record("dma_copy", Engine.dma, (tensor,), (), {"constant": float(value)})
        return
    isa.memset(tensor, value)


def _copy(target: Tile, value: Tile) -> None:
    if not target.on_chip or not value.on_chip:
        refuse(
            rules.OPERAND_MEMORY,
            f"{value.describe()} is assigned to {target.describe()}.",
            "Move data between HBM and the chip with nl.load and nl.store.",
        )
    core = current()
    one, two = target.device(), value.device()
    one, two = _alike(one, two)
    step = checks.start_partition_step(core, one.shape[0])
    if one.start_partition % step or two.start_partition % step:
        isa.dma_copy(one, two)
        return
    isa.tensor_copy(one, two)


def _alike(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the shape of the first, where they differ in how the free elements are grouped."""
    if one.shape != two.shape and two.index is None and two.dynamic is None and one.shape[0] == two.shape[0]:
        two = two.reshape(one.shape)
    return one, two


def _retarget(target: Tile, value: Tile) -> bool:
    """Make the instruction that returned ``value`` write to ``target``; false where a copy is needed."""
    made: Made | None = value.made
    core = current()
    if made is not None and made.instruction is None:  # masked out as a whole: nothing is written
        if target.on_chip:
            zero_rest(core, target)
        return True
    if (
        made is None
        or made.instruction is None
        or not core.trace
        or core.trace[-1] is not made.instruction
        or made.moved
    ):
        return False
    instruction = made.instruction
    if target.buffer is not value.buffer or not target.on_chip or value.shape != target.shape:
        return False
    region = made.region
    tensor = resolution.resolve(target, region if region is not None and not region.empty else None)
    if instruction.engine is not Engine.dma:
        checks.engine_operand(core, instruction.op, "the tile assigned to", tensor)
    source = resolution.resolve(value, region if region is not None and not region.empty else None)
    if core.values:
        core.write(tensor, core.read(source) if source.dtype is tensor.dtype else _wide(core, source))
    else:
        tensor.storage.mark_written(tensor)
    if region is not None:
        zero_rest(core, target)
    _rewrite(instruction, source, tensor)
    made.moved = True
    return True


def _wide(core: Core, tensor: Tensor) -> Any:
    values = core.read(tensor)
    return values if tensor.dtype.is_integer else values.astype(np.float32)


def _rewrite(instruction: Instruction, old: Tensor, new_place: Tensor) -> None:
    """Name another place in the record, and forget the one that the result had."""
    allocation = old.storage.allocation
    instruction.writes = tuple(
        new_place.access() if each.allocation is allocation else each for each in instruction.writes
    )
    allocation.first_use = allocation.last_use = -1
    used = new_place.storage.allocation
    used.first_use = instruction.index if used.first_use < 0 else used.first_use
    used.last_use = instruction.index


# -- accumulation -----------------------------------------------------------------------------------------------------


def accumulate(target: Tile, value: Any) -> bool:
    """``psum += matmul``: the matmul adds to what PSUM holds. False where it is an ordinary addition."""
    if not isinstance(value, Tile) or target.buffer is not MemoryRegion.psum or value.made is None:
        return False
    made: Made = value.made
    core = current()
    if made.instruction is None:
        return True
    if not core.trace or core.trace[-1] is not made.instruction or not made.instruction.op.startswith("nc_matmul"):
        return False
    if value.shape != target.shape:
        return False
    tensor = resolution.resolve(target, made.region)
    source = resolution.resolve(value, made.region)
    missing = tensor.storage.unwritten(tensor)
    started = missing is None or not missing.all()
    if core.values:
        total = core.read_float32(source)
        if started:
            held = tensor.array if tensor.index is None else core.read(tensor)
            held = held.astype(np.float32) if missing is None else np.where(missing, 0, held.astype(np.float32))
            total = total + held
        core.write(tensor, total)
    else:
        tensor.storage.mark_written(tensor)
    if made.region is not None:
        zero_rest(core, target)
    _rewrite(made.instruction, source, tensor)
    made.instruction.params = {**made.instruction.params, "accumulate": started}
    made.moved = True
    return True


# -- copies -----------------------------------------------------------------------------------------------------------


def copied(tile: Tile, dtype: Any = None, region: Region | None = None, engine: Any = Engine.unknown) -> Tile:
    """A copy on chip, in SBUF."""
    out = new(tile.shape, tile.kind if dtype is None else kind(dtype))
    if region is None or not region.empty:
        isa.tensor_copy(out.device(region), tile.device(region), engine=engine)
    return finish(out, region)


def broadcast(tile: Tile, shape: tuple[int, ...]) -> Tile:
    """Repeat dimensions of size 1. Along partitions that moves data: a DMA reads the one partition many times."""
    if tile.shape == shape:
        return tile
    lead = len(shape) - len(tile.shape)
    old = (*tile.shape[:1], *((1,) * lead), *tile.shape[1:]) if tile.on_chip else ((1,) * lead + tile.shape)
    if lead < 0 or any(a not in (1, b) for a, b in zip(old, shape, strict=False)):
        refuse(
            rules.OPERAND_SHAPE,
            f"{tile.describe()} is broadcast to {list(shape)}.",
            "Dimensions must be equal, or 1 in the tile.",
        )
    if tile.on_chip and tile.shape[0] == 1 and shape[0] != 1:
        tile = _over_partitions(tile, shape[0])
    tensor = tile.device()
    strides = list(tensor.strides)
    for _ in range(lead):
        strides.insert(1 if tile.on_chip else 0, 0)
    sizes = (tile.shape[0], *old[1:]) if tile.on_chip else old
    steps = tuple(0 if a == 1 and b != 1 else s for a, b, s in zip(sizes, shape, strides, strict=True))
    if tensor.index is not None or tensor.dynamic is not None:
        tensor = copied(tile).device()
    return around(Tensor(tensor.storage, shape, steps, tensor.offset, tensor.dtype))


def _over_partitions(tile: Tile, count: int) -> Tile:
    core = current()
    out = new((count, *tile.shape[1:]), tile.kind)
    source, target = tile.device(), out.device()
    core.write(target, np.broadcast_to(core.read(source), target.shape)) if core.values else core.mark_written(target)
    core.record("dma_copy", Engine.dma, (target,), (source,), {"broadcast_partitions": count})
    return out
