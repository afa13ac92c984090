"""What the decide stage asks of the rooms below: the policies of a principal, and what is known of a resource.

``LayerSource`` is the identity store. ``RootOnly`` stands in for it where nobody but the account's root exists, and
``MemoryLayers`` in tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from outcrop.trust.identity import Principal
from outcrop.trust.policy import ContextValue, Layers, Policy


@dataclass(frozen=True, slots=True)
class Resource:
    """What an action is asked on. ``account`` owns it; empty for what is nobody's, as a foundation model or ``*``.

    ``policy`` is its own policy, ``policy_required`` that this policy must allow by itself. ``unreadable`` names a
    stored policy that could not be compiled: the decision is then a denial.
    """

    arn: str
    account: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    policy: Policy | None = None
    policy_required: bool = False
    unreadable: str = ""
    keys: Mapping[str, ContextValue] = field(default_factory=dict)
    """Condition keys that hold for the action on this resource only."""
    refusal: str = ""
    """What a denial is told as, whatever its reason: where the reason would tell whether the resource exists."""


class LayerSource(Protocol):
    """The policies that bear on what a principal does; ``IdentityStore`` is one. Every request asks it."""

    def layers_of(self, principal: Principal, resource_account: str = "") -> Layers:
        """Every layer but the resource's own policy; resource control policies are those of ``resource_account``."""
        ...

    def principal_tags(self, principal: Principal) -> Mapping[str, str]:
        """The tags that ``aws:PrincipalTag`` has: those of the user or role, a session's own above them."""
        ...


class RootOnly:
    """A ``LayerSource`` without any policy: the account's root may do everything, anybody else nothing."""

    def layers_of(self, principal: Principal, resource_account: str = "") -> Layers:
        return Layers()

    def principal_tags(self, principal: Principal) -> Mapping[str, str]:
        return {}


class MemoryLayers:
    """A ``LayerSource`` from mappings by the principal's ARN: the twin for tests and benchmarks."""

    def __init__(
        self, layers: Mapping[str, Layers] | None = None, tags: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self.by_arn = dict(layers or {})
        self.tags = dict(tags or {})

    def layers_of(self, principal: Principal, resource_account: str = "") -> Layers:
        return self.by_arn.get(str(principal.arn), Layers())

    def principal_tags(self, principal: Principal) -> Mapping[str, str]:
        return self.tags.get(str(principal.arn), {})
