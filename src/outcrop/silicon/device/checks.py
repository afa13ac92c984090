"""Static rules that many instructions share. Each takes the core first and may be run under ``Core.checked``."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, cast

from outcrop.silicon.device import indirection, rules
from outcrop.silicon.device.dtypes import DType
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

ON_CHIP = frozenset({MemoryRegion.sbuf, MemoryRegion.psum})
SBUF_ONLY = frozenset({MemoryRegion.sbuf})
PSUM_ONLY = frozenset({MemoryRegion.psum})


def engine_operand(core: Core, op: str, role: str, tensor: Tensor, regions: Collection[MemoryRegion] = ON_CHIP) -> None:
    """An operand of a compute engine: on chip, few enough partitions and dimensions, a legal start partition."""
    if not isinstance(cast("object", tensor), Tensor):  # kernels are not type-checked
        refuse(
            rules.PARAMETER,
            f"{op} got {role}={tensor!r}, a {type(tensor).__name__}.",
            f"{role} must be a tensor: nl.ndarray(shape, dtype, buffer=nl.sbuf).",
        )
    if tensor.dynamic is not None and tensor.dynamic.columns is not None:
        feature(core, op, "tensor_indirection", "an operand made with indirect()")
        indirection.require(core, op, role, tensor)
    if tensor.dynamic is not None and isinstance(tensor.dynamic.scalar, Tensor):
        _scalar_index(op, role, tensor, tensor.dynamic.scalar)
    if tensor.buffer not in regions:
        names = " or ".join(sorted(each.value.upper() for each in regions))
        hint = _remedy(role, tensor, regions)
        refuse(
            rules.OPERAND_MEMORY, f"{op} cannot use {tensor.describe()} as {role}.", f"{role} must be in {names}.{hint}"
        )
    if not tensor.on_chip:
        return
    limits = core.limits
    count, start = tensor.shape[0], tensor.start_partition
    if count > limits.partitions:
        refuse(
            rules.PARTITION_COUNT,
            f"{op} got {role} {tensor.describe()}.",
            f"At most {limits.partitions} partitions take part in an instruction.",
        )
    step = start_partition_step(core, count)
    if start % step:
        legal = ", ".join(str(each) for each in range(0, limits.partitions - count + 1, step))
        refuse(
            rules.START_PARTITION,
            f"{op} got {role} {tensor.describe()}: {count} partitions starting at {start}.",
            f"{count} partitions may start at {legal}. Move the data with nisa.dma_copy, which has no such rule, or "
            "lay the tensor out so that this slice starts there.",
        )
    dims = free_dimensions(tensor)
    if dims > limits.free_dimensions:
        refuse(
            rules.FREE_DIMENSIONS,
            f"{op} got {role} {tensor.describe()} with pattern {tensor.get_pattern()}: {dims} free dimensions after "
            "merging those that lie back to back.",
            f"An access pattern has at most {limits.free_dimensions}: split the instruction.",
        )


def _remedy(role: str, tensor: Tensor, regions: Collection[MemoryRegion]) -> str:
    """How an operand in the wrong memory gets to the right one."""
    writes = role.startswith("dst")
    if not tensor.on_chip:
        if writes:
            return " Let the instruction write to a tile there, and copy that to HBM with nisa.dma_copy."
        return " Load it with nisa.dma_copy first."
    other = "nl.psum" if MemoryRegion.psum in regions else "nl.sbuf"
    if writes:
        return f" Allocate it with buffer={other}; nisa.tensor_copy then takes the result further."
    return f" Copy it with nisa.tensor_copy to a tile made with buffer={other} first."


def _scalar_index(op: str, role: str, tensor: Tensor, index: Tensor) -> None:
    """The tensor that a run-time start comes from; registers hold integers anyway."""
    got = f"{op} got {role} {tensor.describe()} with a run-time start in {index.describe()}."
    if index.buffer is not MemoryRegion.sbuf:
        refuse(rules.OPERAND_MEMORY, got, "It must be in SBUF: copy it there first.")
    if not index.dtype.is_integer:
        refuse(rules.OPERAND_DTYPE, got, "It must be an integer, such as nl.uint32 or nl.int32.")
    if index.size != 1:
        refuse(rules.OPERAND_SHAPE, got, "A run-time start is a register or a tensor with one element.")


def start_partition_step(core: Core, count: int) -> int:
    """Operands of ``count`` partitions may start at multiples of this."""
    quadrant = core.limits.quadrant
    if count <= quadrant:
        return quadrant
    return 2 * quadrant if count <= 2 * quadrant else core.limits.partitions


def free_dimensions(tensor: Tensor) -> int:
    """Free dimensions of the pattern once neighbours that lie back to back are merged."""
    count = 0
    expected: int | None = None
    for size, stride in zip(reversed(tensor.shape[1:]), reversed(tensor.strides[1:]), strict=True):
        if size == 1:
            continue
        if stride != expected:
            count += 1
        expected = stride * size
    return max(count, 1)


def same_elements(core: Core, op: str, **operands: Tensor) -> None:
    """All operands have as many partitions and as many elements per partition as the first."""
    (first_role, first), *others = operands.items()
    for role, tensor in others:
        if tensor.shape[0] != first.shape[0] or tensor.free_size != first.free_size:
            refuse(
                rules.OPERAND_SHAPE,
                f"{op} got {first_role} {first.describe()} and {role} {tensor.describe()}.",
                "They must have the same partitions and as many elements in each.",
            )


def dtype_in(core: Core, op: str, role: str, tensor: Tensor, allowed: Collection[DType]) -> None:
    if tensor.dtype not in allowed:
        refuse(
            rules.OPERAND_DTYPE,
            f"{op} got {role} {tensor.describe()}.",
            f"{role} must be one of: {', '.join(each.name for each in allowed)}.",
        )


def engine_in(core: Core, op: str, engine: Engine, allowed: Collection[Engine]) -> Engine:
    """The engine to use: the one asked for, or the first allowed one where the choice is ours."""
    if engine is Engine.unknown:
        return next(iter(allowed))
    if engine not in allowed:
        refuse(
            rules.ENGINE,
            f"{op} was asked to run on the {engine.name} engine.",
            f"It runs on: {', '.join(each.name for each in allowed)}.",
        )
    return engine


def feature(core: Core, op: str, name: str, what: str) -> None:
    """The target must have a feature; ``what`` names the instruction or option in words."""
    if not core.has(name):
        refuse(
            rules.GENERATION,
            f"{op}: {what} does not exist on {core.settings.target.core.name} ({core.settings.target.name}).",
            f"Chips with it: {', '.join(_chips_with(name)) or 'none that are known'}.",
        )


def _chips_with(name: str) -> list[str]:
    from outcrop.silicon import chip  # noqa: PLC0415  (reading four files is for the failing case only)

    return [each for each in chip.names() if name in chip.load(each).core.features]
