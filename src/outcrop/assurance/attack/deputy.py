"""Family: roles of another account, taken without what their trust asks for.

Success is credentials, a failure of the service, or an answer that tells a role that is there and does not trust the
caller from one that is not there. The twin is the role that trusts the account with an external id, asked with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, refused, unproven
from outcrop.assurance.attack.calls import FORM, Caller, Json, session_keys
from outcrop.assurance.attack.masking import masked


def run(scene: Scene) -> Iterator[Found]:
    victims = scene.victims
    if victims is None or "role:vendor" not in victims.b.resources:
        yield not_applicable("roles of another account", "no tenants with roles that trust under conditions")
        return
    admin = Caller(scene.client, scene.region, victims.a.people["admin"])
    theirs, own = victims.b.resources, victims.a.resources

    def ask(caller: Caller, role: str, given: Mapping[str, Json] | None = None) -> tuple[bool, str]:
        answer = caller.call("sts:AssumeRole", {"RoleArn": role, "RoleSessionName": "attack", **(given or {})})
        return answer.ok or answer.broke or session_keys(answer) is not None, answer.told()

    secret = victims.external_id
    for role in ("vendor", "vendor-open"):
        arn = theirs[f"role:{role}"]
        good = admin.call("sts:AssumeRole", {"RoleArn": arn, "RoleSessionName": "attack", "ExternalId": secret})
        if good.status == 501:
            yield not_applicable("roles of another account", "AssumeRole is not built here")
            return
        if not good.ok:
            yield unproven(f"{role}: with its external id", f"must be answered: {good.told()}")
        for name, external in (
            ("no external id", None),
            ("another", "guess"),
            ("a wildcard", "**"),
            ("its beginning", secret[:-1]),
            ("itself and more", secret + "a"),
            ("another case", secret.swapcase()),
            ("a variable", "${sts:ExternalId}"),
            ("a space around", f" {secret}"),
        ):
            given = {} if external is None else {"ExternalId": external}
            yield judge(f"{role}: {name}", *ask(admin, arn, given))
        asked = f"Action=AssumeRole&Version=2011-06-15&RoleArn={arn}&RoleSessionName=attack"
        body = f"{asked}&ExternalId=a&ExternalId={secret}"
        twice = admin.send(admin.signed("POST", "/", body.encode(), "sts", FORM))
        yield judge(f"{role}: two external ids", twice.ok or twice.broke, twice.told())
    for role in ("own-organisation", "own-account", "a-service"):
        yield judge(f"{role}: from another account", *ask(admin, theirs[f"role:{role}"]))
    people = victims.a.people
    for name in ("nobody", "asker", "bounded"):
        if name in people:
            caller = Caller(scene.client, scene.region, people[name])
            yield judge(f"one-user: asked by {name}", *ask(caller, theirs["role:one-user"]))
            yield judge(f"admins-only: asked by {name}", *ask(caller, own["role:admins-only"]))
    nobody = Caller(scene.client, scene.region, people["nobody"])
    own_secret = {"ExternalId": secret}
    yield judge("vendor: with its external id, by who may not assume", *ask(nobody, theirs["role:vendor"], own_secret))
    yield from _chain(scene, admin, own["role:wide"], theirs["role:one-user"])
    yield from _existence(admin, theirs["role:own-account"], victims.b.account)


def _chain(scene: Scene, admin: Caller, own: str, theirs: str) -> Iterator[Found]:
    """A session of one's own role is not the user that another account trusts."""
    keys = session_keys(admin.call("sts:AssumeRole", {"RoleArn": own, "RoleSessionName": "admin"}))
    if keys is None:
        yield unproven("one-user: through a role", "a role of one's own must be assumable")
        return
    answer = Caller(scene.client, scene.region, keys).call(
        "sts:AssumeRole", {"RoleArn": theirs, "RoleSessionName": "attack"}
    )
    yield judge("one-user: through a role whose session is named admin", answer.ok or answer.broke, answer.told())


def _existence(admin: Caller, there: str, account: str) -> Iterator[Found]:
    absent = there.replace("own-account", "own-nothing")
    answers = [admin.call("sts:AssumeRole", {"RoleArn": arn, "RoleSessionName": "attack"}) for arn in (there, absent)]
    same = masked(answers[0], there, account) == masked(answers[1], absent, account)
    told = f"{answers[0].told()} and {answers[1].told()}"
    yield (
        refused("a role that is there, and one that is not", told)
        if same
        else judge("a role that is there, and one that is not", True, f"told apart: {told}")
    )
