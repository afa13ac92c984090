"""Families: quotas that parallel, abandoned or differently worded requests get past, and tokens of idempotency.

With a limit on the throw-away tenant (requests a minute), success is more answers of the 200 family than it allows,
whatever the surface, the name of the model or the holder of the keys; or another tenant that is held up by it. Tokens
of idempotency: no operation that is built takes one, which is said in place of a pass. Not covered: limits on tokens.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable
from outcrop.assurance.attack.bearers import api_key, bearing
from outcrop.assurance.attack.calls import Caller, Json, conversation, models, session_keys
from outcrop.assurance.attack.client import as_bytes
from outcrop.assurance.attack.paths import encoded

PARALLEL = 24
THROTTLED = 429
LIMIT = 5


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
    told = f"statuses {sorted(set(statuses))}"
    yield judge("many at once, half of them abandoned", bool(broke) or not scene.client.alive(), told)
    beside = other.rest("POST", path, conversation("a"))
    yield judge("another tenant's request behind them", not beside.ok, beside.told())
    if scene.limit is None:
        yield not_applicable("a quota that is evaded", "needs --data, to set one for the throw-away tenant")
        return
    scene.limit(scene.victims.a.account, LIMIT)
    try:
        yield from _limited(scene, known[0], ask)
    finally:
        scene.limit(scene.victims.a.account, 0)


def _limited(scene: Scene, model: str, ask: Callable[[int], int]) -> Iterator[Found]:
    """Under a limit: in parallel, abandoned, by every surface, name, person and API key of the account."""
    assert scene.victims is not None
    a = scene.victims.a
    admin = Caller(scene.client, scene.region, a.people["admin"])
    started_s = time.monotonic()
    with ThreadPoolExecutor(PARALLEL) as pool:
        statuses = list(pool.map(ask, range(2 * PARALLEL)))
    arn = encoded(f"arn:aws:bedrock:{scene.region}::foundation-model/{model}")
    messages: dict[str, Json] = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}
    body = conversation("a")
    answers = [
        admin.rest("POST", f"/model/{arn}/converse", body),
        admin.rest("POST", f"/model/{encoded(model)}/converse-stream", body),
        admin.rest("POST", f"/model/{encoded(model)}/invoke", {"anthropic_version": "bedrock-2023-05-31", **messages}),
        admin.rest("POST", "/anthropic/v1/messages", messages),
        admin.rest("POST", "/openai/v1/chat/completions", messages),
        bearing(
            scene.client,
            api_key(a.people["admin"], scene.region),
            "POST",
            f"/model/{encoded(model)}/converse",
            body=json.dumps(body).encode(),
        ),
    ]
    session = session_keys(admin.call("sts:GetSessionToken"))
    if session is not None:
        holder = Caller(scene.client, scene.region, session)
        answers.append(holder.rest("POST", f"/model/{encoded(model)}/converse", body))
    taken = sum(200 <= status < 300 for status in (*statuses, *(answer.status for answer in answers)))
    allowed = LIMIT + math.ceil((time.monotonic() - started_s) * LIMIT / 60)
    told = f"{taken} of {len(statuses) + len(answers)} answered under a limit of {LIMIT} a minute"
    if THROTTLED not in statuses:
        yield judge("a quota that is evaded", True, f"nobody was told to wait: {told}")
    else:
        yield judge("a quota that is evaded", taken > allowed, told)
    beside = Caller(scene.client, scene.region, scene.victims.b.people["admin"]).rest(
        "POST", f"/model/{encoded(model)}/converse", body
    )
    yield judge("another tenant beside one at its limit", not beside.ok, beside.told())
