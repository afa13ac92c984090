"""What one executed instruction leaves behind: enough to replay it for time and to look for hazards, and no data.

A trace is a list of ``Instruction`` in the order of execution on one core. Operands are ``Access`` patterns over
``Allocation`` records, which outlive the tensors they describe, so that a trace costs no simulated memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from outcrop.base.errors import check
from outcrop.silicon.device.dtypes import DType
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.source import Source


@dataclass(eq=False, slots=True)
class Allocation:
    """One tensor's place in memory. On-chip, ``partitions`` rows of ``row_bytes``; in HBM one row with everything.

    ``address`` is the byte offset within the partition: given by the kernel, or filled in by ``placement`` at the end
    of the run where it was automatic. ``first_use`` and ``last_use`` are indices into the core's trace, -1 for none.
    """

    index: int
    name: str
    region: MemoryRegion
    shape: tuple[int, ...]
    dtype: DType
    partitions: int
    row_bytes: int
    source: Source
    core: int
    start_partition: int = 0
    address: int | None = None
    explicit: bool = False
    first_use: int = -1
    last_use: int = -1

    @property
    def on_chip(self) -> bool:
        return self.region is MemoryRegion.sbuf or self.region is MemoryRegion.psum

    @property
    def size_bytes(self) -> int:
        return self.partitions * self.row_bytes

    def __str__(self) -> str:
        where = f" at partition {self.start_partition}, byte {self.address}" if self.address is not None else ""
        return f"{self.name} {list(self.shape)} {self.dtype.name} in {self.region.value}{where}"


class Access(NamedTuple):
    """One operand: a strided pattern in elements of ``dtype`` over an allocation, as the kernel language writes it.

    ``indirect`` tells that run-time indices chose the elements: then the pattern is one that bounds them.
    """

    allocation: Allocation
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: DType
    indirect: bool = False

    @property
    def row_elements(self) -> int:
        """Elements of one partition of the allocation, in this access's data type."""
        return self.allocation.row_bytes // self.dtype.itemsize

    @property
    def start_partition(self) -> int:
        """The first partition in the memory (0 in HBM)."""
        return self.allocation.start_partition + self.offset // self.row_elements

    @property
    def partitions(self) -> int:
        return self.shape[0] if self.allocation.on_chip else 1

    @property
    def elements_per_partition(self) -> int:
        """N of the vendor's cost formulas; in HBM, all elements."""
        count = 1
        for size in self.shape[1:] if self.allocation.on_chip else self.shape:
            count *= size
        return count

    def runs(self) -> tuple[int, int, list[tuple[int, int]]]:
        """``(first byte, bytes per dense run, [(step in bytes, count), …])`` within one partition, outermost first.

        In HBM the "partition" is the whole tensor. Neighbouring dimensions that lie back to back are merged.
        """
        item = self.dtype.itemsize
        first = (self.offset % self.row_elements if self.allocation.on_chip else self.offset) * item
        skip = 1 if self.allocation.on_chip else 0
        dims = [(stride * item, size) for stride, size in zip(self.strides, self.shape, strict=True)][skip:]
        run = item
        outer: list[tuple[int, int]] = []
        for step, count in reversed(dims):
            if count == 1:
                continue
            if not outer and step == run:
                run *= count
            elif outer and step == outer[-1][0] * outer[-1][1]:
                outer[-1] = (outer[-1][0], outer[-1][1] * count)
            else:
                outer.append((step, count))
        return first, run, outer[::-1]

    def span(self) -> tuple[int, int]:
        """The half-open interval of bytes within the partition (in HBM, the tensor) that this access touches."""
        first, run, outer = self.runs()
        low = first + sum(min(0, step * (count - 1)) for step, count in outer)
        high = first + run + sum(max(0, step * (count - 1)) for step, count in outer)
        return low, high


@dataclass(eq=False, slots=True)
class Instruction:
    """One executed instruction. The kernel holds it as a handle for ``depends_on``.

    ``params`` has what changes its cost or meaning, by the names of the instruction's arguments: for a matmul
    ``perf_mode``, ``accumulate``; for a DMA ``dge_mode``; for an activation ``op``, whether ``bias`` and ``scale`` are
    vectors; and so on. ``region`` numbers the innermost ``no_reorder`` block, -1 outside; ``loop`` the innermost run
    of a dynamic loop's body, -1 outside.
    """

    index: int
    op: str
    engine: Engine
    writes: tuple[Access, ...]
    reads: tuple[Access, ...]
    params: Mapping[str, Any]
    source: Source
    core: int
    name: str | None = None
    region: int = -1
    loop: int = -1
    after: list[Instruction] = field(default_factory=list)

    def depends_on(self, *producers: Instruction) -> Instruction:
        """Declare that this instruction runs after each of ``producers``; returns itself."""
        for producer in producers:
            check(isinstance(producer, Instruction), "depends_on takes handles that nki.isa instructions returned")
            self.after.append(producer)
        return self

    def accesses(self) -> Iterator[Access]:
        yield from self.writes
        yield from self.reads
