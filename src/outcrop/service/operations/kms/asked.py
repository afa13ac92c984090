"""One KMS request as its handler sees it: who asks, and the key that is meant.

Whether the sender may was decided before, by ``service.access``: from the key's policy with the grants that fit, and
the layers of the sender. What is left to handlers is who may retire a grant, and how far a grant goes that was made
under another one.

Not covered: an alias that another process moves to another key in the instant between the decision and ``pinned``.
Whoever moves it needs permission on both keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from outcrop.service.operations.base import Caller, Context
from outcrop.trust.identity.layers import requester_of
from outcrop.trust.keys import Grant, Key, KeyRefused, KeyService
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

    def pinned(self, request: Any) -> Any:
        """``request`` with the keys that its aliases name now, at the decision: it may yet wait for a thread.

        An alias that leads nowhere stays, for the operation to refuse.
        """
        found: dict[str, str] = {}
        for member in ("key_id", "source_key_id", "destination_key_id"):
            named = getattr(request, member, None)
            if isinstance(named, str) and (named.startswith("alias/") or ":alias/" in named):
                with suppress(KeyRefused):
                    found[member] = str(self.keys.find(named, self.account).arn)
        return msgspec.structs.replace(request, **found) if found else request

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
        known = {**self._of_key(key), **self.caller.keys, "kms:CallerAccount": principal.account, **conditions}
        request = Request(self.requester, f"kms:{action}", str(key.arn), key.account, known)
        return None if decide(request, layers).allowed else held

    def _of_key(self, key: Key) -> dict[str, str | list[str]]:
        """What the stage knew of the key: without it a condition that says "not" would hold here and not there."""
        return {
            **{f"aws:ResourceTag/{name}": value for name, value in self.keys.rows.tags(key.key_id).items()},
            "aws:ResourceAccount": key.account,
            "kms:KeySpec": key.spec.value,
            "kms:KeyUsage": key.usage.value,
            "kms:ResourceAliases": [alias.name for alias in self.keys.rows.aliases(key.account, key.key_id)],
        }
