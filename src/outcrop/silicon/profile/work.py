"""What one instruction does: bytes by memory, operations of the tensor engine, and its operands in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.profile.base import Traffic
from outcrop.silicon.timing.cost import TENSOR_OPS

_FP32_PASSES = 4  # of a matmul, against bf16


class Flops(NamedTuple):
    """Operations of the tensor engine; a multiply-add counts two."""

    useful: int
    transposes: int
    as_bf16: int


NO_FLOPS = Flops(0, 0, 0)


def size_bytes(access: Access) -> int:
    """As addressed: an element read twice counts twice."""
    count = access.dtype.itemsize
    for size in access.shape:
        count *= size
    return count


def traffic(accesses: Iterable[Access]) -> Traffic:
    """Bytes by memory."""
    hbm = sbuf = psum = 0
    for each in accesses:
        region = each.allocation.region
        if region is MemoryRegion.sbuf:
            sbuf += size_bytes(each)
        elif region is MemoryRegion.psum:
            psum += size_bytes(each)
        else:
            hbm += size_bytes(each)
    return Traffic(hbm, sbuf, psum)


def flops_of(instruction: Instruction) -> Flops:
    """2 x contraction x rows x columns of a matmul; transposes on the tensor engine are counted apart."""
    if instruction.engine is not Engine.tensor or instruction.op not in TENSOR_OPS or not instruction.reads:
        return NO_FLOPS
    stationary = instruction.reads[0]
    moving = instruction.reads[1] if len(instruction.reads) > 1 else stationary
    double = str(instruction.params.get("perf_mode", "")).startswith("double_row") and instruction.op == "nc_matmul"
    contraction = stationary.partitions * stationary.dtype.lanes * (2 if double else 1)
    rows = stationary.elements_per_partition // (2 if double else 1)
    columns = moving.elements_per_partition // (2 if double else 1)
    if instruction.op == "nc_transpose":  # a matmul with the identity
        columns = stationary.partitions
    count = 2 * contraction * rows * columns
    wide = stationary.dtype.lanes == 1 and max(stationary.dtype.itemsize, moving.dtype.itemsize) == 4
    rate = 1.0 / _FP32_PASSES if wide else (2.0 if double else float(stationary.dtype.lanes))
    scaled = round(count / rate)
    if instruction.op == "nc_transpose" or instruction.params.get("is_transpose"):
        return Flops(0, count, count)
    return Flops(count, 0, scaled)


def operands_of(instruction: Instruction) -> str:
    """Operands in words: ``a bf16[128,512]@psum = b bf16[128,128]@sbuf, ...``."""
    written = ", ".join(_operand(each) for each in instruction.writes)
    read = ", ".join(_operand(each) for each in instruction.reads)
    return f"{written} = {read}" if read else written


def _operand(access: Access) -> str:
    shape = ",".join(map(str, access.shape))
    region = access.allocation.region.value.removeprefix("shared_").removeprefix("private_")
    return f"{access.allocation.name or '?'} {access.dtype.name}[{shape}]@{region}"
