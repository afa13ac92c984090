"""The trust rooms of a deployment killed at every single point that they pass."""

from __future__ import annotations

from trust_kills import Rig, rig, workloads

__all__ = ["rig"]  # a fixture

POINTS_MIN = 200
UNREACHED_MAX = 10


def test_a_kill_at_every_point_leaves_all_whole(rig: Rig) -> None:
    places = [
        (workload, origin, number)
        for workload, origin in workloads()
        for number in range(1, len(rig.points(workload, origin)) + 1)
    ]
    killed = [rig.kill_and_look(workload, origin, str(number)) for workload, origin, number in places]
    assert sum(killed) >= max(POINTS_MIN, len(places) - UNREACHED_MAX)
