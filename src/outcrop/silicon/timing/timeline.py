"""What a replay gives: when each instruction started, what kept it waiting, and when its result was there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from outcrop.silicon.device.record import Instruction

QUEUES = ("tensor", "vector", "scalar", "gpsimd", "sync")


class Span(NamedTuple):
    """One instruction in time, in nanoseconds from the start of the kernel's body.

    ``busy_until`` is when its queue takes the next instruction; ``finish`` when its result can be used. For a DMA,
    ``start`` to ``busy_until`` is the trigger on its queue. ``waited_for`` is the producer that decided the start, as
    ``(core, index)``, or ``None`` where the queue itself (or nothing) did.
    """

    instruction: Instruction
    queue: str
    start: float
    busy_until: float
    finish: float
    waited_for: tuple[int, int] | None


@dataclass(frozen=True)
class Timeline:
    """A replayed kernel. ``order`` says which: ``program`` (as written), ``listed`` (our scheduler) or ``explicit``."""

    order: str
    spans: tuple[Span, ...]  # in order of start
    body_ns: float  # until the last result is there
    launch_ns: float
    slow_windows: int  # grid windows in which the tensor engine ran at reduced rate
    windows: int
    dma_busy_ns: float  # summed over the DMA engines
    dma_engines: int
    dma_bytes: int

    @property
    def total_ns(self) -> float:
        """With the launch."""
        return self.body_ns + self.launch_ns

    def busy_ns(self, queue: str, core: int = 0) -> float:
        """How long a queue was occupied."""
        return sum(s.busy_until - s.start for s in self.spans if s.queue == queue and s.instruction.core == core)
