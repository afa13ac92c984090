"""Family: forged, altered, stale and misplaced proofs of sender, sent over the wire; and a captured request again.

The cases are those of ``signatures``. Success is an answer of the 200 family, or a failure of the service. Without
tenants the keys are made up, so the twin that must be accepted is missing and is said to be.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, refused, succeeded, unproven
from outcrop.assurance.attack.calls import Caller, models, session_keys
from outcrop.assurance.attack.client import Client
from outcrop.assurance.attack.signatures import Keys, Target, forgeries, sign
from outcrop.trust.crypto import random_access_key_id, random_secret_key
from outcrop.trust.identity import SignedRequest

BODY = b'{"input": {"converse": {"messages": [{"role": "user", "content": [{"text": "a"}]}]}}}'


def run(scene: Scene) -> Iterator[Found]:
    """Every forgery for long-term keys and, where a session can be had, for temporary ones."""
    if scene.victims is None:
        made_up = Keys(random_access_key_id(), random_secret_key())
        target = Target(scene.client.host, "/model/any/count-tokens", scene.region, "bedrock", BODY)
        yield from forge(scene.client, target, made_up)
        yield not_applicable("replays", "no tenants: there are no keys whose use could be captured")
        return
    admin = scene.victims.a.people["admin"]
    caller = Caller(scene.client, scene.region, admin)
    known = models(caller)
    if not known:
        yield unproven("forgeries", "the tenant is told of no model to ask for")
        return
    path = f"/model/{known[0].replace(':', '%3A')}/count-tokens"
    target = Target(scene.client.host, path, scene.region, "bedrock", BODY)
    holders = {"long-term keys": admin}
    session = session_keys(caller.call("sts:GetSessionToken"))
    if session is None:
        yield not_applicable("forgeries from a session's keys", "GetSessionToken gives none here")
    else:
        holders["a session's keys"] = session
    for name, keys in holders.items():
        for form, expires in (("header", None), ("query", "300")):
            twin = scene.client.send(sign(target, keys, datetime.now(UTC), expires=expires))
            if not twin.ok:
                yield unproven(f"{name}, {form}: the request that is forged", f"must be accepted: {twin.told()}")
        for found in forge(scene.client, target, keys):
            yield Found(f"{name}, {found.case}", found.outcome, found.evidence)
    yield from replays(scene, caller)


def forge(client: Client, target: Target, keys: Keys) -> Iterator[Found]:
    """Each variant, made when it is sent: some are stale by a second only."""
    names = [each.name for each in forgeries(target, keys, datetime.now(UTC), bearer=True)]
    for at, name in enumerate(names):
        answer = client.send(next(islice(forgeries(target, keys, datetime.now(UTC), bearer=True), at, None)).request)
        yield judge(name, answer.ok or answer.broke, answer.told())


def replays(scene: Scene, caller: Caller) -> Iterator[Found]:
    """A captured request: at another operation, with another body, and where the deployment promises it, again."""
    captured = caller.request("kms:CreateKey", {"Description": "attack"})
    first = caller.send(captured)
    if not first.ok:
        yield unproven("a captured CreateKey", f"must be accepted once: {first.told()}")
        return
    if scene.replay_cache:
        again = caller.send(captured)
        yield judge("a captured CreateKey sent again", again.ok or again.broke, again.told())
    else:
        yield not_applicable("a captured CreateKey sent again", "only the profile strict promises a replay cache")
    for target in ("TrentService.ScheduleKeyDeletion", "TrentService.GenerateRandom"):
        headers = [(n, target.encode() if n == b"x-amz-target" else v) for n, v in captured.headers]
        moved = SignedRequest("POST", b"/", b"", headers, captured.body)
        answer = caller.send(moved)
        yield (succeeded if answer.ok or answer.broke else refused)(f"a captured CreateKey as {target}", answer.told())
