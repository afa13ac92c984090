"""A trail killed anywhere: reopened it verifies, has everything that was acknowledged, and its digests are whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from audit_rig import ACCOUNT, NOON, event, trail

from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuditBroken
from outcrop.trust.audit.digests import Delivery, Destination
from outcrop.trust.audit.segments import segments, signed_records
from outcrop.trust.audit.verify import verify

CHILD = Path(__file__).with_name("audit_child.py")


def run(directory: Path, fault: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, str(CHILD), str(directory)],
        env={**os.environ, "OUTCROP_FAULT": fault},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, [word for word in done.stdout.split("\n") if word.startswith("S")]


def names(directory: Path) -> list[str]:
    return [line.parsed()["event"]["eventName"] for _, line in signed_records(directory / "log")]


def passes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("count")
    code, said = run(folder / "audit", f"count:{folder / 'points'}")
    assert code == 0
    assert len(said) == 10
    return (folder / "points").read_text().split()


def test_a_kill_at_any_kind_of_point_loses_nothing_acknowledged(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    points = passes(tmp_path_factory)
    seen: Counter[str] = Counter()
    chosen: list[str] = []
    for name in points:
        seen[name] += 1
    for name, count in sorted(seen.items()):
        # The first passing, one in the middle, the last.
        chosen += [f"{name}:{nth}" for nth in sorted({1, (count + 1) // 2, count})]
    assert len(seen) >= 10
    clock = FakeClock(NOON + timedelta(hours=9))
    for number, place in enumerate(chosen):
        directory = tmp_path / str(number)
        code, acknowledged = run(directory, f"kill:{place}")
        assert code == -signal.SIGKILL, place
        with trail(directory, clock, segment_bytes=4000) as log:
            log.append(event("AfterTheCrash", at=clock.now()))
            Delivery(log, Destination(ACCOUNT, "us-east-1"), clock).deliver_digests()
        report = verify(directory)
        assert report.findings == [], place
        found = Counter(names(directory))
        assert all(found[name] == 1 for name in acknowledged), place
        assert all(count == 1 for name, count in found.items() if name.startswith("S") and name[1].isdigit()), place
        assert found["AfterTheCrash"] == 1, place


def test_a_log_cut_back_after_the_kill_is_no_crash(tmp_path: Path) -> None:
    """The twin: what a crash cannot have done is refused when the trail opens, not repaired."""
    code, acknowledged = run(tmp_path / "audit", "kill:audit.digest.written:2")
    assert code == -signal.SIGKILL
    assert acknowledged
    last = segments(tmp_path / "audit" / "log")[-1]
    lines = last.read_bytes().splitlines(keepends=True)
    last.write_bytes(b"".join(lines[:-2]))
    with pytest.raises(AuditBroken):
        trail(tmp_path / "audit")
