"""What a profile is: one row for each instruction in time, and what follows from the rows.

A ``Profile`` holds plain values only, so that it can be saved, read back and compared with another, simulated or real.
Times are nanoseconds from the start of the kernel's body; bytes are as the operands address them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

ENGINES = ("tensor", "vector", "scalar", "gpsimd", "sync")
DMA = "dma"


class Traffic(NamedTuple):
    """Bytes by memory."""

    hbm: int = 0
    sbuf: int = 0
    psum: int = 0


class Row(NamedTuple):
    """One instruction in time.

    ``queue`` is the engine whose queue carries it; for a DMA, ``start`` to ``busy_until`` is the trigger there, and
    ``moving`` to ``finish`` the transfer, on the DMA queue ``dma_queue`` (empty for other instructions). ``waited_for``
    is the row (an index into ``Profile.rows``) that decided the start, or -1. ``line`` indexes ``Profile.lines``.
    """

    number: int  # in its core's trace
    core: int
    op: str
    queue: str
    start: float
    busy_until: float
    finish: float
    moving: float
    dma_queue: str
    waited_for: int
    line: int
    name: str
    operands: str
    read: Traffic
    written: Traffic
    flops: int  # of the tensor engine, moves of data left out; a multiply-add counts two
    transpose_flops: int
    bf16_flops: int  # both, scaled by the rate of the data type to that of bf16
    descriptors: int
    descriptor_bytes: int

    @property
    def duration(self) -> float:
        """From start until the result can be used."""
        return self.finish - self.start

    @property
    def is_dma(self) -> bool:
        return bool(self.dma_queue)


class SourceLine(NamedTuple):
    """A line of a kernel."""

    file: str
    line: int
    function: str
    text: str

    def __str__(self) -> str:
        return f"{self.file.rsplit('/', 1)[-1]}:{self.line}"


class Edge(NamedTuple):
    """One queue waits for another: rows of the producer and of the consumer."""

    producer: int
    consumer: int


class Occupied(NamedTuple):
    """Bytes per partition in use from ``at`` on."""

    at: float
    sbuf: int
    psum: int


class Window(NamedTuple):
    """A stretch in which the tensor engine was limited to ``rate`` of its speed."""

    start: float
    end: float
    rate: float


@dataclass(frozen=True)
class Chip:
    """The figures of the chip that a profile is judged by, per core."""

    name: str
    peak_flops_per_ns: float  # bf16
    hbm_bytes_per_ns: float  # of the HBM stack that serves the core
    dma_bytes_per_ns: float  # practical, of all the core's DMA engines together
    dma_engines: int
    sbuf_row_bytes: int
    psum_row_bytes: int
    psum_bank_bytes: int
    partitions: int


@dataclass(frozen=True)
class Estimate:
    """How long the kernel takes, launch included. ``low`` and ``high`` bracket what is expected; see ``basis``."""

    expected_ns: float
    low_ns: float
    high_ns: float
    launch_ns: float
    kind: str  # what binds: memory, compute or latency; measured for a device's profile
    basis: str  # where the bracket comes from, in a sentence
    error: str  # the validated error of this class of kernel, or that there is none


@dataclass(frozen=True)
class Bound:
    """What would be gained if one resource took no time: found by replaying the kernel so."""

    resource: str
    busy_ns: float  # that the resource is occupied now, the busiest core
    without_ns: float  # the kernel's time without it


@dataclass(frozen=True)
class Advice:
    """One change of the kernel and what the clock says it gives. ``lines`` index ``Profile.lines``."""

    change: str
    title: str
    reason: str
    predicted_ns: float
    lines: tuple[int, ...] = ()
    verdict: str = "try"  # or "bound": an ideal that no single edit reaches


@dataclass(frozen=True)
class Profile:
    """A kernel in time. ``measured`` tells a profile of a device from one of the clock."""

    kernel: str
    chip: Chip
    cores: int
    rows: tuple[Row, ...]  # in order of start
    lines: tuple[SourceLine, ...]
    estimate: Estimate
    edges: tuple[Edge, ...] = ()
    occupied: Mapping[int, tuple[Occupied, ...]] = field(default_factory=dict)  # by core
    limited: Mapping[int, tuple[Window, ...]] = field(default_factory=dict)  # by core
    bounds: tuple[Bound, ...] = ()
    advice: tuple[Advice, ...] = ()
    warnings: tuple[str, ...] = ()
    measured: bool = False
    dma_busy_ns: float = 0.0  # summed over the DMA engines

    @property
    def body_ns(self) -> float:
        """Until the last result is there, without the launch."""
        return max((row.finish for row in self.rows), default=0.0)
