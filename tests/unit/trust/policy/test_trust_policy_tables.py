"""The decision tables: every row of tables/*.toml, with the page of AWS's documentation that it follows.

A file holds ``[[topic]]`` tables; a topic has a ``source`` (a name of sources.toml) and rows of one or more kinds:

* ``conditions``: name, Condition, context, whether it holds. Asked of an Allow and of a Deny; ``"deny"`` marks what
  cannot be told, where a Deny applies and an Allow does not.
* ``actions`` and ``resources``: name, patterns, one action or resource, whether it is matched (and the context). Asked
  of the element and of its Not form, in an Allow and in a Deny.
* ``principals``: name, Principal, who asks, how far an Allow to it reaches.
* ``exceptions``: name, NotPrincipal, who asks, whether they are excepted (and whether they have a boundary).
* ``decisions``: name, request (``who``, ``action``, ``target``, ``owner``, ``context``) and layers (``layers_of``) in
  short form, the reason's name (and the missing keys).
* ``documents``: name, role, statement or document, what the refusal says; "" for one that is taken.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from trust_policies import (
    ANONYMOUS,
    FEDERATED,
    INVOKE,
    JOB,
    MODEL,
    OTHER,
    OWN,
    PROVIDER,
    ROLE_ARN,
    ROOT,
    SERVICE,
    SESSION,
    SESSION_ARN,
    USER,
    WEB,
)

from outcrop.trust.policy import Layers, PolicyRefused, PolicyRole, Reason, Request, compile_policy, decide

TABLES = Path(__file__).parent / "tables"
SOURCES = tomllib.loads((TABLES / "sources.toml").read_text())
NAMES = {
    "OWN": OWN,
    "OTHER": OTHER,
    "MODEL": MODEL,
    "JOB": JOB,
    "USER": USER.arn,
    "ROLE": ROLE_ARN,
    "SESSION": SESSION_ARN,
    "FEDERATED": FEDERATED.arn,
    "PROVIDER": PROVIDER,
    "ROOT": ROOT.arn,
}
WHO = {
    "user": USER,
    "root": ROOT,
    "session": SESSION,
    "federated": FEDERATED,
    "service": SERVICE,
    "web": WEB,
    "anonymous": ANONYMOUS,
}
ROLES = {role.name.lower(): role for role in PolicyRole}
OF_RESOURCES = (PolicyRole.RESOURCE, PolicyRole.TRUST, PolicyRole.RCP)
KINDS = ("conditions", "actions", "resources", "principals", "exceptions", "decisions", "documents")


def filled(value):
    """``value`` with the names in angle brackets filled in."""
    if isinstance(value, str):
        return re.sub(r"<([A-Z]+)>", lambda match: NAMES[match[1]], value)
    if isinstance(value, list):
        return [filled(entry) for entry in value]
    if isinstance(value, dict):
        return {filled(name): filled(entry) for name, entry in value.items()}
    return value


def statement(short, role):
    """A statement from its short form, or a whole one as it is."""
    if "Effect" in short or not short:
        return short
    told = {}
    for effect in ("allow", "deny"):
        for key, element in ((effect, "Action"), (f"{effect}_except", "NotAction")):
            if key in short:
                told = {"Effect": effect.capitalize(), element: short[key]}
    if "not_on" in short:
        told["NotResource"] = short["not_on"]
    elif role is not PolicyRole.TRUST:
        told["Resource"] = short.get("on", "*")
    if "not_to" in short:
        told["NotPrincipal"] = short["not_to"]
    elif role in OF_RESOURCES:
        told["Principal"] = short.get("to", "*")
    if "when" in short:
        told["Condition"] = short["when"]
    return told


def policy(shorts, role, version="2012-10-17"):
    listed = shorts if isinstance(shorts, list) else [shorts]
    return compile_policy({"Version": version, "Statement": [statement(each, role) for each in listed]}, role, "p")


def layers_of(short):
    """Layers: each is one policy's statements; ``scps`` and ``rcps`` are lists of levels, a level one policy."""

    def one(name, role):
        return policy(short[name], role, short.get("version", "2012-10-17")) if name in short else None

    identity = one("identity", PolicyRole.IDENTITY)
    session = one("session", PolicyRole.SESSION) if short.get("session") != [] else ()
    return Layers(
        identity=(identity,) if identity else (),
        boundary=one("boundary", PolicyRole.BOUNDARY),
        session=session if session in (None, ()) else (session,),
        resource=one("resource", PolicyRole.RESOURCE) or one("trust", PolicyRole.TRUST),
        resource_required=short.get("required", False),
        scps=tuple((policy(level, PolicyRole.SCP),) if level else () for level in short.get("scps", [])),
        rcps=tuple((policy(level, PolicyRole.RCP),) if level else () for level in short.get("rcps", [])),
        unreadable=tuple(short.get("unreadable", ())),
    )


