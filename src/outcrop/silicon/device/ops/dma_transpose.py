"""dma_transpose: rows become columns while a DMA moves them, from a pattern or from rows picked at run time.

Bits are moved as they are. The direct form has limits only where ``hwdge`` is asked for; the indirect form (a gather
whose rows end as columns) is made by software descriptors and has its own.

Where sources disagree: the architecture guide transposes 4-byte elements, users report that the compiler refuses
float32, and the vendor's kernel library transposes 4-byte elements in the 4-D form only; so that form takes them here
and the others do not. ``dge_mode.none`` is taken for a static source, as the guide to descriptor generation says.
With ``oob_mode.skip``, a row that is left out leaves its column of the destination as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device import checks, rules
from outcrop.silicon.device.dtypes import uint32
from outcrop.silicon.device.ops.dma import (
    DMA_DESCRIPTORS,
    addressing,
    as_bits,
    check_priority,
    descriptor_mode,
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

DMA_TRANSPOSE_SHAPE = rules.rule(
    "dma-transpose-shape", "A DMA transpose has rows and columns of sizes that its engines handle.", rules.NKI_ISA
)
DMA_TRANSPOSE_DTYPE = rules.rule(
    "dma-transpose-dtype",
    "A DMA transposes elements of 2 bytes, in the 4-D form of 4 bytes too.",
    f"{rules.NKI_ISA}; users' reports of what the compiler refuses",
)
DMA_TRANSPOSE_ROW = rules.rule(
    "dma-transpose-row",
    "The rows that a DMA transpose in the 2-D form writes are a multiple of 32 bytes apart.",
    "Rules of the compiler's back end, reported by users of the vendor's simulator; that the 4-D form has none: "
    "aws-neuron/nki-library, core/subkernels/norm_tkg_utils.py",
)
PERMUTATIONS = {2: (1, 0), 3: (2, 1, 0), 4: (3, 1, 2, 0)}
_LAST, _ROWS_2D, _ROWS_ND, _GROUP, _ROW_BYTES = 128, 16, (1, 2, 4, 8, 16), 16, 32


def dma_transpose(
    core: Core,
    dst: Tensor,
    src: Tensor,
    axes: tuple[int, ...] | None = None,
    priority: int | None = None,
    dge_mode: str = "unknown",
    skip_invalid: bool = False,
    name: str | None = None,
) -> Instruction:
    """``dst = transpose(src)``, the first and the last dimension of ``src`` changing places."""
    indices = index_operands(src)
    params: Mapping[str, Any] = core.checked(_check, dst, src, axes, priority, dge_mode, skip_invalid, *indices)
    if core.values:
        source = resolved(core, src, skip_invalid)
        order = PERMUTATIONS[len(src.shape)]
        values = np.transpose(core.read(source), order)
        core.carry_as(lambda missing: np.transpose(missing, order))
        valid = source.index.valid if source.index is not None else None
        core.write(as_bits(dst), values, None if valid is None else np.transpose(valid, order))
        moved = rows_moved(source)
        if moved is not None:
            params = {**params, "rows": moved}
    return core.record("dma_transpose", Engine.dma, (dst,), (src, *indices), params, name)


def _check(
    core: Core,
    dst: Tensor,
    src: Tensor,
    axes: tuple[int, ...] | None,
    priority: int | None,
    dge_mode: str,
    skip_invalid: bool,
    *indices: Tensor,
) -> Mapping[str, Any]:
    dma_operand("dma_transpose", "dst", dst, is_written=True)
    dma_operand("dma_transpose", "src", src)
    if dst.buffer is not MemoryRegion.sbuf:
        refuse(
            rules.OPERAND_MEMORY,
            f"dma_transpose cannot use {dst.describe()} as dst.",
            "dst must be in SBUF; store it with nisa.dma_copy afterwards.",
        )
    order = PERMUTATIONS.get(len(src.shape))
    if order is None or (axes is not None and axes != order):
        refuse(
            rules.PARAMETER,
            f"dma_transpose got src {src.describe()} with axes={axes}.",
            "A 2-D source is transposed by (1, 0), a 3-D one by (2, 1, 0), a 4-D one by (3, 1, 2, 0).",
        )
        raise AssertionError("refused")
    wanted = tuple(src.shape[each] for each in order)
    if dst.shape != wanted or dst.dynamic is not None:
        refuse(
            rules.OPERAND_SHAPE,
            f"dma_transpose got dst {dst.describe()} and src {src.describe()}.",
            f"dst must have the transposed shape, {list(wanted)}, with as many dimensions, and a static address.",
        )
    if dst.dtype is not src.dtype:
        refuse(
            rules.OPERAND_DTYPE,
            f"dma_transpose got dst {dst.describe()} and src {src.describe()}.",
            "Both must have the same type: a transpose moves bits.",
        )
    check_priority(core, "dma_transpose", priority)
    kind = addressing(src)
    if skip_invalid and kind == "static":
        refuse(
            rules.PARAMETER,
            f"dma_transpose got oob_mode.skip with the static source {src.describe()}.",
            "skip is for sources with run-time addresses: leave oob_mode out.",
        )
    if kind == "vector":
        _check_gather(core, src, dge_mode, *indices)
    else:
        index_operand("dma_transpose", src)
        _check_direct(dst, src, dge_mode)
    resolved_mode, trigger = descriptor_mode(core, "dma_transpose", dge_mode, Engine.unknown, dst, src)
    return {
        "dge_mode": resolved_mode,
        "dge_mode_asked": dge_mode,
        "trigger": trigger,
        "dynamic": kind,
        "axes": order,
        "oob_mode": "skip" if skip_invalid else "error",
        "priority": priority,
    }


def _check_direct(dst: Tensor, src: Tensor, dge_mode: str) -> None:
    if dge_mode == "swdge":
        refuse(
            DMA_DESCRIPTORS,
            f"dma_transpose of {src.describe()} was asked for with dge_mode.swdge.",
            "That mode is for sources whose rows are picked by run-time indices: use unknown or hwdge.",
        )
    item = src.dtype.itemsize
    if item != 2 and not (item == 4 and len(src.shape) == 4):
        refuse(
            DMA_TRANSPOSE_DTYPE,
            f"dma_transpose got src {src.describe()}, whose elements have {item} bytes.",
            "Elements must have 2 bytes; those of 4 bytes are transposed in the 4-D form ([rows, 1, 1, columns]), or "
            "with nisa.nc_transpose.",
        )
    if len(src.shape) == 2 and dst.shape[0] > 1 and dst.strides[0] * item % _ROW_BYTES:
        refuse(
            DMA_TRANSPOSE_ROW,
            f"dma_transpose got dst {dst.describe()}, whose rows are {dst.strides[0] * item} bytes apart.",
            f"Make the free size a multiple of {_ROW_BYTES // item} elements ({_ROW_BYTES} bytes), and write to a "
            "slice of it.",
        )
    if dge_mode != "hwdge":
        return
    rows, columns = src.shape[0], src.shape[-1]
    if item != 2:
        refuse(
            DMA_TRANSPOSE_DTYPE,
            f"dma_transpose by hardware got src {src.describe()}, whose elements have {item} bytes.",
            "With dge_mode.hwdge elements have 2 bytes.",
        )
    if columns > _LAST:
        _shape(src, f"The last dimension is at most {_LAST} with dge_mode.hwdge.")
    if len(src.shape) == 2:
        if rows != _ROWS_2D:
            _shape(src, f"With dge_mode.hwdge a 2-D source has {_ROWS_2D} rows.")
    elif rows not in _ROWS_ND or rows * src.shape[-2] % _GROUP:
        _shape(
            src,
            f"With dge_mode.hwdge the first dimension is 1, 2, 4, 8 or 16, and its product with the last but one a "
            f"multiple of {_GROUP}.",
        )


def _check_gather(core: Core, src: Tensor, dge_mode: str, index: Tensor) -> None:
    checks.feature(core, "dma_transpose", "dma_transpose", "a transpose of rows picked by run-time indices")
    index_operand("dma_transpose", src, columns=True)
    if src.dtype.itemsize != 2:
        refuse(
            DMA_TRANSPOSE_DTYPE,
            f"dma_transpose of picked rows got src {src.describe()}.",
            "Elements must have 2 bytes there.",
        )
    if index.dtype is not uint32 or len(index.shape) != 2:
        refuse(
            rules.OPERAND_DTYPE if len(index.shape) == 2 else rules.OPERAND_SHAPE,
            f"dma_transpose picks rows by indices in {index.describe()}.",
            "The indices must be a 2-D tensor of nl.uint32.",
        )
    if src.shape[-1] > _LAST:
        _shape(src, f"The last dimension is at most {_LAST} where rows are picked.")
    if len(src.shape) == 4 and 1 not in src.shape[1:3]:
        _shape(src, "Of the two middle dimensions one must be 1 where rows are picked.")
    if src.shape[0] % _GROUP:
        _shape(src, f"The number of rows picked is a multiple of {_GROUP}.")
    if index.size < src.shape[0]:
        _shape(src, f"{index.describe()} has fewer indices than rows are picked.")
    rows, columns = index.shape[0], index.free_size
    if rows % _GROUP or not _GROUP <= rows <= core.limits.partitions:
        _shape(index, f"The index tensor has 16 to {core.limits.partitions} partitions, a multiple of {_GROUP}.")
    if columns > 1 and rows != core.limits.partitions:
        _shape(index, f"An index tensor with several columns has all {core.limits.partitions} partitions.")


def _shape(tensor: Tensor, remedy: str) -> None:
    refuse(DMA_TRANSPOSE_SHAPE, f"dma_transpose got {tensor.describe()}.", remedy)
