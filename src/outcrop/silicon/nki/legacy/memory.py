"""Tensors of the older language: ``nl.ndarray`` and its relatives, block dimensions, and direct allocation.

On-chip tensors may have block dimensions in front of the partition dimension, which ``nl.par_dim`` names. Where the
compiler places them they become free dimensions of one device tensor, if that fits into SBUF at all. In PSUM, beyond
that size, and under direct allocation every block is a tensor of its own, alive only while it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.dtypes import DType
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.tensor import Tensor, row_major
from outcrop.silicon.nki import isa
from outcrop.silicon.nki.legacy.dtypes import kind, numpy_dtype
from outcrop.silicon.nki.legacy.indices import each_position, whole
from outcrop.silicon.nki.legacy.tile import Tile, around, arranged

SHARED = "legacy shared tensors"  # in Core.state: HBM tensors by the order of their declaration, for later programs


class PartitionSize(int):
    """``nl.par_dim(n)``: a dimension's size, and that it runs over partitions."""

    def __repr__(self) -> str:
        return f"par_dim({int(self)})"


def par_dim(size: int) -> PartitionSize:
    """Mark a dimension of an on-chip tensor's shape as the partition dimension."""
    return PartitionSize(size)


class Buffer:
    """A memory to declare tensors in. ``find`` gives a block's address under direct allocation."""

    __slots__ = ("find", "name", "region")

    def __init__(
        self,
        name: str,
        region: MemoryRegion,
        find: Callable[[tuple[int, ...], int, int], tuple[int, int]] | None = None,
    ) -> None:
        self.name = name
        self.region = region
        self.find = find

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Buffer):
            return self.region is other.region and self.find is other.find
        return self.region == other

    def __hash__(self) -> int:
        return hash(self.region)

    def __repr__(self) -> str:
        return f"nl.{self.name}"


sbuf = Buffer("sbuf", MemoryRegion.sbuf)
psum = Buffer("psum", MemoryRegion.psum)
hbm = Buffer("hbm", MemoryRegion.shared_hbm)
shared_hbm = Buffer("shared_hbm", MemoryRegion.shared_hbm)
private_hbm = Buffer("private_hbm", MemoryRegion.private_hbm)


def _buffer(given: Any) -> Buffer:
    if given is None:
        return sbuf
    if isinstance(given, Buffer):
        return given
    made = getattr(given, "buffer_of_legacy", None)  # nki.compiler.sbuf and psum stand for their automatic form
    if isinstance(made, Buffer):
        return made
    if isinstance(given, MemoryRegion):
        return Buffer(given.value, given)
    refuse(rules.PARAMETER, f"buffer={given!r} is no memory.", "Use nl.sbuf, nl.psum, nl.hbm or nl.shared_hbm.")
    raise AssertionError("refused")


class Blocks:
    """An on-chip tensor in pieces: one tile per index of its block dimensions."""

    def __init__(self, shape: tuple[int, ...], count: int, tiles: dict[tuple[int, ...], Tile]) -> None:
        self.shape = shape
        self.count = count  # of block dimensions
        self.tiles = tiles
        self.kind: DType = next(iter(tiles.values())).kind

    @property
    def dtype(self) -> np.dtype[Any]:
        return numpy_dtype(self.kind)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def _split(self, key: Any) -> tuple[Tile, tuple[Any, ...]]:
        keys = key if isinstance(key, tuple) else (key,)
        block = [whole(each) for each in keys[: self.count]]
        tile = self.tiles.get(tuple(each for each in block if each is not None))
        if tile is None or len(block) != self.count:
            refuse(
                rules.PARAMETER,
                f"A tensor of shape {list(self.shape)} with {self.count} block dimensions is indexed with {keys!r}.",
                "In PSUM and under direct allocation every block dimension takes one integer within its size.",
            )
            raise AssertionError("refused")
        return tile, keys[self.count :]

    def __getitem__(self, key: Any) -> Tile:
        tile, rest = self._split(key)
        return tile[rest] if rest else tile

    def __setitem__(self, key: Any, value: Any) -> None:
        tile, rest = self._split(key)
        tile[rest or (Ellipsis,)] = value


def ndarray(shape: Sequence[Any], dtype: Any, *, buffer: Any = None, name: str = "", **kwargs: Any) -> Tile:
    """A tensor whose bytes nothing has written; on chip where ``buffer`` is not given."""
    place = _buffer(buffer)
    wanted = kind(dtype)
    given: list[Any] = [shape] if whole(shape) is not None else list(shape)
    sizes = tuple(int(each) for each in given)
    core = current()
    if place.region not in (MemoryRegion.sbuf, MemoryRegion.psum):
        return around(_in_hbm(sizes, wanted, place.region, name))
    marked = [at for at, each in enumerate(given) if isinstance(each, PartitionSize)]
    if len(marked) > 1:
        refuse(rules.PARAMETER, f"The shape {given} marks {len(marked)} dimensions.", "One dimension is nl.par_dim.")
    at = marked[0] if marked else 0
    if place.find is not None:
        made: Tile = _blocks(sizes, at, wanted, place, name)
        return made
    if at == 0:
        return around(core.allocate(sizes, wanted, place.region, name))
    blocks, partitions, free = sizes[:at], sizes[at], sizes[at + 1 :] or (1,)
    row = math.prod((*blocks, *free)) * wanted.itemsize
    if place.region is MemoryRegion.psum or row > core.limits.sbuf_row_bytes:
        each: Tile = _blocks(sizes, at, wanted, place, name)
        return each
    tensor = core.allocate((partitions, *blocks, *free), wanted, place.region, name)
    steps = row_major(tensor.shape)
    strides = (*steps[1 : 1 + at], steps[0], *steps[1 + at :])
    return arranged(tensor, (*blocks, partitions, *free), strides, at)


