"""A trail at work, killed at a point, opened again and looked through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

from audit_rig import ACCOUNT, NOON, event, trail
from outcrop.base.clock import FakeClock
from outcrop.trust.audit.digests import Delivery, Destination
from outcrop.trust.audit.segments import signed_records
from outcrop.trust.audit.verify import verify

CHILD = Path(__file__).parent / "crash" / "audit_child.py"


def run(directory: Path, fault: str) -> tuple[int, list[str]]:
    """Run the child with a fault armed; its exit code and the names of the events it was told are recorded."""
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


def points_passed(folder: Path) -> list[str]:
    """The names of all points that an undisturbed run passes, in order."""
    code, said = run(folder / "audit", f"count:{folder / 'points'}")
    assert code == 0
    assert len(said) == 10
    return (folder / "points").read_text().split()


def kill_and_look(directory: Path, place: str) -> None:
    """Kill a run at ``place``; the reopened trail must hold, with everything acknowledged, each event once."""
    code, acknowledged = run(directory, f"kill:{place}")
    assert code == -signal.SIGKILL, place
    clock = FakeClock(NOON + timedelta(hours=9))
    with trail(directory, clock, segment_bytes=4000) as log:
        log.append(event("AfterTheCrash", at=clock.now()))
        Delivery(log, Destination(ACCOUNT, "us-east-1"), clock).deliver_digests()
    report = verify(directory)
    assert report.findings == [], place
    found = Counter(line.parsed()["event"]["eventName"] for _, line in signed_records(directory / "log"))
    assert all(found[name] == 1 for name in acknowledged), place
    assert all(count == 1 for name, count in found.items() if name[1].isdigit()), place
    assert found["AfterTheCrash"] == 1, place
