"""``outcrop kernel profile``, ``diff`` and ``calibrate``: the report, the files, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outcrop.cli.main import main

KERNELS = """
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def copied(x, pieces=8):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    wide = x.shape[1] // pieces
    for piece in range(pieces):
        tile = nl.ndarray((128, wide), x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(tile, x[:, piece * wide : (piece + 1) * wide])
        nisa.dma_copy(out[:, piece * wide : (piece + 1) * wide], tile)
    return out

if __name__ == "__main__":
    import numpy as np
    print("checked", float(copied(np.full((128, 64), 3, np.float32)).sum()) == 128 * 64 * 3)
    copied(np.ones((128, 64), np.float32), 2)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kernels.py"
    path.write_text(KERNELS)
    return path


def test_one_kernel_is_profiled_and_its_files_written(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "made"
    assert main(["kernel", "profile", f"{file}:copied", "--arg", "x=float32[128,4096]", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "copied on trn2:" in told
    assert "us expected, between" in told
    assert "What binds" in told
    assert "kernels.py:12" in told
    assert {each.name for each in out.iterdir()} == {
        "profile.html",
        "profile.json",
        "summary.json",
        "summary.txt",
        "tables",
        "trace.json",
    }
    assert (out / "tables" / "Instruction.csv").is_file()


def test_json_is_one_document(file: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--arg", "x=float32[128,4096]", "--target", "trn1", "--json", "--no-values"]
    assert main(["kernel", "profile", f"{file}:copied", *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["target"] == "trn1"
    (kernel,) = document["kernels"]
    assert kernel["estimate"]["low_ns"] <= kernel["estimate"]["expected_ns"] <= kernel["estimate"]["high_ns"]
    assert kernel["summary"]["read"]["hbm"] == 128 * 4096 * 4
    assert kernel["bounds"][0]["resource"].startswith("dma")
    assert all(each["gain"] >= 0.01 for each in kernel["advice"])
    assert kernel["files"] == {}


def test_every_kernel_of_a_script_has_its_folder(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["kernel", "profile", str(file), "--no-advice", "--out", str(tmp_path / "both")]) == 0
    told = capsys.readouterr().out
    assert "checked True" in told
    assert "What binds" not in told
    assert {each.name for each in (tmp_path / "both").iterdir()} == {"000-copied", "001-copied"}


def test_open_opens_the_page(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) == 1)
    monkeypatch.chdir(tmp_path)
    arguments = ["--arg", "x=float32[128,64]", "--no-advice", "--open"]
    assert main(["kernel", "profile", f"{file}:copied", *arguments]) == 0
    assert opened == [(tmp_path / "outcrop-profile" / "profile.html").as_uri()]
    assert capsys.readouterr().err == ""
    assert main(["kernel", "profile", f"{file}:copied", *arguments, "--out", "other"]) == 0
    assert "the page is other/profile.html" in capsys.readouterr().err


def test_two_profiles_are_compared(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for pieces in ("8", "1"):
        arguments = ["--arg", "x=float32[128,4096]", "--arg", f"pieces={pieces}", "--no-advice"]
        assert main(["kernel", "profile", f"{file}:copied", *arguments, "--out", str(tmp_path / pieces)]) == 0
    capsys.readouterr()
    assert main(["kernel", "diff", str(tmp_path / "8"), str(tmp_path / "1")]) == 0
    told = capsys.readouterr().out
    assert "dma_copy" in told
    assert "16 > 2" in told
    assert main(["kernel", "diff", str(tmp_path / "8"), str(tmp_path / "1"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["before"]["instructions"] == 16
    assert document["after"]["instructions"] == 2


def device_profile(path: Path) -> Path:
    rows = [
        {
            "id": number,
            "label": "Vector",
            "opcode": "TENSOR_TENSOR",
            "timestamp": 2000 * number,
            "duration": 100 + 2 * size,
            "operands": f"src0=fp32@0x100[1,0,0][{size},1,1] src1=fp32@0x200[1,0,0][{size},1,1] "
            f"dst=fp32@0x300[1,0,0][{size},1,1]",
        }
        for number, size in enumerate((64, 128, 256, 512) * 2)
    ]
    path.write_text(json.dumps({"instruction": rows, "summary": [{"total_time": 1e-5}]}))
    return path


def test_laws_are_fitted_and_used(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    profile, laws = device_profile(tmp_path / "real.json"), tmp_path / "mine.toml"
    assert main(["kernel", "calibrate", str(profile), "--out", str(laws), "--json"]) == 0
    (law,) = json.loads(capsys.readouterr().out)["laws"]
    assert (law["op"], law["engine"], law["samples"]) == ("tensor_tensor", "vector", 8)
    assert law["latency_ns"] == pytest.approx([100, 2])
    assert law["error"] < 0.001 < law["error_before"]
    assert main(["kernel", "calibrate", str(profile)]) == 0
    assert "tensor_tensor" in capsys.readouterr().out
    arguments = ["--arg", "x=float32[128,64]", "--no-advice", "--laws", str(laws)]
    assert main(["kernel", "profile", f"{file}:copied", *arguments]) == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["profile", "{file}:nothing"], "Its kernels: copied"),
        (["profile", "{file}:copied", "--arg", "x=float32[128,64]", "--laws", "{tmp}/none"], "There is no file"),
        (["profile", "{file}:copied", "--arg", "x=float32[128,64]", "--out", "{file}"], "cannot be made"),
        (["profile", "{file}:copied", "--target", "trn9"], "Known: inf2, trn1, trn2, trn3"),
        (["diff", "{tmp}/a", "{tmp}/b"], "There is no profile"),
        (["diff", "{file}", "{file}"], "is not a profile that can be read"),
        (["calibrate", "{tmp}/none.json"], "There is no file"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(
    arguments: list[str], told: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    filled = [each.format(file=file, tmp=tmp_path) for each in arguments]
    assert main(["kernel", *filled]) == 1
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_parquet_without_its_library_is_told_before_the_kernel_runs(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["kernel", "profile", f"{file}:nothing", "--parquet"]) == 1
    assert "pip install pyarrow" in capsys.readouterr().err
