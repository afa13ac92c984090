"""DMA: a transfer becomes descriptors, spread over the engines of a core, each served one after another."""

from __future__ import annotations

import heapq
from typing import NamedTuple

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.timing.laws import DmaLaw


class Descriptors(NamedTuple):
    """What a transfer is cut into: ``pieces`` descriptors of ``size_bytes`` each."""

    pieces: int
    size_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.pieces * self.size_bytes


def descriptors_of(law: DmaLaw, instruction: Instruction) -> Descriptors:
    """At least one descriptor per partition and per dense run of either side, and none above the largest size."""
    dst = instruction.writes[0]
    src = instruction.reads[0]
    size = max(1, min(_run_bytes(dst), _run_bytes(src), law.largest_descriptor_bytes))
    total = _elements(dst) * max(dst.dtype.itemsize, src.dtype.itemsize)
    return Descriptors(max(1, -(-total // size)), size)


def _run_bytes(access: Access) -> int:
    return access.runs()[1]


def _elements(access: Access) -> int:
    count = 1
    for size in access.shape:
        count *= size
    return count


def is_software(instruction: Instruction) -> bool:
    return instruction.params.get("dge_mode") == "swdge"


def is_load(instruction: Instruction) -> bool:
    """Whether the data moves on to the chip."""
    return instruction.writes[0].allocation.on_chip


class DmaEngines:
    """The engines that serve one core: each is free again at some time, and HBM gives so many bytes in all."""

    def __init__(self, law: DmaLaw, engines: int) -> None:
        self.law = law
        self.engines = engines
        self.free = [0.0] * engines
        self.hbm_free = 0.0
        self.busy_ns = 0.0
        self.bytes_moved = 0

    def serve(self, start_ns: float, descriptors: Descriptors, *, software: bool, hbm: bool) -> float:
        """When the last descriptor of a transfer that may start at ``start_ns`` has been served."""
        law = self.law
        fixed = law.software_per_descriptor_ns if software else law.per_descriptor_ns
        each_ns = fixed + descriptors.size_bytes / law.bytes_per_ns
        whole, rest = divmod(descriptors.pieces, self.engines)
        order = self.free
        heapq.heapify(order)
        end = start_ns
        for position in range(min(descriptors.pieces, self.engines)):
            free = heapq.heappop(order)
            mine = whole + (1 if position < rest else 0)
            done = max(free, start_ns) + mine * each_ns
            self.busy_ns += mine * each_ns
            heapq.heappush(order, done)
            end = max(end, done)
        self.bytes_moved += descriptors.total_bytes
        if hbm:  # one core's share of the memory's bandwidth
            self.hbm_free = max(self.hbm_free, start_ns) + descriptors.total_bytes / law.hbm_bytes_per_ns
            end = max(end, self.hbm_free)
        return end
