"""Whether somebody may take on a role: its trust policy and the caller's own side, decided together.

A role that does not exist and one that may not be assumed are told alike, so that nobody learns which roles there are.
Not covered: the operator's explanation of a denial beyond a log line.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from outcrop.base.arn import Arn
from outcrop.base.errors import NotFound, UserError
from outcrop.service.operations.base import Caller, Context
from outcrop.service.wire.errors import AwsError
from outcrop.trust.identity import Principal
from outcrop.trust.identity.layers import requester_of
from outcrop.trust.identity.records import Role
from outcrop.trust.policy import (
    ContextValue,
    Layers,
    Policy,
    PolicyRefused,
    PolicyRole,
    Request,
    Requester,
    RequesterKind,
    compile_policy,
    decide,
)

log = logging.getLogger("outcrop.service")

Keys = Mapping[str, ContextValue]

_TYPES = {"root": "Account", "user": "User", "role": "AssumedRole", "anonymous": "Anonymous"}


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants the role: the name that a refusal shows, and what the decision must know."""

    shown: str
    requester: Requester
    layers: Layers
    keys: Keys

    @classmethod
    def of(cls, context: Context, caller: Caller, resource_account: str) -> Asker:
        """The signed sender of the request."""
        who = caller.principal
        identity = context.trust.identity
        tags = identity.principal_tags(who)
        keys = {**caller.keys, **principal_keys(who, tags, context.clock.now())}
        return cls(str(who.arn), requester_of(who), identity.layers_of(who, resource_account), keys)

    @classmethod
    def of_web_identity(cls, context: Context, caller: Caller, role_account: str, provider: str, keys: Keys) -> Asker:
        """Whoever a verified token speaks for: nobody's policies bear on them but the resource's side."""
        layers = context.trust.identity.layers_of(caller.principal, role_account)
        requester = Requester(RequesterKind.WEB_IDENTITY, name=provider)
        return cls(
            "",
            requester,
            layers,
            {**caller.keys, **keys, **_times(context.clock.now()), "aws:FederatedProvider": provider},
        )


def find_role(context: Context, arn: str) -> Role | None:
    """The role of this ARN; ``None`` where there is none. ``ValidationError`` for what is no role's ARN."""
    try:
        parsed = Arn.parse(arn)
    except UserError:
        raise AwsError("ValidationException", f"{arn} is invalid", "sts") from None
    kind, _, name = parsed.resource.partition("/")
    if parsed.service != "iam" or kind != "role" or not name or not parsed.account:
        raise AwsError("ValidationException", f"{arn} is invalid", "sts")
    try:
        role = context.trust.identity.roles.get(parsed.account, name.rpartition("/")[2])
    except NotFound:
        return None
    return role if str(role.arn) == arn else None


def must_allow(asker: Asker, actions: tuple[str, ...], role_arn: str, role: Role | None, keys: Keys) -> None:
    """Refuse unless every action is allowed on the role; the first that is not is the one that the refusal names."""
    for action in actions:
        if role is None or not _allowed(asker, action, role, keys):
            raise denied(asker, action, role_arn)


def denied(asker: Asker, action: str, role_arn: str) -> AwsError:
    """The refusal in the words of AWS, the same whatever the reason is."""
    if not asker.shown:
        return AwsError("AccessDeniedException", f"Not authorized to perform {action}", "sts")
    text = f"User: {asker.shown} is not authorized to perform: {action} on resource: {role_arn}"
    return AwsError("AccessDeniedException", text, "sts")


def principal_keys(who: Principal, tags: Mapping[str, str], now: datetime) -> dict[str, ContextValue]:
    """The global condition keys that a signed sender has (IAM User Guide, "AWS global condition context keys")."""
    session = who.session
    keys: dict[str, ContextValue] = {
        "aws:PrincipalAccount": who.account,
        "aws:PrincipalArn": str(who.arn) if session is None or not session.role_arn else session.role_arn,
        "aws:PrincipalType": _TYPES[who.kind],
        "aws:userid": who.user_id,
        "aws:PrincipalIsAWSService": "false",
        **{f"aws:PrincipalTag/{key}": value for key, value in tags.items()},
        **_times(now),
    }
    if who.kind == "user":
        keys["aws:username"] = who.arn.resource.rpartition("/")[2]
    if session is not None:
        keys["aws:TokenIssueTime"] = session.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        keys["aws:MultiFactorAuthPresent"] = "true" if session.mfa else "false"
        if session.source_identity:
            keys["aws:SourceIdentity"] = session.source_identity
        if session.federated_provider:
            keys["aws:FederatedProvider"] = session.federated_provider
    return keys


def _times(now: datetime) -> dict[str, ContextValue]:
    return {"aws:CurrentTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "aws:EpochTime": str(int(now.timestamp()))}


def _allowed(asker: Asker, action: str, role: Role, keys: Keys) -> bool:
    policy = _trust_policy(role.trust_policy, str(role.arn), role.arn.partition)
    layers = replace(asker.layers, resource=policy, resource_required=True)
    if policy is None:
        layers = replace(layers, unreadable=(*layers.unreadable, f"trust policy of {role.arn}"))
    tags = {f"{prefix}/{key}": value for key, value in role.tags.items() for prefix in _RESOURCE_TAGS}
    request = Request(
        asker.requester,
        action,
        str(role.arn),
        role.account,
        {**tags, "aws:ResourceAccount": role.account, **asker.keys, **keys},
    )
    decision = decide(request, layers)
    if not decision.allowed:
        log.info("%s on %s denied to %s: %s", action, role.arn, asker.shown or asker.requester.name, decision.reason)
    return decision.allowed


_RESOURCE_TAGS = ("aws:ResourceTag", "iam:ResourceTag")


@lru_cache(maxsize=2048)
def _trust_policy(document: str, name: str, partition: str) -> Policy | None:
    try:
        return compile_policy(document, PolicyRole.TRUST, name, partition)
    except PolicyRefused:
        return None
