"""Tensors and tiles of the older language: views over device tensors that take index expressions and do arithmetic.

A ``Tile`` is a device tensor plus how its elements are reached. Instructions return new tiles; assigning such a result
to a part of another tile (``out[...] = nl.exp(x)``) makes the instruction write there, as the vendor's compiler does,
and no copy is recorded.

Not covered: the older front end's own errors; a kernel it would have refused for its style may run here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array, DType
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.tensor import Dynamic, Tensor
from outcrop.silicon.nki.legacy import access, resolution
from outcrop.silicon.nki.legacy.access import Bound, Place
from outcrop.silicon.nki.legacy.dtypes import kind, numpy_dtype
from outcrop.silicon.nki.legacy.indices import Axes
from outcrop.silicon.nki.legacy.regions import Region


class Tile:
    """``strides`` and ``offset`` count elements of ``source``'s storage; ``elements`` lists irregular ones.

    ``partition`` is the dimension that runs over partitions, -1 in HBM. ``made`` is what the last instruction left to
    say about a tile that it returned (see ``results``), until the tile is used.
    """

    __slots__ = (
        "_device",
        "axes",
        "bounds",
        "dynamic",
        "elements",
        "made",
        "offset",
        "partition",
        "shape",
        "source",
        "strides",
    )
    __array_ufunc__ = None

    def __init__(self, source: Tensor, place: Place) -> None:
        self.source = source
        self.shape = place.shape
        self.strides = place.strides
        self.offset = place.offset
        self.partition = place.partition
        self.axes: Axes = place.axes
        self.bounds: tuple[Bound, ...] = place.bounds
        self.elements: Array | None = place.elements
        self.dynamic: Dynamic | None = place.dynamic
        self.made: Any = None
        self._device: Tensor | None = None

    # -- what kernels ask ---------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        return numpy_dtype(self.source.dtype)

    @property
    def itemsize(self) -> int:
        return self.source.dtype.itemsize

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def buffer(self) -> MemoryRegion:
        return self.source.buffer

    @property
    def name(self) -> str:
        return self.source.name

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        """True for a tensor in HBM: kernels ask so whether an optional parameter was given."""
        if not self.on_chip:
            return True
        refuse(
            rules.PARAMETER,
            f"{self.describe()} is used as a truth value.",
            "A kernel's Python runs before its tensors have values: select with nl.where or a mask.",
        )
        return True

    def describe(self) -> str:
        allocation = self.source.storage.allocation
        return f"{allocation.name} {list(self.shape)} {self.source.dtype.name} in {allocation.region.value}"

    def __repr__(self) -> str:
        return f"<tile {self.describe()}>"

    def assert_shape(self, shape: Sequence[int]) -> Tile:
        """Itself, if it has that shape."""
        if tuple(shape) != self.shape:
            refuse(rules.OPERAND_SHAPE, f"{self.describe()} is asserted to be {list(shape)}.", "Correct either.")
        return self

    # -- for instructions ---------------------------------------------------------------------------------------------

    @property
    def kind(self) -> DType:
        return self.source.dtype

    @property
    def on_chip(self) -> bool:
        return self.partition >= 0

    def device(self, region: Region | None = None) -> Tensor:
        """The device tensor for the positions that a region leaves; refuses those outside the tensor."""
        if self.made is not None:
            self.made.used(self)
        if region is not None:
            return resolution.resolve(self, region)
        if self._device is None:
            self._device = resolution.resolve(self, None)
        return self._device

    # -- views --------------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tile:
        made = Tile(self.source, access.place(self, key))
        if self.made is not None:
            self.made.used(self)
        return made

    def __setitem__(self, key: Any, value: Any) -> None:
        from outcrop.silicon.nki.legacy import results  # noqa: PLC0415  (results are made of tiles)

        results.assign(Tile(self.source, access.place(self, key)), value)

    def _around(self, tensor: Tensor) -> Tile:
        return around(tensor)

    def reshape(self, shape: Sequence[int]) -> Tile:
        """Another shape over the same elements; no copy."""
        return around(self.device().reshape(tuple(int(each) for each in shape)))

    def view(self, dtype: Any) -> Tile:
        """The same bytes as another data type; no copy."""
        return around(self.device().view(kind(dtype)))

    def expand_dims(self, axis: int) -> Tile:
        """A dimension of size 1 more; no copy."""
        axis = axis % (self.ndim + 1)
        return self[(*((slice(None),) * axis), None)]

    def broadcast_to(self, shape: Sequence[int]) -> Tile:
        """Repeated along dimensions of size 1; a view, unless the partition dimension is one of them."""
        from outcrop.silicon.nki.legacy import results  # noqa: PLC0415

        return results.broadcast(self, tuple(int(each) for each in shape))

    def astype(self, dtype: Any) -> Tile:
        """A copy in another data type."""
        from outcrop.silicon.nki.legacy import results  # noqa: PLC0415

        return results.copied(self, kind(dtype))

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def _binary(self, other: Any, op: str, *, swapped: bool = False, dtype: Any = None) -> Tile:
        from outcrop.silicon.nki.legacy import arithmetic  # noqa: PLC0415

        return arithmetic.binary(other, self, op, dtype) if swapped else arithmetic.binary(self, other, op, dtype)

    def _inplace(self, other: Any, op: str) -> Tile:
        from outcrop.silicon.nki.legacy import results  # noqa: PLC0415

        if op == "add" and results.accumulate(self, other):
            return self
        results.assign(self, self._binary(other, op))
        return self

    def __add__(self, other: Any) -> Tile:
        return self._binary(other, "add")

    def __radd__(self, other: Any) -> Tile:
        return self._binary(other, "add", swapped=True)

    def __iadd__(self, other: Any) -> Tile:
        return self._inplace(other, "add")

    def __sub__(self, other: Any) -> Tile:
        return self._binary(other, "subtract")

    def __rsub__(self, other: Any) -> Tile:
        return self._binary(other, "subtract", swapped=True)

    def __isub__(self, other: Any) -> Tile:
        return self._inplace(other, "subtract")

    def __mul__(self, other: Any) -> Tile:
        return self._binary(other, "multiply")

    def __rmul__(self, other: Any) -> Tile:
        return self._binary(other, "multiply", swapped=True)

    def __imul__(self, other: Any) -> Tile:
        return self._inplace(other, "multiply")

    def __truediv__(self, other: Any) -> Tile:
        return self._binary(other, "divide")

    def __rtruediv__(self, other: Any) -> Tile:
        return self._binary(other, "divide", swapped=True)

    def __itruediv__(self, other: Any) -> Tile:
        return self._inplace(other, "divide")

    def __mod__(self, other: Any) -> Tile:
        return self._binary(other, "mod")

    def __pow__(self, other: Any) -> Tile:
        return self._binary(other, "power")

    def __rpow__(self, other: Any) -> Tile:
        return self._binary(other, "power", swapped=True)

    def __and__(self, other: Any) -> Tile:
        return self._binary(other, "bitwise_and")

    def __or__(self, other: Any) -> Tile:
        return self._binary(other, "bitwise_or")

    def __xor__(self, other: Any) -> Tile:
        return self._binary(other, "bitwise_xor")

    def __lshift__(self, other: Any) -> Tile:
        return self._binary(other, "left_shift")

    def __rshift__(self, other: Any) -> Tile:
        return self._binary(other, "right_shift")

    def __neg__(self) -> Tile:
        return self._binary(-1, "multiply")

    def __lt__(self, other: Any) -> Tile:
        return self._binary(other, "less", dtype=bool)

    def __le__(self, other: Any) -> Tile:
        return self._binary(other, "less_equal", dtype=bool)

    def __gt__(self, other: Any) -> Tile:
        return self._binary(other, "greater", dtype=bool)

    def __ge__(self, other: Any) -> Tile:
        return self._binary(other, "greater_equal", dtype=bool)

    def __eq__(self, other: object) -> Tile:  # type: ignore[override]
        return self._binary(other, "equal", dtype=bool)

    def __ne__(self, other: object) -> Tile:  # type: ignore[override]
        return self._binary(other, "not_equal", dtype=bool)

    __hash__ = object.__hash__


def around(tensor: Tensor) -> Tile:
    """The tile that shows a device tensor as it is."""
    partition = 0 if tensor.on_chip else -1
    axes = (0,) * len(tensor.shape)
    elements = None if tensor.index is None else tensor.index.elements
    made = Tile(
        tensor, Place(tensor.shape, tensor.strides, tensor.offset, partition, axes, (), elements, tensor.dynamic)
    )
    made._device = tensor
    return made


def arranged(tensor: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], partition: int) -> Tile:
    """A tile over the storage of ``tensor`` with dimensions in another order, such as block dimensions in front."""
    return Tile(tensor, Place(shape, strides, tensor.offset, partition, (0,) * len(shape), (), None, None))
