"""Reading, replaying and fitting device profiles, on a small profile written here in the vendor's format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from outcrop.base.errors import UserError
from outcrop.silicon.timing.calibrate import calibrate, fit_line, report, to_toml, write
from outcrop.silicon.timing.laws import Line, load, load_file
from outcrop.silicon.timing.profile_json import read_profile
from outcrop.silicon.timing.profile_replay import replay_profile

SBUF, PSUM = 0x4000, 0x2000000


def row(label: str, opcode: str, start: int, duration: int, operands: str) -> dict[str, Any]:
    return {
        "id": start, "label": label, "opcode": opcode, "timestamp": start, "duration": duration, "operands": operands,
    }  # fmt: skip


def tile(role: str, address: int, elements: int, dtype: str = "fp32") -> str:
    return f"{role}={dtype}@{address:#x}[1,1,1,1][{elements},1,1,1]"


def table() -> dict[str, Any]:
    """A load by Sync, two reductions of it on Vector at 152 + 1.042 N, a matmul, and a copy on Scalar."""
    load_text = (
        "semaphore=8 sem_increment=16 src_elem_size=2048 dst_elem_size=2048 src_pattern=[2048,1][128,1] "
        "dst_pattern=[262144,1][128,1] src_addr_imm=0x8005c03b0000 dst_addr_imm=0x802000004000"
    )
    rows = [
        row("Sync", "DMA_DIRECT2D", 5000, 560, load_text),
        row("Vector", "TENSOR_REDUCE", 7700, 686, f"S[8] (q)>=16 S[6] (Vector)++@complete {tile('src', SBUF, 512)}"
            f" {tile('dst', 0x9000, 1)}"),
        row("Vector", "TENSOR_REDUCE", 8294, 286, f"S[6] (Vector)++@complete {tile('src', SBUF, 128)}"
            f" {tile('dst', 0x9004, 1)}"),
        row("Vector", "TENSOR_REDUCE", 8490, 286, f"S[6] (Vector)++@complete {tile('src', SBUF, 128)}"
            f" {tile('dst', 0x9008, 1)}"),
        row("Tensor", "LDWEIGHTS", 8830, 100, f"S[6] (Vector)>=3 {tile('src', SBUF, 128, 'bfloat16')}"),
        row("TensorMatrix", "MATMUL", 8860, 585, f"S[5] (Tensor)++@complete {tile('src', SBUF, 512, 'bfloat16')}"
            f" dst={PSUM:#x}[1,0,0][512,1,1] 128*128"),
        row("Scalar", "COPY", 9490, 584, f"S[5] (Tensor)>=1 {tile('src', PSUM, 512)} {tile('dst', 0xA000, 512)}"),
    ]  # fmt: skip
    packets = [
        {"timestamp": 6400 + 80 * at, "duration": 80, "transfer_size": 2048, "dma_engine": str(64 + engine),
         "queue_type": "hardware_dynamic"}
        for engine in range(16) for at in range(8)
    ]  # fmt: skip
    return {
        "instruction": rows,
        "dma": packets,
        "semaphore_update": [{"timestamp": 7650, "id": "8", "value": 16}],
        "ham": [{"timestamp": 12000, "duration": 3413, "k": 8, "n": 8}],
        "summary": [{"total_time": 2e-5}],
        "metadata": [{"pe_clock_freq": 2.4}],
    }


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json.gz"
    path.write_bytes(gzip.compress(json.dumps(table()).encode()))
    return path


def test_a_profile_is_read(written: Path) -> None:
    profile = read_profile(written)
    assert profile.name == "tiny"
    assert [each.opcode for each in profile.instructions][:2] == ["DMA_DIRECT2D", "TENSOR_REDUCE"]
    reduce = profile.instructions[1]
    assert reduce.waits == ((8, 16),)
    assert reduce.posts == (6,)
    assert reduce.operands["src"].elements == 512
    assert reduce.operands["src"].memory == "sbuf"
    assert profile.instructions[-1].operands["src"].memory == "psum"
    assert profile.instructions[0].attributes["src_pattern"] == "2048,1,128,1"
    assert len(profile.packets) == 128
    assert profile.limits[0].k == 8
    assert profile.semaphores == ((7650, 8, 16),)
    assert profile.total_ns == pytest.approx(20000)
    assert profile.metadata["pe_clock_freq"] == 2.4


def test_a_file_that_is_no_profile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for text in ("not json", "{}", '{"instruction": 3}'):
        path.write_text(text)
        with pytest.raises(UserError):
            read_profile(path)


def test_a_profile_is_replayed_in_its_own_order(written: Path) -> None:
    replayed = replay_profile(read_profile(written), load("trn2"))
    by_start = {each.instruction.start: each for each in replayed.instructions}
    loaded = 572 + 780 + 1.2 * 8 * (4.2 + 2048 / 27) + 250 + 380
    first = by_start[7700]
    assert by_start[5000].finish_ns == pytest.approx(loaded)
    assert first.start_ns == pytest.approx(loaded + 23)
    assert first.finish_ns - first.start_ns == pytest.approx(152 + 1.042 * 512)
    assert by_start[8294].start_ns == pytest.approx(first.start_ns + 60 + 1.042 * 512)
    matmul = by_start[8860]
    assert matmul.finish_ns - matmul.start_ns == pytest.approx(512 * 2 / 2.4 + 119 + 88, rel=1e-3)  # at half rate
    errors = replayed.duration_errors()
    assert abs(errors["Vector TENSOR_REDUCE"][0]) < 0.01
    assert replayed.predicted_ns == pytest.approx(loaded)  # the body ends with its last DMA


def test_fitting_finds_the_line_and_reports_its_error(written: Path) -> None:
    fits = {(each.law.op, each.law.engine): each for each in calibrate([read_profile(written)], load("trn2"))}
    reduce = fits["tensor_reduce", "vector"]
    assert reduce.law.latency.base == pytest.approx(152.7, abs=1)
    assert reduce.law.latency.per_element == pytest.approx(1.0417, abs=1e-3)
    assert reduce.law.occupancy.at(512) == pytest.approx(594, abs=2)
    assert reduce.law.samples == 3
    assert reduce.law.error < 0.01
    assert reduce.sizes == (128, 512)
    assert fits["tensor_copy", "scalar"].law.latency.per_element == pytest.approx(0.833)  # one size: the chip's slope
    assert "tensor_reduce" in report(list(fits.values()))


def test_fitted_laws_extend_a_chip(written: Path, tmp_path: Path) -> None:
    fits = calibrate([read_profile(written)], load("trn2"))
    path = tmp_path / "lab.toml"
    write(fits, path, chip="lab", extends="trn2", source='a "tiny" profile')
    laws = load_file(path)
    assert laws.chip == "lab"
    assert laws.find("tensor_reduce", "vector", "sbuf", "4-4", "constant").source == "calibration"
    assert laws.sources["calibration"] == 'a "tiny" profile'
    assert laws.dma == load("trn2").dma
    assert 'extends = "trn2"' in to_toml(fits, "lab", "trn2", "x")


def test_a_fit_is_not_moved_by_outliers_and_needs_instructions(written: Path) -> None:
    points = [(n, 100.0 + 2.0 * n) for n in (64, 128, 256, 512)]
    line = fit_line([*points, *points, (64, 5000.0), (512, 9000.0)], Line(0, 0))
    assert line.at(256) == pytest.approx(612, rel=0.01)
    assert fit_line([], Line(7, 1)) == Line(7, 1)
    empty = table() | {"instruction": table()["instruction"][:1]}
    path = written.with_name("empty.json")
    path.write_text(json.dumps(empty))
    with pytest.raises(UserError):
        calibrate([read_profile(path)], load("trn2"))
