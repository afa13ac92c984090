"""``kill -9`` in the middle of starting, changing and upgrading a whole deployment's trust: a sample of the points.

Every kind of point is met once, in the middle of its passings; ``tests/slow/test_slow_trust_kills.py`` meets each
passing. Not covered: power loss below the file system (a kill leaves the page cache intact), PostgreSQL, and key stores
other than the passphrase file.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from trust_kills import Rig, check_change, rig

__all__ = ["rig"]  # a fixture

KINDS_MIN = 50
OLDEST = "0001"


def test_a_kill_at_any_kind_of_point_leaves_all_whole(rig: Rig) -> None:
    met: set[str] = set()
    for workload, origin in (("change", "prepared"), ("start", "empty")):
        passed = Counter(rig.points(workload, origin))
        for name in sorted(set(passed) - met):
            assert rig.kill_and_look(workload, origin, f"{name}:{(passed[name] + 1) // 2}")
        met |= set(passed)
    assert len(met) >= KINDS_MIN


def test_a_kill_in_an_upgrade_leaves_one_revision_or_the_other(rig: Rig) -> None:
    for number in range(1, len(rig.points("upgrade", OLDEST)) + 1):
        assert rig.kill_and_look("upgrade", OLDEST, str(number))


def test_what_the_look_would_find(rig: Rig, tmp_path: Path) -> None:
    """The twin: a change that was acknowledged and is gone is noticed."""
    assert rig.run("change", "prepared", tmp_path / "changed", "kill:kms.policy.committed") == -9
    lines = (tmp_path / "changed" / "journal").read_text()
    for number, lost in enumerate(
        (
            '{"step": "key", "id": "AKIAAAAAAAAAAAAAAAAA", "secret": "x"}\n',
            '{"step": "event", "name": "NeverWritten"}\n',
            '{"step": "user deleted"}\n',
        )
    ):
        copy = shutil.copytree(tmp_path / "changed", tmp_path / str(number))
        (copy / "journal").write_text(lines + lost)
        with pytest.raises(AssertionError):
            check_change(copy)
    check_change(tmp_path / "changed")
