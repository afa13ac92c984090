"""A tensor of the kernel language: an access pattern over a storage, and where its elements are at run time.

The pattern is the vendor's: shape, strides and offset in elements over the flattened storage, where on-chip storage is
``[partitions, elements per partition]``. The methods that make views of views are in ``views``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from outcrop.silicon.device.dtypes import Array, DType
from outcrop.silicon.device.no_arithmetic import NoArithmetic
from outcrop.silicon.device.record import Access
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.storage import Storage, ViewKey
from outcrop.silicon.device.views import Views

_SBUF, _PSUM = MemoryRegion.sbuf, MemoryRegion.psum
_BANK = 2048  # a multiple of every alignment that a rule asks for; a bank of PSUM on every chip


class Dynamic(NamedTuple):
    """An address known only at run time, resolved when an instruction executes (see ``access.resolve``).

    One of ``scalar`` (a register or a 1x1 tensor), ``vector`` (a ``[P, 1]`` tensor: one row of the first dimension for
    each partition) and ``columns`` (tensor indirection of v4: offsets along the free dimension) is set. The value times
    ``stride`` elements is added to the offset; values must lie in ``[0, limit)`` where a limit is known.
    """

    stride: int
    limit: int | None
    dim: int
    scalar: Any = None
    vector: Any = None
    columns: Any = None
    group: int = 16  # partitions that share their ``columns``; 32 on the tensor engine (see ``indirection``)


class Rows(NamedTuple):
    """Rows of an HBM tensor chosen by number: ``picked`` indexes the first dimension of ``table``, a static view.

    Where ``valid`` is false, ``picked`` has 0 and means nothing.
    """

    table: Tensor
    picked: Array
    valid: Array | None


class ElementIndex:
    """Elements chosen one by one: ``elements`` are positions in the flattened storage, of the tensor's shape.

    Where ``valid`` is false nothing is read (the value is 0) and nothing is written. Whole rows are told by ``rows``;
    then ``elements`` are worked out only when something asks for them.
    """

    __slots__ = ("_elements", "rows", "valid")

    def __init__(self, elements: Array | None, valid: Array | None = None, rows: Rows | None = None) -> None:
        self._elements = elements
        self.valid = valid
        self.rows = rows

    @property
    def elements(self) -> Array:
        if self._elements is None:
            assert self.rows is not None
            table, picked = self.rows.table, self.rows.picked
            made: Array = picked * table.strides[0] + table.offset
            for size, stride in zip(table.shape[1:], table.strides[1:], strict=True):
                made = made[..., None] + np.arange(size, dtype=np.int64) * stride
            self._elements = made
        return self._elements


class Tensor(Views, NoArithmetic):
    """A view of a storage. Views are immutable; they share bytes with all other views of the same storage."""

    __slots__ = ("_array", "_key", "_signature", "dtype", "dynamic", "index", "offset", "shape", "storage", "strides")

    def __init__(
        self,
        storage: Storage,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int,
        dtype: DType,
        dynamic: Dynamic | None = None,
        index: ElementIndex | None = None,
    ) -> None:
        self.storage = storage
        self.shape = shape
        self.strides = strides
        self.offset = offset
        self.dtype = dtype
        self.dynamic = dynamic
        self.index = index
        self._array: Array | None = None
        self._key: ViewKey | None = None
        self._signature: tuple[Any, ...] | None = None

    # -- what the vendor's API shows ----------------------------------------------------------------------------------

    @property
    def buffer(self) -> MemoryRegion:
        return self.storage.allocation.region

    @property
    def name(self) -> str:
        return self.storage.allocation.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    # -- for instructions ---------------------------------------------------------------------------------------------

    @property
    def on_chip(self) -> bool:
        region = self.storage.allocation.region
        return region is _SBUF or region is _PSUM

    @property
    def row_elements(self) -> int:
        """Elements of one partition of the storage, in this view's data type."""
        return self.storage.allocation.row_bytes // self.dtype.itemsize

    @property
    def start_partition(self) -> int:
        return self.storage.allocation.start_partition + self.offset // self.row_elements

    @property
    def start_byte(self) -> int:
        """Where the view starts within its partition; for an explicit address, within the memory's partition."""
        within = (self.offset % self.row_elements) * self.dtype.itemsize
        return within + (self.storage.allocation.address or 0)

    @property
    def free_size(self) -> int:
        """Elements per partition."""
        return math.prod(self.shape[1:])

    @property
    def array(self) -> Array:
        """The elements as a NumPy view, as they lie in memory. Instructions go through ``Core.read`` and ``write``."""
        if self._array is None:
            self._array = self.storage.array(self.offset, self.shape, self.strides, self.dtype)
        return self._array

    @property
    def key(self) -> ViewKey:
        if self._key is None:
            self._key = (self.offset, self.shape, self.strides, self.dtype.itemsize)
        return self._key

    @property
    def signature(self) -> tuple[Any, ...]:
        """Everything that static rules may look at; equal signatures get equal verdicts (see ``Core.checked``).

        Of the place within a partition rules may look at the bytes from the start of a PSUM bank, or of as many bytes
        of SBUF: blocks of one tensor share their verdicts so.
        """
        if self._signature is None:
            allocation = self.storage.allocation
            at = (self.start_partition, self.start_byte % _BANK) if self.on_chip else (0, 0)
            dynamic = self.dynamic
            kind = (
                None
                if dynamic is None
                else (
                    dynamic.scalar.signature if isinstance(dynamic.scalar, Tensor) else dynamic.scalar is None,
                    dynamic.vector is None,
                    dynamic.columns if dynamic.columns is None else (dynamic.columns.signature, dynamic.group),
                    dynamic.dim,
                )
            )
            self._signature = (allocation.region, *at, self.shape, self.strides, self.dtype, kind, self.index is None)
        return self._signature

    def access(self) -> Access:
        indirect = self.dynamic is not None or self.index is not None
        return Access(self.storage.allocation, self.offset, self.shape, self.strides, self.dtype, indirect)

    def describe(self) -> str:
        """For messages: name, shape, type, memory and place."""
        allocation = self.storage.allocation
        place = ""
        if self.on_chip:
            place = f", partitions {self.start_partition} to {self.start_partition + self.shape[0] - 1}"
            place += f", byte {self.start_byte} on"
        return f"{allocation.name} {list(self.shape)} {self.dtype.name} in {allocation.region.value}{place}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"

    def __len__(self) -> int:
        return self.shape[0]


def new_tensor(storage: Storage) -> Tensor:
    """The view of a whole storage."""
    allocation = storage.allocation
    return Tensor(storage, allocation.shape, row_major(allocation.shape), 0, allocation.dtype)


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides in elements of a dense array of that shape."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
