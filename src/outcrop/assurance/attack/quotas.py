"""Families whose attack surface this release does not have: they say so, and why, in place of a pass.

Tokens of idempotency that two tenants both use, and quotas that parallel or abandoned requests get past.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable
from outcrop.assurance.attack.calls import Caller, conversation, models
from outcrop.assurance.attack.client import as_bytes
from outcrop.assurance.attack.paths import encoded

PARALLEL = 24
THROTTLED = 429


def run_idempotency(scene: Scene) -> Iterator[Found]:
    """No operation that is built takes a client's token: jobs will."""
    yield not_applicable("two tenants with one token", "no operation that is built takes a client's idempotency token")


def run_quotas(scene: Scene) -> Iterator[Found]:
    """Many requests at once, half of them abandoned: where there are quotas they must hold, and nothing may break."""
    if scene.victims is None:
        yield not_applicable("quotas", "no tenants: nobody's quota to evade")
        return
    admin = Caller(scene.client, scene.region, scene.victims.a.people["admin"])
    other = Caller(scene.client, scene.region, scene.victims.b.people["admin"])
    known = models(admin)
    if not known:
        yield not_applicable("quotas", "the tenant is told of no model")
        return
    path = f"/model/{encoded(known[0])}/converse"

    def ask(number: int) -> int:
        if number % 2:
            return admin.rest("POST", path, conversation("a", 4)).status
        with scene.client.connect() as sock:
            body = b'{"messages": [{"role": "user", "content": [{"text": "a"}]}]}'
            sock.sendall(as_bytes(admin.signed("POST", path, body)))
        return 0

    with ThreadPoolExecutor(PARALLEL) as pool:
        statuses = list(pool.map(ask, range(PARALLEL)))
    broke = [status for status in statuses if status >= 500 and status != 503]
    yield judge(
        "many at once, half of them abandoned", bool(broke) or not scene.client.alive(), f"{sorted(set(statuses))}"
    )
    beside = other.rest("POST", path, conversation("a"))
    yield judge("another tenant's request behind them", not beside.ok, beside.told())
    if THROTTLED not in statuses:
        yield not_applicable("quotas that are evaded", f"{PARALLEL} requests met no quota: the deployment sets none")
