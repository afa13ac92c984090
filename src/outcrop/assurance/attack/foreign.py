"""Family: every operation on every resource of another tenant, and whether an answer tells that the resource is there.

Each operation of ``requests.toml`` is asked twice: with the other tenant's resources, and with names of the same shape
that nobody has. Success is an answer of the 200 family for what is the other's, a failure of the service, or two
answers that differ in status, headers or text once names and ids are masked. Somebody without permissions asks the
same of the resources of the own account. Lists must not hold anything of the other tenant; its keys must be as they
were.

Not covered: how long an answer takes.
"""

from __future__ import annotations

import base64
import json
import string
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import cast

from outcrop.assurance.attack.base import Found, Scene, judge, not_applicable, unproven
from outcrop.assurance.attack.calls import Caller, Json
from outcrop.assurance.attack.client import Answer
from outcrop.assurance.attack.masking import masked
from outcrop.assurance.attack.paths import encoded
from outcrop.assurance.attack.victims import Tenant, policy, statement, trust

REST = frozenset({"bedrock", "bedrock-runtime", "sagemaker-runtime", "anthropic", "openai"})

MAKES = frozenset({"iam:CreateGroup", "iam:CreateRole", "iam:CreateUser"})
"""Operations whose resource is a name in the caller's own account: it may be taken there, whoever has it elsewhere."""

OWN_VIEW = frozenset({"kms:ListRetirableGrants"})
"""Operations that may be asked about anybody's principal, and answer from the caller's own account."""

TELLS = {
    "sts:GetAccessKeyInfo": "AWS tells the account of any key id: who has the id may know it",
}
"""Operations that by AWS's own documentation answer about other accounts."""

TELLS_OWN = {
    "kms:Decrypt": "within its account AWS names the key of a ciphertext in the denial",
    "kms:ReEncrypt": "within its account AWS names the key of a ciphertext in the denial",
    "kms:RetireGrant": "a grant's id is 64 random digits: who knows it was told of the grant",
}
"""Operations whose denial, as AWS words it, tells people of the same account that a resource is there."""

