"""The trail killed at every single point that it passes."""

from __future__ import annotations

from pathlib import Path

from audit_kills import kill_and_look, points_passed


def test_a_kill_at_every_point_loses_nothing_acknowledged(tmp_path: Path) -> None:
    for number in range(1, len(points_passed(tmp_path)) + 1):
        kill_and_look(tmp_path / str(number), str(number))
