"""One hazard: the instructions that it is between, the bytes, the order that breaks the kernel, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.device.source import Source


class Mode(Enum):
    """Who orders instructions.

    ``compiler``: semaphores follow from the bytes that instructions touch, as far as a compiler sees them, and from
    what the kernel declares; engines may take instructions in another order than the kernel wrote them.
    ``manual``: only what is declared (``depends_on``, ``with_schedule``, ``no_reorder``), the order of each engine's
    queue, and meetings of cores.
    """

    compiler = "compiler"
    manual = "manual"


class Severity(Enum):
    """``error``: wrong results in some order. ``warning``: perhaps, or surely not meant. ``advice``: only slow."""

    error = "error"
    warning = "warning"
    advice = "advice"


class Kind(Enum):
    """What can go wrong."""

    core_race = "core-race"  # two cores, the same bytes of shared HBM, nothing in between
    alias_race = "alias-race"  # tensors that overlap by their explicit addresses are used in turns
    lifetime = "lifetime"  # a tensor is read after its bytes were given to another
    race = "race"  # two engines of a core, the same bytes, no declared order
    dma_overlap = "dma-overlap"  # transfers in flight at once touch the same bytes
    unwaited_dma = "unwaited-dma"  # something is used before its transfer is known to be over
    unwritten = "unwritten"  # something is read that nothing wrote before
    overwritten = "overwritten"  # a result is overwritten before anything reads it
    dead_result = "dead-result"  # a result is never read
    cyclic_wait = "cyclic-wait"  # instructions that wait for each other
    interleaved_sum = "interleaved-sum"  # sums in PSUM that mix
    self_overlap = "self-overlap"  # an instruction overwrites what it has still to read
    small_descriptors = "small-descriptors"  # transfers in pieces that are too small to be worth it


@dataclass(frozen=True)
class Hazard:
    """``first`` and ``second`` are in the order of the run that was looked at; ``count`` is how often it occurs
    between the same two lines. ``order`` tells a schedule that breaks the kernel."""

    kind: Kind
    severity: Severity
    first: Instruction
    second: Instruction | None
    what: str
    order: str
    remedy: str
    count: int = 1

    @property
    def sources(self) -> tuple[Source, ...]:
        """The lines of the kernel, one or two."""
        both = (self.first,) if self.second is None else (self.first, self.second)
        return tuple(each.source for each in both)

    @property
    def key(self) -> tuple[object, ...]:
        """Hazards with the same key are one to the reader."""
        return (self.kind, self.severity, *self.sources)

    def again(self, times: int = 1) -> Hazard:
        """The same hazard, seen that many times more."""
        return replace(self, count=self.count + times)

    def __str__(self) -> str:
        lines = [f"{self.severity.value} [{self.kind.value}] {self.what}", f"  first   {told(self.first)}"]
        if self.second is not None:
            lines.append(f"  second  {told(self.second)}")
        if self.order:
            lines.append(f"  breaks  {self.order}")
        lines.append(f"  mends   {self.remedy}")
        if self.count > 1:
            lines.append(f"  ({self.count} times between these lines)" if self.second else f"  ({self.count} times)")
        return "\n".join(lines)


def told(instruction: Instruction) -> str:
    """An instruction for a reader: what it is, where it ran, and its line."""
    name = f" {instruction.name!r}" if instruction.name else ""
    text = instruction.source.text
    shown = f": {text}" if text else ""
    where = f"core {instruction.core}, {engine_of(instruction)}, instruction {instruction.index}"
    return f"{instruction.op}{name} ({where}) at {instruction.source}{shown}"


def engine_of(instruction: Instruction) -> str:
    """The engine that carries an instruction out, as messages name it."""
    return "DMA" if instruction.engine.name == "dma" else instruction.engine.name


def bytes_of(access: Access) -> str:
    """Which bytes of which tensor, for messages."""
    allocation = access.allocation
    if access.indirect:
        return f"{allocation} (elements chosen at run time)"
    low, high = access.span()
    rows = ""
    if allocation.on_chip:
        first = access.start_partition
        rows = f"partitions {first} to {first + access.partitions - 1}, "
    return f"{allocation}, {rows}bytes {low} to {high - 1}"
