"""A trail killed anywhere: reopened it verifies, has everything that was acknowledged, and its digests are whole."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from audit_kills import kill_and_look, points_passed, run
from audit_rig import trail
from outcrop.base.errors import AuditBroken
from outcrop.trust.audit.segments import segments


def test_a_kill_at_any_kind_of_point_loses_nothing_acknowledged(tmp_path: Path) -> None:
    seen = Counter(points_passed(tmp_path))
    assert len(seen) >= 11
    for name, count in sorted(seen.items()):
        for nth in sorted({1, (count + 1) // 2, count}):
            kill_and_look(tmp_path / f"{name}-{nth}", f"{name}:{nth}")


def test_a_log_cut_back_after_the_kill_is_no_crash(tmp_path: Path) -> None:
    """The twin: what a crash cannot have done is refused when the trail opens, not repaired."""
    code, acknowledged = run(tmp_path / "audit", "kill:audit.digest.written:2")
    assert code == -signal.SIGKILL
    assert acknowledged
    last = [path for path in segments(tmp_path / "audit" / "log") if path.stat().st_size][-1]
    lines = last.read_bytes().splitlines(keepends=True)
    last.write_bytes(b"".join(lines[:-2]))
    with pytest.raises(AuditBroken):
        trail(tmp_path / "audit")
