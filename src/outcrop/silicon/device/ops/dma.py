"""dma_copy, and what all DMA instructions share: which memories, who makes descriptors, run-time addresses.

A DMA has none of the compute engines' rules on partitions: it copies elements in row-major order from any pattern to
any pattern. Where the types are equal it moves bits; else each element goes through float32.

Choices where the documentation is silent: ``dge_mode.unknown`` becomes the software mode for gathers and scatters, else
the hardware mode where the chip has it and no type changes, else for run-time addresses the software mode, else
``none``. An index is out of bounds when any element of its row lies outside the storage, and then the whole row is left
out. Of a scatter's equal indices, the last row stays (the hardware does not promise an order).

Not covered: DMA from and to PSUM, which the reference leaves out, is refused but may be relaxed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from outcrop.silicon.device import access, checks, rules
from outcrop.silicon.device.dtypes import Array, DType, float32, store, tfloat32, to_float32
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

DMA_SHAPE = rules.rule(
    "dma-shape",
    "A DMA writes every element of its destination once.",
    "Rules of the compiler's back end, reported by users of the vendor's simulator",
)
DMA_DESCRIPTORS = rules.rule(
    "dma-descriptors",
    "A DMA's descriptors are made by something that can make them: gathers and scatters by software, run-time "
    "addresses by software or hardware.",
    "AWS Neuron, Descriptor Generation Engine reference",
)
DMA_REGIONS = frozenset(MemoryRegion) - {MemoryRegion.psum}
TRIGGERS = {"hwdge": "sync", "swdge": "gpsimd", "none": "none"}  # who starts it where the kernel does not say
_RAW, _THROUGH_FLOAT32 = 0, 1


class CopyPlan(NamedTuple):
    """What the static check of a copy found out."""

    shape: tuple[int, ...] | None  # in which both operands are views, where their own shapes differ
    same_shape: bool
    conversion: int
    params: Mapping[str, Any]


def dma_copy(
    core: Core,
    dst: Tensor,
    src: Tensor,
    priority: int | None = None,
    skip_invalid: bool = False,
    dge_mode: str = "unknown",
    engine: Engine = Engine.unknown,
    name: str | None = None,
) -> Instruction:
    """``dst = src``, element by element in row-major order."""
    plan: CopyPlan
    if _is_static(dst) and _is_static(src):
        plan = core.checked(_check_copy, dst, src, priority, skip_invalid, dge_mode, engine)
        if core.values:
            _copy_static(core, dst, src, plan)
        return core.record("dma_copy", Engine.dma, (dst,), (src,), plan.params, name)
    indices = (*index_operands(dst), *index_operands(src))
    plan = core.checked(_check_copy, dst, src, priority, skip_invalid, dge_mode, engine, *indices)
    params: Mapping[str, Any] = plan.params
    if core.values:
        moved = _copy_dynamic(core, dst, src, plan, skip_invalid)
        if moved is not None:
            params = {**params, "rows": moved}
    return core.record("dma_copy", Engine.dma, (dst,), (src, *indices), params, name)


def _is_static(tensor: Tensor) -> bool:
    return isinstance(cast("object", tensor), Tensor) and tensor.dynamic is None and tensor.index is None


def index_operands(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensor that holds a dynamic view's run-time index; registers are not operands."""
    dynamic = getattr(tensor, "dynamic", None)
    if dynamic is None:
        return ()
    given = (dynamic.scalar, dynamic.vector, dynamic.columns)
    return tuple(each for each in given if isinstance(each, Tensor))


# -- rules ----------------------------------------------------------------------------------------------------------


def _check_copy(
    core: Core,
    dst: Tensor,
    src: Tensor,
    priority: int | None,
    skip_invalid: bool,
    dge_mode: str,
    engine: Engine,
    *indices: Tensor,
) -> CopyPlan:
    dma_operand("dma_copy", "dst", dst, is_written=True)
    dma_operand("dma_copy", "src", src)
    for tensor in (dst, src):
        index_operand("dma_copy", tensor)
    if dst.size != src.size:
        refuse(
            rules.OPERAND_SHAPE,
            f"dma_copy got dst {dst.describe()} with {dst.size} elements and src {src.describe()} with {src.size}.",
            "Both must have as many elements; shapes may differ.",
        )
    conversion = convertible("dma_copy", dst, src)
    check_priority(core, "dma_copy", priority)
    mode, trigger = descriptor_mode(core, "dma_copy", dge_mode, engine, dst, src)
    params = {
        "dge_mode": mode,
        "dge_mode_asked": dge_mode,
        "trigger": trigger,
        "dynamic": addressing(dst, src),
        "oob_mode": "skip" if skip_invalid else "error",
        "cast": conversion != _RAW,
        "priority": priority,
    }
    same = dst.shape == src.shape
    shape = None if same else _common_shape(dst.shape, src.shape)
    return CopyPlan(shape, same, conversion, params)