def asked(short, layers, context=None):
    """The decision on the request that ``short`` describes."""
    request = Request(
        WHO[short.get("who", "user")],
        short.get("action", INVOKE),
        short.get("target", MODEL),
        short.get("owner", OWN),
        context if context is not None else short.get("context", {}),
    )
    return decide(request, layers)


def identity_says(statements, short, context, version="2012-10-17"):
    return asked(short, Layers((policy(statements, PolicyRole.IDENTITY, version),)), context).allowed


def check_conditions(condition, context, holds, version="2012-10-17"):
    assert identity_says({"allow": "*", "when": condition}, {}, context, version) is (holds is True)
    statements = [{"allow": "*"}, {"deny": "*", "when": condition}]
    assert identity_says(statements, {}, context, version) is (holds is False)


def check_actions(patterns, action, matched):
    short = {"action": action}
    assert identity_says({"allow": patterns}, short, {}) is matched
    assert identity_says({"allow_except": patterns}, short, {}) is not matched
    assert identity_says([{"allow": "*"}, {"deny": patterns}], short, {}) is not matched
    assert identity_says([{"allow": "*"}, {"deny_except": patterns}], short, {}) is matched


def check_resources(patterns, resource, matched, context=None, version="2012-10-17"):
    short, told = {"target": resource}, context or {}
    assert identity_says({"allow": "*", "on": patterns}, short, told, version) is matched
    assert identity_says({"allow": "*", "not_on": patterns}, short, told, version) is not matched
    assert identity_says([{"allow": "*"}, {"deny": "*", "on": patterns}], short, told, version) is not matched
    assert identity_says([{"allow": "*"}, {"deny": "*", "not_on": patterns}], short, told, version) is matched


def check_principals(principal, who, reach):
    grant = {"resource": {"allow": "*", "to": principal}, "who": who}
    bound, all_of = {"boundary": {"allow": "s3:*"}}, {"identity": {"allow": "*"}}
    alone = asked(grant, layers_of(grant)).allowed
    limited = asked(grant, layers_of({**grant, **bound, **all_of})).allowed
    passed = {"session": {"allow": "*"}} if who == "federated" else {}  # without one a federated user has nothing
    named = asked({**grant, "owner": OTHER}, layers_of({**grant, **all_of, **passed})).allowed
    assert {"none": (False, False), "account": (False, False), "behind": (True, False), "direct": (True, True)}[
        reach
    ] == (alone, limited)
    assert named is (reach != "none")


def check_exceptions(named, who, excepted, boundary=False):
    short = {"who": who, "resource": [{"allow": "*"}, {"deny": "*", "not_to": named}]}
    if boundary:
        short["boundary"] = {"allow": "*"}
    assert asked(short, layers_of(short)).reason is (Reason.ALLOWED_RESOURCE if excepted else Reason.EXPLICIT_DENY)


def check_decisions(short, reason, missing=None):
    decision = asked(short, layers_of(short))
    assert decision.reason.name == reason
    assert decision.allowed is reason.startswith("ALLOWED")
    if missing is not None:
        assert list(decision.missing_keys) == missing


def check_documents(role, document, said):
    if not isinstance(document, str) and "Statement" not in document:
        document = {"Version": "2012-10-17", "Statement": [statement(document, ROLES[role])]}
    if said:
        with pytest.raises(PolicyRefused, match=said):
            compile_policy(document, ROLES[role], "p")
    else:
        compile_policy(document, ROLES[role], "p")


CHECKS = {kind: globals()[f"check_{kind}"] for kind in KINDS}


def rows():
    for path in sorted(TABLES.glob("*.toml")):
        for topic in tomllib.loads(path.read_text()).get("topic", ()):
            assert topic["source"] in SOURCES, topic["source"]
            for kind in KINDS:
                for name, *row in topic.get(kind, ()):
                    extra = {"version": topic["version"]} if "version" in topic else {}
                    yield pytest.param(kind, filled(row), extra, id=f"{path.stem} {kind}: {name}")


ROWS = list(rows())


def quick() -> None:
    """All rows without pytest, for tools/mutate.py."""
    for kind, row, extra in (each.values for each in ROWS):
        CHECKS[kind](*row, **extra)


@pytest.mark.parametrize(("kind", "row", "extra"), ROWS)
def test_row(kind, row, extra):
    CHECKS[kind](*row, **extra)


def test_the_tables_are_as_large_as_the_reference_says_and_no_row_is_there_twice():
    assert len(ROWS) >= 400
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert len({str(row.values) for row in ROWS}) == len(ROWS)
