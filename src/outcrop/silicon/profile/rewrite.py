"""Traces with a change made to them: the questions that the clock is asked.

Each function takes the traces of a run and gives new ones, never touching the old, or ``None`` where the change does
not apply. The results are for replay only: their values were never computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from outcrop.silicon.device.dtypes import bfloat16
from outcrop.silicon.device.record import Access, Allocation, Instruction
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.profile.clock import Traces
from outcrop.silicon.timing.cost import DMA_OPS, TENSOR_OPS

_numbers = count(1 << 40)  # of tensors that no kernel allocated


def changed(
    trace: Sequence[Instruction],
    change: Callable[[Instruction], Instruction | None],
    instead: Mapping[int, int] | None = None,
) -> list[Instruction]:
    """A copy in which ``change`` gives each instruction's new form, or ``None`` to leave it out.

    What waited for one left out waits for the instruction at the index that ``instead`` names, if any. Memory needs no
    such care: the replay finds its order again.
    """
    made: list[Instruction] = []
    new_of: dict[int, Instruction] = {}
    for old in trace:
        new = change(old)
        if new is not None:
            new = replace(new, index=len(made), after=[])
            new_of[old.index] = new
            made.append(new)
    for old in trace:
        mine = new_of.get(old.index)
        for producer in old.after if mine is not None else ():
            found = new_of.get((instead or {}).get(producer.index, producer.index))
            if found is not None and mine is not None and found.index < mine.index:
                mine.after.append(found)
    return made


def with_accesses(instruction: Instruction, change: Callable[[Access], Access]) -> Instruction:
    """The instruction over other operands."""
    return replace(
        instruction,
        reads=tuple([change(each) for each in instruction.reads]),
        writes=tuple([change(each) for each in instruction.writes]),
    )


def fresh(like: Allocation, **fields: Any) -> Allocation:
    """A tensor of its own, placed by us."""
    return replace(like, **{"index": next(_numbers), "address": None, "explicit": False, **fields})


# -- which engine -----------------------------------------------------------------------------------------------------


def moved(traces: Traces, source: Engine, target: Engine, features: frozenset[str], every: int = 1) -> Traces | None:
    """One of ``every`` of an engine's instructions that may run on ``target`` there; ``None`` where none may."""
    made, found = [], 0
    for trace in traces:
        chosen = set()
        for each in trace:
            if each.engine is source and may_run_on(each, target, features):
                found += 1
                if found % every == 0:
                    chosen.add(each.index)

        def change(each: Instruction, chosen: set[int] = chosen) -> Instruction:
            return replace(each, engine=target) if each.index in chosen else each

        made.append(changed(trace, change))
    return made if found >= every else None


def may_run_on(instruction: Instruction, target: Engine, features: frozenset[str]) -> bool:
    """Whether the kernel language lets ``target`` carry it out on this chip. Errs towards no."""
    in_psum = any(each.allocation.region is MemoryRegion.psum for each in instruction.accesses())
    if target is Engine.gpsimd and in_psum:
        return False
    params, op = instruction.params, instruction.op
    if any(each.indirect for each in instruction.accesses()):
        return False
    if op == "tensor_copy":
        if target is Engine.scalar:
            return "scalar_tensor_copy" in features
        return target in (Engine.vector, Engine.gpsimd)
    if op == "memset":
        return target in (Engine.vector, Engine.gpsimd)
    if op == "tensor_tensor":
        bits = params.get("domain") == "bits" or params.get("op") == "power"
        return not bits and target in (Engine.vector, Engine.gpsimd)
    if op == "tensor_scalar":
        names = [str(params[key]) for key in ("op0", "op1") if params.get(key)]
        if any(name in ("rsqrt", "power") or name.startswith(("bitwise", "logical")) for name in names):
            return False
        if target is Engine.scalar:
            simple = names in (["multiply", "add"], ["multiply"], ["add"])
            return "scalar_tensor_scalar" in features and (simple or "scalar_any_operator" in features)
        return target is Engine.vector
    return False


# -- transfers --------------------------------------------------------------------------------------------------------


def by_hardware(traces: Traces) -> Traces | None:
    """Plain copies with descriptors made by hardware, triggered by the sync and scalar engines in turn."""
    made, place, found = [], 0, 0
    for trace in traces:

        def change(each: Instruction) -> Instruction:
            nonlocal place, found
            fixed = each.params.get("dynamic") == "vector" or each.params.get("cast")
            if each.op != "dma_copy" or fixed or any(access.indirect for access in each.accesses()):
                return each
            place += 1
            trigger = ("sync", "scalar")[place % 2]
            mode = {"dge_mode": "hwdge", "dge_mode_asked": "hwdge", "trigger": trigger}
            if all(each.params.get(key) == value for key, value in mode.items()):
                return each
            found += 1
            return replace(each, params={**each.params, **mode})

        made.append(changed(trace, change))
    return made if found else None


