"""What goes into a decision and what comes out of it, as frozen records.

Source of the layers and their order: AWS IAM User Guide, "Policy evaluation logic" and "Determining whether a request
is allowed or denied within an account".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from outcrop.base.errors import check

if TYPE_CHECKING:
    from outcrop.trust.policy.compile import Policy

ContextValue = str | Sequence[str]
"""One value of a condition key, or all values of a key that may have several (also none)."""


class PolicyRole(StrEnum):
    """What a document is to be used as: each kind allows and requires other elements."""

    IDENTITY = "identity policy"
    RESOURCE = "resource policy"
    TRUST = "role trust policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"
    SCP = "service control policy"
    RCP = "resource control policy"


class Effect(StrEnum):
    ALLOW = "Allow"
    DENY = "Deny"


class RequesterKind(StrEnum):
    """How the requester stands in a ``Principal`` element, and which layers apply to it."""

    ROOT = "root"
    USER = "user"
    SESSION = "assumed-role"
    FEDERATED = "federated-user"
    WEB_IDENTITY = "web-identity"
    """Somebody with a token of an OIDC provider, before a role is assumed."""
    SERVICE = "service"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks.

    ``arn`` is the user's, the account root's, or the session's (``arn:aws:sts::ID:assumed-role/ROLE/SESSION``);
    ``role_arn`` is the role behind a session, or the user behind a federated one; ``name`` is a service's principal
    name or an OIDC provider's ARN.
    """

    kind: RequesterKind
    account: str = ""
    arn: str = ""
    role_arn: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind in (RequesterKind.SERVICE, RequesterKind.WEB_IDENTITY):
            check(bool(self.name), f"a requester of kind {self.kind} has a name")
        elif self.kind is not RequesterKind.ANONYMOUS:
            check(bool(self.account) and self.arn.startswith("arn:"), f"a {self.kind} has an account and an ARN")
            check(self.kind is not RequesterKind.SESSION or bool(self.role_arn), "a session has a role")


@dataclass(frozen=True, slots=True)
class Request:
    """One action on one resource.

    ``action`` is ``prefix:Name``; ``resource`` an ARN, or ``*`` where the action knows none; ``resource_account`` the
    account that owns it (empty: nobody's, as a foundation model's; the requester's own account then decides alone).
    ``context`` maps condition keys, in any case, to their values; a key that is absent here is absent.
    """

    requester: Requester
    action: str
    resource: str
    resource_account: str = ""
    context: Mapping[str, ContextValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(":" in self.action and bool(self.resource), "a request names an action prefix:Name and a resource")


@dataclass(frozen=True, slots=True)
class Layers:
    """Every policy that bears on a request, compiled.

    ``scps`` and ``rcps`` hold one group for each level from the organisation's root down to the account: every level
    must allow. An account outside an organisation, and the management account, has no levels. ``session`` is what was
    passed when a session began: all of it together must allow. ``resource_required`` marks resources whose policy must
    allow by itself even in the same account (KMS keys, roles to be assumed).
    """

    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None
    resource: Policy | None = None
    resource_required: bool = False
    scps: tuple[tuple[Policy, ...], ...] = ()
    rcps: tuple[tuple[Policy, ...], ...] = ()
    unreadable: tuple[str, ...] = ()
    """Names of stored policies that could not be compiled: any makes the decision a denial."""


class Reason(StrEnum):
    """Why a decision came out as it did; the texts go to administrators, never to callers."""

    EXPLICIT_DENY = "a statement denies it explicitly"
    RCP = "no resource control policy of some level allows it"
    SCP = "no service control policy of some level allows it"
    BOUNDARY = "the permissions boundary does not allow it"
    SESSION = "the session policy does not allow it"
    IDENTITY = "no identity policy allows it"
    RESOURCE = "the resource's policy does not allow it"
    UNREADABLE = "a policy that bears on it cannot be read"
    ALLOWED_ROOT = "the account's root may do everything that the organisation allows"
    ALLOWED_IDENTITY = "an identity policy allows it"
    ALLOWED_RESOURCE = "the resource's policy allows it"
    ALLOWED_BOTH = "an identity policy and the resource's policy allow it"


@dataclass(frozen=True, slots=True)
class MatchedStatement:
    """One statement that applied: the policy's name, its role, the statement's Sid or place (``Statement[0]``)."""

    policy: str
    role: PolicyRole
    statement: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome. ``missing_keys`` are condition keys that were asked for and absent from the request."""

    effect: Effect
    reason: Reason
    matched: tuple[MatchedStatement, ...] = ()
    missing_keys: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return self.effect is Effect.ALLOW
