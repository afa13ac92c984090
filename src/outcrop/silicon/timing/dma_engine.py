"""DMA: a transfer becomes descriptors, spread over the engines of a core, each served one after another."""

from __future__ import annotations

import heapq
from typing import NamedTuple

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.timing.laws import DmaLaw


class Descriptors(NamedTuple):
    """What a transfer is cut into: ``pieces`` descriptors of ``size_bytes`` each, out of ``rows`` dense runs."""

    pieces: int
    size_bytes: int
    rows: int

    @property
    def total_bytes(self) -> int:
        return self.pieces * self.size_bytes


def descriptors_of(law: DmaLaw, instruction: Instruction) -> Descriptors:
    """At least one descriptor per partition and per dense run of either side, and none above the largest size.

    A transpose is done on the way: it takes the longer runs, and documents give it nine tenths of the rate.
    """
    dst = instruction.writes[0]
    src = instruction.reads[0] if instruction.reads else dst
    if instruction.op == "dma_transpose":
        run = max(_run_bytes(dst), _run_bytes(src))
        size = min(run, law.largest_descriptor_bytes)
        total = _elements(dst) * dst.dtype.itemsize
        return Descriptors(max(1, -(-total * 10 // (size * 9))), size, max(1, total // run))
    run = max(1, min(_run_bytes(dst), _run_bytes(src)))
    size = min(run, law.largest_descriptor_bytes)
    total = _elements(dst) * max(dst.dtype.itemsize, src.dtype.itemsize)
    return Descriptors(max(1, -(-total // size)), size, max(1, total // run))


def _run_bytes(access: Access) -> int:
    return access.runs()[1]


def _elements(access: Access) -> int:
    count = 1
    for size in access.shape:
        count *= size
    return count


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
        self.load_until: dict[str, float] = {}  # by hardware ring: the end of its last load
        self.last_ring = ""

    def serve(
        self,
        issued_ns: float,
        descriptors: Descriptors,
        *,
        ring: str,
        load: bool,
        software: bool = False,
        hbm: bool = True,
    ) -> float:
        """When a transfer whose trigger ends at ``issued_ns`` has served its last descriptor.

        ``ring`` names what holds its descriptors. Transfers of one ring follow each other; those of another fill gaps.
        """
        law = self.law
        start = issued_ns + (law.load_dispatch_ns if load else law.store_dispatch_ns)
        if load and not software and self.load_until.get(ring, 0.0) > start:
            start = max(start, self.load_until[ring]) + law.load_turnaround_ns
        fixed = law.per_descriptor_ns + (law.software_per_descriptor_ns if software else 0.0)
        each_ns = fixed + descriptors.size_bytes / law.bytes_per_ns
        stall, share = (
            (law.load_stall_ns, law.load_stall_share) if load else (law.store_stall_ns, law.store_stall_share)
        )
        late = 0.0
        if ring != self.last_ring:  # the engines have others' descriptors to go on with
            stall, late = 0.0, stall
        self.last_ring = ring
        whole, rest = divmod(descriptors.pieces, self.engines)
        free = self.free
        end = start
        if whole:
            order = sorted(free)
            made = []
            for position, at in enumerate(order):
                mine = (whole + (1 if position < rest else 0)) * each_ns
                taken = mine * (1.0 + share) + stall
                made.append((at if at > start else start) + taken)
            self.busy_ns += descriptors.pieces * each_ns
            self.free = made
            end = max(made)
        else:
            heapq.heapify(free)
            for _ in range(rest):
                done = max(heapq.heappop(free), start) + each_ns * (1.0 + share) + stall
                heapq.heappush(free, done)
                end = max(end, done)
            self.busy_ns += rest * each_ns
        self.bytes_moved += descriptors.total_bytes
        if hbm:  # one core's share of the memory's bandwidth
            self.hbm_free = max(self.hbm_free, start) + descriptors.total_bytes / law.hbm_bytes_per_ns
            end = max(end, self.hbm_free)
        end += late
        if load and not software:
            self.load_until[ring] = end
        return end
