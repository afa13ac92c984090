"""Explicit access patterns: ``tensor.ap(...)``, checked against the storage they address."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array, DType, find
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.tensor import Dynamic, Tensor


def explicit_pattern(
    tensor: Tensor,
    pattern: Sequence[Sequence[int]],
    offset: int | None,
    scalar_offset: Any,
    vector_offset: Any,
    indirect_dim: int,
    dtype: Any,
) -> Tensor:
    """The view that a pattern of ``[stride, count]`` pairs in elements of ``dtype`` describes.

    Bounds are checked when an instruction uses it: kernels form patterns before they ask whether they apply. The step
    of a run-time offset is the stride of ``indirect_dim`` in ``tensor``.
    """
    wanted = tensor.dtype if dtype is None else find(dtype)
    strides = tuple(int(pair[0]) for pair in pattern)
    shape = tuple(int(pair[1]) for pair in pattern)
    start = _start(tensor, offset, wanted.itemsize)
    if scalar_offset is not None and vector_offset is not None:
        refuse(
            rules.PARAMETER,
            f"ap of {tensor.describe()} got both scalar_offset and vector_offset.",
            "Give one of them.",
        )
    if tensor.on_chip:
        _require_whole_elements(tensor, wanted)
        _require_partitions(tensor, strides, shape, wanted.itemsize)
    dynamic = None
    if scalar_offset is not None or vector_offset is not None:
        step = tensor.strides[indirect_dim] * tensor.dtype.itemsize // wanted.itemsize
        dynamic = Dynamic(step, None, indirect_dim, scalar=scalar_offset, vector=vector_offset)
        if vector_offset is not None:
            strides = (step, *strides[1:])  # "the stride specified in the leading dimension is currently ignored"
    made = Tensor(tensor.storage, shape, strides, start, wanted, dynamic)
    if dynamic is None and not _is_inside(made, *_reach(made)):
        return _Outside(tensor.storage, shape, strides, start, wanted)
    return made


def unusable(tensor: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Tensor:
    """A view without elements, refused when it is used."""
    return _Outside(tensor.storage, shape, strides, offset, tensor.dtype)


class _Outside(Tensor):
    """A pattern that leaves its storage or is empty, refused when it is used; views of it may lie inside again."""

    __slots__ = ()

    @property
    def signature(self) -> tuple[Any, ...]:
        require_inside(self)
        return super().signature

    @property
    def array(self) -> Array:
        require_inside(self)
        return super().array


def _reach(tensor: Tensor) -> tuple[int, int]:
    """The first and the last element of the storage that a strided view touches."""
    low = tensor.offset + sum(min(0, s * (n - 1)) for s, n in zip(tensor.strides, tensor.shape, strict=True))
    high = tensor.offset + sum(max(0, s * (n - 1)) for s, n in zip(tensor.strides, tensor.shape, strict=True))
    return low, high


def _is_inside(tensor: Tensor, low: int, high: int) -> bool:
    elements = tensor.storage.size_bytes // tensor.dtype.itemsize
    return low >= 0 and high < elements and min(tensor.shape, default=1) >= 1 and not leaves_partition(tensor)


def leaves_partition(tensor: Tensor) -> bool:
    """Whether an on-chip pattern runs on from one partition into the next, where the memory has no such neighbour."""
    if not tensor.on_chip:
        return False
    first = last = tensor.offset % tensor.row_elements
    for stride, size in zip(tensor.strides[1:], tensor.shape[1:], strict=True):
        if stride > 0:
            last += stride * (size - 1)
        else:
            first += stride * (size - 1)
    return first < 0 or last >= tensor.row_elements


def require_inside(tensor: Tensor) -> None:
    """Refuse a strided view that leaves its storage."""
    if min(tensor.shape, default=1) < 1:
        refuse(
            rules.OPERAND_SHAPE,
            f"A view of shape {list(tensor.shape)} on {tensor.storage.allocation} has no elements.",
            "Instructions take at least one: leave the instruction out where there is nothing to do.",
        )
    low, high = _reach(tensor)
    if leaves_partition(tensor):
        refuse(
            rules.OUT_OF_BOUNDS,
            f"The free dimensions of the pattern {tensor.get_pattern()} at offset {tensor.offset} run on into the next "
            f"partition of {tensor.storage.allocation}.",
            f"In {tensor.dtype.name}, each partition has elements 0 to {tensor.row_elements - 1}: keep the free "
            "dimensions within them.",
        )
    if not _is_inside(tensor, low, high):
        elements = tensor.storage.size_bytes // tensor.dtype.itemsize
        refuse(
            rules.OUT_OF_BOUNDS,
            f"The pattern {tensor.get_pattern()} at offset {tensor.offset} touches elements {low} to {high}, "
            f"outside {tensor.storage.allocation}.",
            f"In {tensor.dtype.name}, the storage has elements 0 to {elements - 1}.",
        )


def _start(tensor: Tensor, offset: int | None, itemsize: int) -> int:
    if offset is None:
        return tensor.offset * tensor.dtype.itemsize // itemsize
    return int(offset)


def _require_whole_elements(tensor: Tensor, wanted: DType) -> None:
    row = tensor.storage.allocation.row_bytes
    if row % wanted.itemsize or tensor.offset * tensor.dtype.itemsize % wanted.itemsize:
        refuse(
            rules.OPERAND_SHAPE,
            f"ap(dtype={wanted.name}) of {tensor.describe()} with {row} bytes in each partition.",
            f"Each partition must hold whole elements of {wanted.itemsize} bytes, and the view start at one.",
        )


def _require_partitions(tensor: Tensor, strides: tuple[int, ...], shape: tuple[int, ...], itemsize: int) -> None:
    row = tensor.storage.allocation.row_bytes // itemsize
    if shape[0] > 1 and strides[0] != row:
        refuse(
            rules.PARTITION_STEP,
            f"The pattern {[list(p) for p in zip(strides, shape, strict=True)]} on {tensor.describe()} steps "
            f"{strides[0]} elements in its first dimension.",
            f"On-chip it must step {row}, the elements of one partition of the storage (shape "
            f"{list(tensor.storage.allocation.shape)}); its count is the number of partitions.",
        )
    if math.prod(shape) == 0:
        refuse(rules.OPERAND_SHAPE, f"The pattern on {tensor.describe()} has no elements.", "Counts are at least 1.")
