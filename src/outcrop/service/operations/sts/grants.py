"""Whether somebody may take on a role: its trust policy and the caller's own side, decided together.

A role that does not exist and one that may not be assumed are told alike, so that nobody learns which roles there are.
Denials are kept for administrators. Not covered: explaining why a role that does not exist was not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from outcrop.base.arn import Arn
from outcrop.base.errors import NotFound, UserError
from outcrop.service.access import Denials
from outcrop.service.operations.base import Caller, Context
from outcrop.service.wire.errors import AwsError
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

Keys = Mapping[str, ContextValue]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants the role: the name that a refusal shows, and what the decision must know."""

    shown: str
    requester: Requester
    layers: Layers
    keys: Keys
    request_id: str
    denials: Denials

    @classmethod
    def of(cls, context: Context, caller: Caller, resource_account: str) -> Asker:
        """The signed sender of the request."""
        who = caller.principal
        return cls(
            str(who.arn),
            requester_of(who),
            context.trust.identity.layers_of(who, resource_account),
            caller.keys,
            caller.request_id,
            context.denials,
        )

    @classmethod
    def of_web_identity(cls, context: Context, caller: Caller, role_account: str, provider: str, keys: Keys) -> Asker:
        """Whoever a verified token speaks for: nobody's policies bear on them but the resource's side."""
        of_request = {key: value for key, value in caller.keys.items() if key != "aws:PrincipalType"}
        return cls(
            "",
            Requester(RequesterKind.WEB_IDENTITY, name=provider),
            context.trust.identity.layers_of(caller.principal, role_account),
            {**of_request, **keys, "aws:FederatedProvider": provider},
            caller.request_id,
            context.denials,
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
        asker.denials.keep(asker.request_id, str(asker.keys["aws:CurrentTime"]), request, decision)
    return decision.allowed


_RESOURCE_TAGS = ("aws:ResourceTag", "iam:ResourceTag")


@lru_cache(maxsize=2048)
def _trust_policy(document: str, name: str, partition: str) -> Policy | None:
    try:
        return compile_policy(document, PolicyRole.TRUST, name, partition)
    except PolicyRefused:
        return None