def dma_operand(op: str, role: str, tensor: Tensor, *, is_written: bool = False) -> None:
    """An operand of a DMA: in HBM or SBUF, and where it is written, every element once."""
    if not isinstance(cast("object", tensor), Tensor):
        refuse(
            rules.PARAMETER,
            f"{op} got {role}={tensor!r}, a {type(tensor).__name__}.",
            f"{role} must be a tensor in HBM or SBUF.",
        )
    if tensor.buffer not in DMA_REGIONS:
        refuse(
            rules.OPERAND_MEMORY,
            f"{op} cannot use {tensor.describe()} as {role}.",
            f"{role} must be in HBM or SBUF: move it with nisa.tensor_copy, which reads and writes PSUM.",
        )
    if tensor.dynamic is not None and tensor.dynamic.columns is not None:
        refuse(
            rules.PARAMETER,
            f"{op} got {role} {tensor.describe()}, a view made with indirect().",
            "DMA gathers and scatters rows: use vector_select, or ap with vector_offset, on a tensor in HBM.",
        )
    if tensor.dynamic is not None and tensor.dynamic.vector is not None and tensor.on_chip:
        refuse(
            rules.OPERAND_MEMORY,
            f"{op} got {role} {tensor.describe()} with a vector of run-time rows.",
            "The tensor whose rows are picked must be in HBM.",
        )
    steps = zip(tensor.strides, tensor.shape, strict=True)
    if is_written and any(stride == 0 and size > 1 for stride, size in steps):
        refuse(
            DMA_SHAPE,
            f"{op} got {role} {tensor.describe()} with pattern {tensor.get_pattern()}, which writes the same elements "
            "again and again.",
            "Broadcast the source instead; a destination's steps are not 0.",
        )


def index_operand(op: str, tensor: Tensor, *, columns: bool = False) -> None:
    """The index of a run-time address: integers, for rows one for each in SBUF; ``columns`` where it may have several.

    Registers hold integers anyway.
    """
    for index in index_operands(tensor):
        is_vector = tensor.dynamic is not None and tensor.dynamic.vector is not None
        if index.buffer is MemoryRegion.psum or (is_vector and not index.on_chip):
            refuse(
                rules.OPERAND_MEMORY,
                f"{op} got run-time indices in {index.describe()}.",
                "They must be in SBUF: load them with nisa.dma_copy first.",
            )
        if not index.dtype.is_integer:
            refuse(
                rules.OPERAND_DTYPE,
                f"{op} got run-time indices in {index.describe()}.",
                "They must be integers, such as nl.uint32 or nl.int32.",
            )
        if not is_vector and index.size != 1:
            refuse(
                rules.OPERAND_SHAPE,
                f"{op} got a run-time start in {index.describe()}, which has {index.size} elements.",
                "A scalar offset is a register or a tensor with one element.",
            )
        elif is_vector and not columns and (index.free_size != 1 or index.shape[0] < tensor.shape[0]):
            refuse(
                rules.OPERAND_SHAPE,
                f"{op} picks {tensor.shape[0]} rows of {tensor.describe()} by indices in {index.describe()}.",
                f"The index tensor holds one row number for each: [{tensor.shape[0]}, 1].",
            )


def convertible(op: str, dst: Tensor, src: Tensor) -> int:
    """How elements get from one type to the other; types with several values in an element do not convert."""
    if dst.dtype is src.dtype:
        return _RAW
    if dst.dtype.lanes > 1 or src.dtype.lanes > 1:
        refuse(
            rules.OPERAND_DTYPE,
            f"{op} got dst {dst.describe()} and src {src.describe()}.",
            f"Packed types are moved as they are: show one operand as the other's type, "
            f"as in src.view(nl.{dst.dtype.name}).",
        )
        return _RAW
    return _THROUGH_FLOAT32


def check_priority(core: Core, op: str, priority: int | None) -> None:
    if priority is None:
        return
    if priority not in (0, 1, 2, 3):
        refuse(rules.PARAMETER, f"{op} got priority={priority!r}.", "It is 0, 1, 2 or 3, the lower the more urgent.")
    checks.feature(core, op, "dma_priority", f"priority={priority}")


def addressing(*tensors: Tensor) -> str:
    """For the record: ``static``, ``scalar`` (a run-time start) or ``vector`` (a gather or scatter)."""
    kinds = {"static"}
    for tensor in tensors:
        if tensor.dynamic is not None:
            kinds.add("vector" if tensor.dynamic.vector is not None else "scalar")
    return max(kinds, key=("static", "scalar", "vector").index)


