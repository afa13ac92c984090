"""Two throw-away tenants: people with keys and policies of every kind that attacks start from, and things to steal.

``throw_away`` makes them in a deployment's own stores and takes them away again: users and their keys are deleted,
keys scheduled for deletion, the accounts suspended (an account's number stays taken). ``load`` reads credentials that
an operator made by hand; families that need more than the file has are then not applicable.

Not covered: tenants in an organisation with control policies, and web identities.
"""

from __future__ import annotations

import base64
import contextlib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from outcrop.assurance.attack.signatures import Keys
from outcrop.base.errors import OutcropError, UserError
from outcrop.trust.crypto import random_id
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.identity import IdentityStore
from outcrop.trust.keys import KeyService

ELSEWHERE = "203.0.113.0/24"
"""Addresses that nobody has (RFC 5737)."""
DELETION_DAYS = 7


@dataclass(frozen=True, slots=True)
class Tenant:
    """One account: keys by the name of who holds them, and resources by kind (names, ids and ARNs)."""

    account: str
    people: Mapping[str, Keys]
    resources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Victims:
    """Tenant ``a`` attacks tenant ``b``, and its own people try to rise. ``revoke`` ends all sessions of a role."""

    a: Tenant
    b: Tenant
    external_id: str = field(default="", repr=False)
    revoke: Callable[[str, str], object] | None = None
    silence: Callable[[str], object] | None = None
    """Disables an access key by its id."""


