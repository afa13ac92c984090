"""The whole attack on a live service and on private deployments: nothing may succeed, and everything must be judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from attacking import scene_of
from outcrop.assurance.attack import FAMILIES, Outcome, attack, private_deployment
from serving import running_service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_no_attack_succeeds(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service, scene_of(service, child=private_deployment) as scene:
        found = [result for _, results in attack(scene) for result in results]
    assert [each for each in found if not each.passed] == []
    totals = Counter(each.outcome for each in found)
    assert totals[Outcome.REFUSED] > 1000
    assert totals[Outcome.NOT_APPLICABLE] < 60
    assert {each.family for each in found} == {family.name for family in FAMILIES}
