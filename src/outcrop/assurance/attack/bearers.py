"""Family: API keys where they must not count, or count no more.

Short-term keys are made here from the tenants' own access keys, as Amazon's public generator does. Success is an answer
of the 200 family, or a failure of the service. The twin is the same key at an operation that takes API keys.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, unproven
from outcrop.assurance.attack.calls import FORM, TARGETS, Caller, session_keys
from outcrop.assurance.attack.client import Answer, Client
from outcrop.assurance.attack.signatures import KEY_HOST, KEY_PREFIX, Keys, Target, sign
from outcrop.trust.identity import SignedRequest

LIST = "/foundation-models"


def api_key(keys: Keys, region: str, expires: str = "3600", service: str = "bedrock") -> str:
    """A short-term API key made from access keys."""
    target = Target(KEY_HOST, "/", region, service, b"")
    query = [("Action", "CallWithBearerToken")]
    made = sign(target, keys, datetime.now(UTC), expires=expires, query=query, leave_out=["content-type"])
    return KEY_PREFIX + base64.b64encode(f"{KEY_HOST}/?{made.raw_query.decode()}&Version=1".encode()).decode()


def bearing(
    client: Client, key: str, method: str, path: str, *, body: bytes = b"", more: Sequence[tuple[str, str]] = ()
) -> Answer:
    """Ask with an API key."""
    headers = [("host", client.host), ("content-type", "application/json"), ("authorization", f"Bearer {key}")]
    given = dict(headers) | dict(more)
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    return client.send(SignedRequest(method, path.encode(), b"", raw, body))


def run(scene: Scene) -> Iterator[Found]:
    """Wrong operations, other regions, keys of the wrong people, and keys that outlive what they were made from."""
    client, victims = scene.client, scene.victims
    if victims is None:
        yield not_applicable("API keys", "no tenants to make them from; made-up ones are among the signatures")
        return
    people = victims.a.people
    admin = people["admin"]
    key = api_key(admin, scene.region)
    twin = bearing(client, key, "GET", LIST)
    if not twin.ok:
        yield unproven("an API key where it may be used", f"must be answered: {twin.told()}")
    target = [("x-amz-target", f"{TARGETS['kms']}.ListKeys"), ("content-type", "application/x-amz-json-1.1")]
    trail = [("x-amz-target", f"{TARGETS['cloudtrail']}.LookupEvents"), ("content-type", "application/x-amz-json-1.1")]
    for name, body, more in (
        ("kms:ListKeys", b"{}", target),
        ("cloudtrail:LookupEvents", b"{}", trail),
        ("sts:GetSessionToken", b"Action=GetSessionToken&Version=2011-06-15", [("content-type", FORM)]),
        ("sts:GetCallerIdentity", b"Action=GetCallerIdentity&Version=2011-06-15", [("content-type", FORM)]),
        ("iam:ListUsers", b"Action=ListUsers&Version=2010-05-08", [("content-type", FORM)]),
        ("iam:CreateAccessKey", b"Action=CreateAccessKey&Version=2010-05-08", [("content-type", FORM)]),
    ):
        answer = bearing(client, key, "POST", "/", body=body, more=more)
        yield judge(f"an API key at {name}", answer.ok or answer.broke, answer.told())
    region = "eu-west-3" if scene.region != "eu-west-3" else "us-east-1"
    for name, wrong in (
        ("of another region", api_key(admin, region)),
        ("of another service", api_key(admin, scene.region, service="s3")),
        ("that lives too long", api_key(admin, scene.region, expires="43201")),
        ("of nobody's right", api_key(people["nobody"], scene.region) if "nobody" in people else ""),
        ("of who may make none", api_key(people["no-bearer"], scene.region) if "no-bearer" in people else ""),
        ("in lower case", key.lower()),
        ("twice", f"{key},{key}"),
    ):
        if wrong:
            answer = bearing(client, wrong, "GET", LIST)
            yield judge(f"an API key {name}", answer.ok or answer.broke, answer.told())
    in_query = client.send(
        SignedRequest("GET", LIST.encode(), f"api_key={key}".encode(), [(b"host", client.host.encode())], b"")
    )
    yield judge("an API key in the query", in_query.ok or in_query.broke, in_query.told())
    yield from _outliving(scene)


def _outliving(scene: Scene) -> Iterator[Found]:
    """A key dies with the session or the access key that it was made from."""
    victims = scene.victims
    assert victims is not None
    if victims.revoke is None or victims.silence is None:
        yield not_applicable("API keys that outlive their makers", "needs --data, to end sessions and keys")
        return
    a = victims.a
    admin = Caller(scene.client, scene.region, a.people["admin"])
    asked = {"RoleArn": a.resources["role:bearing"], "RoleSessionName": "attack"}
    session = session_keys(admin.call("sts:AssumeRole", asked))
    if session is None:
        yield not_applicable("an API key of a session that was revoked", "AssumeRole gives no session here")
    else:
        key = api_key(session, scene.region, expires="43200")
        answer = bearing(scene.client, key, "GET", LIST)
        if not answer.ok:
            yield unproven("an API key made from a session", f"must be answered: {answer.told()}")
        bare = api_key(Keys(session.access_key_id, session.secret), scene.region)
        answer = bearing(scene.client, bare, "GET", LIST)
        yield judge("an API key of a session, without its token", answer.ok or answer.broke, answer.told())
        victims.revoke(a.account, "bearing")
        answer = bearing(scene.client, key, "GET", LIST)
        yield judge("an API key of a session that was revoked", answer.ok or answer.broke, answer.told())
    doomed = a.people.get("agent-only")
    if doomed is not None:
        victims.silence(doomed.access_key_id)
        answer = Caller(scene.client, scene.region, doomed).call("sts:GetCallerIdentity")
        yield judge("an access key that was disabled", answer.ok or answer.broke, answer.told())
        answer = bearing(scene.client, api_key(doomed, scene.region), "GET", LIST)
        yield judge("an API key of an access key that was disabled", answer.ok or answer.broke, answer.told())
