"""Traces made ready for replay: what each instruction waits for, which queue carries it, and what it costs.

This part does not depend on the order of a replay, so it is done once. Several cores' traces become one program:
instructions are numbered through, and those that carry the same meeting (a barrier, an exchange, a collective) belong
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.timing import cost
from outcrop.silicon.timing.dependence import Edge, edges, hbm_of
from outcrop.silicon.timing.dma_engine import Descriptors, descriptors_of, is_load
from outcrop.silicon.timing.laws import Laws, TensorLaw
from outcrop.silicon.timing.meetings import meeting_ns
from outcrop.silicon.timing.merging import groups_of
from outcrop.silicon.timing.tensor_engine import Passes, passes_of
from outcrop.silicon.timing.timeline import QUEUES

_TENSOR, _GPSIMD = QUEUES.index("tensor"), QUEUES.index("gpsimd")
_SCALAR, _SYNC = QUEUES.index("scalar"), QUEUES.index("sync")
_RINGS = 4  # over which transfers are spread where the kernel leaves it open
_IN_EVERY_TABLE = frozenset({"copy", "identity"})
_TABLE_OPS = frozenset({"activation", "activation_reduce", "activate2"})


class Work(NamedTuple):
    """One instruction as the replay sees it. Exactly one of ``passes`` and ``transfer`` may be set."""

    queue: int
    latency_ns: float
    occupancy_ns: float
    passes: Passes | None = None
    transfer: Transfer | None = None
    table: str = ""  # the scalar engine's function table that it needs


class Transfer(NamedTuple):
    """A DMA: how its descriptors come to be, and what they move."""

    path: str  # hardware, software or static
    ring: str  # which descriptors it follows
    descriptors: Descriptors
    generation_ns: float
    load: bool
    hbm: bool


_MOST_KNOWN = 4096
_tensor_works: dict[tuple[object, ...], tuple[TensorLaw, Work]] = {}  # matmuls of one shape cost the same


@dataclass
class Program:
    """The traces of one logical core's cores, or of several ranks, made ready."""

    laws: Laws
    instructions: list[Instruction]
    core_of: list[int]
    works: list[Work]
    waits: list[tuple[Edge, ...]]
    consumers: list[list[int]]
    meetings: dict[int, list[int]]  # by meeting, its instructions
    follows: dict[int, int]  # in a no_reorder block, the next instruction on the same queue
    merged: dict[int, list[int]] = field(default_factory=dict)  # by any instruction of several done as one, all of them
    bounds: list[int] = field(default_factory=list)  # where each core's instructions begin, and the end

    @property
    def cores(self) -> int:
        return len(self.bounds) - 1


def prepare(traces: Sequence[Sequence[Instruction]], laws: Laws, *, older: bool = False) -> Program:
    """Everything about the traces that does not depend on their order in time.

    ``older`` does as the compiler of the older kernel language does in the profiles: equal instructions of loop
    iterations are merged (see ``merging``), and the caller's tensors move by software descriptors.
    """
    made = Program(laws, [], [], [], [], [], {}, {}, bounds=[0])
    members = _members(traces)
    for core, trace in enumerate(traces):
        base = len(made.instructions)
        arguments = _arguments(trace) if older else set()
        found = edges(trace)
        made.instructions.extend(trace)
        made.core_of.extend([core] * len(trace))
        made.works.extend([work_of(laws, each, arguments, members, older) for each in trace])
        made.waits.extend(found if base == 0 else [_shifted(each, base) for each in found])
        made.bounds.append(base + len(trace))
        _note_blocks(made, base)
        if older:
            _note_merged(made, base, groups_of(trace, found))
    made.consumers = [[] for _ in made.instructions]
    for index, mine in enumerate(made.waits):
        for edge in mine:
            made.consumers[edge.producer].append(index)
        meeting = made.instructions[index].params.get("meeting")
        if meeting is not None:
            made.meetings.setdefault(meeting, []).append(index)
    return made


def _shifted(mine: tuple[Edge, ...], base: int) -> tuple[Edge, ...]:
    return tuple([Edge(edge.producer + base, edge.kind) for edge in mine])


def _members(traces: Sequence[Sequence[Instruction]]) -> dict[int, int]:
    """How many cores come to each meeting."""
    found: dict[int, int] = {}
    for trace in traces:
        for each in trace:
            meeting = each.params.get("meeting")
            if meeting is not None:
                found[meeting] = found.get(meeting, 0) + 1
    return found


def _note_blocks(made: Program, base: int) -> None:
    last: dict[tuple[int, int], int] = {}
    for index in range(base, len(made.instructions)):
        region = made.instructions[index].region
        if region >= 0:
            key = (region, made.works[index].queue)
            if key in last:
                made.follows[last[key]] = index
            last[key] = index


def _note_merged(made: Program, base: int, groups: Sequence[Sequence[int]]) -> None:
    for group in groups:
        members = [each + base for each in group]
        first = made.works[members[0]]
        alike = [e for e in members if made.works[e].queue == first.queue and made.works[e].table == first.table]
        if len(alike) > 1:
            made.merged.update(dict.fromkeys(alike, alike))