def _in_hbm(sizes: tuple[int, ...], dtype: DType, region: MemoryRegion, name: str) -> Tensor:
    """A tensor in HBM; a shared one is the same for all programs of a launch grid, by the order of declaration."""
    core = current()
    held = core.state.get(SHARED)
    if held is None or region is not MemoryRegion.shared_hbm:
        return core.allocate(sizes, dtype, region, name)
    known, at = held
    held[1] = at + 1
    if at < len(known) and known[at].shape == sizes and known[at].dtype is dtype:
        same: Tensor = known[at]
        return same
    made = core.allocate(sizes, dtype, region, name)
    known[at:] = [made]
    return made


def _blocks(sizes: tuple[int, ...], at: int, dtype: DType, place: Buffer, name: str) -> Any:
    core = current()
    blocks, partitions, free = sizes[:at], sizes[at], sizes[at + 1 :] or (1,)
    row = math.prod(free) * dtype.itemsize
    tiles = {}
    for block in each_position(blocks):
        address = None if place.find is None else place.find(block, partitions, row)
        label = f"{name}{list(block)}" if name and block else name
        tiles[block] = around(core.allocate((partitions, *free), dtype, place.region, label, address))
    return Blocks(sizes, at, tiles) if blocks else tiles[()]


def full(
    shape: Sequence[Any], fill_value: float, dtype: Any, *, buffer: Any = None, name: str = "", **kwargs: Any
) -> Tile:
    """A tensor filled with a number. Zeros in PSUM take no instruction: the first matmul of a sum makes them."""
    made: Any = ndarray(shape, dtype, buffer=buffer, name=name)
    tiles = list(made.tiles.values()) if isinstance(made, Blocks) else [made]
    number = fill_value.item() if isinstance(fill_value, np.generic) else fill_value
    for tile in tiles:
        _fill(tile, number)
    result: Tile = made
    return result


def _fill(tile: Tile, value: float) -> None:
    core = current()
    tensor = tile.source
    if not tile.on_chip:
        _fill_hbm(tile, value)
    elif tile.buffer is MemoryRegion.psum and value == 0:
        core.write(tensor, np.zeros((1,) * len(tensor.shape), tensor.dtype.numpy))
    else:
        isa.memset(tensor, value)


def _fill_hbm(tile: Tile, value: float) -> None:
    from outcrop.silicon.nki.legacy.transfer import store  # noqa: PLC0415  (transfers are made of tiles)

    store(tile, value)


def zeros(shape: Sequence[Any], dtype: Any, *, buffer: Any = None, name: str = "", **kwargs: Any) -> Tile:
    """A tensor of zeros."""
    return full(shape, 0, dtype, buffer=buffer, name=name)


def ones(shape: Sequence[Any], dtype: Any, *, buffer: Any = None, name: str = "", **kwargs: Any) -> Tile:
    """A tensor of ones."""
    return full(shape, 1, dtype, buffer=buffer, name=name)


def _declared(tile: Tile) -> tuple[Any, ...]:
    if tile.partition <= 0:
        return tile.shape
    return tuple(PartitionSize(size) if at == tile.partition else size for at, size in enumerate(tile.shape))


def empty_like(a: Any, dtype: Any = None, *, buffer: Any = None, name: str = "", **kwargs: Any) -> Tile:
    """A tensor of the shape and, unless given, the type of another, in the memory of the other."""
    where = Buffer(a.buffer.value, a.buffer) if buffer is None else buffer
    return ndarray(_declared(a), a.kind if dtype is None else dtype, buffer=where, name=name)


def zeros_like(a: Any, dtype: Any = None, *, buffer: Any = None, name: str = "", **kwargs: Any) -> Tile:
    """As ``empty_like``, filled with zeros."""
    where = Buffer(a.buffer.value, a.buffer) if buffer is None else buffer
    return full(_declared(a), 0, a.kind if dtype is None else dtype, buffer=where, name=name)


def shared_constant(constant: Any, dtype: Any = None, **kwargs: Any) -> Tile:
    """A tensor in HBM with constant contents."""
    array = np.asarray(constant)
    wanted = kind(array.dtype if dtype is None else dtype)
    return around(current().host_tensor(array.astype(wanted.numpy), wanted, "constant"))


def shared_identity_matrix(n: int, dtype: Any = np.uint8, **kwargs: Any) -> Tile:
    """The identity matrix of size ``n`` in HBM."""
    return shared_constant(np.identity(n), dtype)