def descriptor_mode(core: Core, op: str, asked: str, engine: Engine, *tensors: Tensor) -> tuple[str, str]:
    """``(mode, engine that triggers)`` of a DMA over these operands."""
    if asked not in ("unknown", "none", "swdge", "hwdge"):
        refuse(rules.PARAMETER, f"{op} got dge_mode={asked!r}.", "It is a member of nisa.dge_mode.")
    if engine is not Engine.unknown:
        if asked != "hwdge":
            refuse(
                rules.ENGINE,
                f"{op} was asked to be triggered by the {engine.name} engine with dge_mode.{asked}.",
                "engine is for dge_mode=nisa.dge_mode.hwdge; leave it out, or set that mode.",
            )
        if engine not in (Engine.sync, Engine.scalar):
            refuse(
                rules.ENGINE,
                f"{op} was asked to be triggered by the {engine.name} engine.",
                "The hardware's descriptor generator is triggered by nisa.engine.sync or nisa.engine.scalar.",
            )
    casts = any(tensor.dtype is not tensors[0].dtype for tensor in tensors)
    if asked == "hwdge":
        checks.feature(core, op, "hardware_dge", "dge_mode.hwdge")
        if casts:
            refuse(
                rules.OPERAND_DTYPE,
                f"{op} got {' and '.join(tensor.describe() for tensor in tensors)} with dge_mode.hwdge.",
                "That mode moves elements of one type: use another mode to convert, or view() to keep the bits.",
            )
    kind = addressing(*tensors)
    if kind == "vector" and asked not in ("unknown", "swdge"):
        refuse(
            DMA_DESCRIPTORS,
            f"{op} picks rows by run-time indices with dge_mode.{asked}.",
            "Gathers and scatters need dge_mode.swdge, which unknown chooses.",
        )
    if kind == "scalar" and asked == "none":
        refuse(
            DMA_DESCRIPTORS,
            f"{op} has a run-time address with dge_mode.none, whose descriptors are made before the kernel runs.",
            "Use dge_mode.swdge or dge_mode.hwdge, or unknown.",
        )
    if asked != "unknown":
        return asked, engine.name if engine is not Engine.unknown else TRIGGERS[asked]
    if kind == "vector":
        mode = "swdge"
    elif core.has("hardware_dge") and not casts:
        mode = "hwdge"
    else:
        mode = "none" if kind == "static" else "swdge"
    return mode, TRIGGERS[mode]


def _common_shape(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...] | None:
    """The coarsest shape that only splits dimensions of both; ``None`` where there is none."""
    left, right = list(one), list(two)
    made: list[int] = []
    while left and right:
        a, b = left.pop(), right.pop()
        small, large = min(a, b), max(a, b)
        if large % small:
            return None
        made.append(small)
        if a > b:
            left.append(a // b)
        elif b > a:
            right.append(b // a)
    made.extend(size for size in (*reversed(left), *reversed(right)) if size != 1)
    return tuple(reversed(made))


# -- values -----------------------------------------------------------------------------------------------------------


def converted(values: Array, src: DType, dst: DType) -> Array:
    """Elements on their way from one type to another: as float32 wherever that can make a difference."""
    if src is dst or dst is float32 or dst is tfloat32 or src is float32:
        return values
    return to_float32(values, src)


def as_bits(dst: Tensor) -> Tensor:
    """Where bits are moved: a write to tfloat32 would round them."""
    return dst.view(float32) if dst.dtype is tfloat32 else dst


def _copy_static(core: Core, dst: Tensor, src: Tensor, plan: CopyPlan) -> None:
    values = core.read(src)
    if plan.conversion:
        values = converted(values, src.dtype, dst.dtype)
    else:
        dst = as_bits(dst)
    if plan.same_shape:
        core.write(dst, values)
    elif plan.shape is None or dst.storage.accumulation is not None:
        core.write(dst, values.reshape(dst.shape))
    else:
        shape = plan.shape
        target = dst.array.reshape(shape)
        assert target.base is not None  # a shape that only splits dimensions never needs a copy
        store(target, values.reshape(shape), dst.dtype)
        core.mark_written(dst)


def _copy_dynamic(core: Core, dst: Tensor, src: Tensor, plan: CopyPlan, skip_invalid: bool) -> int | None:
    """Move what run-time addresses pick; the number of rows moved, ``None`` where nothing picks rows."""
    source = resolved(core, src, skip_invalid)
    target = resolved(core, dst if plan.conversion else as_bits(dst), skip_invalid)
    values = core.read(source)
    if plan.conversion:
        values = converted(values, src.dtype, dst.dtype)
    mask: Array | None = None
    if source.index is not None and source.index.valid is not None:
        mask = source.index.valid.reshape(dst.shape)
    core.write(target, values.reshape(dst.shape), mask)
    return rows_moved(source, target)


def resolved(core: Core, tensor: Tensor, skip_invalid: bool) -> Tensor:
    """The view that a run-time address stands for now; with ``skip_invalid``, rows outside become invalid."""
    return tensor if tensor.dynamic is None else access.resolve(core, tensor, skip_invalid=skip_invalid)


def rows_moved(*tensors: Tensor) -> int | None:
    """How many rows a gather or scatter really moves; ``None`` where nothing picks rows."""
    counts = []
    for tensor in tensors:
        rows = tensor.index.rows if tensor.index is not None else None
        if rows is not None:
            counts.append(rows.picked.size if rows.valid is None else int(np.count_nonzero(rows.valid)))
    return min(counts, default=None)