Resources = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Template:
    """One operation with places for resources."""

    operation: str
    input: Mapping[str, Json]

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of resources that it names."""
        text = json.dumps(self.input)
        return frozenset(kind for kind in KINDS if f"{{{kind}}}" in text)

    def ask(self, caller: Caller, resources: Resources) -> Answer:
        """Ask with these resources in its places."""
        filled = cast("dict[str, Json]", _filled(self.input, resources))
        if self.operation.partition(":")[0] not in REST:
            return caller.call(self.operation, filled)
        in_path = {kind: encoded(value) for kind, value in resources.items()}
        path = str(_filled(self.input["path"], in_path))
        body = cast("dict[str, Json] | None", filled.get("body"))
        service = "sagemaker" if self.operation.startswith("sagemaker") else "bedrock"
        return caller.rest(str(filled["method"]), path, body, service=service)


KINDS = (
    "access_key",
    "alias",
    "bucket",
    "ciphertext",
    "credential",
    "grant",
    "group",
    "key",
    "model",
    "model_name",
    "policy",
    "provider",
    "role",
    "role_arn",
    "trail",
    "user",
    "user_arn",
)


def templates() -> list[Template]:
    """Every operation of the data file."""
    document = tomllib.loads(files("outcrop.assurance.attack").joinpath("requests.toml").read_text("utf-8"))
    return [
        Template(f"{service}:{name}", given) for service, table in document.items() for name, given in table.items()
    ]


def run(scene: Scene) -> Iterator[Found]:
    """Another account's resources, then the own account's for somebody without permissions, then lists and effects."""
    victims = scene.victims
    if victims is None or "key" not in victims.b.resources:
        yield not_applicable("resources of others", "no tenants with resources")
        return
    admin = Caller(scene.client, scene.region, victims.a.people["admin"])
    owner = Caller(scene.client, scene.region, victims.b.people["admin"])
    yield from _twins(owner, victims.b)
    before = _state(owner, victims.b)
    naming = [template for template in templates() if template.kinds]
    # Lists come first: what is asked below stands in the caller's own events, with the other's names.
    for template in templates():
        if not template.kinds:
            yield _lists(admin, template, victims.b)
    # What makes something comes last: names of the other's would be the caller's own from then on.
    for template in sorted(naming, key=lambda each: each.operation in MAKES):
        yield _compare(admin, template, victims.b, victims.a.account)
    yield judge("the effect: the other tenant's keys", before != _state(owner, victims.b), "as they were")
    if "nobody" in victims.a.people:
        nobody = Caller(scene.client, scene.region, victims.a.people["nobody"])
        for template in naming:
            yield _compare(nobody, template, victims.a, victims.a.account)


def absent(resources: Resources) -> dict[str, str]:
    """Names of the same shape that nobody has."""
    return {kind: _other_blob(value) if kind == "ciphertext" else _other(value) for kind, value in resources.items()}


def _compare(caller: Caller, template: Template, tenant: Tenant, own: str) -> Found:
    there = {kind: tenant.resources.get(kind, "") for kind in template.kinds}
    gone = absent(there)
    whose = "another tenant's" if tenant.account != own else "without permissions, the own account's"
    case = f"{template.operation} on {whose} {', '.join(sorted(there))}"
    if not all(there.values()):
        return not_applicable(case, "the tenants given have no such resource")
    first, second = template.ask(caller, there), template.ask(caller, gone)
    if 501 in (first.status, second.status):
        return not_applicable(case, "not built here")
    allowed = TELLS if tenant.account != own else TELLS | TELLS_OWN
    if template.operation in allowed and not (first.broke or second.broke or (first.ok and tenant.account == own)):
        return not_applicable(case, allowed[template.operation])
    told = f"{first.told()}; for one that nobody has {second.told()}"
    if first.broke or second.broke or (first.ok and template.operation not in MAKES | OWN_VIEW):
        return judge(case, True, told)
    if template.operation in MAKES:
        return judge(case, first.status != second.status, told)
    names = [*there.values(), *gone.values()]
    one, other = masked(first, *names, tenant.account), masked(second, *names, tenant.account)
    return judge(case, one != other, told if one == other else f"told apart: {told}: {_difference(one, other)}")


def _difference(one: tuple[int, str, str], other: tuple[int, str, str]) -> str:
    """Where two answers begin to differ."""
    first, second = (f"{headers} {text}" for _, headers, text in (one, other))
    at = next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)
    return f"{first[max(0, at - 30) : at + 60]!r} and {second[max(0, at - 30) : at + 60]!r}"


def _lists(caller: Caller, template: Template, other: Tenant) -> Found:
    answer = template.ask(caller, {})
    case = f"{template.operation}: nothing of the other tenant"
    if answer.status == 501:
        return not_applicable(case, "not built here")
    names = [value for kind, value in other.resources.items() if len(value) >= 8 and not kind.startswith("role:")]
    marks = (f'recipientAccountId\\":\\"{other.account}',) if "LookupEvents" in case else (other.account, *names)
    leaked = [name for name in marks if name in answer.text]
    return judge(case, bool(leaked) or answer.broke, f"{answer.told()} {leaked[:1] or ''}".strip())


def _twins(owner: Caller, tenant: Tenant) -> Iterator[Found]:
    """The owner must be answered where others are refused, or the refusals say nothing."""
    found = tenant.resources
    for operation, given in (
        ("kms:DescribeKey", {"KeyId": found["key"]}),
        ("kms:Decrypt", {"CiphertextBlob": found["ciphertext"]}),
        ("iam:GetUser", {"UserName": found["user"]}),
        ("iam:GetRole", {"RoleName": found["role"]}),
        ("iam:GetPolicy", {"PolicyArn": found["policy"]}),
    ):
        answer = owner.call(operation, given)
        if answer.status == 501:
            yield not_applicable(f"the owner's {operation}", "not built here")
        elif not answer.ok:
            yield unproven(f"the owner's {operation}", f"must be answered: {answer.told()}")
    if "model_name" in found:
        answer = owner.rest("GET", f"/foundation-models/{encoded(found['model_name'])}")
        if not answer.ok:
            yield unproven("the owner's model", f"must be found: {answer.told()}")


def _state(owner: Caller, tenant: Tenant) -> tuple[str, ...]:
    return tuple(
        owner.call(operation, {"KeyId": tenant.resources["key"]}).text
        for operation in ("kms:DescribeKey", "kms:GetKeyPolicy", "kms:ListGrants", "kms:ListResourceTags")
    )


def _filled(value: Json, resources: Resources) -> Json:
    if isinstance(value, str):
        known = {
            "document": policy(statement("*")),
            "trust": trust({"AWS": "*"}),
            **resources,
        }
        for kind, each in known.items():
            value = value.replace(f"{{{kind}}}", each)
        return value
    if isinstance(value, Mapping):
        return {name: _filled(each, resources) for name, each in value.items()}
    return [_filled(each, resources) for each in value] if isinstance(value, list) else value


_NEXT = str.maketrans(
    string.digits + string.ascii_lowercase + string.ascii_uppercase,
    "1234567890" + "bcdefa" + "hijklmnopqrstuvwxyzg" + "BCDEFGHIJKLMNOPQRSTUVWXYZA",
)


def _other(value: str) -> str:
    """``value`` with its last characters changed to others of their kinds."""
    return value[:-8] + value[-8:].translate(_NEXT)


def _other_blob(value: str) -> str:
    blob = bytearray(base64.b64decode(value))
    blob[9] ^= 1  # within the id of the key
    return base64.b64encode(bytes(blob)).decode()
