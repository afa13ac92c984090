"""Tuning: ranks, refusals, files that are kept and resumed, processes that die, and kernels of users."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outcrop.base.errors import NotFound, UserError
from outcrop.cli.main import main
from outcrop.silicon import kernels
from outcrop.silicon.kernels.trial import Task, argument, opened
from outcrop.silicon.kernels.tune import report, tune
from outcrop.silicon.kernels.workers import Processes

SMALL = {"T": 256, "N": 512}
SOFTMAX = Task("softmax", sizes=SMALL)

PLAIN = """
from dataclasses import dataclass, field
import os
import nki
import nki.isa as nisa
import nki.language as nl

@dataclass(frozen=True)
class Choices:
    pieces: int = field(default=8, metadata={"legal": (8, 1, 2, 4)})
    engine: str = field(default="vector", metadata={"legal": ("vector", "gpsimd")})
    fixed: int = 3

@nki.jit
def scale(x, factor=2.0, tuning=Choices()):
    print("printed by every variant")
    assert tuning.fixed == 3
    if tuning.pieces == 2:
        BROKEN
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    width = x.shape[1] // tuning.pieces
    rows = 129 if tuning.pieces == 4 else 128
    for at in range(tuning.pieces):
        here = slice(at * width, (at + 1) * width)
        tile = nl.ndarray((rows, width), x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(tile, x[0:rows, here])
        nisa.tensor_tensor(tile, tile, tile, nl.add, engine=getattr(nisa.engine, tuning.engine))
        nisa.dma_copy(out[0:rows, here], tile)
    return out
"""

CASE = """
import numpy as np
import nki, nki.isa as nisa, nki.language as nl
from dataclasses import dataclass
from outcrop.silicon.kernels import KernelCase, Tuning, choice
from outcrop.silicon.kernels.base import Tolerance, Work

@dataclass(frozen=True)
class Pieces(Tuning):
    pieces: int = choice(4, 1, 2)

@nki.jit
def copied(x, tuning=Pieces()):
    out = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    width = x.shape[1] // tuning.pieces
    for at in range(tuning.pieces):
        tile = nl.ndarray((128, width), x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(tile, x[:, at * width : (at + 1) * width])
        nisa.dma_copy(out[:, at * width : (at + 1) * width], tile)
    if WRONG and tuning.pieces == 1:
        nisa.memset(tile, 0.0)
        nisa.dma_copy(out, tile)
    return out

CASES = (KernelCase(
    name="copied", summary="", kernel=copied,
    inputs=lambda sizes, dtype, values: (values.normal((128, sizes["N"]), dtype),),
    reference=lambda x: np.asarray(x, np.float64),
    work=lambda sizes, dtype: Work(0.0, 512.0 * sizes["N"]),
    tuning=Pieces, small={"N": 64}, large={"N": 4096}, tolerance={"bf16": Tolerance(0.0, 0.0)},
),)
"""


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.py"
    path.write_text(PLAIN.replace("BROKEN", "raise RuntimeError('not now')"))
    return path


def test_variants_are_ranked_against_the_picked_one():
    seen = []
    made = tune(SOFTMAX, trials=8, seed=1, progress=lambda *each: seen.append(each))
    times = [each.expected_us for each in made.ranked]
    assert times == sorted(times)
    assert len(times) == 8
    assert made.default.variant == (0.0, 0, 0)
    assert made.gain(made.default) == 0.0
    assert made.gain(made.best) > 0.0
    assert 0.0 < made.share(made.default) < made.share(made.best) < 1.0
    assert "agree" in made.checked
    assert [each[0] for each in seen][-1] == 8
    assert seen[-1][2] == made.best.expected_us
    case = kernels.find("softmax")
    assert made.floor_us == case.floor_us({"T": 256, "N": 512}, "bf16", opened_target())


def opened_target():
    with opened(SOFTMAX) as here:
        return here.target


def test_the_same_seed_gives_the_same_and_processes_change_nothing():
    alone = tune(SOFTMAX, trials=7, seed=2)
    assert alone == tune(SOFTMAX, trials=7, seed=2)
    assert alone == tune(SOFTMAX, trials=7, seed=2, jobs=2)


def test_of_equal_times_the_picked_choices_win(tmp_path: Path):
    path = tmp_path / "same.py"
    path.write_text(PLAIN.replace("BROKEN", "pass").replace("tuning.pieces", "1").replace("[0:rows", "[0:128"))
    made = tune(Task(f"{path}:scale", arguments={"x": "bfloat16[128,64]"}))
    assert made.best.variant == (8, "vector")


def test_what_is_refused_is_counted_and_left_out(plain: Path):
    made = tune(Task(f"{plain}:scale", arguments={"x": "bfloat16[256,1024]", "factor": "3.0"}))
    assert {each.variant for each in made.ranked} == {(n, e) for n in (8, 1) for e in ("vector", "gpsimd")}
    assert {each.refused for each in made.refused if each.tuning["pieces"] == 2} == {"RuntimeError"}
    assert {each.refused for each in made.refused if each.tuning["pieces"] == 4} == {"partition-count"}
    assert made.best.tuning["pieces"] == 1
    assert made.share(made.best) is None
    told = "\n".join(report(made))
    assert "8 of 8 variants tried, 4 do not run" in told
    assert "2 by RuntimeError" in told
    assert "picked by hand" in told


def test_nothing_that_runs_is_an_error_with_its_reason():
    with pytest.raises(UserError, match=r"None of 2 variants .*double_row"):
        tune(Task("matmul_double_row", "trn1", {"M": 128, "K": 256, "N": 512}), trials=2)


def test_the_winner_comes_back_from_its_file(tmp_path: Path):
    case = kernels.find("softmax")
    made = tune(SOFTMAX, trials=6)
    made.write(tmp_path / "deep" / "best.json")
    tuning = case.tuned(tmp_path / "deep" / "best.json")
    assert tuning == case.tuning(**made.best.tuning) != case.tuning()
    with pytest.raises(UserError, match="for the kernel softmax, not for rope"):
        kernels.find("rope").tuned(tmp_path / "deep" / "best.json")
    with pytest.raises(UserError, match="no file"):
        case.tuned(tmp_path / "none.json")
    for text in ("[]", "{", '{"kernel": "softmax"}', '{"kernel": "softmax", "tuning": 3}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match="is not what"):
            case.tuned(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text('{"kernel": "softmax", "tuning": {"rows": 3}}')
    with pytest.raises(UserError, match="no choice rows"):
        case.tuned(tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text('{"kernel": "softmax", "tuning": {"halvings": 30}}')
    with pytest.raises(UserError, match="halvings=30"):
        case.tuned(tmp_path / "bad.json")


# -- kept results -----------------------------------------------------------------------------------------------------


def test_kept_trials_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = tmp_path / "deep" / "softmax.jsonl"
    first = tune(SOFTMAX, trials=6, results=kept)
    lines = kept.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7
    made = []
    monkeypatch.setattr(
        "outcrop.silicon.kernels.workers.Here.trials", lambda self, wanted, end: made.append(wanted) or ()
    )
    assert tune(SOFTMAX, trials=6, results=kept) == first
    assert not any(made)
    monkeypatch.undo()
    kept.write_bytes(b"".join(lines[:4]) + lines[4][:17])  # as a killed process leaves it
    assert tune(SOFTMAX, trials=6, results=kept) == first
    assert kept.read_bytes() == b"".join(lines)


def test_results_of_another_search_are_refused(tmp_path: Path):
    kept = tmp_path / "softmax.jsonl"
    tune(SOFTMAX, trials=1, results=kept)
    with pytest.raises(UserError, match="another search: target, sizes differ"):
        tune(Task("softmax", "trn3", {"T": 128, "N": 512}), trials=1, results=kept)
    kept.write_text('{"no": "heading"}\n')
    with pytest.raises(UserError, match="another search"):
        tune(SOFTMAX, trials=1, results=kept)
    kept.write_text("no json\n")
    with pytest.raises(UserError, match="not a file of results"):
        tune(SOFTMAX, trials=1, results=kept)


def test_a_killed_search_goes_on(tmp_path: Path):
    kept = tmp_path / "rope.jsonl"
    sizes = {"T": 512, "H": 8, "d": 64}
    command = [
        sys.executable,
        "-c",
        "import sys; from outcrop.cli.main import main; main()",
        "kernel",
        "tune",
        "rope",
        "--jobs",
        "1",
        "--trials",
        "12",
        "--results",
        str(kept),
    ]
    command += ["--shape", *(f"{name}={size}" for name, size in sizes.items())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (not kept.exists() or kept.read_bytes().count(b"\n") < 4):
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    done = kept.read_bytes()[: kept.read_bytes().rfind(b"\n") + 1]
    assert done.count(b"\n") >= 4
    made = tune(Task("rope", sizes=sizes), trials=12, results=kept)
    assert kept.read_bytes().startswith(done)
    assert kept.read_bytes().count(b"\n") == 13 == len(made.ranked) + 1
    assert made == tune(Task("rope", sizes=sizes), trials=12)


def test_a_limit_of_time_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(100))
    monkeypatch.setattr("outcrop.silicon.kernels.tune.time.monotonic", lambda: next(clock))
    made = tune(SOFTMAX, limit_s=4.0)
    assert made.is_cut
    assert 0 < len(made.ranked) < made.variants
    assert made.default == made.ranked[-1] or made.default in made.ranked
    assert "time was up" in "\n".join(report(made))


# -- processes --------------------------------------------------------------------------------------------------------


def test_a_process_that_dies_costs_its_variant_only(tmp_path: Path):
    path = tmp_path / "dying.py"
    path.write_text(PLAIN.replace("BROKEN", "os._exit(9)"))
    task = Task(f"{path}:scale", arguments={"x": "bfloat16[256,1024]"})
    with opened(task) as here, Processes(task, list(here.choices), 1) as workers:
        trials = list(workers.trials([(1, "vector"), (2, "vector"), (8, "vector")], float("inf")))
    assert [each.refused for each in trials] == ["", "died", ""]
    assert "ended with 9" in trials[1].why


def test_processes_are_ended_at_the_limit(tmp_path: Path):
    path = tmp_path / "endless.py"
    path.write_text(PLAIN.replace("BROKEN", "import time; time.sleep(100)"))
    task = Task(f"{path}:scale", arguments={"x": "bfloat16[256,1024]"})
    started = time.monotonic()
    with opened(task) as here, Processes(task, list(here.choices), 1) as workers:
        assert list(workers.trials([(2, "vector")], started + 1.0)) == []
    assert time.monotonic() - started < 10.0
    assert multiprocessing.active_children() == []


# -- kernels of users -------------------------------------------------------------------------------------------------


def test_a_case_in_a_file_has_floor_and_check(tmp_path: Path):
    path = tmp_path / "case.py"
    path.write_text(CASE.replace("WRONG", "False"))
    made = tune(Task(str(path), sizes={"N": 2048}))
    assert made.kernel == "copied"
    assert made.variants == 3
    assert 0.0 < made.share(made.best) < 1.0
    assert made.checked == "values agree with the reference at N=64"


def test_a_winner_with_other_values_does_not_win(tmp_path: Path):
    path = tmp_path / "case.py"
    path.write_text(CASE.replace("WRONG", "True").replace("choice(4, 1, 2)", "choice(1, 2048)"))
    with pytest.raises(UserError, match="computes other values"):
        tune(Task(str(path)), trials=2)


def test_what_cannot_be_tuned_is_told(tmp_path: Path, plain: Path):
    with pytest.raises(NotFound, match="softmax"):
        tune(Task("nothing"))
    with pytest.raises(UserError, match="no file"):
        tune(Task("none.py:scale"))
    with pytest.raises(NotFound, match="no kernel 'other'"):
        tune(Task(f"{plain}:other"))
    with pytest.raises(UserError, match="missing a required argument: 'x'"):
        tune(Task(f"{plain}:scale"))
    with pytest.raises(UserError, match="no size Q"):
        tune(Task("softmax", sizes={"Q": 1}))
    with pytest.raises(UserError, match="does not take int4"):
        tune(Task("softmax", dtype="int4"))
    plain.write_text(PLAIN.replace('metadata={"legal"', 'metadata={"other"').replace("BROKEN", "pass"))
    with pytest.raises(UserError, match="declares no choices"):
        tune(Task(f"{plain}:scale", arguments={"x": "bfloat16[256,1024]"}))


def test_a_dataclass_named_tuning_comes_first(plain: Path):
    plain.write_text(plain.read_text().replace("tuning=Choices()", "tuning=None") + "\nTUNING = Choices\n")
    made = tune(Task(f"{plain}:scale", arguments={"x": "bfloat16[256,1024]"}))
    assert made.default.variant == (8, "vector")


def test_arguments_are_texts():
    made = argument("bfloat16[128, 4]")
    assert made.shape == (128, 4)
    assert not made.any()
    assert argument("2.5") == 2.5
    assert argument("(1, 2)") == (1, 2)
    assert argument("row") == "row"


def test_the_tutorials_kernel_is_tuned_as_it_says(tmp_path: Path):
    page = (Path(__file__).parents[4] / "docs" / "tutorials" / "tune-a-kernel.md").read_text()
    path = tmp_path / "scale.py"
    path.write_text(page.split("```python\n")[1].split("```")[0])
    made = tune(Task(f"{path}:scale", arguments={"x": "bfloat16[2048,4096]", "weight": "bfloat16[4096]"}))
    assert made.best.variant == (2048, "gpsimd")
    assert [line for line in report(made) if "us " in line or "=" in line][1] in page.splitlines()


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_tells_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "best.json"
    command = ["kernel", "tune", "softmax", "--shape", "T=256", "N=512", "--jobs", "1", "--trials", "5"]
    assert main([*command, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "softmax on trn2, T=256, N=512, bf16" in told.out
    assert "5 of 30 variants tried" in told.out
    assert told.err == ""  # no bar where there is no terminal
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["tuning"] == json.loads(out.read_text())["tuning"] == document["ranked"][0]["tuning"]
    assert document["ranked"][0]["gain"] > 0
    assert kernels.find("softmax").tuned(out) is not None


def test_the_bar_moves_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert main(["kernel", "tune", "softmax", "--shape", "T=128", "N=64", "--jobs", "1", "--trials", "2"]) == 0
    assert "1 of 2, best" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--shape", "T"], "--shape T is not NAME=VALUE"),
        (["--shape", "T=-1"], "is no size"),
        (["--arg", "x"], "--arg x is not NAME=VALUE"),
        (["--limit", "0"], "leaves no time"),
        (["--arg", "x=3"], "makes its own arguments"),
    ],
)
def test_the_command_says_what_is_wrong(given: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(["kernel", "tune", "softmax", *given]) == 1
    assert told in capsys.readouterr().err
