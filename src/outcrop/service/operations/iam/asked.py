"""One IAM request as its handler sees it: who asks, about which user, in which account.

Whether the sender may was decided before, by ``service.access``, on the user that the request names or, without a name,
on the sender. ``user`` and ``owner`` follow the same rule, so that what is done is done to whom was decided on.
"""

from __future__ import annotations

from dataclasses import dataclass

from outcrop.service.operations.base import Caller, Context
from outcrop.service.operations.iam.errors import SERVICE, validation
from outcrop.service.wire.errors import AwsError
from outcrop.trust.identity import IdentityStore
from outcrop.trust.identity.layers import requester_of
from outcrop.trust.policy import Request, decide


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, of which service."""

    context: Context
    caller: Caller

    @property
    def account(self) -> str:
        return self.caller.principal.account

    @property
    def identity(self) -> IdentityStore:
        return self.context.trust.identity

    def owner(self, name: str | None) -> str | None:
        """The user that is meant; without a name the sender, ``None`` where that is the account's root."""
        who = self.caller.principal
        if name is not None:
            return name
        if who.kind == "root":
            return None
        if who.kind != "user":
            raise validation("Must specify userName when calling with non-User credentials")
        return who.arn.resource.rpartition("/")[2]

    def user(self, name: str | None) -> str:
        """The same where the account's root cannot be meant."""
        found = self.owner(name)
        if found is None:
            raise validation("Must specify userName when calling with non-User credentials")
        return found

    def require(self, action: str, resource: str) -> None:
        """Ask for a permission that only the input's meaning shows to be needed; ``AccessDenied`` without it."""
        who = self.caller.principal
        request = Request(requester_of(who), action, resource, self.account, self.caller.keys)
        if not decide(request, self.identity.layers_of(who)).allowed:
            text = f"User: {who.arn} is not authorized to perform: {action} on resource: {resource}"
            raise AwsError("AccessDeniedException", text, SERVICE)
