"""From a member of the input to the ARNs that a permission is asked on, with what is known of each.

Models go through the model host: an inference profile needs the permission on itself and on the model behind it.
Users, groups, roles, policies and keys go through the stores, for their paths, tags, boundaries and policies. A name
that leads nowhere becomes the ARN that it would have: whether the thing exists is the operation's to tell, to those who
may ask. Another account's key that is not there is asked on like one that is, and is refused in the same words.

Not covered: the resource policies of roles (``AssumeRole`` asks for those itself).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outcrop.base.arn import AccountId, Arn, Scope
from outcrop.base.clock import Clock
from outcrop.base.errors import UserError
from outcrop.models.registry import ModelInfo
from outcrop.service.access.base import Resource
from outcrop.service.access.members import member, text
from outcrop.service.access.table import Target
from outcrop.service.hosting import ModelHost
from outcrop.trust.identity import IdentityStore, Principal
from outcrop.trust.identity.records import Entity, OidcProvider
from outcrop.trust.identity.web_identity import provider_url
from outcrop.trust.keys import Key, KeyService
from outcrop.trust.policy import PolicyRefused, Requester

KNOWN_FOR_S = 1.0
KNOWN_MODELS_MAX = 1024
ALIAS = "alias/"
PLACE = re.compile(r"\{([^}]*)\}")
CIPHERTEXT = (
    "The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
    "or you are not allowed to access."
)
"""The answer of KMS for a ciphertext of a key that is not there, and of one that the caller may not use."""


@dataclass(frozen=True, slots=True)
class Question:
    """One permission that is being asked for, as far as finding its resource needs it."""

    principal: Principal
    requester: Requester
    action: str
    input: Any
    map_context: Mapping[str, str]
    """The encryption context, where the operation has one."""


class Resources:
    """Finds resources over one model host and the trust rooms' stores."""

    def __init__(self, host: ModelHost, clock: Clock, identity: IdentityStore, keys: KeyService) -> None:
        self._host = host
        self._clock = clock
        self._identity = identity
        self._keys = keys
        self._models: dict[tuple[str, AccountId], tuple[float, tuple[Resource, ...]]] = {}
        entities: dict[str, Callable[[Question, Any], Resource]] = {
            "user": self._user,
            "group": lambda asked, name: self._entity(asked, "group", name, self._identity.groups.get),
            "renamed-group": lambda asked, name: self._renamed(asked, "group", name, self._identity.groups.get),
            "renamed-user": lambda asked, name: self._renamed(asked, "user", name, self._identity.users.get),
            "role": lambda asked, name: self._entity(asked, "role", name, self._identity.roles.get),
            "policy": lambda asked, arn: self._of_arn(asked, arn, self._identity.policies.get),
            "provider": lambda asked, arn: self._of_arn(asked, arn, self._identity.oidc.get),
            "principal": self._principal,
        }
        self._finders: dict[str, Callable[[Question, Any], Resource]] = entities | {
            "alias": lambda asked, name: self._own(asked, "kms", str(name)),
            "ciphertext": self._ciphertext,
            "endpoint": lambda asked, name: self._own(asked, "sagemaker", f"endpoint/{str(name).lower()}"),
            "guardrail": lambda asked, name: self._named(asked, "bedrock", "guardrail", name),
            "key": self._key,
            "profile": self._profile,
            "trail": lambda asked, name: self._named(asked, "cloudtrail", "trail", name),
        }

    @property
    def scope(self) -> Scope:
        return self._host.scope

    def find(self, asked: Question, target: Target) -> tuple[Resource, ...]:
        """The resources that a permission is asked on: one, or a profile and its model."""
        account = asked.principal.account
        if target.kind == "*":
            return (Resource("*", account),)
        if target.kind == "template":
            return (Resource(self._filled(asked, target), account),)
        named = member(asked.input, target.member)
        if target.kind == "model":
            return self.models(str(named), account)
        if target.kind.startswith("new-"):
            return (self._new(asked, target.kind.removeprefix("new-"), str(named)),)
        return (self._finders[target.kind](asked, named),)

    # --- models ---------------------------------------------------------------------------------------------------

    def models(self, name: str, account: AccountId) -> tuple[Resource, ...]:
        """What invoking ``name`` is asked on: the model, and before it the inference profile that leads there.

        What was found is remembered for a second, as the host does; what was not is looked for every time.
        """
        now_s = self._clock.monotonic_s()
        known = self._models.get((name, account))
        if known is not None and known[0] >= now_s:
            return known[1]
        try:
            info = self._host.resolve(name, account)
        except UserError:
            # Nobody's, or somebody else's: one and the same. Whoever may ask is told by the operation.
            return (Resource(name if name.startswith("arn:") else str(self.scope.foundation_model_arn(name))),)
        found = self._behind(name, info, account)
        if len(self._models) >= KNOWN_MODELS_MAX:
            self._models.clear()
        self._models[(name, account)] = (now_s + KNOWN_FOR_S, found)
        return found

    def _behind(self, name: str, info: ModelInfo, account: AccountId) -> tuple[Resource, ...]:
        model = Resource(str(self._host.model_arn(info)), info.owner or "")
        profile = self._host.profile_arn(info.model_id)
        if info.owner is not None or name not in (profile, self._host.profile_id(info.model_id)):
            return (model,)
        return Resource(profile, account), replace(model, keys={"bedrock:InferenceProfileArn": profile})

    def _profile(self, asked: Question, name: Any) -> Resource:
        arn = name if str(name).startswith("arn:") else f"inference-profile/{name}"
        return Resource(str(name)) if arn == name else self._own(asked, "bedrock", arn)

    # --- identities -----------------------------------------------------------------------------------------------

    def _user(self, asked: Question, name: Any) -> Resource:
        """The user of a name; without one the caller, whom IAM takes the request to be about."""
        if name is None:
            arn = asked.principal.arn
            if asked.principal.kind != "user":
                return Resource(str(arn), asked.principal.account)
            name = arn.resource.rpartition("/")[2]
        return self._entity(asked, "user", name, self._identity.users.get)

    def _entity(self, asked: Question, kind: str, name: Any, get: Callable[[str, str], Entity]) -> Resource:
        account = asked.principal.account
        try:
            found = get(account, str(name))
        except UserError:
            return Resource(str(Arn(self.scope.partition, "iam", "", account, f"{kind}/{name}")), account)
        return _described(found, account)

    def _renamed(self, asked: Question, kind: str, name: Any, get: Callable[[str, str], Entity]) -> Resource:
        """The ARN that a user or group will have once it has its new name and path."""
        before = self._entity(asked, kind, name, get)
        path, _, old_name = Arn.parse(before.arn).resource.removeprefix(kind).rpartition("/")
        new_name = member(asked.input, f"New{kind.title()}Name") or old_name
        new_path = member(asked.input, "NewPath") or f"{path}/"
        account = asked.principal.account
        return replace(before, arn=str(Arn(self.scope.partition, "iam", "", account, f"{kind}{new_path}{new_name}")))

    def _of_arn(self, asked: Question, arn: Any, get: Callable[[str, str], Entity | OidcProvider]) -> Resource:
        account = asked.principal.account
        try:
            return _described(get(account, str(arn)), account)
        except UserError:
            return Resource(str(arn), _account_in(str(arn), account))

    def _principal(self, asked: Question, arn: Any) -> Resource:
        return Resource(str(arn), _account_in(str(arn), asked.principal.account))

    def _new(self, asked: Question, kind: str, name: str) -> Resource:
        """The ARN that something will have once it is made."""
        account = asked.principal.account
        if kind == "provider":
            resource = f"oidc-provider/{provider_url(name)}"
        else:
            resource = f"{kind}{getattr(asked.input, 'path', None) or '/'}{name}"
        return Resource(str(Arn(self.scope.partition, "iam", "", account, resource)), account)

    # --- keys -----------------------------------------------------------------------------------------------------

    def _key(self, asked: Question, named: Any) -> Resource:
        account, name = asked.principal.account, "*" if named is None else str(named)
        try:
            key = self._keys.find(name, account)
        except UserError:
            owner = _account_in(name, account)
            arn = name if name.startswith("arn:") else str(self._own_arn(account, "kms", _key_path(name)))
            return Resource(arn, owner, refusal=_foreign(asked, arn) if owner != account else "")
        found = self._of_key(asked, key)
        if name.startswith(ALIAS) or f":{ALIAS}" in name:
            alias = name[name.index(ALIAS) :]
            found = replace(found, keys={**found.keys, "kms:RequestAlias": alias})
        return found if key.account == account else replace(found, refusal=_foreign(asked, name))

    def _ciphertext(self, asked: Question, blob: Any) -> Resource:
        """The key that a ciphertext names; one that is not there is refused like one that is somebody else's."""
        account = asked.principal.account
        try:
            key = self._keys.ciphers.named_by(blob or b"")
        except UserError:
            # Nobody may use it: a permission asked besides (ReEncrypt's other key) must not be told first.
            nothing = str(self._own_arn(account, "kms", "key/*"))
            return Resource(nothing, account, policy_required=True, refusal=CIPHERTEXT)
        found = self._of_key(asked, key)
        return found if key.account == account else replace(found, refusal=CIPHERTEXT)

    def _of_key(self, asked: Question, key: Key) -> Resource:
        arn = str(key.arn)
        aliases = [alias.name for alias in self._keys.rows.aliases(key.account, key.key_id)]
        known = {"kms:KeySpec": key.spec.value, "kms:KeyUsage": key.usage.value, "kms:ResourceAliases": aliases}
        resource = Resource(arn, key.account, self._keys.rows.tags(key.key_id), policy_required=True, keys=known)
        try:
            policy = self._keys.resource_policy(arn, asked.requester, asked.action, asked.map_context)
        except PolicyRefused:
            return replace(resource, unreadable=f"the policy of {arn}")
        return replace(resource, policy=policy)

    # --- by their ARN alone ---------------------------------------------------------------------------------------

    def _own(self, asked: Question, service: str, path: str) -> Resource:
        account = asked.principal.account
        return Resource(str(self._own_arn(account, service, path)), account)

    def _named(self, asked: Question, service: str, kind: str, name: Any) -> Resource:
        """Something that is named by its ARN or by its id in the caller's own account."""
        if not str(name).startswith("arn:"):
            return self._own(asked, service, f"{kind}/{name}")
        return Resource(str(name), _account_in(str(name), asked.principal.account))

    def _own_arn(self, account: str, service: str, path: str) -> Arn:
        return Arn(self.scope.partition, service, self.scope.region, account, path)

    def _filled(self, asked: Question, target: Target) -> str:
        known = {
            "partition": self.scope.partition,
            "region": self.scope.region,
            "account": asked.principal.account,
            **{name: text(member(asked.input, name)) for name in target.members},
        }
        return PLACE.sub(lambda place: known[place[1]], target.template)


def _described(found: Entity | OidcProvider, account: str) -> Resource:
    boundary = getattr(found, "boundary", None)
    keys = {} if boundary is None else {"iam:PermissionsBoundary": boundary}
    return Resource(str(found.arn), account, getattr(found, "tags", {}), keys=keys)


def _account_in(arn: str, own: str) -> str:
    """The account that an ARN names; the caller's own where it names none, or where the text is no ARN."""
    parts = arn.split(":", 5)
    return parts[4] if len(parts) == 6 and parts[0] == "arn" and parts[4].isdecimal() else own


def _key_path(name: str) -> str:
    return name if name.startswith(ALIAS) else f"key/{name}"


def _foreign(asked: Question, arn: str) -> str:
    return (
        f"User: {asked.principal.arn} is not authorized to perform: {asked.action} on resource: {arn} because the "
        "resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy "
        "explicitly denies access"
    )
