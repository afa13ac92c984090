"""``outcrop kernel run``: scripts and single kernels, their arguments, the report, and what goes wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from outcrop.cli.main import main
from outcrop.silicon.chip import TARGET_VARIABLE

KERNELS = """
import sys
import numpy as np
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def scaled(x, y, factor=1.0, name="none"):
    print("tracing", x.shape, name)
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.multiply(nl.add(nl.load(x), nl.load(y)), factor))
    return out

@nki.jit
def dividing(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.divide(nl.load(x), 4.0))
    return out

@nki.jit
def halves(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    rows = x.shape[0] // nl.num_programs()
    nisa.dma_copy(out[nl.ds(nl.program_id(0) * rows, rows)], x[nl.ds(nl.program_id(0) * rows, rows)])
    return out
"""
SCRIPT = (
    KERNELS
    + """
if __name__ == "__main__":
    import beside
    print(sys.argv[1:], beside.value)
    scaled(np.ones((4, 4), np.float32), np.ones((4, 4), np.float32))
    dividing.func
    sys.exit(0)
"""
)
LEGACY = """
import neuronxcc.nki as nki
import neuronxcc.nki.language as nl

@nki.jit
def doubled(x):
    out = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    nl.store(out, nl.load(x) * 2)
    return out
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(TARGET_VARIABLE, raising=False)
    path = tmp_path / "kernels.py"
    path.write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("value = 7\n")
    return path


def test_a_script_runs_as_it_is(file: Path, capsys: pytest.CaptureFixture[str]):
    argv, path = sys.argv, list(sys.path)
    assert main(["kernel", "run", str(file), "--", "--mode", "fast"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "['--mode', 'fast'] 7"
    assert out[1] == "tracing (4, 4) none"
    assert out[2] == "scaled on trn2: 5 instructions"
    assert out[-1] == "  output [4, 4] float32: from 2 to 2, mean 2"
    assert "  instructions: dma 3, vector 2" in out
    assert (sys.argv, sys.path) == (argv, path)
    assert "nki" not in sys.modules


def test_one_kernel_with_arguments_made_here(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "y.npy", np.full((4, 6), 3, np.float32))
    arguments = ["--arg", "x=float32[4,6]", "--arg", f"y={tmp_path}/y.npy", "--arg", "factor=2", "--arg", "name=mine"]
    documents = []
    for seed in ("1", "1", "2"):
        assert main(["kernel", "run", f"{file}:scaled", *arguments, "--seed", seed, "--target", "trn3"]) == 0
        documents.append(capsys.readouterr().out)
    assert "tracing (4, 6) mine" in documents[0]
    assert "scaled on trn3" in documents[0]
    assert documents[0] == documents[1]
    assert documents[0] != documents[2]


def test_json_is_one_document_and_what_kernels_print_goes_beside_it(file: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--arg", "x=bfloat16[4,6]", "--arg", "y=bfloat16[4,6]"]
    assert main(["kernel", "run", f"{file}:scaled", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert "tracing" in captured.err
    document = json.loads(captured.out)
    assert document["target"] == "trn2"
    (kernel,) = document["kernels"]
    assert (kernel["name"], kernel["cores"], kernel["instructions"]) == ("scaled", 1, 5)
    assert kernel["engines"] == {"dma": 3, "vector": 2}
    assert kernel["outputs"] == [{"shape": [4, 6], "dtype": "bfloat16"}]
    assert kernel["memory"]["sbuf"]["limit_bytes_per_partition"] == 229376
    assert kernel["warnings"] == []


def test_rules_are_relaxed_and_reported(file: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["kernel", "run", f"{file}:dividing", "--arg", "x=float32[4,6]"]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "[divide]" in err
    assert "nl.divide(nl.load(x), 4.0)" in err
    assert "[OC-5100]" in err
    for rule in ("divide", "all"):
        with pytest.warns(UserWarning, match="divide"):
            assert main([*arguments, "--relaxed", rule, "--json"]) == 0
        (warning,) = json.loads(capsys.readouterr().out)["kernels"][0]["warnings"]
        assert (warning["rule"], warning["file"]) == ("divide", str(file))
    assert main([*arguments, "--relaxed", "divine"]) == 1
    assert "no rule 'divine'" in capsys.readouterr().err


def test_two_cores(file: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["kernel", "run", f"{file}:halves", "--arg", "x=int32[4,6]", "--grid", "2", "--json"]) == 0
    (kernel,) = json.loads(capsys.readouterr().out)["kernels"]
    assert (kernel["cores"], kernel["instructions"]) == (2, 2)


def test_a_kernel_of_the_older_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "older.py"
    path.write_text(LEGACY)
    assert main(["kernel", "run", f"{path}:doubled", "--arg", "x=float32[4,6]"]) == 0
    assert "doubled on trn2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{tmp}/none.py"], "There is no file"),
        (["{file}:nothing"], "Its kernels: scaled, dividing, halves"),
        (["{file}:scaled"], "missing a required argument: 'x'"),
        (["{file}:scaled", "--arg", "z=1"], "scaled(x, y, factor=1.0, name='none') was given z"),
        (["{file}:scaled", "--arg", "x"], "is not NAME=VALUE"),
        (["{file}:scaled", "--arg", "x=none.npy"], "There is no file none.npy"),
        (["{file}:scaled", "--arg", "x=float23[3]"], "'float23' is not a data type"),
        (["{file}:scaled", "--target", "trn9"], "Known: inf2, trn1, trn2, trn3"),
        (["{tmp}/beside.py"], "ran no kernel"),
        (["{tmp}/beside.py:value"], "none; put @nki.jit above one"),
    ],
)
def test_what_goes_wrong_is_told_in_one_line(
    arguments: list[str], told: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    filled = [each.format(file=file, tmp=tmp_path) for each in arguments]
    assert main(["kernel", "run", *filled]) == 1
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


def test_a_script_that_fails_fails(tmp_path: Path):
    path = tmp_path / "failing.py"
    path.write_text("import sys\nsys.exit('no')\n")
    with pytest.raises(SystemExit):
        main(["kernel", "run", str(path)])


def test_an_error_of_the_users_python_is_shown_from_the_users_first_line_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "failing.py"
    bad = "\n@nki.jit\ndef bad(x):\n    return x.nope\n\ndef go():\n    bad(np.ones((4, 4)))\n\ngo()\n"
    path.write_text(KERNELS + bad)
    with pytest.raises(SystemExit, match="1"):
        main(["kernel", "run", str(path)])
    told = capsys.readouterr().err
    files = [line.split('"')[1] for line in told.splitlines() if line.startswith('  File "')]
    assert files == [str(path)] * 3  # the call of go, the call of bad, the line in bad
    for text, error in (
        ("1 / 0\n", "ZeroDivisionError"),
        ("def f(:\n", "SyntaxError"),
        ("import no_such\n", "No module"),
    ):
        path.write_text(text)
        with pytest.raises(SystemExit, match="1"):
            main(["kernel", "run", str(path)])
        told = capsys.readouterr().err
        assert error in told
        assert told.count("  File ") == 1


def test_options_of_one_kernel_need_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "kernels.py"
    path.write_text(SCRIPT)
    for options in (["--grid", "2"], ["--arg", "x=3"]):
        assert main(["kernel", "run", str(path), *options]) == 1
        assert f"Name the kernel: {path}:NAME." in capsys.readouterr().err


@pytest.mark.parametrize("text", ["float32[4,4", "float32[4,-4]", "float32[4,4]]", "float32[4;4]"])
def test_an_array_that_is_misspelt_is_not_a_string(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str):
    path = tmp_path / "kernels.py"
    path.write_text(KERNELS)
    assert main(["kernel", "run", f"{path}:dividing", "--arg", f"x={text}"]) == 1
    assert f"{text} is not an array. Write the type and the sizes" in capsys.readouterr().err


def test_without_values_arguments_take_no_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "kernels.py"
    path.write_text(KERNELS)
    size = f"float32[128,{1 << 34}]"  # 8 TiB, which are not there
    options = ["--arg", f"x={size}", "--no-values", "--no-advice"]
    assert main(["kernel", "profile", f"{path}:halves", *options]) == 0
    assert "halves on trn2" in capsys.readouterr().out


HAZARDOUS = (
    KERNELS
    + """
@nki.jit
def lost(x):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray(x.shape, x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(tile, x)
    nisa.dma_copy(tile, x)
    nisa.dma_copy(out, tile)
    return out
"""
)


def test_hazards_are_told_on_request_and_errors_end_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "lost.py"
    file.write_text(HAZARDOUS)
    arguments = ["kernel", "run", f"{file}:lost", "--arg", "x=float32[4,6]"]
    assert main(arguments) == 0
    assert "hazards" not in capsys.readouterr().out
    assert main([*arguments, "--hazards"]) == 0
    told = capsys.readouterr().out
    assert "hazards: 1" in told
    assert "warning [overwritten]" in told
    assert f"{file}:" in told
    assert main([*arguments, "--hazards", "manual", "--json"]) == 1
    (kernel,) = json.loads(capsys.readouterr().out)["kernels"]
    kinds = {each["kind"]: each for each in kernel["hazards"]}
    assert set(kinds) == {"dma-overlap", "overwritten"}
    assert len(kinds["dma-overlap"]["lines"]) == 2
    assert kinds["dma-overlap"]["severity"] == "error"
