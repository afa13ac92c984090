"""A training run that is killed goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from outcrop.training.shards import Document, write_shard

CHILD = Path(__file__).with_name("training_child.py")
STEPS = 40

pytestmark = pytest.mark.crash


def start(run: Path, shards: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHILD), str(run), str(shards)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def kill_after_step(child: subprocess.Popen[bytes], run: Path, step: int) -> None:
    metrics = run / "metrics.jsonl"
    while child.poll() is None:
        lines = metrics.read_text().splitlines() if metrics.is_file() else []
        if len(lines) >= step:
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    child.wait()


def steps_logged(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    documents = [Document(draw.integers(0, 64, 12).tolist(), [100] * 12) for _ in range(60)]
    write_shard(tmp_path / "shards" / "a", documents, row_tokens=32)
    return tmp_path / "shards"


def test_killed_twice_and_resumed_run_ends_with_the_same_bits(tmp_path: Path, shards: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert start(straight, shards).wait() == 0

    for kill_at in (10, 30):
        child = start(broken, shards)
        kill_after_step(child, broken, kill_at)
        assert child.returncode == -signal.SIGKILL
    assert start(broken, shards).wait() == 0

    last = f"checkpoints/step-{STEPS:08d}/model.safetensors"
    assert (broken / last).read_bytes() == (straight / last).read_bytes()
    assert steps_logged(broken) == list(range(1, STEPS + 1))
    losses = [[json.loads(line)["loss"] for line in (r / "metrics.jsonl").open()] for r in (straight, broken)]
    assert losses[0] == losses[1]


def test_unfinished_checkpoint_of_a_killed_run_is_ignored_and_removed(tmp_path: Path, shards: Path) -> None:
    run = tmp_path / "run"
    leftover = run / "checkpoints" / ".unfinished-1"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    assert start(run, shards).wait() == 0
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-00000036", f"step-{STEPS:08d}"]
