"""The decision over all layers, in AWS's order, with every statement that bore on it.

Source: IAM User Guide, "Determining whether a request is allowed or denied within an account" and "Cross-account policy
evaluation logic"; AWS Organizations User Guide on SCPs and RCPs. Every layer is looked at even when the outcome is
certain, so that the answer can be explained. Not covered: VPC endpoint policies and access control lists.
"""

from __future__ import annotations

from collections.abc import Iterable

from outcrop.base.errors import check
from outcrop.trust.policy.base import (
    Decision,
    Effect,
    Layers,
    MatchedStatement,
    PolicyRole,
    Reason,
    Request,
    RequesterKind,
)
from outcrop.trust.policy.compile import Policy, Query
from outcrop.trust.policy.principals import Reach

_WITHOUT_POLICIES = frozenset({RequesterKind.WEB_IDENTITY, RequesterKind.SERVICE, RequesterKind.ANONYMOUS})
"""Requesters that no identity policy can speak for."""


class _Survey:
    """What the statements of all layers say about one request."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.denied = False
        self.matched: list[MatchedStatement] = []

    def allows(self, policies: Iterable[Policy], *roles: PolicyRole) -> Reach:
        """The farthest reach of an Allow in ``policies``, which must be of ``roles``; denials are noted."""
        best, query = Reach.NONE, self.query
        for policy in policies:
            if policy.role not in roles:
                check(False, f"policy {policy.name!r}, a {policy.role}, does not stand in the place of a {roles[0]}")
            for statement in policy.speaking_of(query.action):
                reach = statement.reach(query)
                if not reach:
                    continue
                self.matched.append(statement.record)
                if statement.effect is Effect.DENY:
                    self.denied = True
                else:
                    best = max(best, reach)
        return best


def decide(request: Request, layers: Layers) -> Decision:
    """Whether ``layers`` let ``request`` through, and why."""
    survey = _Survey(Query.of(request, layers.boundary is not None))
    # min() looks at every level, also after one that does not allow.
    rcps = min((survey.allows(level, PolicyRole.RCP) for level in layers.rcps), default=Reach.DIRECT)
    scps = min((survey.allows(level, PolicyRole.SCP) for level in layers.scps), default=Reach.DIRECT)
    granted = survey.allows([layers.resource] if layers.resource else (), PolicyRole.RESOURCE, PolicyRole.TRUST)
    own = bool(survey.allows(layers.identity, PolicyRole.IDENTITY))
    limit = None
    if layers.session is not None and not survey.allows(layers.session, PolicyRole.SESSION):
        limit = Reason.SESSION
    if layers.boundary is not None and not survey.allows([layers.boundary], PolicyRole.BOUNDARY):
        limit = Reason.BOUNDARY
    if survey.denied:
        reason = Reason.EXPLICIT_DENY
    elif layers.unreadable:
        reason = Reason.UNREADABLE
    elif not rcps:
        reason = Reason.RCP
    elif not scps:
        reason = Reason.SCP
    else:
        reason = _of_both_sides(request, layers, granted, own, limit)
    effect = Effect.ALLOW if reason in _ALLOWING else Effect.DENY
    missing = survey.query.missing
    return Decision(effect, reason, tuple(survey.matched), tuple(missing[key] for key in sorted(missing)))


_ALLOWING = frozenset({Reason.ALLOWED_ROOT, Reason.ALLOWED_IDENTITY, Reason.ALLOWED_RESOURCE, Reason.ALLOWED_BOTH})


def _of_both_sides(request: Request, layers: Layers, granted: Reach, own: bool, limit: Reason | None) -> Reason:
    """What the resource's side (``granted``) and the requester's (``own`` within ``limit``) come to.

    Asked once nothing denies and the organisation allows.
    """
    requester = request.requester
    if requester.kind in _WITHOUT_POLICIES:
        return Reason.ALLOWED_RESOURCE if granted else Reason.RESOURCE
    is_root = requester.kind is RequesterKind.ROOT
    if requester.kind is RequesterKind.FEDERATED and layers.session is None:
        own = False  # a federated user has only what was passed with the session
    crosses = request.resource_account not in ("", requester.account)
    if not granted and (crosses or layers.resource_required):
        return Reason.RESOURCE
    permitted = own or is_root
    if not crosses:
        if granted is Reach.DIRECT and not (permitted and limit is None):
            return Reason.ALLOWED_RESOURCE
        permitted = permitted or granted is Reach.BEHIND
    if not permitted:
        return Reason.IDENTITY
    if limit is not None:
        return limit
    if granted:
        return Reason.ALLOWED_BOTH if own else Reason.ALLOWED_RESOURCE
    return Reason.ALLOWED_ROOT if is_root else Reason.ALLOWED_IDENTITY
