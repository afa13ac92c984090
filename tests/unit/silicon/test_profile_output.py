"""What is made from a profile: the trace, the tables, the page, the saved file, the comparison."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import profile_kernels as kernels
import pytest

from outcrop.base.errors import UserError
from outcrop.silicon.profile import Profile, compare, profile_run, read, save, summarise
from outcrop.silicon.profile.base import Row, SourceLine, Traffic
from outcrop.silicon.profile.page import page_of
from outcrop.silicon.profile.tables import NAMES, parquet_library, tables_of
from outcrop.silicon.profile.trace_json import check_trace, trace_of, tracks_of

# The vendor's columns (profile schema 7.4.0) that its tables must have.
REQUIRED = {
    "Instruction": "start_ts end_ts duration_ns engine opcode operands id pc bir_id",
    "DmaPacket": "start_ts end_ts duration_ns id packet_idx packet_aggregation_id read_bytes write_bytes "
    "transfer_bytes throughput queue_type",
    "SemaphoreUpdate": "timestamp id value",
    "SbufUsage": "timestamp avg_util_percent",
    "PsumUsage": "timestamp avg_util_percent",
    "Throttle": "duration k n timestamp type",
    "OpcodeSummary": "engine opcode instruction_count instruction_time_ns active_time_ns active_time_percent",
    "Summary": "total_time hardware_flops transpose_flops mm_arithmetic_intensity hbm_read_bytes hbm_write_bytes "
    "mfu_estimated_percent hfu_estimated_percent mbu_estimated_percent matmul_instruction_count spill_save_bytes "
    "tensor_engine_active_time_percent vector_engine_instruction_count",
    "Warning": "message category",
}


@pytest.fixture(scope="module")
def made() -> Profile:
    return profile_run(kernels.executed(kernels.products, (256, 512), (256, 1024)))


@pytest.fixture(scope="module")
def saved(made: Profile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("profiles") / "deep" / "products"
    save(made, folder)
    return folder


# -- the trace --------------------------------------------------------------------------------------------------------


def test_the_trace_has_a_track_for_each_queue_arrows_and_counters(made: Profile, saved: Path):
    document = json.loads((saved / "trace.json").read_text())
    check_trace(document)
    events = document["traceEvents"]
    names = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {"tensor", "vector", *(row.queue for row in made.rows)} <= names
    assert any(name.startswith("dma ") and name.endswith(" in") for name in names)
    bars = [e for e in events if e["ph"] == "X"]
    assert len(bars) == len(made.rows) + sum(row.is_dma for row in made.rows)
    assert {e["name"] for e in events if e["ph"] == "C"} == {
        "SBUF bytes per partition",
        "PSUM bytes per partition",
        "tensor engine rate",
    }
    assert len([e for e in events if e["ph"] == "s"]) == len(made.edges)
    products = [e for e in bars if e["name"] == "nc_matmul"]
    assert products[0]["args"]["source"].startswith("profile_kernels.py:")


def test_bars_of_a_track_do_not_overlap(made: Profile):
    for bars in tracks_of(made).values():
        for one, two in pairwise(bars):
            assert one.end <= two.start + 1e-6


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"ph": "Q"}, "a known phase"),
        ({"ph": "X", "name": "a", "pid": 0, "tid": 1, "ts": 0}, "dur"),
        ({"ph": "X", "name": "a", "pid": 0, "tid": 1, "ts": -1, "dur": 1}, "times begin at 0"),
        ({"ph": "X", "name": "a", "pid": 0, "tid": 1, "ts": 0.0, "dur": 1}, "overlaps"),
        ({"ph": "f", "name": "a", "cat": "c", "id": "new", "pid": 0, "tid": 1, "ts": 5}, "not begun"),
        ({"ph": "s", "name": "a", "cat": "c", "id": "new", "pid": 0, "tid": 1, "ts": 5}, "no end"),
        ({"ph": "C", "name": "a", "pid": 0, "ts": 5, "args": {"value": "much"}}, "without numbers"),
    ],
)
def test_a_broken_trace_is_told(event: dict[str, object], told: str):
    first = {"ph": "X", "name": "a", "pid": 0, "tid": 1, "ts": 0.0, "dur": 2}
    with pytest.raises(UserError, match=told):
        check_trace({"traceEvents": [first, event]})


# -- the tables -------------------------------------------------------------------------------------------------------


def test_tables_have_the_vendors_columns(saved: Path):
    assert tuple(REQUIRED) == NAMES
    for name, columns in REQUIRED.items():
        with (saved / "tables" / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows, name
        assert set(columns.split()) <= set(rows[0]), name


def test_tables_say_what_the_profile_says(made: Profile):
    summary = summarise(made)
    tables = tables_of(made, summary)
    assert len(tables["Instruction"]) == len(made.rows)
    assert sum(each["raw_flops"] for each in tables["Instruction"]) == summary.flops
    for each in tables["Instruction"]:
        assert each["end_ts"] - each["start_ts"] == each["duration_ns"]
    moved = sum(each["transfer_bytes"] for each in tables["DmaPacket"])
    assert moved == summary.read.hbm + summary.written.hbm
    assert sum(each["instruction_count"] for each in tables["OpcodeSummary"]) == len(made.rows)
    (one,) = tables["Summary"]
    assert one["mfu_estimated_percent"] == pytest.approx(100 * summary.mfu)
    assert one["matmul_instruction_count"] == 16
    assert {each["queue_type"] for each in tables["DmaPacket"]} <= {"software_dynamic", "hardware_dynamic", "data"}
    assert "Simulated by Outcrop" in tables["Warning"][0]["message"]
    assert {each["k"] / each["n"] for each in tables["Throttle"]} == {0.5}
    values: dict[str, int] = {}
    for each in tables["SemaphoreUpdate"]:
        assert each["value"] == values.get(each["id"], 0) + 1
        values[each["id"]] = each["value"]


def test_tables_without_rows_have_their_columns(tmp_path: Path):
    save(profile_run(kernels.executed(kernels.copied, (128, 4096)), advice=False), tmp_path)
    assert (tmp_path / "tables" / "Throttle.csv").read_text() == "timestamp,duration,k,n,type,pcore_idx\n"


def test_parquet_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        parquet_library()


def test_parquet_tables_are_the_csv_tables(made: Profile, tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow, an optional extra, is not installed")
    save(made, tmp_path, parquet=True)
    table = parquet.read_table(tmp_path / "tables" / "Instruction.parquet")
    assert table.num_rows == len(made.rows)
    assert "duration_ns" in table.column_names


# -- the page ---------------------------------------------------------------------------------------------------------


def data_of(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    document: dict[str, object] = json.loads(found.group(1))
    return document


def test_the_page_needs_nothing_else(saved: Path):
    page = (saved / "profile.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(
        r"""(?:src|href)\s*=|url\(|@import|https?://|fetch\(|import\s*\(""", page.split('id="data"')[0]
    )
    script = page.split("</script>")[1]
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|WebSocket|innerHTML|eval\(", script)


def test_the_page_has_the_source_and_every_instruction(made: Profile, saved: Path):
    data = data_of((saved / "profile.html").read_text())
    rows = data["rows"]
    assert isinstance(rows, dict)
    assert {len(column) for column in rows.values()} == {len(made.rows)}
    (file,) = data["files"]  # type: ignore[misc]
    assert file["name"] == "profile_kernels.py"
    assert any("nisa.nc_matmul(" in line for line in file["text"])


def test_what_a_kernel_is_called_or_does_cannot_end_the_script(made: Profile):
    evil = "</script><script>alert(1)</script>"
    lines = tuple(SourceLine(each.file, each.line, each.function, evil) for each in made.lines)
    hostile = replace(made, kernel=evil, lines=lines, warnings=(evil,))
    page = page_of(hostile, summarise(hostile))
    assert evil not in page
    assert data_of(page)["kernel"] == evil
    assert page.count("</script>") == 2


def test_ten_thousand_instructions_fit_in_two_megabytes(made: Profile):
    rows = []
    for number in range(10_000):
        like = made.rows[number % len(made.rows)]
        at = number * 150.0
        rows.append(like._replace(number=number, start=at, busy_until=at + 140, finish=at + 300, moving=at + 141))
    large = replace(made, rows=tuple(rows), edges=made.edges * 60)
    assert len(page_of(large, summarise(large)).encode()) < 2_000_000


# -- saved, and compared ----------------------------------------------------------------------------------------------


def test_a_saved_profile_comes_back_as_it_was(made: Profile, saved: Path):
    assert read(saved) == made
    assert read(saved / "profile.json") == made


def test_what_is_no_profile_is_refused(saved: Path, tmp_path: Path):
    with pytest.raises(UserError, match="There is no profile"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match="not a saved profile"):
        read(tmp_path)
    document = json.loads((saved / "profile.json").read_text())
    for broken, told in (({**document, "format": 0}, "another version"), ({"format": 1}, "not a saved profile")):
        (tmp_path / "profile.json").write_text(json.dumps(broken))
        with pytest.raises(UserError, match=told):
            read(tmp_path)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="not a profile"):
        read(tmp_path / "other.json")


