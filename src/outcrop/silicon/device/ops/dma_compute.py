"""dma_compute: a DMA adds up to 16 tensors on the way, or adds to rows picked at run time.

Sources are up-cast to float32 and added in the order in which they are given; the sum is rounded once. The indirect
forms read, add and write: a scatter ``dst[rows] = dst[rows] + data`` and a gather ``dst = dst + data[rows]``.

Not covered: what a scatter with equal indices does is not documented. It is refused; where that rule is relaxed, each
row adds to the old value and the last one stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.ops.dma import (
    DMA_DESCRIPTORS,
    TRIGGERS,
    addressing,
    dma_operand,
    index_operand,
    index_operands,
    resolved,
    rows_moved,
)
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

DMA_UNIQUE_INDICES = rules.rule(
    "dma-unique-indices", "A scatter that adds to rows picks every row once.", f"{rules.NKI_ISA}, dma_compute"
)
MOST_SOURCES = 16


def dma_compute(
    core: Core,
    dst: Tensor,
    srcs: Sequence[Tensor],
    op: str,
    scales: tuple[float, ...] | None = None,
    unique_indices: bool = True,
    skip_invalid: bool = False,
    name: str | None = None,
) -> Instruction:
    """``dst = srcs[0] + srcs[1] + …`` in float32."""
    sources = tuple(srcs)
    indices = tuple(index for tensor in (dst, *sources) for index in index_operands(tensor))
    params: Mapping[str, Any] = core.checked(
        _check, op, scales, unique_indices, skip_invalid, len(sources), dst, *sources, *indices
    )
    if params["dynamic"] == "vector":
        _check_pairs(dst, sources)
    if core.values:
        views = [resolved(core, tensor, skip_invalid) for tensor in sources]
        target = resolved(core, dst, skip_invalid)
        total, mask = _sum(core, dst, views)
        if params["form"] == "scatter":
            _check_unique(target)
        core.write(target, total, mask)
        moved = rows_moved(target, *views)
        if moved is not None:
            params = {**params, "rows": moved}
    unlike = tuple({id(index): index for index in indices}.values())
    return core.record("dma_compute", Engine.dma, (dst,), (*sources, *unlike), params, name)


def _sum(core: Core, dst: Tensor, views: Sequence[Tensor]) -> tuple[Array, Array | None]:
    total: Array | None = None
    mask: Array | None = None
    for view in views:
        values = core.read_float32(view, defined=True).reshape(dst.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            total = values if total is None else total + values
        if view.index is not None and view.index.valid is not None:
            valid = view.index.valid.reshape(dst.shape)
            mask = valid if mask is None else mask & valid
    assert total is not None
    return total, mask


def _check(
    core: Core,
    op: str,
    scales: tuple[float, ...] | None,
    unique_indices: bool,
    skip_invalid: bool,
    count: int,
    dst: Tensor,
    *tensors: Tensor,
) -> Mapping[str, Any]:
    sources = tensors[:count]
    if not 1 <= count <= MOST_SOURCES:
        refuse(
            rules.PARAMETER,
            f"dma_compute got {count} sources.",
            f"It takes 1 to {MOST_SOURCES}: add the rest in a second instruction.",
        )
    dma_operand("dma_compute", "dst", dst, is_written=True)
    for at, tensor in enumerate(sources):
        dma_operand("dma_compute", f"srcs[{at}]", tensor)
        index_operand("dma_compute", tensor)
        if tensor.size != dst.size:
            refuse(
                rules.OPERAND_SHAPE,
                f"dma_compute got dst {dst.describe()} with {dst.size} elements and srcs[{at}] {tensor.describe()} "
                f"with {tensor.size}.",
                "All must have as many elements.",
            )
        if tensor.dtype.lanes > 1:
            _packed(f"srcs[{at}]", tensor)
    index_operand("dma_compute", dst)
    if dst.dtype.lanes > 1:
        _packed("dst", dst)
    if op != "add":
        refuse(rules.PARAMETER, f"dma_compute got reduce_op={op or None}.", "It adds: reduce_op=nl.add.")
    if scales is not None and (len(scales) != count or any(scale != 1 for scale in scales)):
        refuse(
            rules.PARAMETER,
            f"dma_compute got scales={list(scales)} for {count} sources.",
            "Every scale must be 1.0: leave scales out, and scale with nisa.tensor_scalar.",
        )
    kind = addressing(dst, *sources)
    form = "sum"
    if kind == "scalar":
        refuse(
            DMA_DESCRIPTORS,
            f"dma_compute to {dst.describe()} has a run-time start.",
            "Its addresses must be known when the kernel is compiled, or be rows picked by vector_offset.",
        )
    if skip_invalid and kind != "vector":
        refuse(
            rules.PARAMETER,
            f"dma_compute to {dst.describe()} got oob_mode.skip without run-time rows.",
            "skip is for rows picked by vector_offset: leave oob_mode out.",
        )
    if kind == "vector":
        form = _check_indirect(dst, sources, unique_indices)
    mode = "swdge" if kind == "vector" else "none"
    return {
        "op": op,
        "form": form,
        "sources": count,
        "dge_mode": mode,
        "trigger": TRIGGERS[mode],
        "dynamic": kind,
        "oob_mode": "skip" if skip_invalid else "error",
    }


def _packed(role: str, tensor: Tensor) -> None:
    refuse(
        rules.OPERAND_DTYPE,
        f"dma_compute got {role} {tensor.describe()}.",
        "Packed types cannot be added.",
    )


def _check_indirect(dst: Tensor, sources: tuple[Tensor, ...], unique_indices: bool) -> str:
    form = "scatter" if dst.dynamic is not None else "gather"
    if len(sources) != 2:
        refuse(
            rules.PARAMETER,
            f"dma_compute with rows picked at run time got {len(sources)} sources.",
            "It takes two: what is added to, which is dst itself, and what is added.",
        )
    if not unique_indices:
        refuse(
            rules.PARAMETER,
            "dma_compute with rows picked at run time got unique_indices=False.",
            "Indices must be unique: add equal ones up first.",
        )
    wanted = {MemoryRegion.sbuf} if form == "gather" else {MemoryRegion.private_hbm, MemoryRegion.shared_hbm}
    if dst.buffer not in wanted:
        refuse(
            rules.OPERAND_MEMORY,
            f"dma_compute got dst {dst.describe()} for a {form} that adds.",
            "A gather adds rows of HBM to a tile in SBUF; a scatter adds a tile in SBUF to rows of HBM.",
        )
    if form == "scatter":
        for tensor in sources:
            if tensor.dynamic is None and tensor.buffer is not MemoryRegion.sbuf:
                refuse(
                    rules.OPERAND_MEMORY,
                    f"dma_compute got {tensor.describe()} to add to rows of HBM.",
                    "It must be in SBUF: load it with nisa.dma_copy first.",
                )
    return form


def _check_pairs(dst: Tensor, sources: tuple[Tensor, ...]) -> None:
    """Of the two sources of an indirect form, one is the destination and the other, or both, pick rows."""
    same = [tensor for tensor in sources if _is_same(tensor, dst)]
    picks = [tensor for tensor in sources if tensor.dynamic is not None]
    if not same or len(picks) != 1 or (dst.dynamic is None and same[0] is picks[0]):
        refuse(
            rules.OPERAND_SHAPE,
            f"dma_compute to {dst.describe()} got sources {' and '.join(each.describe() for each in sources)}.",
            "One source must be dst itself, with the same pattern and indices; the other is what is added.",
        )


def _is_same(one: Tensor, two: Tensor) -> bool:
    if one.storage is not two.storage or one.key != two.key:
        return False
    if one.dynamic is None or two.dynamic is None:
        return one.dynamic is two.dynamic
    first, second = one.dynamic.vector, two.dynamic.vector
    return (
        isinstance(first, Tensor)
        and isinstance(second, Tensor)
        and first.storage is second.storage
        and first.key == second.key
        and one.dynamic.stride == two.dynamic.stride
    )


def _check_unique(target: Tensor) -> None:
    rows = target.index.rows if target.index is not None else None
    if rows is None:
        return
    picked = rows.picked if rows.valid is None else rows.picked[rows.valid]
    values, counts = np.unique(picked, return_counts=True)
    if values.size != picked.size:
        refuse(
            DMA_UNIQUE_INDICES,
            f"dma_compute adds to rows {values[counts > 1][:8].tolist()} of {target.describe()} more than once.",
            "Every row may be picked once: add the data of equal rows up first, or send what is not needed outside the "
            "tensor with oob_mode.skip.",
        )
