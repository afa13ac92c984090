"""A tuning run that is killed at odd moments ends with the very files of a run that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("tuning_child.py")
STEPS, EVALUATIONS = 60, 16


def start(run: Path, kind: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(CHILD), str(run), kind], env=os.environ | {"OMP_NUM_THREADS": "1"})


def lines(run: Path) -> list[str]:
    path = run / "metrics.jsonl"
    return path.read_text().splitlines() if path.is_file() else []


def kill_at(child: subprocess.Popen[bytes], run: Path, line: int, delay_s: float) -> None:
    """Kill once the run has written ``line`` lines of metrics, a little later."""
    while child.poll() is None and len(lines(run)) < line:
        time.sleep(0.001)
    time.sleep(delay_s)
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_killed_and_resumed_run_gives_the_same_files(tmp_path: Path, kind: str) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert start(straight, kind).wait() == 0
    rng = random.Random(kind)
    kills = 0
    for line in (1, 5, 17, 40):
        child = start(broken, kind)
        kill_at(child, broken, line, rng.random() * 0.02)
        kills += child.returncode == -signal.SIGKILL
    assert kills >= 3
    assert start(broken, kind).wait() == 0

    made = sorted(path.name for path in (straight / "out").iterdir())
    assert made == sorted(path.name for path in (broken / "out").iterdir())
    for name in made:
        assert (straight / "out" / name).read_bytes() == (broken / "out" / name).read_bytes()
    told = []
    for run in (straight, broken):
        events = [json.loads(line) for line in lines(run)]
        told.append([(e["event"], e["step"], e.get("training_loss"), e.get("validation_loss")) for e in events])
    assert told[0] == told[1]
    assert [event for event, *_ in told[1]].count("train") == STEPS
    assert [event for event, *_ in told[1]].count("evaluate") == EVALUATIONS
    assert not list(broken.rglob(".unfinished-*"))