def test_a_comparison_tells_what_changed(made: Profile):
    after = profile_run(kernels.executed(kernels.hoisted_products, (256, 512), (256, 1024)), advice=False)
    found = compare(made, after)
    queues = {each.what: each for each in found.queues}
    assert queues["dma transfers"].before.instructions == 32 + 8
    assert queues["dma transfers"].after.instructions == 8 + 4 + 8
    assert queues["tensor"].before.instructions == queues["tensor"].after.instructions == 16
    fewer = [each for each in found.ops if each.what.startswith("dma_copy")]
    assert sum(each.change_ns for each in fewer) < 0
    assert any("nisa.dma_copy(known[key]" in each.what for each in found.lines)
    assert found.document()["change"] == pytest.approx(after.estimate.expected_ns / made.estimate.expected_ns - 1)
    assert "before" in str(found)
    same = compare(made, made)
    assert all(each.change_ns == 0 for each in (*same.queues, *same.ops, *same.lines))


# -- a device's profile -----------------------------------------------------------------------------------------------


def device_json(path: Path) -> Path:
    def row(number: int, label: str, opcode: str, start: int, duration: int, operands: str = "") -> dict[str, object]:
        return {
            "id": number, "label": label, "opcode": opcode, "timestamp": start, "duration": duration,
            "operands": operands,
        }  # fmt: skip

    tile = "src=bfloat16@0x100[1,0,0][512,1,1] dst=0x2000000[1,0,0][512,1,1] 128*128 "
    table = {
        "instruction": [
            row(1, "Vector", "MEMSET", 50, 10),
            row(2, "Sync", "DMA_DIRECT2D", 100, 570),
            row(3, "Tensor", "LDWEIGHTS", 2900, 50, "transpose_mode=ENABLED "),
            row(4, "Tensor", "MATMUL", 3000, 300, tile),
            row(5, "Tensor", "LDWEIGHTS", 3350, 50),
            row(6, "TensorMatrix", "MATMUL", 3400, 300, tile),
            row(7, "Vector", "EVENT_SEMAPHORE", 3000, 900, "S[5]>=1"),
            row(8, "Vector", "COPY", 3950, 200),
        ],
        "dma": [
            {
                "timestamp": at,
                "duration": 100,
                "transfer_size": 1024,
                "dma_engine": "64",
                "queue_type": "hardware_dynamic",
            }
            for at in (1500, 1600, 1700, 5000)
        ],
        "ham": [{"timestamp": 3200, "duration": 1000, "k": 8, "n": 8, "type": 0}],
        "summary": [{"total_time": 9e-6}],
    }
    path.write_text(json.dumps(table))
    return path


