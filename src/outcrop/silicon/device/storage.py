"""The bytes behind a tensor, and by byte whether anything wrote them.

A tensor that the compiler places has bytes of its own: where they lie is decided from lifetimes at the end of the run
(``placement``). Tensors with explicit addresses share one image of their memory, so that overlapping ones really
overlap; writing one takes the overlapped bytes away from the others, and reading those then names both.

Whether bytes were written is kept as one flag where that is enough (`whole`), else as a shadow map with one entry per
``granule`` bytes, made finer when a view with smaller elements comes along.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device.dtypes import Array, DType
from outcrop.silicon.device.record import Allocation

if TYPE_CHECKING:
    from outcrop.silicon.device.tensor import Tensor

ViewKey = tuple[int, tuple[int, ...], tuple[int, ...], int]


class Storage:
    """Bytes of one allocation: ``buffer`` is flat; partition p of the tensor starts at base + p * pitch."""

    __slots__ = (
        "__weakref__",
        "accumulation",
        "allocation",
        "base",
        "buffer",
        "clobbered_by",
        "granule",
        "marked",
        "origin",
        "overlaps",
        "pitch",
        "readable",
        "shadow",
        "whole",
    )

    def __init__(
        self,
        allocation: Allocation,
        buffer: Array | None,
        *,
        base: int = 0,
        pitch: int | None = None,
        whole: bool = False,
    ) -> None:
        self.allocation = allocation
        self.buffer = buffer
        self.base = base
        self.pitch = allocation.row_bytes if pitch is None else pitch
        self.whole = whole
        self.shadow: Array | None = None
        self.granule = allocation.dtype.itemsize
        self.readable: set[ViewKey] = set()  # views found to be written; bytes stay written until clobbered
        self.marked: set[ViewKey] = set()  # views already marked as written
        self.overlaps: list[weakref.ref[Storage]] | None = None  # live storages at overlapping explicit addresses
        self.clobbered_by: Allocation | None = None
        self.origin: Any = None  # where carried unwritten bytes come from: see carry.py
        self.accumulation: Any = None  # PSUM only: see accumulation.py

    @property
    def size_bytes(self) -> int:
        return self.allocation.partitions * self.allocation.row_bytes

    def array(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: DType) -> Array:
        """The NumPy view for an access pattern in elements; no copy."""
        item = dtype.itemsize
        row = self.allocation.row_bytes
        if self.pitch == row:
            start = self.base + offset * item
            steps = tuple(stride * item for stride in strides)
        else:
            row_elements = row // item
            partition, within = divmod(offset, row_elements)
            start = self.base + partition * self.pitch + within * item
            steps = (strides[0] // row_elements * self.pitch, *(stride * item for stride in strides[1:]))
        return np.ndarray(shape, dtype.numpy, self.buffer, start, steps)

    def typed(self, dtype: DType) -> Array:
        """Everything as elements of ``dtype``: ``[partitions, elements per partition]``."""
        elements = self.allocation.row_bytes // dtype.itemsize
        return self.array(0, (self.allocation.partitions, elements), (elements, 1), dtype)

    # -- which bytes were written -------------------------------------------------------------------------------------

    def shadow_of(self, tensor: Tensor) -> Array:
        """The shadow entries of a strided view; makes the map, and makes it fine enough."""
        item = tensor.dtype.itemsize
        if self.shadow is None:
            self.shadow = np.full(self.size_bytes // self.granule, self.whole, np.bool_)
        if item % self.granule:
            self.refine()
        per = item // self.granule
        shape, strides = tensor.shape, tensor.strides
        if per == 1:
            return np.ndarray(shape, np.bool_, self.shadow, tensor.offset, strides)
        return np.ndarray((*shape, per), np.bool_, self.shadow, tensor.offset * per, (*(s * per for s in strides), 1))

    def refine(self) -> None:
        """One shadow entry per byte from now on."""
        if self.shadow is not None:
            self.shadow = np.repeat(self.shadow, self.granule)
        self.granule = 1

    def byte_shadow(self) -> Array:
        """The map as ``[partitions, bytes per partition]``, one entry per byte."""
        if self.shadow is None:
            self.shadow = np.full(self.size_bytes // self.granule, self.whole, np.bool_)
        if self.granule != 1:
            self.refine()
        return self.shadow.reshape(self.allocation.partitions, self.allocation.row_bytes)

    def mark_written(self, tensor: Tensor, mask: Array | None = None) -> None:
        """Note that every element of a view (or those where ``mask``) was written."""
        if self.overlaps:
            self._clobber_others(tensor)
        if self.whole:
            return
        if tensor.index is not None:
            self._mark_elements(tensor, mask)
            return
        if mask is not None:
            shadow = self.shadow_of(tensor)
            shadow |= mask if shadow.ndim == mask.ndim else mask[..., None]
            return
        key = tensor.key
        if key in self.marked:
            return
        if tensor.size * tensor.dtype.itemsize == self.size_bytes and tensor.is_contiguous():
            self.whole = True
            self.shadow = None
            self.clobbered_by = None  # what was wrong before is over
            self.readable.clear()
            self.marked.clear()
            return
        self.shadow_of(tensor)[...] = True
        self.marked.add(key)

    def _mark_elements(self, tensor: Tensor, mask: Array | None) -> None:
        index = tensor.index
        assert index is not None
        rows = index.rows
        if rows is not None and mask is None:
            if rows.table.shape[0]:
                self.shadow_of(rows.table)[rows.picked if rows.valid is None else rows.picked[rows.valid]] = True
            return
        valid = index.valid if mask is None else (mask if index.valid is None else index.valid & mask)
        elements = index.elements if valid is None else index.elements[valid]
        item = tensor.dtype.itemsize
        if self.shadow is None:
            self.shadow = np.full(self.size_bytes // self.granule, self.whole, np.bool_)
        if item % self.granule:
            self.refine()
        per = item // self.granule
        self.shadow.reshape(-1, per)[elements] = True

    def unwritten(self, tensor: Tensor) -> Array | None:
        """Which elements of a view nothing wrote (or something else overwrote); ``None`` when there are none."""
        if self.whole:
            return None
        if tensor.index is not None:
            return self._unwritten_elements(tensor)
        key = tensor.key
        if key in self.readable:
            return None
        shadow = self.shadow_of(tensor)
        if shadow.all():
            self.readable.add(key)
            return None
        written: Array = shadow if shadow.ndim == len(tensor.shape) else np.all(shadow, axis=-1)
        return np.logical_not(written)

    def _unwritten_elements(self, tensor: Tensor) -> Array | None:
        index = tensor.index
        assert index is not None
        if index.rows is not None and index.rows.table.shape[0]:
            written = self.shadow_of(index.rows.table)[index.rows.picked]
            if written.all():
                return None
        if self.shadow is None:
            self.shadow = np.full(self.size_bytes // self.granule, self.whole, np.bool_)
        if tensor.dtype.itemsize % self.granule:
            self.refine()
        entries = self.shadow.reshape(-1, tensor.dtype.itemsize // self.granule)[index.elements]
        missing: Array = np.logical_not(np.all(entries, axis=-1))
        if index.valid is not None:
            missing = missing & index.valid
        return missing if missing.any() else None

    def forget(self, tensor: Tensor, mask: Array) -> None:
        """Take back that the elements of a static view where ``mask`` were written: what lies there means nothing."""
        shadow = self.shadow_of(tensor)
        shadow &= ~(mask if shadow.ndim == mask.ndim else mask[..., None])
        self.whole = False
        self.readable.clear()
        self.marked.clear()

    # -- explicit addresses -------------------------------------------------------------------------------------------

    def _clobber_others(self, tensor: Tensor) -> None:
        """Take the bytes that a write to ``tensor`` covers away from the storages that overlap this one."""
        assert self.overlaps is not None
        mine = self.allocation
        covered: Array | None = None
        for reference in list(self.overlaps):
            other = reference()
            if other is None or (not other.whole and other.shadow is None):
                if other is None:
                    self.overlaps.remove(reference)
                continue
            if covered is None:
                covered = np.zeros((mine.partitions, mine.row_bytes), np.bool_)
                _cover(covered, tensor)
            theirs = other.allocation
            assert mine.address is not None
            assert theirs.address is not None
            rows = _overlap(mine.start_partition, mine.partitions, theirs.start_partition, theirs.partitions)
            columns = _overlap(mine.address, mine.row_bytes, theirs.address, theirs.row_bytes)
            shadow = other.byte_shadow()
            taken = covered[rows[0], columns[0]]
            shadow[rows[1], columns[1]] &= ~taken
            if taken.any():
                other.whole = False
                other.readable.clear()
                other.marked.clear()
                other.clobbered_by = mine
                if other.accumulation is not None:
                    other.accumulation.clobbered(shadow)
                if not shadow.any():
                    other.shadow = None  # nothing is left to take away, so that the next write need not look


def _cover(covered: Array, tensor: Tensor) -> None:
    flat = covered.reshape(-1)
    item = tensor.dtype.itemsize
    if tensor.index is not None:
        flat.reshape(-1, item)[tensor.index.elements] = True
        return
    view = np.ndarray(
        (*tensor.shape, item), np.bool_, flat, tensor.offset * item, (*(s * item for s in tensor.strides), 1)
    )
    view[...] = True


def _overlap(a_start: int, a_size: int, b_start: int, b_size: int) -> tuple[slice, slice]:
    low, high = max(a_start, b_start), min(a_start + a_size, b_start + b_size)
    return slice(low - a_start, high - a_start), slice(low - b_start, high - b_start)
