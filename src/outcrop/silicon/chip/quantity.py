"""Numbers that carry their unit, and figures that also carry where they come from and how far to trust them.

Conversions are exact: a value is read as the decimal it was written as and kept as a fraction until it is asked for
in a unit. Byte units follow IEC 80000-13 (KiB = 1024 B) and SI (GB = 10^9 B); the two are never mixed up silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from outcrop.base.errors import UserError


class Dimension(Enum):
    """What a number measures; two units convert into each other when they measure the same."""

    COUNT = "count"
    RATIO = "ratio"
    CYCLES = "cycles"
    SIZE = "size"
    FREQUENCY = "frequency"
    TIME = "time"
    BANDWIDTH = "bandwidth"
    WIDTH = "elements per cycle"
    FLOPS = "floating-point rate"
    INTEGER_OPS = "integer rate"


UNITS: dict[str, tuple[Dimension, Fraction]] = {
    "count": (Dimension.COUNT, Fraction(1)),
    "ratio": (Dimension.RATIO, Fraction(1)),
    "cycles": (Dimension.CYCLES, Fraction(1)),
    "elements/cycle": (Dimension.WIDTH, Fraction(1)),
    "bit": (Dimension.SIZE, Fraction(1, 8)),
    "B": (Dimension.SIZE, Fraction(1)),
    "KiB": (Dimension.SIZE, Fraction(2**10)),
    "MiB": (Dimension.SIZE, Fraction(2**20)),
    "GiB": (Dimension.SIZE, Fraction(2**30)),
    "TiB": (Dimension.SIZE, Fraction(2**40)),
    "Hz": (Dimension.FREQUENCY, Fraction(1)),
    "MHz": (Dimension.FREQUENCY, Fraction(10**6)),
    "GHz": (Dimension.FREQUENCY, Fraction(10**9)),
    "s": (Dimension.TIME, Fraction(1)),
    "us": (Dimension.TIME, Fraction(1, 10**6)),
    "ns": (Dimension.TIME, Fraction(1, 10**9)),
    "B/s": (Dimension.BANDWIDTH, Fraction(1)),
    "GB/s": (Dimension.BANDWIDTH, Fraction(10**9)),
    "TB/s": (Dimension.BANDWIDTH, Fraction(10**12)),
    "GiB/s": (Dimension.BANDWIDTH, Fraction(2**30)),
    "Gbit/s": (Dimension.BANDWIDTH, Fraction(10**9, 8)),
    "FLOP/s": (Dimension.FLOPS, Fraction(1)),
    "TFLOP/s": (Dimension.FLOPS, Fraction(10**12)),
    "PFLOP/s": (Dimension.FLOPS, Fraction(10**15)),
    "OP/s": (Dimension.INTEGER_OPS, Fraction(1)),
    "TOP/s": (Dimension.INTEGER_OPS, Fraction(10**12)),
}


def units_of(dimension: Dimension) -> list[str]:
    """The units that measure ``dimension``, smallest first."""
    return [unit for unit, (measured, _) in UNITS.items() if measured is dimension]


class Confidence(Enum):
    """How far to trust a figure, and why."""

    DOCUMENTED = "documented"
    MEASURED = "measured"
    DERIVED = "derived"
    ESTIMATED = "estimated"


CONFIDENCE_MEANINGS = {
    Confidence.DOCUMENTED: "printed in public documentation of the vendor",
    Confidence.MEASURED: "read from published measurements on real hardware",
    Confidence.DERIVED: "computed from documented or measured figures; the note says how",
    Confidence.ESTIMATED: "assumed, for instance for a chip that does not exist; the note says why",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value and its unit; the value comes out only in a unit that the reader names."""

    value: int | float
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UserError(f"The unit {self.unit!r} is not known.", f"Use one of: {', '.join(UNITS)}.")

    @property
    def dimension(self) -> Dimension:
        """What the quantity measures."""
        return UNITS[self.unit][0]

    def exact_in(self, unit: str) -> Fraction:
        """The value in ``unit``, exactly; ``UserError`` when ``unit`` is unknown or measures something else."""
        if unit not in UNITS or UNITS[unit][0] is not self.dimension:
            raise UserError(
                f"{self} measures {self.dimension.value} and has no value in {unit!r}.",
                f"Ask for it in one of: {', '.join(units_of(self.dimension))}.",
            )
        return Fraction(str(self.value)) * UNITS[self.unit][1] / UNITS[unit][1]

    def value_in(self, unit: str) -> float:
        """The value in ``unit`` as a float; errors as ``exact_in``."""
        return float(self.exact_in(unit))

    def int_in(self, unit: str) -> int:
        """The value in ``unit`` as a whole number; ``UserError`` when it is not one."""
        exact = self.exact_in(unit)
        if exact.denominator != 1:
            raise UserError(f"{self} is not a whole number of {unit}.", "Use value_in, or a smaller unit.")
        return exact.numerator

    def __str__(self) -> str:
        return f"{self.value:,} {self.unit}"


@dataclass(frozen=True, slots=True)
class Figure(Quantity):
    """A quantity with its source, its confidence and, where something has to be said, a note."""

    source: str
    confidence: Confidence
    note: str = ""


def computed(value: Fraction, unit: str, how: str) -> Figure:
    """A figure computed here: ``value`` is in the base unit of ``unit``'s dimension, ``how`` names what went in."""
    scaled = value / UNITS[unit][1]
    shown = scaled.numerator if scaled.denominator == 1 else float(scaled)
    return Figure(shown, unit, "computed by Outcrop", Confidence.DERIVED, how)
