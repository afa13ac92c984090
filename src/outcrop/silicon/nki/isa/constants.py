"""Enumerations of ``nki.isa``, with the vendor's names and values."""

from __future__ import annotations

from enum import Enum

from outcrop.silicon.device.regions import Engine

engine = Engine
tensor_engine, vector_engine, scalar_engine = Engine.tensor, Engine.vector, Engine.scalar  # older names, still used
gpsimd_engine, unknown_engine = Engine.gpsimd, Engine.unknown


class reduce_cmd(Enum):
    """What an instruction does with the accumulator registers of its engine."""

    idle = 0
    reset = 1
    reduce = 2
    reset_reduce = 3
    load_reduce = 4


class dge_mode(Enum):
    """Who generates the descriptors of a DMA: ``none`` the runtime beforehand, ``unknown`` is the compiler's choice."""

    unknown = 0
    swdge = 1
    hwdge = 2
    none = 3


class oob_mode(Enum):
    """What a DMA does with a run-time address outside the tensor."""

    error = 0
    skip = 1


class matmul_perf_mode(Enum):
    """``double_row`` multiplies two float8 pairs per cycle."""

    none = "none"
    double_row = "double_row"


class nc_version(Enum):
    """Generations of the core."""

    gen2 = 2
    gen3 = 3
    gen4 = 4

    def __lt__(self, other: nc_version) -> bool:
        return self.value < other.value

    def __le__(self, other: nc_version) -> bool:
        return self.value <= other.value

    def __gt__(self, other: nc_version) -> bool:
        return self.value > other.value

    def __ge__(self, other: nc_version) -> bool:
        return self.value >= other.value


class dma_engine(Enum):
    """Which DMA engines carry a ``sendrecv``."""

    dma = 1
    gpsimd_dma = 2