def is_whole_load(each: Instruction) -> bool:
    """A plain copy from HBM that fills a whole on-chip tensor, as one pattern."""
    if each.op != "dma_copy" or len(each.reads) != 1 or each.params.get("cast"):
        return False
    src, dst = each.reads[0], each.writes[0]
    if src.allocation.on_chip or not dst.allocation.on_chip or src.indirect or dst.indirect:
        return False
    return dst.partitions == dst.allocation.partitions and size_of(dst) == dst.allocation.row_bytes


def size_of(access: Access) -> int:
    """Bytes per partition."""
    return access.elements_per_partition * access.dtype.itemsize


def widest(sizes: Iterable[int], limit: int) -> int:
    """How many of the sizes, taken in order, stay within ``limit``; at least one."""
    taken = total = 0
    for each in sizes:
        if taken and total + each > limit:
            break
        taken, total = taken + 1, total + each
    return taken


# -- data types and buffers -------------------------------------------------------------------------------------------


def in_bf16(traces: Traces) -> Traces | None:
    """Matmul operands that are float32 as bfloat16, and the tensors in HBM that they are loaded from."""
    operands: set[int] = set()
    for trace in traces:
        for each in trace:
            if each.engine is Engine.tensor and each.op in TENSOR_OPS:
                operands |= {a.allocation.index for a in each.reads if a.dtype.name == "float32"}
    if not operands:
        return None
    loaded = {
        access.allocation.index
        for trace in traces
        for each in trace
        if each.op in DMA_OPS and each.writes[0].allocation.index in operands
        for access in each.reads
    }
    wanted = operands | loaded
    mixed = {
        access.allocation.index
        for trace in traces
        for each in trace
        for access in each.accesses()
        if access.dtype.name != "float32"
    }
    halves: dict[int, Allocation] = {}

    def narrow(access: Access) -> Access:
        allocation = access.allocation
        if allocation.index not in wanted or allocation.index in mixed:
            return access
        half = halves.get(allocation.index)
        if half is None:
            half = replace(allocation, index=next(_numbers), dtype=bfloat16, row_bytes=allocation.row_bytes // 2)
            halves[allocation.index] = half
        return access._replace(allocation=half, dtype=bfloat16)

    made = [changed(trace, lambda each: with_accesses(each, narrow)) for trace in traces]
    return made if halves else None


def buffered(traces: Traces, spare: Mapping[MemoryRegion, int]) -> Traces | None:
    """Tensors that are filled again and again have a second buffer, used in turn, where there is ``spare`` space."""
    made, any_found = [], False
    for trace in traces:
        found = _second_buffers(trace, dict(spare))
        made.append(found or list(trace))
        any_found |= found is not None
    return made if any_found else None


def _second_buffers(trace: Sequence[Instruction], spare: dict[MemoryRegion, int]) -> list[Instruction] | None:
    version: dict[int, int] = {}  # how often a tensor was filled
    read_since: set[int] = set()
    versions: list[dict[int, int]] = []
    known: dict[int, Allocation] = {}
    for each in trace:
        used = {access.allocation.index: access.allocation for access in each.accesses() if access.allocation.on_chip}
        before = dict.fromkeys(used, 0) | {key: version.get(key, 0) for key in used}
        reads = {access.allocation.index for access in each.reads}
        for access in each.writes:
            key = access.allocation.index
            whole = size_of(access) == access.allocation.row_bytes and access.partitions == access.allocation.partitions
            if key in used and key not in reads and key in read_since and whole and not each.params.get("accumulate"):
                version[key] = before[key] = version.get(key, 0) + 1
                read_since.discard(key)
        read_since |= reads
        versions.append(before)
        known |= used
    doubled: dict[int, tuple[Allocation, Allocation]] = {}
    for key in sorted(version, key=lambda each: -version[each]):
        allocation = known[key]
        if allocation.row_bytes <= spare.get(allocation.region, 0):
            spare[allocation.region] -= allocation.row_bytes
            doubled[key] = (fresh(allocation), fresh(allocation))
    if not doubled:
        return None
    at = iter(versions)

    def change(each: Instruction) -> Instruction:
        mine = next(at)

        def choose(access: Access) -> Access:
            pair = doubled.get(access.allocation.index)
            return access if pair is None else access._replace(allocation=pair[mine[access.allocation.index] % 2])

        return with_accesses(each, choose)

    return changed(trace, change)
