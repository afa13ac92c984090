"""The stage between decode and act: every permission that the operation's row asks for must be given.

The policies come compiled from the identity store, which keeps them until anything about identities changes. What holds
for a principal is kept here as long as its tags are the same. A denial is ``AccessDeniedException`` in AWS's words and
is kept for administrators under the id of its request; a policy that cannot be read, a row that is missing and an
error on the way are no permission.

Not covered: what rows mark as decided by the handler. ``require`` is how a handler asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from outcrop.base.arn import Scope
from outcrop.base.clock import Clock
from outcrop.base.errors import NotFound, check
from outcrop.service.access import context
from outcrop.service.access.base import LayerSource, Resource
from outcrop.service.access.denials import Denials
from outcrop.service.access.members import member
from outcrop.service.access.resources import Question, Resources
from outcrop.service.access.table import Permission, Row, Target, load
from outcrop.service.access.wording import denied
from outcrop.service.http import RawRequest
from outcrop.service.wire.errors import AwsError
from outcrop.trust.identity import Principal
from outcrop.trust.identity.layers import requester_of
from outcrop.trust.policy import ContextValue, Decision, Layers, Request, Requester, decide

BEARER = Permission("bedrock:CallWithBearerToken", Target("*"))
"""What an API key needs besides (Bedrock User Guide, "Control permissions for using Amazon Bedrock API keys")."""

PRINCIPALS_MAX = 4096
PATHS_KNOWN_FOR_S = 1.0
"""Where an account stands in the organisation is asked this often at most; its control policies are always asked."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One request as the stage sees it."""

    principal: Principal
    request: RawRequest
    request_id: str
    input: Any = None


class Access:
    """Decides for one service."""

    def __init__(
        self,
        source: LayerSource,
        resources: Resources,
        clock: Clock,
        denials: Denials,
        organisation_path: Callable[[str], str] = lambda account: "",
    ) -> None:
        """``organisation_path`` tells ``o-…/r-…/ou-…/`` of an account, empty outside the organisation."""
        self._source = source
        self._resources = resources
        self._clock = clock
        self._denials = denials
        self._organisation_path = organisation_path
        self._rows = load()
        self._known: dict[object, tuple[Mapping[str, str], str, context.Keys]] = {}
        self._paths: dict[str, tuple[float, str]] = {}

    def decide(self, operation: str, asking: Asking) -> context.Keys:
        """Let the request through, or raise ``AwsError``: every permission of ``operation``'s row must be given.

        The result is what is known of the request, for decisions that the handler has still to make.
        """
        known = self._of_request(asking)
        row = self._rows.get(operation)
        check(row is not None, f"{operation} has a row")
        assert row is not None
        if asking.principal.auth == "bearer":
            self._ask(BEARER, Row(operation, "stage"), asking, known)
        for permission in row.permissions:
            if permission.when and member(asking.input, permission.when) in (None, []):
                continue
            if row.stream_action and getattr(asking.input, "stream", None):
                permission = replace(permission, action=row.stream_action)  # noqa: PLW2901 - the one that is asked
            self._ask(permission, row, asking, known)
        return known

    def require(
        self,
        asking: Asking,
        action: str,
        resource: Resource,
        keys: Mapping[str, ContextValue] | None = None,
        requester: Requester | None = None,
    ) -> None:
        """Ask for one permission that only the handler knows of, as ``iam:PassRole`` or a role's trust policy.

        ``keys`` are further condition keys; ``requester`` replaces the principal where a token of an identity provider
        has just been checked. Raises ``AwsError`` where it is not given.
        """
        known = self._of_request(asking) | dict(keys or {})
        self._one(asking, requester or requester_of(asking.principal), action, resource, known)

    # --- one permission -------------------------------------------------------------------------------------------

    def _ask(self, permission: Permission, row: Row, asking: Asking, known: context.Keys) -> None:
        prefix, path = permission.map_key
        entries: Mapping[str, str] = (member(asking.input, path) or {}) if path else {}
        requester = requester_of(asking.principal)
        scope = self._resources.scope
        keys = known | context.of_input(row, asking.input, guardrail_arn(scope, asking.principal.account))
        keys |= context.of_map(prefix, entries)
        question = Question(asking.principal, requester, permission.action, asking.input, entries)
        for resource in self._resources.find(question, permission.target):
            self._one(asking, requester, permission.action, resource, keys)

    def _one(
        self, asking: Asking, requester: Requester, action: str, resource: Resource, keys: Mapping[str, ContextValue]
    ) -> None:
        principal = asking.principal
        organisation = keys.get("aws:PrincipalOrgID", "") if resource.account == principal.account else ""
        # What the request asks for comes before what the resource has now: a boundary that is to be, not the old one.
        known = {**context.of_resource(resource, action, principal, str(organisation)), **keys}
        request = Request(requester, action, resource.arn, resource.account, known)
        decision = decide(request, self._layers(principal, resource))
        if not decision.allowed:
            self._refuse(asking, request, decision, resource)

    def _layers(self, principal: Principal, resource: Resource) -> Layers:
        layers = self._source.layers_of(principal, resource.account)
        if resource.policy is None and not resource.policy_required and not resource.unreadable:
            return layers
        unreadable = (*layers.unreadable, resource.unreadable) if resource.unreadable else layers.unreadable
        return replace(
            layers, resource=resource.policy, resource_required=resource.policy_required, unreadable=unreadable
        )

    def _refuse(self, asking: Asking, request: Request, decision: Decision, resource: Resource) -> None:
        moment = str(request.context["aws:CurrentTime"])
        self._denials.keep(asking.request_id, moment, request, decision)
        raise AwsError("AccessDeniedException", resource.refusal or denied(request, decision))

    # --- what is known --------------------------------------------------------------------------------------------

    def _of_request(self, asking: Asking) -> context.Keys:
        keys = context.of_request(asking.request, self._clock.now(), self._resources.scope.region)
        return self._of_principal(asking.principal) | keys

    def _of_principal(self, principal: Principal) -> context.Keys:
        tags = self._source.principal_tags(principal)
        path = self._path(principal.account)
        who = (principal.access_key_id, principal.arn, principal.bearer_type, principal.token_issued_at)
        known = self._known.get(who)
        if known is None or known[0] != tags or known[1] != path:
            if len(self._known) >= PRINCIPALS_MAX:
                self._known.clear()
            known = self._known[who] = (tags, path, context.of_principal(principal, tags, path))
        return known[2]

    def _path(self, account: str) -> str:
        now_s = self._clock.monotonic_s()
        known = self._paths.get(account)
        if known is None or known[0] < now_s:
            if len(self._paths) >= PRINCIPALS_MAX:
                self._paths.clear()
            known = self._paths[account] = (now_s + PATHS_KNOWN_FOR_S, self._read_path(account))
        return known[1]

    def _read_path(self, account: str) -> str:
        try:
            return self._organisation_path(account) if account else ""
        except NotFound:
            return ""


def guardrail_arn(scope: Scope, account: str) -> str:
    """The ARN of a guardrail of ``account`` without its id."""
    return f"arn:{scope.partition}:bedrock:{scope.region}:{account}:guardrail/"
