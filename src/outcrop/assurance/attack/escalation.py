"""Family: rising above what a session policy, a permissions boundary, an explicit denial or a tag condition allows.

Success is an answer of the 200 family to what must be denied, or a failure of the service. Each person's twin is
something that the same person may do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, unproven
from outcrop.assurance.attack.calls import Caller, Json, session_keys
from outcrop.assurance.attack.client import Answer
from outcrop.assurance.attack.victims import policy, statement, trust

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
EVERYTHING = policy(statement("*"))

Given = Mapping[str, Json]


def rises(account: str, me: str, my_policy: str) -> Iterator[tuple[str, str, Given]]:
    """Known ways by which who may touch identities rises: each with its name, operation and input."""
    role = {"RoleName": "wide"}
    yield "a key of an administrator", "iam:CreateAccessKey", {"UserName": "admin"}
    yield (
        "an API key of an administrator",
        "iam:CreateServiceSpecificCredential",
        {
            "UserName": "admin",
            "ServiceName": "bedrock.amazonaws.com",
        },
    )
    inline = {"PolicyName": "attack-more", "PolicyDocument": EVERYTHING}
    yield "an inline policy for oneself", "iam:PutUserPolicy", {"UserName": me, **inline}
    yield "a managed policy for oneself", "iam:AttachUserPolicy", {"UserName": me, "PolicyArn": ADMINISTRATOR}
    yield "an inline policy for a role", "iam:PutRolePolicy", {**role, **inline}
    yield "a managed policy for a role", "iam:AttachRolePolicy", {**role, "PolicyArn": ADMINISTRATOR}
    yield (
        "the trust of a role",
        "iam:UpdateAssumeRolePolicy",
        {
            "RoleName": "admins-only",
            "PolicyDocument": trust({"AWS": f"arn:aws:iam::{account}:user/{me}"}),
        },
    )
    yield (
        "a version of a policy",
        "iam:CreatePolicyVersion",
        {
            "PolicyArn": my_policy,
            "PolicyDocument": EVERYTHING,
            "SetAsDefault": True,
        },
    )
    yield "another version of a policy", "iam:SetDefaultPolicyVersion", {"PolicyArn": my_policy, "VersionId": "v1"}
    yield "no boundary for oneself", "iam:DeleteUserPermissionsBoundary", {"UserName": me}
    yield (
        "another boundary for oneself",
        "iam:PutUserPermissionsBoundary",
        {
            "UserName": me,
            "PermissionsBoundary": ADMINISTRATOR,
        },
    )
    yield "a user without a boundary", "iam:CreateUser", {"UserName": f"{me}-free"}
    yield (
        "a user with another boundary",
        "iam:CreateUser",
        {
            "UserName": f"{me}-other",
            "PermissionsBoundary": ADMINISTRATOR,
        },
    )
    yield (
        "a role without a boundary",
        "iam:CreateRole",
        {
            "RoleName": f"{me}-free",
            "AssumeRolePolicyDocument": trust({"AWS": f"arn:aws:iam::{account}:user/{me}"}),
        },
    )
    yield "a group's policy", "iam:CreateGroup", {"GroupName": f"{me}-group"}
    yield "a tag for oneself", "iam:TagUser", {"UserName": me, "Tags": [{"Key": "team", "Value": "red"}]}
    yield "an administrator's keys disabled", "iam:DeleteUser", {"UserName": "admin"}
    yield (
        "a provider of identities",
        "iam:CreateOpenIDConnectProvider",
        {
            "Url": "https://attack.example.org",
            "ClientIDList": ["attack"],
            "ThumbprintList": ["0" * 40],
        },
    )


def run(scene: Scene) -> Iterator[Found]:
    """Sessions, boundaries and denials."""
    victims = scene.victims
    if victims is None or "bounded" not in victims.a.people:
        yield not_applicable("rising", "no tenants with people under boundaries and denials")
        return
    yield from _sessions(scene)
    account, boundary = victims.a.account, victims.a.resources["boundary"]
    for name, twin in (("bounded", "kms:ListKeys"), ("modest", ""), ("lister", "kms:ListKeys"), ("nobody", "")):
        caller = Caller(scene.client, scene.region, victims.a.people[name])
        checked = caller.call(twin or "sts:GetCallerIdentity")
        if not checked.ok:
            yield unproven(f"{name}: what is allowed", f"must be answered: {checked.told()}")
        for what, operation, given in rises(account, name, boundary):
            answer = caller.call(operation, given)
            case = f"{name}: {what}"
            if answer.status == 501:
                yield not_applicable(case, f"{operation} is not built here")
            else:
                yield judge(case, answer.ok or answer.broke, answer.told())
        yield from _used(scene, name, account)


def _used(scene: Scene, name: str, account: str) -> Iterator[Found]:
    """What is denied in words must be denied in effect: the rights that would have been won are tried."""
    assert scene.victims is not None
    caller = Caller(scene.client, scene.region, scene.victims.a.people[name])
    for operation, given in (
        ("kms:CreateKey", {}),
        ("sts:AssumeRole", {"RoleArn": f"arn:aws:iam::{account}:role/admins-only", "RoleSessionName": "a"}),
    ):
        answer = caller.call(operation, given)
        yield judge(f"{name}: afterwards {operation}", answer.ok or answer.broke, answer.told())


def _sessions(scene: Scene) -> Iterator[Found]:
    """A session that was given less must not do more, nor make a session that may."""
    assert scene.victims is not None
    a = scene.victims.a
    admin = Caller(scene.client, scene.region, a.people["admin"])
    role = a.resources["role:wide"]
    asked: dict[str, Json] = {
        "RoleArn": role,
        "RoleSessionName": "narrow",
        "Policy": policy(statement(["kms:ListKeys"])),
    }
    answer = admin.call("sts:AssumeRole", asked)
    if answer.status == 501:
        yield not_applicable("a session with a session policy", "AssumeRole is not built here")
        return
    keys = session_keys(answer)
    if keys is None:
        yield unproven("a session with a session policy", f"must be given: {answer.told()}")
        return
    narrow = Caller(scene.client, scene.region, keys)
    if not narrow.call("kms:ListKeys").ok:
        yield unproven("a session with a session policy", "ListKeys, which it allows, must be answered")
    same = {"RoleArn": role, "RoleSessionName": "wider"}
    tried: Sequence[tuple[str, Given]] = (
        ("kms:CreateKey", {}),
        ("kms:DescribeKey", {"KeyId": a.resources["key"]}),
        ("kms:ScheduleKeyDeletion", {"KeyId": a.resources["key"]}),
        ("kms:PutKeyPolicy", {"KeyId": a.resources["key"], "PolicyName": "default", "Policy": EVERYTHING}),
        ("kms:CreateGrant", {"KeyId": a.resources["key"], "GranteePrincipal": role, "Operations": ["Decrypt"]}),
        ("iam:CreateUser", {"UserName": "from-session"}),
        ("iam:PutRolePolicy", {"RoleName": "wide", "PolicyName": "attack-more", "PolicyDocument": EVERYTHING}),
        ("iam:CreateAccessKey", {"UserName": "admin"}),
        ("sts:AssumeRole", same),
        ("sts:AssumeRole", {**same, "Policy": EVERYTHING}),
        ("sts:AssumeRole", {**same, "RoleArn": a.resources["role:bearing"]}),
        ("sts:GetSessionToken", {}),
        ("cloudtrail:LookupEvents", {}),
    )
    for operation, given in tried:
        answer = narrow.call(operation, given)
        yield judge(f"a narrow session: {operation}", answer.ok or answer.broke, answer.told())
    for path in ("/foundation-models", "/inference-profiles"):
        answer = narrow.rest("GET", path)
        yield judge(f"a narrow session: {path}", answer.ok or answer.broke, answer.told())
    too_wide = admin.call("sts:AssumeRole", {**asked, "Policy": "{}"})
    yield judge("a session policy that says nothing", too_wide.ok or too_wide.broke, too_wide.told())
    for duration in ("43201", "0", "-1", "1e9"):
        answer = admin.call("sts:AssumeRole", {**same, "DurationSeconds": duration})
        yield judge(f"a session of {duration} s", answer.ok or answer.broke, answer.told())


def _is_red(scene: Scene, made: Answer) -> bool:
    """Whether a key that was made has the one tag that its maker may give."""
    assert scene.victims is not None
    metadata = made.json().get("KeyMetadata")
    if not isinstance(metadata, dict):
        return False
    admin = Caller(scene.client, scene.region, scene.victims.a.people["admin"])
    tags = admin.call("kms:ListResourceTags", {"KeyId": str(metadata.get("KeyId"))}).json().get("Tags")
    return tags == [{"TagKey": "team", "TagValue": "red"}]


def run_tags(scene: Scene) -> Iterator[Found]:
    """Tags of resources, of requests and of principals as the only thing that allows."""
    victims = scene.victims
    if victims is None or "tagger" not in victims.a.people:
        yield not_applicable("tags", "no tenants with somebody whose rights hang on tags")
        return
    a = victims.a
    tagger = Caller(scene.client, scene.region, a.people["tagger"])
    blue, red = a.resources["key"], a.resources["red_key"]

    def tag(key: str, value: str) -> dict[str, Json]:
        return {"TagKey": key, "TagValue": value}

    twins: tuple[tuple[str, Given], ...] = (
        ("kms:DescribeKey", {"KeyId": red}),
        ("kms:CreateKey", {"Tags": [tag("team", "red")]}),
    )
    for operation, given in twins:
        answer = tagger.call(operation, given)
        if not answer.ok:
            yield unproven(f"{operation} with the right tag", f"must be answered: {answer.told()}")
    theirs = victims.b.resources.get("red_key", blue)
    cases: tuple[tuple[str, str, Given], ...] = (
        ("a key of another tag", "kms:DescribeKey", {"KeyId": blue}),
        ("a key of another tag, to disable", "kms:DisableKey", {"KeyId": blue}),
        ("a key of the right tag of another account", "kms:DescribeKey", {"KeyId": theirs}),
        ("another tag for a key of another tag", "kms:TagResource", {"KeyId": blue, "Tags": [tag("x", "red")]}),
        ("a new key without tags", "kms:CreateKey", {}),
        ("a new key with another tag", "kms:CreateKey", {"Tags": [tag("team", "blue")]}),
        ("a new key with an empty tag", "kms:CreateKey", {"Tags": [tag("team", "")]}),
        ("a new key with another case of the value", "kms:CreateKey", {"Tags": [tag("team", "RED")]}),
        ("a new key with both tags", "kms:CreateKey", {"Tags": [tag("team", "blue"), tag("team", "red")]}),
        ("a new key with both tags, turned", "kms:CreateKey", {"Tags": [tag("team", "red"), tag("team", "blue")]}),
        ("a new key with a space", "kms:CreateKey", {"Tags": [tag("team ", "red")]}),
        ("a new key with a wildcard", "kms:CreateKey", {"Tags": [tag("team", "*")]}),
        ("the right's removal from a key", "kms:UntagResource", {"KeyId": red, "TagKeys": ["team"]}),
        ("a tag for oneself", "iam:TagUser", {"UserName": "tagger", "Tags": [{"Key": "team", "Value": "blue"}]}),
    )
    for name, operation, given in cases:
        answer = tagger.call(operation, given)
        if answer.status == 501:
            yield not_applicable(name, f"{operation} is not built here")
        else:
            yield judge(name, (answer.ok and not _is_red(scene, answer)) or answer.broke, answer.told())
    asker = Caller(scene.client, scene.region, a.people["asker"])
    tags: Given = {
        "RoleArn": a.resources["role:wide"],
        "RoleSessionName": "a",
        "Tags": [{"Key": "team", "Value": "red"}],
    }
    if asker.call("sts:AssumeRole", {"RoleArn": a.resources["role:wide"], "RoleSessionName": "a"}).status == 501:
        yield not_applicable("session tags", "AssumeRole is not built here")
        return
    for name, wanted in (
        ("session tags without sts:TagSession", tags),
        ("transitive session tags without sts:TagSession", {**tags, "TransitiveTagKeys": ["team"]}),
    ):
        answer = asker.call("sts:AssumeRole", wanted)
        yield judge(name, answer.ok or answer.broke, answer.told())
