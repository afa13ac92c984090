"""Where the compiler would put the tensors it places, and whether they fit: from lifetimes, once the run is over."""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.silicon.device.core import Core
from outcrop.silicon.device.record import Allocation
from outcrop.silicon.device.regions import MemoryRegion


@dataclass(frozen=True)
class Usage:
    """The fullest moment of one on-chip memory. ``holders`` are the tensors alive then, largest first."""

    region: MemoryRegion
    peak_bytes_per_partition: int
    limit_bytes_per_partition: int
    peak_index: int  # of the instruction in the core's trace
    holders: tuple[Allocation, ...]


def place(core: Core) -> tuple[Usage, ...]:
    """Give every automatic allocation its address; refuses what cannot fit, with the peak set and its lines."""
    return ()
