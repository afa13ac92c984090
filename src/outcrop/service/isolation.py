"""Who shares an engine's prefix cache: the requests of one account to one model, and nobody else.

The scope that an engine is given is HMAC-SHA-256, under a secret made when the service starts, of the account, the
model and an isolation group. The engine compares scopes byte by byte and knows no accounts; because of the secret, no
scope can be computed, or traced to an account, from what an engine might show. The account is the authenticated
principal's and the model the one resolved for it: nothing of a request's body or headers enters.

The secret lives as long as the caches it separates, in this process. The isolation group divides one account further;
no surface sets it yet, so all principals of an account share.

Not covered: principals of one account can tell, by time and by the usage that is reported, whether a colleague sent a
prompt that begins like theirs. Accounts share processors, queues and the cache's room (see ``inference.prefix_cache``).
"""

from __future__ import annotations

from collections.abc import Callable

from outcrop.base.arn import AccountId
from outcrop.trust.crypto import hmac_sha256, random_token


class CacheScopes:
    """Derives scopes under one secret, which its ``repr`` does not show."""

    def __init__(self, keeps: Callable[[AccountId], bool] = lambda account: True) -> None:
        """``keeps`` says whether anything of an account's requests may be kept beyond them."""
        self._secret = random_token().encode()
        self._keeps = keeps

    def scope(self, account: AccountId, model_id: str, group: str = "") -> bytes:
        """The scope of an account's requests to a model, 32 bytes; empty, which shares nothing, where it keeps none."""
        if not self._keeps(account):
            return b""
        parts = (part.encode() for part in ("prefix cache v1", account, model_id, group))
        return hmac_sha256(self._secret, b"".join(len(part).to_bytes(4, "big") + part for part in parts))
