"""From a trace record to the question that the laws answer: which law, how many elements, which queue."""

from __future__ import annotations

from typing import NamedTuple

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.timing.laws import Law, Laws

DMA_OPS = frozenset({"dma_copy", "dma_transpose", "dma_compute"})
TENSOR_OPS = frozenset({"nc_matmul", "nc_matmul_mx", "nc_transpose"})

# The law of an instruction that has none of its own but is carried out like another one.
_LIKE = {
    "activation_reduce": "activation",
    "activate2": "activation",
    "tensor_scalar_reduce": "tensor_scalar",
    "tensor_scalar_cumulative": "tensor_tensor_scan",
}


class Cost(NamedTuple):
    """How long an instruction of a compute engine takes, and why."""

    law: Law
    elements: int
    latency_ns: float
    occupancy_ns: float


def compute_cost(laws: Laws, instruction: Instruction, times: int = 1) -> Cost:
    """The cost on the vector, scalar, gpsimd or sync engine (see also ``tensor_engine``), of ``times`` such in one."""
    law, elements = _law_and_elements(laws, instruction)
    elements *= times
    return Cost(law, elements, law.latency.at(elements), law.occupancy.at(elements))


def _law_and_elements(laws: Laws, instruction: Instruction) -> tuple[Law, int]:
    op = _LIKE.get(instruction.op, instruction.op)
    elements = max((each.elements_per_partition for each in _operands(instruction)), default=1)
    law = laws.find(op, engine_name(instruction.engine), memory(instruction), dtypes(instruction), variant(instruction))
    return law, elements


def _operands(instruction: Instruction) -> list[Access]:
    return [*instruction.writes[:1], *instruction.reads]


def engine_name(engine: Engine) -> str:
    return "sync" if engine in (Engine.unknown, Engine.dma) else engine.name


def memory(instruction: Instruction) -> str:
    """``psum`` where a data operand lies there: it is the slower of the two."""
    psum = MemoryRegion.psum
    return "psum" if any(each.allocation.region is psum for each in _operands(instruction)) else "sbuf"


def dtypes(instruction: Instruction) -> str:
    """Bytes per element of the widest data operand read and of the result: ``4-2``. Vectors of scalars do not count."""
    wide = [each.dtype.itemsize for each in instruction.reads if each.elements_per_partition > 1]
    read = max(wide, default=max((each.dtype.itemsize for each in instruction.reads), default=4))
    written = instruction.writes[0].dtype.itemsize if instruction.writes else read
    return f"{read}-{written}"


def variant(instruction: Instruction) -> str:
    """``vector`` where a per-partition operand is read beside the data, ``constant`` where none is."""
    beside = [each for each in instruction.reads[1:] if each.elements_per_partition == 1]
    return "vector" if beside else "constant"
