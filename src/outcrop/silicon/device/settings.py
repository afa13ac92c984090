"""How a kernel is run: on which chip, how strictly, with values or without."""

from __future__ import annotations

from dataclasses import dataclass, field

from outcrop.silicon import chip
from outcrop.silicon.chip import Chip

_MOST_KNOWN = 64  # chips whose limits are kept


@dataclass(frozen=True)
class Settings:
    """``relaxed`` has the names of rules that only warn (see ``rules.relaxed_names``). ``seed`` feeds the random number
    stand-in and the interleaving of cores. ``timing_only`` records instructions without computing values."""

    target: Chip = field(default_factory=chip.load)
    relaxed: frozenset[str] = frozenset()
    timing_only: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The chip's figures that instructions and memories check against, as plain numbers."""

    generation: int  # 2, 3 or 4: what get_nc_version answers
    partitions: int
    quadrant: int
    sbuf_row_bytes: int
    psum_banks: int
    psum_bank_bytes: int
    free_dimensions: int
    stationary_free: int
    moving_free: dict[str, int]  # by the output's data type, under "fp32" and "bf16"
    bn_stats_free: int
    smallest_row_tile: int
    registers_per_engine: int
    features: frozenset[str]

    @property
    def psum_row_bytes(self) -> int:
        return self.psum_banks * self.psum_bank_bytes


_known: dict[int, tuple[Chip, Limits]] = {}  # by identity: a chip is large, and hashing it takes longer than this


def limits_of(target: Chip) -> Limits:
    """The figures of a chip, read once."""
    found = _known.get(id(target))
    if found is None:
        found = target, _read_limits(target)
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[id(target)] = found
    return found[1]


def _read_limits(target: Chip) -> Limits:
    core = target.core
    return Limits(
        generation=core.generation.int_in("count"),
        partitions=core.sbuf.partitions.int_in("count"),
        quadrant=core.sbuf.partitions_per_quadrant.int_in("count"),
        sbuf_row_bytes=core.sbuf.bytes_per_partition.int_in("B"),
        psum_banks=core.psum.banks.int_in("count"),
        psum_bank_bytes=core.psum.bytes_per_bank.int_in("B"),
        free_dimensions=core.free_dimensions.int_in("count"),
        stationary_free=core.tensor.stationary_free_limit.int_in("count"),
        moving_free={name: each.int_in("count") for name, each in core.tensor.moving_free_limit.items()},
        bn_stats_free=_optional(core.vector.bn_stats_free_limit),
        smallest_row_tile=core.tensor.smallest_row_tile.int_in("count"),
        registers_per_engine=core.registers_per_engine.int_in("count"),
        features=frozenset(name for name, each in core.features.items() if each.int_in("count")),
    )


def _optional(figure: chip.Figure | None) -> int:
    return 2**31 if figure is None else figure.int_in("count")
