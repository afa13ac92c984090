"""What cores cost each other: barriers, exchanges between the cores of a logical core, collectives between ranks.

The algorithms are the documented ones by size: a mesh for small messages, rings for large ones. Not covered: several
instances, contention between collectives, and the topology of a server beyond the number of hops of a ring.
"""

from __future__ import annotations

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.timing.laws import Laws

_MESH_BYTES = 1 << 20  # below, every rank sends to every other at once


def meeting_ns(laws: Laws, instruction: Instruction, members: int) -> float:
    """How long a meeting takes from when the last of ``members`` cores has come."""
    link, dma = laws.link, laws.dma
    if instruction.op == "core_barrier":
        return link.barrier_ns
    size = sum(_size_bytes(each) for each in instruction.writes)
    if instruction.op == "sendrecv":
        by_gpsimd = instruction.params.get("dma_engine") == "gpsimd_dma"
        rate = link.gpsimd_bytes_per_ns if by_gpsimd else link.core_bytes_per_ns
        return dma.hardware_issue_ns + dma.store_dispatch_ns + size / rate + dma.completion_ns
    ranks = max(1, len(instruction.params.get("group", ())) or members)
    return dma.store_dispatch_ns + collective_ns(laws, instruction.op, size, ranks) + dma.completion_ns


def collective_ns(laws: Laws, op: str, size_bytes: int, ranks: int) -> float:
    """The transfer of one collective: hops and bytes over the links of one chip."""
    link = laws.link
    if ranks == 1:
        return 0.0
    share = (ranks - 1) / ranks
    rounds = 2 if op == "all_reduce" else 1
    if op in ("collective_permute", "collective_permute_implicit", "collective_permute_implicit_reduce"):
        return link.hop_ns + size_bytes / link.chip_bytes_per_ns
    hops = rounds if size_bytes < _MESH_BYTES else rounds * (ranks - 1)
    moved = rounds * share * size_bytes
    return hops * link.hop_ns + moved / link.chip_bytes_per_ns


def _size_bytes(access: Access) -> int:
    count = access.dtype.itemsize
    for size in access.shape:
        count *= size
    return count