def load(path: Path) -> Victims:
    """Tenants from a TOML file: tables ``a`` and ``b`` with ``account``, ``people`` and ``resources``."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        return Victims(_tenant(document["a"]), _tenant(document["b"]), external_id=str(document.get("external_id", "")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not name two tenants: {type(error).__name__} {error}.",
            "Give [a] and [b] with account, and [a.people.admin] and [b.people.admin] with access_key_id and secret.",
        ) from None


def _tenant(table: Mapping[str, object]) -> Tenant:
    people = table["people"]
    resources = table.get("resources", {})
    if not isinstance(people, dict) or not isinstance(resources, dict) or "admin" not in people:
        raise ValueError("people.admin is missing")
    keys = {
        name: Keys(str(each["access_key_id"]), str(each["secret"]), str(each.get("session_token", "")))
        for name, each in people.items()
    }
    return Tenant(str(table["account"]), keys, {name: str(value) for name, value in resources.items()})


def statement(action: object, resource: object = "*", effect: str = "Allow", **more: object) -> dict[str, object]:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def policy(*statements: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trust(principal: object, condition: Mapping[str, object] | None = None) -> str:
    more = {} if condition is None else {"Condition": condition}
    return policy({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more})


@contextlib.contextmanager
def throw_away(
    identity: IdentityStore,
    keys: KeyService,
    region: str,
    partition: str = "aws",
    belongings: Callable[[str], AbstractContextManager[Mapping[str, str]]] | None = None,
) -> Iterator[Victims]:
    """Two new tenants in these stores, taken away at the end.

    ``belongings`` gives an account what other rooms hold: a private model (``model``, ``model_name``), a ``bucket``.
    """
    makers = [_Maker(identity, keys, region, partition, name) for name in ("a", "b")]
    a, b = makers
    with contextlib.ExitStack() as stack:
        for maker in makers:
            stack.callback(maker.remove)
            maker.make_common()
        if belongings is not None:
            b.own(stack.enter_context(belongings(b.account)))
        a.make_people()
        b.make_roles(a.account)
        yield Victims(
            a.tenant(),
            b.tenant(),
            b.external_id,
            revoke=identity.roles.revoke,
            silence=lambda key: identity.set_key_active(key, False),
        )


class _Maker:
    """Fills one account."""

    def __init__(self, identity: IdentityStore, keys: KeyService, region: str, partition: str, name: str) -> None:
        self._identity, self._keys, self._region, self._partition = identity, keys, region, partition
        self.account = str(identity.organisation.create_account(None, partition, f"attack {name}, throw-away").account)
        self.external_id = random_id("X")
        self._people: dict[str, Keys] = {}
        self._resources: dict[str, str] = {}
        self._policies: list[str] = []

    def tenant(self) -> Tenant:
        return Tenant(self.account, self._people, self._resources)

    def own(self, resources: Mapping[str, str]) -> None:
        """Further resources of this tenant."""
        self._resources |= resources

    def _arn(self, service: str, rest: str, region: str = "") -> str:
        return f"arn:{self._partition}:{service}:{region}:{self.account}:{rest}"

    def _person(self, name: str, *statements: Mapping[str, object], boundary: str | None = None) -> None:
        self._identity.users.create(self.account, name, boundary=boundary)
        if statements:
            self._identity.holdings.put_inline(self.account, "user", name, "attack", policy(*statements))
        issued = self._identity.keys.create(self.account, name)
        self._people[name] = Keys(issued.access_key_id, issued.secret_access_key)

    def _role(self, name: str, trusting: str, *statements: Mapping[str, object]) -> None:
        self._identity.roles.create(self.account, name, trusting)
        if statements:
            self._identity.holdings.put_inline(self.account, "role", name, "attack", policy(*statements))
        self._resources[f"role:{name}"] = self._arn("iam", f"role/{name}")

    def make_common(self) -> None:
        """What the other tenant must neither use nor learn of."""
        unique = random_id("v")[:12].lower()
        found, account = self._resources, self.account
        self._person("admin", statement("*"))
        user, role, group = f"user-{unique}", f"role-{unique}", f"group-{unique}"
        self._person(user)
        self._role(role, trust({"AWS": self._arn("iam", "root")}))
        self._identity.groups.create(account, group)
        managed = self._identity.policies.create(account, f"policy-{unique}", policy(statement("kms:ListKeys")))
        self._policies.append(str(managed.arn))
        provider = self._identity.oidc.create(
            account, f"https://{unique}.example.org", client_ids=["attack"], thumbprints=["0" * 40]
        )
        credential = self._identity.service_credentials.create(account, user, "bedrock.amazonaws.com")
        key = self._keys.lifecycle.create(account, self._keys.policies.initial(account), tags={"team": "blue"})
        red = self._keys.lifecycle.create(account, self._keys.policies.initial(account), tags={"team": "red"})
        alias = f"alias/{unique}"
        self._keys.aliases.create(account, alias, key)
        grant = self._keys.grants.create(key, self._arn("iam", f"user/{user}"), ["Decrypt"], self._arn("iam", "root"))
        secret = self._keys.ciphers.encrypt(key.key_id, Secret(b"a secret of this tenant"), {})
        found |= {
            "user": user,
            "user_arn": self._arn("iam", f"user/{user}"),
            "role": role,
            "role_arn": self._arn("iam", f"role/{role}"),
            "group": group,
            "policy": str(managed.arn),
            "provider": str(provider.arn),
            "credential": credential.record.id,
            "access_key": self._people[user].access_key_id,
            "key": str(key.arn),
            "red_key": str(red.arn),
            "alias": alias,
            "alias_arn": self._arn("kms", alias, self._region),
            "grant": grant.grant_id,
            "ciphertext": base64.b64encode(secret).decode(),
            "model": self._arn("bedrock", f"imported-model/{unique}", self._region),
            "trail": self._arn("cloudtrail", f"trail/{unique}", self._region),
            "endpoint": f"endpoint-{unique}",
        }

    def make_people(self) -> None:
        """Those of the attacking tenant who may do a little and try to do more."""
        found = self._resources
        tls_only = {"Bool": {"aws:SecureTransport": "true"}}
        red = {"StringEquals": {"aws:ResourceTag/team": "red"}}
        asked_red = {"StringEquals": {"aws:RequestTag/team": "red"}, "Null": {"aws:RequestTag/team": "false"}}
        boundary = self._identity.policies.create(
            self.account,
            "boundary",
            policy(
                statement(["kms:ListKeys", "iam:List*", "iam:Get*", "sts:*"]),
                statement(
                    ["iam:CreateUser", "iam:CreateRole"],
                    Condition={"StringEquals": {"iam:PermissionsBoundary": self._arn("iam", "policy/boundary")}},
                ),
            ),
        )
        self._policies.append(str(boundary.arn))
        found["boundary"] = str(boundary.arn)
        self._person("nobody")
        self._person("elsewhere", statement("*", Condition={"IpAddress": {"aws:SourceIp": ELSEWHERE}}))
        self._person("tls-only", statement("*", Condition=tls_only))
        self._person("agent-only", statement("*", Condition={"StringEquals": {"aws:UserAgent": "the-right-one/1.0"}}))
        self._person("lister", statement("kms:ListKeys"))
        self._person("one-key", statement("kms:*", found["red_key"]))
        self._person("bounded", statement("*"), boundary=str(boundary.arn))
        self._person(
            "modest",
            statement("iam:*", self._arn("iam", "user/modest")),
            statement(["iam:PutUser*", "iam:AttachUserPolicy", "iam:TagUser", "iam:*Boundary"], effect="Deny"),
        )
        self._person(
            "tagger",
            statement(["kms:DescribeKey", "kms:DisableKey", "kms:Encrypt", "kms:TagResource"], Condition=red),
            statement(["kms:CreateKey", "kms:TagResource"], Condition=asked_red),
            statement("iam:TagUser", self._arn("iam", "user/tagger"), effect="Deny"),
        )
        self._person("no-models", statement("*"), statement("bedrock:*", effect="Deny"))
        self._person(
            "no-model-use",
            statement("*"),
            statement(["bedrock:InvokeModel*", "bedrock:CountTokens"], f"arn:{self._partition}:bedrock:*::*", "Deny"),
            statement("bedrock:ListInferenceProfiles", effect="Deny"),
        )
        self._person("no-bearer", statement("*"), statement("bedrock:CallWithBearerToken", effect="Deny"))
        self._person("asker", statement("sts:AssumeRole"))
        own = {"AWS": self._arn("iam", "root")}
        self._role("wide", trust(own), statement("*"))
        self._role("bearing", trust(own), statement("*"))
        self._role("admins-only", trust({"AWS": self._arn("iam", "user/admin")}), statement("*"))

    def make_roles(self, other: str) -> None:
        """Roles of the attacked tenant whose trust in the account ``other`` has conditions."""
        theirs = f"arn:{self._partition}:iam::{other}"
        external = {"StringEquals": {"sts:ExternalId": self.external_id}}
        far = {"StringEquals": {"aws:PrincipalOrgID": "o-nobodysorg"}}
        everything = statement("*")
        self._role("vendor", trust({"AWS": f"{theirs}:root"}, external), everything)
        self._role("vendor-open", trust({"AWS": "*"}, external), everything)
        self._role("own-organisation", trust({"AWS": "*"}, far), everything)
        self._role("one-user", trust({"AWS": f"{theirs}:user/admin"}), everything)
        self._role("own-account", trust({"AWS": self._arn("iam", "root")}), everything)
        self._role("a-service", trust({"Service": "bedrock.amazonaws.com"}), everything)

    def remove(self) -> None:
        """Leave nothing that works; what refuses to go is made worthless by the account's suspension."""
        account, identity = self.account, self._identity
        identity.organisation.set_status(account, "SUSPENDED")
        for user in identity.users.all(account):
            with contextlib.suppress(OutcropError):
                identity.users.delete(account, user.name, force=True)
        for role in identity.roles.all(account):
            with contextlib.suppress(OutcropError):
                for name in list(identity.holdings.inline(account, "role", role.name)):
                    identity.holdings.delete_inline(account, "role", role.name, name)
                for arn in identity.holdings.attached(account, "role", role.name):
                    identity.holdings.detach(account, "role", role.name, arn)
                identity.roles.delete(account, role.name)
        for group in identity.groups.all(account):
            with contextlib.suppress(OutcropError):
                identity.groups.delete(account, group.name)
        for provider in identity.oidc.all(account):
            identity.oidc.delete(account, str(provider.arn))
        for arn in [str(each.arn) for each in identity.policies.all(account, "Local")]:
            with contextlib.suppress(OutcropError):
                identity.policies.delete(account, arn)
        for key in self._keys.rows.list_keys(account):
            with contextlib.suppress(OutcropError):
                self._keys.lifecycle.schedule_deletion(key.key_id, DELETION_DAYS)
