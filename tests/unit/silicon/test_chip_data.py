"""The chips that come with Outcrop: their names, their numbers, and their sums against the documented ones.

A sum computed from the parts may lie 2 % from the documented one, which is what rounding to two digits costs. Where
the vendor's pages disagree with each other by more, the difference stands in ``DISAGREEMENTS`` and may not move by
more than 0.1 % of the total without somebody noticing.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from outcrop.base.errors import NotFound
from outcrop.silicon import chip

NAMES = ["inf2", "trn1", "trn2", "trn3"]
ALIASES = {"gen2": "trn1", "gen3": "trn2", "gen4": "trn3"}
TOLERANCE = 0.02

_TRAINIUM_PEAKS = {f"device.peak.{dtype}": -0.0342 for dtype in ("bf16", "fp16", "tf32", "cfp8", "fp32")}
# The pages of Trn1 and Inf2 print GiB/s, the NKI guide prints the same digits in GB/s.
DISAGREEMENTS = {
    "trn1": {
        **_TRAINIUM_PEAKS,
        "device.dma_bandwidth": -0.1296,
        **{
            f'instances."{name}".memory_bandwidth': -0.0687
            for name in ("trn1.2xlarge", "trn1.32xlarge", "trn1n.32xlarge")
        },
    },
    "inf2": {
        **_TRAINIUM_PEAKS,
        "device.dma_bandwidth": -0.1296,
        **{
            f'instances."inf2.{size}".memory_bandwidth': -0.0687
            for size in ("xlarge", "8xlarge", "24xlarge", "48xlarge")
        },
    },
    "trn2": {
        **{f"device.peak.{dtype}": -0.0568 for dtype in ("bf16", "fp16", "tf32")},
        "device.peak.fp8": -0.0313,
        "device.peak.fp32": -0.1310,
    },
    "trn3": {
        **{f"device.peak.{dtype}": -0.0624 for dtype in ("bf16", "fp16", "tf32")},
        "device.peak.fp32": -0.1405,
    },
}


def test_the_names_are_these_and_change_on_purpose_only():
    assert chip.names() == NAMES
    assert chip.aliases() == ALIASES


@pytest.mark.parametrize("name", NAMES)
def test_a_file_carries_the_name_that_it_is_found_under(name: str):
    assert chip.load(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_sums_of_the_parts_are_what_documents_print_but_for_the_known_disagreements(name: str):
    compared = {total.key: total.difference for total in chip.totals(chip.load(name)) if total.documented}
    known = DISAGREEMENTS[name]
    assert {key for key, difference in compared.items() if abs(difference or 0) > TOLERANCE} == set(known)
    assert {key: compared[key] for key in known} == pytest.approx(known, abs=0.001)


@pytest.mark.parametrize("name", NAMES)
def test_every_documented_total_that_parts_can_make_is_compared(name: str):
    shown = chip.load(name)
    compared = {total.key for total in chip.totals(shown) if total.documented}
    printed = {key.replace(".totals", "") for key, _ in chip.walk(shown) if ".totals." in key}
    # Lane rates of VectorE and ScalarE and the INT8 rate have no documented parts to be computed from.
    without_parts = ("core.vector_peak.", "core.scalar_peak.", "device.integer_peak.")
    assert {key for key in printed - compared if not key.startswith(without_parts)} == set()


@pytest.mark.parametrize("name", NAMES)
def test_counts_fit_together(name: str):
    shown = chip.load(name)
    core, device = shown.core, shown.device
    assert core.dma.engines.value * device.cores.value == device.dma_engines.value
    assert core.gpsimd.processors.value * core.gpsimd.partitions_per_processor.value == core.sbuf.partitions.value
    assert core.sbuf.partitions.value == core.psum.partitions.value
    assert core.sbuf.partitions.value % core.sbuf.partitions_per_quadrant.value == 0
    if device.hbm.cores_per_stack:
        assert device.hbm.stacks.value * device.hbm.cores_per_stack.value == device.cores.value


@pytest.mark.parametrize(
    ("name", "sbuf_kib", "clock_ghz", "hbm_gib"),
    [("trn1", 192, 2.8, 32), ("trn2", 224, 2.4, 96), ("trn3", 256, 2.4, 144)],
)
def test_numbers_that_kernels_meet_first(name: str, sbuf_kib: int, clock_ghz: float, hbm_gib: int):
    shown = chip.load(name)
    assert shown.core.sbuf.bytes_per_partition.int_in("KiB") == sbuf_kib
    assert shown.core.tensor.clock.value_in("GHz") == clock_ghz
    assert shown.device.hbm.capacity.int_in("GiB") == hbm_gib
    assert shown.core.psum.banks.int_in("count") * shown.core.psum.bytes_per_bank.int_in("B") == 16 * 1024


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_where_it_comes_from(name: str):
    for key, figure in chip.walk(chip.load(name)):
        assert len(figure.source) > 20, key
        if figure.confidence is chip.Confidence.DERIVED:
            assert figure.note, key
        assert figure.confidence is not chip.Confidence.ESTIMATED, key


@pytest.mark.parametrize("name", NAMES)
def test_what_is_absent_is_none_and_listed(name: str):
    shown = chip.load(name)
    listed = set(chip.absent(shown))
    assert ("core.dma.service_classes" in listed) is (shown.core.dma.service_classes is None)
    assert listed.isdisjoint(key for key, _ in chip.walk(shown))


def test_inferentia2_shares_trainiums_core_and_nothing_of_its_links_and_machines():
    inf2, trn1 = chip.load("inf2"), chip.load("trn1")
    assert inf2.core == trn1.core
    assert inf2.device.link != trn1.device.link
    assert not inf2.instances.keys() & trn1.instances.keys()


def test_a_chip_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        chip.load("trn2").core.tensor.clock.value = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        chip.load("trn2").core.tensor.rate["fp64"] = chip.load("trn2").core.tensor.rate["fp32"]  # type: ignore[index]


def test_the_default_target_is_the_vendors_variable_else_trn2():
    assert chip.default_target({}) == "trn2"
    assert chip.default_target({"NEURON_PLATFORM_TARGET_OVERRIDE": "gen4"}) == "trn3"
    assert chip.default_target({"NEURON_PLATFORM_TARGET_OVERRIDE": "inf2"}) == "inf2"
    with pytest.raises(NotFound, match=r"NEURON_PLATFORM_TARGET_OVERRIDE is 'trn9'.*one of: inf2, trn1"):
        chip.default_target({"NEURON_PLATFORM_TARGET_OVERRIDE": "trn9"})


def test_load_takes_names_aliases_and_the_default(monkeypatch: pytest.MonkeyPatch):
    assert chip.load("gen2").name == "trn1"
    monkeypatch.setenv(chip.TARGET_VARIABLE, "trn3")
    assert chip.load().name == "trn3"
    with pytest.raises(NotFound, match="No chip is called 'trn9'"):
        chip.load("trn9")


def test_no_code_of_the_room_names_a_generation():
    room = Path(chip.__file__).parent
    for path in room.glob("*.py"):
        code = path.read_text(encoding="utf-8")
        for line in code.splitlines():
            if any(name in line for name in ("trn1", "trn3", "inf2", "gen2", "gen3", "gen4", "v2", "v3", "v4")):
                assert line.lstrip().startswith(("DEFAULT_TARGET", "#", '"""')), f"{path.name}: {line}"
