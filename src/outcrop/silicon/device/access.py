"""Run-time addressing: from registers and index tensors to elements, with bounds; and the read of unwritten bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import carry, rules
from outcrop.silicon.device.dtypes import Array, store
from outcrop.silicon.device.patterns import leaves_partition, require_inside
from outcrop.silicon.device.refusal import is_relaxed, refuse
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.tensor import ElementIndex, Rows, Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core


def resolve(core: Core, tensor: Tensor, *, skip_invalid: bool) -> Tensor:
    """The static view (or, for gathers and scatters, the view by element) that a dynamic one stands for now.

    With ``skip_invalid``, accesses outside the tensor become invalid elements; else they are refused.
    """
    dynamic = tensor.dynamic
    assert dynamic is not None
    if dynamic.scalar is not None:
        value = scalar_value(core, dynamic.scalar)
        static = Tensor(
            tensor.storage, tensor.shape, tensor.strides, tensor.offset + value * dynamic.stride, tensor.dtype
        )
        if dynamic.limit is not None and not 0 <= value < dynamic.limit:
            if skip_invalid:
                return _nothing(static)
            refuse(
                rules.OUT_OF_BOUNDS,
                f"The run-time index {value} of dimension {dynamic.dim} lies outside {tensor.describe()}.",
                f"It must be 0 to {dynamic.limit - 1}; oob_mode.skip of a DMA leaves such an access out.",
            )
        if skip_invalid and not _is_inside(static):
            return _nothing(static)
        require_inside(static)
        return static
    if dynamic.vector is not None:
        return _rows(core, tensor, skip_invalid)
    return _columns(core, tensor, skip_invalid)


def scalar_value(core: Core, value: object) -> int:
    """What a register, a 1x1 tensor or an integer holds now."""
    if isinstance(value, Tensor):
        return int(core.read(value, defined=True).reshape(-1)[0]) if core.values else 0
    if isinstance(value, VirtualRegister):
        return value.whole("A run-time address")
    return int(value)  # type: ignore[call-overload, no-any-return]


def _is_inside(tensor: Tensor) -> bool:
    low = tensor.offset + sum(min(0, s * (n - 1)) for s, n in zip(tensor.strides, tensor.shape, strict=True))
    high = tensor.offset + sum(max(0, s * (n - 1)) for s, n in zip(tensor.strides, tensor.shape, strict=True))
    return low >= 0 and high < tensor.storage.size_bytes // tensor.dtype.itemsize and not leaves_partition(tensor)


def _nothing(tensor: Tensor) -> Tensor:
    elements = np.zeros(tensor.shape, np.int64)
    return _indexed(tensor, elements, np.zeros(tensor.shape, np.bool_))


def _indexed(tensor: Tensor, elements: Array, valid: Array | None) -> Tensor:
    return _with_index(tensor, ElementIndex(elements, valid))


def _with_index(tensor: Tensor, index: ElementIndex) -> Tensor:
    return Tensor(tensor.storage, tensor.shape, tensor.strides, tensor.offset, tensor.dtype, None, index)


def _rows(core: Core, tensor: Tensor, skip_invalid: bool) -> Tensor:
    """Vector indirection: each index picks a row of the first dimension; indices are taken column by column.

    A row is left out as a whole when any of its elements lies outside the storage.
    """
    dynamic = tensor.dynamic
    assert dynamic is not None
    index = core.read(dynamic.vector, defined=True).reshape(dynamic.vector.shape[0], -1)
    picked = index.T.reshape(-1)[: tensor.shape[0]].astype(np.int64)
    if picked.size < tensor.shape[0]:
        refuse(
            rules.OPERAND_SHAPE,
            f"{index.size} run-time indices were given for the {tensor.shape[0]} rows of {tensor.describe()}.",
            "Give one for each row: an index tensor of [rows, 1].",
        )
        picked = np.resize(picked, tensor.shape[0])
    table = _table(tensor, dynamic.stride, dynamic.limit)
    count = table.shape[0]
    valid: Array = (picked >= 0) & (picked < count)
    if valid.all():
        return _with_index(tensor, ElementIndex(None, None, Rows(table, picked, None)))
    if not skip_invalid:
        refuse(
            rules.OUT_OF_BOUNDS,
            f"Run-time indices {np.unique(picked[~valid])[:8].tolist()} lie outside {tensor.describe()}.",
            f"Indices must be 0 to {count - 1}; oob_mode.skip leaves such rows out.",
        )
    elements = None if count else np.zeros(tensor.shape, np.int64)
    each = np.broadcast_to(valid.reshape((-1,) + (1,) * (len(tensor.shape) - 1)), tensor.shape)
    return _with_index(tensor, ElementIndex(elements, each, Rows(table, np.where(valid, picked, 0), valid)))


def _table(tensor: Tensor, step: int, limit: int | None) -> Tensor:
    """All rows that an index of a vector-indirect view may name."""
    total = tensor.storage.size_bytes // tensor.dtype.itemsize
    inner = tuple(zip(tensor.strides[1:], tensor.shape[1:], strict=True))
    low = tensor.offset + sum(min(0, stride * (size - 1)) for stride, size in inner)
    high = tensor.offset + sum(max(0, stride * (size - 1)) for stride, size in inner)
    count = 0
    if low >= 0 and high < total:
        count = (total - 1 - high) // step + 1 if step > 0 else 1
    if limit is not None:
        count = min(count, limit)
    shape = (count, *tensor.shape[1:])
    return Tensor(tensor.storage, shape, (step, *tensor.strides[1:]), tensor.offset, tensor.dtype)


def _columns(core: Core, tensor: Tensor, skip_invalid: bool) -> Tensor:
    """Tensor indirection: offset i is at index[i % G, i // G] of each group of G partitions, and all of them use it."""
    dynamic = tensor.dynamic
    assert dynamic is not None
    index = core.read(dynamic.columns, defined=True).reshape(tensor.shape[0], -1).astype(np.int64)
    group, count = dynamic.group, tensor.shape[1]
    at = np.arange(count)
    picked = np.empty((tensor.shape[0], count), np.int64)
    for start in range(0, tensor.shape[0], group):
        rows = index[start : start + group]
        picked[start : start + group] = rows[at % rows.shape[0], at // rows.shape[0]]
    base = tensor.offset + np.arange(tensor.shape[0], dtype=np.int64)[:, None] * tensor.strides[0]
    return _bounded(tensor, base + picked * dynamic.stride, picked, dynamic.limit, skip_invalid)


def _bounded(tensor: Tensor, elements: Array, picked: Array, limit: int | None, skip_invalid: bool) -> Tensor:
    total = tensor.storage.size_bytes // tensor.dtype.itemsize
    valid: Array = (elements >= 0) & (elements < total)
    if limit is not None:
        inside = (picked >= 0) & (picked < limit)
        valid &= inside.reshape(inside.shape + (1,) * (valid.ndim - inside.ndim))
    if valid.all():
        return _indexed(tensor, elements, None)
    if not skip_invalid:
        bad = np.unique(picked[~valid.reshape(*picked.shape, -1).all(axis=-1)])
        refuse(
            rules.OUT_OF_BOUNDS,
            f"Run-time indices {bad[:8].tolist()} lie outside {tensor.describe()}.",
            f"Indices must be 0 to {limit - 1 if limit else 'the last row'}; oob_mode.skip leaves such rows out.",
        )
    return _indexed(tensor, np.where(valid, elements, 0), valid)


def gather(tensor: Tensor) -> Array:
    """A copy of the elements that an index picks; 0 where it is not valid."""
    index = tensor.index
    assert index is not None
    taken: Array
    if index.rows is None:
        taken = _flat(tensor)[index.elements]
    elif index.rows.table.shape[0]:
        taken = index.rows.table.array[index.rows.picked]
    else:
        return np.zeros(tensor.shape, tensor.dtype.numpy)
    if index.valid is not None:
        taken[~index.valid] = 0
    return taken


def scatter(tensor: Tensor, values: Array, mask: Array | None) -> None:
    """Write to the elements that an index picks; of several for one element, the last in row-major order stays."""
    index = tensor.index
    assert index is not None
    rounded = np.empty(tensor.shape, tensor.dtype.numpy)
    store(rounded, values, tensor.dtype)
    rows = index.rows
    if rows is not None and mask is None:
        if rows.valid is None:
            rows.table.array[rows.picked] = rounded
        elif rows.table.shape[0]:
            rows.table.array[rows.picked[rows.valid]] = rounded[rows.valid]
        return
    valid = index.valid if mask is None else (mask if index.valid is None else index.valid & mask)
    flat = _flat(tensor)
    if valid is None:
        flat[index.elements] = rounded
    else:
        flat[index.elements[valid]] = rounded[valid]
    if tensor.storage.pitch != tensor.storage.allocation.row_bytes:  # flat is a copy: partitions lie apart in an image
        tensor.storage.typed(tensor.dtype)[...] = flat.reshape(tensor.storage.allocation.partitions, -1)


def _flat(tensor: Tensor) -> Array:
    typed = tensor.storage.typed(tensor.dtype)
    flat: Array = typed.reshape(-1)
    return flat


def read_needed(core: Core, tensor: Tensor, needed: Array) -> Array:
    """The elements of a static view, of which only those where ``needed`` (broadcast to its shape) must be written."""
    if tensor.dynamic is not None or tensor.index is not None or tensor.storage.whole:
        return core.read(tensor)
    missing = tensor.storage.unwritten(tensor)
    if missing is not None and np.logical_and(missing, needed).any():
        require_written(tensor)
    return tensor.array


def read_to_move(core: Core, tensor: Tensor) -> tuple[Array, Array | None]:
    """The elements for an instruction that moves bits, and which of them nothing wrote (``None``: all are written).

    Whoever moves them makes their new places unwritten too. A tensor that nothing wrote at all is refused like in any
    read, and so are bytes that an overlapping tensor took away: their bits are another tensor's.
    """
    if tensor.dynamic is not None or tensor.index is not None or tensor.storage.whole:
        return core.read(tensor), None
    missing = tensor.storage.unwritten(tensor)
    if missing is not None and (
        tensor.storage.clobbered_by is not None or is_relaxed(rules.UNINITIALIZED_READ) or missing.all()
    ):
        require_written(tensor)
        missing = None
    return tensor.array, missing


def require_written(tensor: Tensor) -> None:
    """Refuse a read of bytes that nothing wrote, or that a write through an overlapping tensor took away."""
    missing = tensor.storage.unwritten(tensor)
    if missing is None:
        return
    count = int(np.count_nonzero(missing))
    first = tuple(int(each) for each in np.argwhere(missing)[0])
    other = tensor.storage.clobbered_by
    allocation = tensor.storage.allocation
    if other is not None:
        if is_relaxed(rules.ADDRESS_OVERLAP) and tensor.index is None:
            tensor.storage.mark_written(tensor)
        refuse(
            rules.ADDRESS_OVERLAP,
            f"{count} of {missing.size} elements of {tensor.describe()}, the first at {list(first)}, are read after "
            f"{other}, allocated at {other.source}, was written over them.",
            f"Both are needed at once: give one another address, or rewrite {allocation.name} before reading it.",
        )
        return
    origin = tensor.storage.origin
    if origin is not None:
        what = f"{origin.what}; from them came {count} of {missing.size} elements of {tensor.describe()}, read now."
        refuse(rules.UNINITIALIZED_READ, what, carry.REMEDY, source=origin.source)
        return
    remedy = carry.REMEDY
    if allocation.region is MemoryRegion.shared_hbm:
        remedy += " Where another core writes it, meet that core first with nisa.core_barrier."
    refuse(rules.UNINITIALIZED_READ, f"{carry.told(tensor, missing)}.", remedy)
