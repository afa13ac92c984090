"""What attacks are run on in tests: a live service in this process, with two throw-away tenants in its stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from outcrop.assurance.attack import FAMILIES, Family, Outcome, Result, Scene, throw_away
from outcrop.assurance.attack.base import results
from outcrop.assurance.attack.client import Client
from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.service.admission.base import Quota
from outcrop.service.admission.quotas import ANY, QuotaStore
from outcrop.service.trusted import Trust
from serving import Running


@contextmanager
def scene_of(service: Running, **more: object) -> Iterator[Scene]:
    """An attack from within on ``service``, without a private deployment."""
    deployment = Deployment.load(service.data)
    trust = Trust.open(service.data, deployment, SystemClock())
    try:
        with throw_away(trust.identity, trust.keys, deployment.region, deployment.partition) as victims:
            client = Client(service.http_url)
            store = QuotaStore(trust.database)

            def limit(account: str, rpm: int) -> None:
                if rpm:
                    store.put(account, ANY, Quota(requests_per_minute=rpm))
                else:
                    store.delete(account, ANY)

            given = {"limit": limit, "timing_trials": 10, "slow": False, **more}
            yield Scene(client, deployment.region, victims, service.data, **given)
    finally:
        trust.close()


def family(name: str) -> Family:
    return next(each for each in FAMILIES if each.name == name)


def bad(name: str, scene: Scene) -> list[Result]:
    """Everything in a family that did not hold."""
    return [each for each in results(family(name), scene) if not each.passed]


def first_success(name: str, scene: Scene) -> Result | None:
    """The first case of a family in which the attacker succeeded."""
    return next((each for each in results(family(name), scene) if each.outcome is Outcome.SUCCEEDED), None)
