"""The memories a tensor can lie in, under the vendor's names."""

from __future__ import annotations

from enum import Enum


class MemoryRegion(Enum):
    """``private_hbm`` belongs to one core; ``shared_hbm`` is seen by all cores of a logical core and by the host."""

    sbuf = "sbuf"
    psum = "psum"
    private_hbm = "private_hbm"
    shared_hbm = "shared_hbm"

    def __eq__(self, other: object) -> bool:
        """Also equal to its own name: the vendor's API takes both."""
        return self is other or (isinstance(other, str) and other == self.value)

    __hash__ = Enum.__hash__


SBUF = MemoryRegion.sbuf
PSUM = MemoryRegion.psum
SHARED_HBM = MemoryRegion.shared_hbm


class Engine(Enum):
    """Engines under the vendor's names and numbers; ``unknown`` leaves the choice to the compiler, that is, to us."""

    unknown = 0
    tensor = 1
    scalar = 2
    gpsimd = 3
    dma = 4
    vector = 5
    sync = 6
