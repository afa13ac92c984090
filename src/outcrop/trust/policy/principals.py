"""``Principal`` and ``NotPrincipal``: whom a statement names, and how far a grant to that name reaches.

Source: IAM User Guide, "AWS JSON policy elements: Principal", "…: NotPrincipal" and "Determining whether a request is
allowed or denied within an account". Not covered: canonical user ids, unique ids (AIDA…), and organisations, which are
condition keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from outcrop.trust.policy.base import Requester, RequesterKind

_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_IDENTITY = re.compile(
    r"arn:(?P<partition>[a-z0-9-]+):(?:"
    r"iam::(?P<account>[0-9]{12}):(?P<kind>root|(?:user|role)/[\w+=,.@/-]+)"
    r"|sts::[0-9]{12}:(?:assumed-role/[\w+=,.@-]+/[\w+=,.@-]+|federated-user/[\w+=,.@-]+))",
    re.ASCII,
)
_SERVICE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.ASCII)
_PROVIDER = re.compile(r"arn:(?P<partition>[a-z0-9-]+):iam::[0-9]{12}:(?:oidc|saml)-provider/[\w+=,.@:/%-]+", re.ASCII)
_PUBLIC_PROVIDERS = frozenset(
    {"cognito-identity.amazonaws.com", "www.amazon.com", "graph.facebook.com", "accounts.google.com"}
)


class Reach(IntEnum):
    """How directly a resource's policy names the requester: what an Allow is worth within one account."""

    NONE = 0
    ACCOUNT = 1
    """It names the account, which may pass the permission on: an identity policy must allow too."""
    BEHIND = 2
    """It names the role (or user) behind the session: boundary and session policy still limit."""
    DIRECT = 3
    """It names the requester, or everyone: no other layer has to allow."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The names under which one requester can stand in a policy."""

    account: frozenset[str]
    behind: str
    own: str
    """The name that grants directly: the ARN of a user, session or root, a service's or a provider's name."""
    is_root: bool
    has_boundary: bool

    @classmethod
    def of(cls, requester: Requester, has_boundary: bool) -> Standing:
        kind = requester.kind
        if kind in (RequesterKind.SERVICE, RequesterKind.WEB_IDENTITY):
            return cls(frozenset(), "", f"{kind} {requester.name}", False, has_boundary)
        if kind is RequesterKind.ANONYMOUS:
            return cls(frozenset(), "", "", False, has_boundary)
        partition = requester.arn.split(":", 2)[1]
        account = frozenset({requester.account, f"arn:{partition}:iam::{requester.account}:root"})
        is_root = kind is RequesterKind.ROOT
        return cls(account, requester.role_arn, requester.arn, is_root, has_boundary)


@dataclass(frozen=True, slots=True)
class Principals:
    """What one ``Principal`` or ``NotPrincipal`` element names."""

    everyone: bool
    names: frozenset[str]
    negated: bool

    def reach(self, standing: Standing) -> Reach:
        """How the statement reaches the requester; ``NONE`` when it does not apply to them.

        ``NotPrincipal`` excepts a requester only when all of its names are listed: account, role and session, or
        account and user. It never excepts somebody with a permissions boundary.
        """
        if self.negated:
            return Reach.NONE if self._excepts(standing) else Reach.DIRECT
        if self.everyone or standing.own in self.names:
            return Reach.DIRECT
        if standing.behind in self.names:
            return Reach.BEHIND
        return Reach.NONE if standing.account.isdisjoint(self.names) else Reach.ACCOUNT

    def _excepts(self, standing: Standing) -> bool:
        if standing.has_boundary:
            return False
        if standing.account and standing.account.isdisjoint(self.names):
            return False
        if standing.behind and standing.behind not in self.names:
            return False
        return standing.is_root or standing.own in self.names


def read(element: str | Mapping[str, Sequence[str]], negated: bool, partitions: frozenset[str]) -> Principals:
    """The principals of one element, its values being lists; ``ValueError`` with the reason when one is unknown."""
    if isinstance(element, str):
        if element != "*" or negated:
            raise ValueError('a text here can only be "*", and that only in Principal')
        return Principals(True, frozenset(), False)
    names: set[str] = set()
    for kind, values in element.items():
        for value in values:
            names.add(_name(kind, value, partitions))
    everyone = "*" in names
    if everyone and negated:
        raise ValueError('NotPrincipal with "*" excepts everyone')
    return Principals(everyone, frozenset(names), negated)


def _name(kind: str, value: str, partitions: frozenset[str]) -> str:
    """``value`` as it stands in ``Principals.names``."""
    if kind == "AWS":
        if value == "*" or _ACCOUNT.fullmatch(value):
            return value
        match = _IDENTITY.fullmatch(value)
        if match is None:
            raise ValueError(
                f"{value[:80]!r} is not a principal: name an account, its root, a user, a role or a session by its "
                "whole ARN, without wildcards or variables"
            )
        _check_partition(match["partition"], partitions)
        return value
    if kind == "Service":
        if _SERVICE.fullmatch(value) is None:
            raise ValueError(f"{value[:80]!r} is not a service's name such as bedrock.amazonaws.com")
        return f"{RequesterKind.SERVICE} {value}"
    if kind == "Federated":
        match = _PROVIDER.fullmatch(value)
        if match is not None:
            _check_partition(match["partition"], partitions)
        elif value not in _PUBLIC_PROVIDERS:
            raise ValueError(f"{value[:80]!r} is not the ARN of an OIDC or SAML provider")
        return f"{RequesterKind.WEB_IDENTITY} {value}"
    raise ValueError(f"{kind[:80]!r} is not supported: use AWS, Service or Federated")


def _check_partition(partition: str, partitions: frozenset[str]) -> None:
    if partition not in partitions:
        raise ValueError(f"{partition!r} is not a known partition")