def merged_work(laws: Laws, instruction: Instruction, one: Work, times: int) -> Work:
    """What ``times`` instructions such as this ``one`` cost when they are done as one."""
    if one.transfer is None:
        priced = cost.compute_cost(laws, instruction, times)
        return one._replace(latency_ns=priced.latency_ns, occupancy_ns=priced.occupancy_ns)
    cut = one.transfer.descriptors
    cut = Descriptors(cut.pieces * times, cut.size_bytes, cut.rows * times)
    more = laws.dma.software_per_row_ns * cut.rows * (times - 1) / times if one.transfer.path == "software" else 0.0
    moved = one.transfer._replace(descriptors=cut, generation_ns=one.transfer.generation_ns + more)
    return one._replace(occupancy_ns=one.occupancy_ns + more, latency_ns=one.latency_ns + more, transfer=moved)


def _arguments(trace: Sequence[Instruction]) -> set[int]:
    """HBM tensors that the kernel only reads or only writes: those of its caller."""
    return hbm_of(trace, "reads") ^ hbm_of(trace, "writes")


def work_of(laws: Laws, instruction: Instruction, arguments: set[int], members: dict[int, int], older: bool) -> Work:
    """Queue and cost of one instruction."""
    op = instruction.op
    if op in cost.DMA_OPS:
        return _dma_work(laws, instruction, arguments, older)
    meeting = instruction.params.get("meeting")
    if meeting is not None:
        took = meeting_ns(laws, instruction, members[meeting])
        return Work(QUEUES.index(cost.engine_name(instruction.engine)), took, took)
    if instruction.engine is Engine.tensor and op in cost.TENSOR_OPS:
        shapes = tuple([(each.shape, each.dtype.itemsize, each.dtype.lanes) for each in instruction.reads])
        mode, turned = instruction.params.get("perf_mode"), instruction.params.get("is_transpose")
        key = (id(laws.tensor), op, shapes, mode, turned)
        found = _tensor_works.get(key)
        if found is None or found[0] is not laws.tensor:
            passes = passes_of(laws.tensor, instruction)
            made = Work(_TENSOR, passes.stream_ns + laws.tensor.completion_ns, passes.stream_ns, passes)
            if len(_tensor_works) >= _MOST_KNOWN:
                _tensor_works.clear()
            found = _tensor_works[key] = (laws.tensor, made)
        return found[1]
    priced = cost.compute_cost(laws, instruction)
    table = str(instruction.params.get("op", "")) if op in _TABLE_OPS else ""
    if table in _IN_EVERY_TABLE:
        table = ""
    return Work(
        QUEUES.index(cost.engine_name(instruction.engine)), priced.latency_ns, priced.occupancy_ns, None, None, table
    )


def _dma_work(laws: Laws, instruction: Instruction, arguments: set[int], older: bool) -> Work:
    law = laws.dma
    if "broadcast_partitions" in instruction.params:
        return _broadcast_work(laws, instruction)
    queue, path = path_of(laws, instruction, arguments)
    cut = descriptors_of(law, instruction)
    load = is_load(instruction)
    open_choice = not older and instruction.params.get("dge_mode_asked", "unknown") == "unknown"
    ring = f"{QUEUES[queue]} {instruction.index % _RINGS if open_choice else 0}"
    hbm = not all(each.allocation.on_chip for each in instruction.accesses())
    generation = 0.0
    issue = law.hardware_issue_ns
    if path == "software":
        generation = law.software_generation_ns + law.software_per_row_ns * cut.rows
        issue = law.software_issue_ns
    elif path == "static":
        issue = law.static_issue_ns
    each_ns = law.per_descriptor_ns + cut.size_bytes / law.bytes_per_ns
    latency = issue + generation + law.load_dispatch_ns + cut.pieces * each_ns / 16 + law.completion_ns
    return Work(queue, latency, generation + issue, None, Transfer(path, ring, cut, generation, load, hbm))


def _broadcast_work(laws: Laws, instruction: Instruction) -> Work:
    """A row copied to all partitions, which the older language leaves to the compiler: a matmul with ones."""
    law = laws.tensor
    columns = float(max(instruction.writes[0].elements_per_partition, law.least_columns))
    if instruction.writes[0].dtype.itemsize == 4:
        columns *= law.columns_per_pass_32_bit * law.passes_32_bit
    stream = columns * law.per_column_ns
    return Work(_TENSOR, stream + law.completion_ns, stream, Passes(columns, stream, law.weight_load_ns, 0.0))


def path_of(laws: Laws, instruction: Instruction, arguments: set[int]) -> tuple[int, str]:
    """The queue that triggers a DMA, and who makes its descriptors.

    Where the kernel leaves it open, loads are triggered by Sync and stores by Scalar. The compiler of the profiles,
    that of the older language, has software on GpSimd move ``arguments``, whose addresses are known only at run time.
    """
    mode = instruction.params.get("dge_mode")
    if mode == "swdge":
        return _GPSIMD, "software"
    if mode != "hwdge":
        return _SYNC, "static"
    if instruction.params.get("dge_mode_asked", "unknown") != "unknown":
        trigger = instruction.params.get("trigger")
        return (QUEUES.index(trigger) if trigger in QUEUES else _SYNC), "hardware"
    if laws.dma.arguments_by_software and any(each.allocation.index in arguments for each in instruction.accesses()):
        return _GPSIMD, "software"
    return (_SYNC if is_load(instruction) else _SCALAR), "hardware"
