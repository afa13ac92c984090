"""One KMS request as its handler sees it: who asks, and the key that is meant.

Whether the sender may was decided before, by ``service.access``: from the key's policy with the grants that fit, and
the layers of the sender. What is left to handlers is who may retire a grant, and how far a grant goes that was made
under another one.

Not covered: an alias that is moved to another key between the decision and the act. Whoever moves it needs permission
on both keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from outcrop.service.operations.base import Caller, Context
from outcrop.trust.identity.layers import requester_of
from outcrop.trust.keys import Grant, Key, KeyService
from outcrop.trust.keys.grants import check_tokens
from outcrop.trust.policy import Request, Requester, decide


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, of which service."""

    context: Context
    caller: Caller

    @property
    def account(self) -> str:
        return self.caller.principal.account

    @property
    def keys(self) -> KeyService:
        return self.context.trust.keys

    @property
    def requester(self) -> Requester:
        return requester_of(self.caller.principal)

    def key(self, named: str, *, alias: bool = False, tokens: Sequence[str] | None = None) -> Key:
        """The key that the request calls ``named``; ``alias`` says whether an alias is a name for this operation."""
        check_tokens(tokens or ())
        return self.keys.find(named, self.account, alias=alias)

    def grant_needed(self, key: Key, action: str, conditions: Mapping[str, str | Sequence[str]]) -> Grant | None:
        """The grant without which the sender could not do ``action``; ``None`` where policies allow it."""
        held = self.keys.grants.allowing(key, self.requester, action, None)
        if held is None:
            return None
        principal = self.caller.principal
        layers = replace(
            self.context.trust.identity.layers_of(principal, key.account),
            resource=self.keys.resource_policy(str(key.arn)),
            resource_required=True,
        )
        known = {**self.caller.keys, "kms:CallerAccount": principal.account, **conditions}
        request = Request(self.requester, f"kms:{action}", str(key.arn), key.account, known)
        return None if decide(request, layers).allowed else held