def test_a_device_profile_is_read_in_the_same_form(tmp_path: Path):
    found = read(device_json(tmp_path / "real.json"))
    assert found.measured
    assert found.estimate.expected_ns == pytest.approx(9000)
    assert [(row.op, row.queue, row.start) for row in found.rows] == [
        ("dma_copy", "sync", 0.0),
        ("transfer", "dma", 1400.0),
        ("load_weights", "tensor", 2800.0),
        ("nc_transpose", "tensor", 2900.0),
        ("load_weights", "tensor", 3250.0),
        ("nc_matmul", "tensor", 3300.0),
        ("tensor_copy", "vector", 3850.0),
        ("transfer", "dma", 4900.0),
    ]
    summary = summarise(found)
    assert summary.flops == summary.transpose_flops == 2 * 128 * 128 * 512
    assert summary.read.hbm == 4096
    assert [(window.start, window.end, window.rate) for window in found.limited[0]] == [(0.0, 3100.0, 0.5)]
    check_trace(trace_of(found))


def test_a_device_profile_is_compared_with_a_simulated_one(made: Profile, tmp_path: Path):
    real = read(device_json(tmp_path / "real.json"))
    found = compare(real, made)
    ops = {each.what: each for each in found.ops}
    assert ops["nc_matmul (tensor)"].before.instructions == 1
    assert ops["nc_matmul (tensor)"].after.instructions == 16
    assert "load_weights (tensor)" not in ops
    assert found.lines == ()
    assert "measured" in str(found)
    save(real, tmp_path / "saved")
    assert read(tmp_path / "saved") == real


def test_rows_of_a_circle_do_not_hang():
    from outcrop.silicon.profile.summary import critical_path

    nothing = Traffic()
    row = Row(0, 0, "a", "vector", 0, 1, 2, 0, "", 1, 0, "", "", nothing, nothing, 0, 0, 0, 0, 0)
    made = profile_run(kernels.executed(kernels.adding, (128, 64)), advice=False)
    critical_path(replace(made, rows=(row, row._replace(waited_for=0))))
