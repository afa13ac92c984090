"""Which law is chosen for an instruction, what a file of laws may hold, and the laws that come with Outcrop."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel_rig import core, empty
from outcrop.base.errors import NotFound, UserError
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.timing.cost import compute_cost, dtypes, memory, variant
from outcrop.silicon.timing.laws import Line, load, load_file

CHIPS = ("trn1", "trn2", "trn3", "inf2")


def test_a_line_has_a_floor() -> None:
    line = Line(10.0, 2.0, 100.0)
    assert line.at(5) == 100.0
    assert line.at(100) == 210.0
    assert line.scaled(0.5) == Line(5.0, 1.0, 50.0)


@pytest.mark.parametrize("chip", CHIPS)
def test_every_engine_has_a_law_and_every_law_a_source(chip: str) -> None:
    laws = load(chip)
    assert laws.chip == chip
    for engine in ("tensor", "vector", "scalar", "gpsimd", "sync"):
        law = laws.find("something new", engine, "psum", "1-2", "vector")
        assert law.op == "any"
        assert law.latency.at(1) >= law.occupancy.at(1) > 0
    for law in laws.laws:
        assert laws.sources[law.source]
        for elements in (1, 64, 512, 4096):
            assert law.latency.at(elements) >= law.occupancy.at(elements) - 1e-9, law


def test_only_the_chip_with_public_profiles_is_called_calibrated() -> None:
    assert {chip: load(chip).calibrated for chip in CHIPS} == {
        "trn1": False, "trn2": True, "trn3": False, "inf2": False,
    }  # fmt: skip


def test_the_most_specific_law_wins() -> None:
    laws = load("trn2")
    assert laws.find("tensor_copy", "vector", "sbuf", "2-2", "constant").latency == Line(156, 0.269)
    assert laws.find("tensor_copy", "vector", "psum", "2-2", "constant").latency == Line(156, 1.042)
    assert laws.find("tensor_scalar", "vector", "sbuf", "4-4", "constant").latency.base == 160
    assert laws.find("tensor_scalar", "vector", "sbuf", "4-4", "vector").latency.base == 214


def test_an_instruction_asks_by_memory_types_and_operands() -> None:
    with core() as c:
        wide, narrow = empty(c, (128, 512)), empty(c, (128, 512), "bfloat16")
        column, sums = empty(c, (128, 1)), empty(c, (128, 512), "float32", "psum")
        c.record("tensor_scalar", Engine.vector, (narrow,), (sums, column))
        c.record("tensor_scalar", Engine.vector, (wide,), (wide,))
        first, second = c.trace
    assert (memory(first), dtypes(first), variant(first)) == ("psum", "4-2", "vector")
    assert (memory(second), dtypes(second), variant(second)) == ("sbuf", "4-4", "constant")
    laws = load("trn2")
    assert compute_cost(laws, first).latency_ns == pytest.approx(217 + 1.042 * 512)
    assert compute_cost(laws, second).occupancy_ns == pytest.approx(128 + 0.521 * 512)
    assert compute_cost(laws, second, times=2).latency_ns == pytest.approx(160 + 0.521 * 1024)


def test_trn1_follows_the_documented_cycles() -> None:
    laws = load("trn1")
    cycle = 1 / 1.12
    both_sbuf = laws.find("tensor_tensor", "vector", "sbuf", "4-4", "constant")
    one_psum = laws.find("tensor_tensor", "vector", "psum", "4-4", "constant")
    assert both_sbuf.occupancy.at(512) == pytest.approx(2 * 512 * cycle, rel=1e-3)
    assert one_psum.occupancy.at(512) == pytest.approx(512 * cycle, rel=1e-3)
    assert one_psum.occupancy.at(1) == pytest.approx(64 * cycle, rel=1e-3)
    assert laws.find("reciprocal", "vector", "sbuf", "4-4", "constant").occupancy.at(512) == pytest.approx(
        8 * 512 * cycle, rel=1e-3
    )
    assert laws.find("activation", "scalar", "sbuf", "4-4", "constant").latency.at(1) == pytest.approx(159, abs=1)
    assert laws.throttle is None


def test_trn3_is_trn2_scaled_by_the_clock_of_the_vector_engine() -> None:
    old, new = load("trn2"), load("trn3")
    key = ("tensor_tensor", "vector", "sbuf", "4-4", "constant")
    assert new.find(*key).latency.at(512) == pytest.approx(old.find(*key).latency.at(512) * 0.96 / 1.2)
    assert new.find(*key).samples == 0  # a scaled law is no measurement
    assert "uncalibrated" in new.note


def test_a_file_may_extend_a_chip_and_is_checked(tmp_path: Path) -> None:
    good = tmp_path / "mine.toml"
    good.write_text(
        'chip = "mine"\nextends = "trn2"\ncalibrated = true\n[sources]\nlab = "our bench"\n[[law]]\nop = "iota"\n'
        'engine = "gpsimd"\nlatency = { base = 1, per_element = 0 }\noccupancy = { base = 1, per_element = 0 }\n'
        'source = "lab"\nsamples = 3\n'
    )
    laws = load_file(good)
    assert laws.find("iota", "gpsimd", "sbuf", "4-4", "constant").samples == 3
    assert laws.dma == load("trn2").dma
    for broken, told in (
        ('source = "lab"', 'source = "nobody"'),
        ("samples = 3", "smaples = 3"),
        ('extends = "trn2"\n', ""),
    ):
        bad = tmp_path / f"bad{len(told)}.toml"
        bad.write_text(good.read_text().replace(broken, told))
        with pytest.raises(UserError):
            load_file(bad)


def test_an_unknown_chip_is_told() -> None:
    with pytest.raises(NotFound):
        load("trn9")
