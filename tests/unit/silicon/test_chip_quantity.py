"""Quantities come out only in a unit that measures the same, and exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest

from outcrop.base.errors import UserError
from outcrop.silicon.chip import UNITS, Dimension, Quantity


@pytest.mark.parametrize(
    ("value", "unit", "wanted_unit", "wanted"),
    [
        (2.4, "GHz", "Hz", 2_400_000_000),
        (224, "KiB", "B", 229_376),
        (512, "bit", "B", 64),
        (2.9, "TB/s", "GB/s", 2900),
        (800, "Gbit/s", "GB/s", 100),
        (1, "GiB/s", "B/s", 1_073_741_824),
        (20.8, "PFLOP/s", "TFLOP/s", 20_800),
        (600, "ns", "us", Fraction(3, 5)),
        (380, "TOP/s", "OP/s", 380 * 10**12),
    ],
)
def test_a_value_converts_exactly(value: float, unit: str, wanted_unit: str, wanted: Fraction):
    quantity = Quantity(value, unit)
    assert quantity.exact_in(wanted_unit) == wanted
    assert quantity.value_in(wanted_unit) == float(wanted)


@pytest.mark.parametrize("unit", UNITS)
def test_there_and_back_is_where_it_was(unit: str):
    for other, (dimension, _) in UNITS.items():
        if dimension is UNITS[unit][0]:
            assert Quantity(float(Quantity(3, unit).exact_in(other)), other).value_in(unit) == pytest.approx(3)


@pytest.mark.parametrize("unit", ["GB/s", "GB", "flops", ""])
def test_another_dimension_or_an_unknown_unit_is_refused_by_name(unit: str):
    with pytest.raises(UserError, match=r"2\.4 GHz measures frequency .*one of: Hz, MHz, GHz"):
        Quantity(2.4, "GHz").value_in(unit)


def test_a_quantity_in_no_known_unit_cannot_be_made():
    with pytest.raises(UserError, match="'furlong' is not known"):
        Quantity(1, "furlong")


def test_floating_point_and_integer_rates_do_not_mix():
    with pytest.raises(UserError, match="integer rate"):
        Quantity(380, "TOP/s").value_in("TFLOP/s")


def test_a_whole_number_is_asked_for_and_given_or_refused():
    assert Quantity(2, "KiB").int_in("B") == 2048
    with pytest.raises(UserError, match="not a whole number of KiB"):
        Quantity(100, "B").int_in("KiB")


def test_every_dimension_has_a_unit():
    assert {dimension for dimension, _ in UNITS.values()} == set(Dimension)
