"""Signatures that hold once: what a deployment needs to refuse a captured request that changes something.

SigV4 has no nonce, so a signature stays in memory for as long as it could be sent again. The bounds are hard: where a
signature cannot be remembered it is refused, for otherwise filling the memory would switch the check off. A share for
each account keeps one tenant from using up the others' room. A signature made before this process started is refused
as well, since the process before it may have seen it: after a restart a client whose clock is behind waits for that.

What it costs, and why it is not the default: two requests of equal content signed in the same second with the same key
carry the same signature, and the second is refused; some clients retry in this way.

Not covered: API keys, which are sent with every request; several processes behind one address, whose memories are
separate; and requests of operations that change nothing and give no credentials out, Decrypt of KMS among them.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from datetime import datetime

from outcrop.trust.identity import refusals

ENTRIES_MAX = 200_000  # some 60 MB; 333 changing requests a second for ten minutes
ACCOUNT_ENTRIES_MAX = 50_000


class ReplayCache:
    """The signatures seen and still valid; any thread may use it."""

    def __init__(
        self,
        started_at: datetime,
        entries_max: int = ENTRIES_MAX,
        account_entries_max: int = ACCOUNT_ENTRIES_MAX,
    ) -> None:
        """``started_at`` is the first moment that a signature may carry, to the second."""
        self._started_at = started_at.replace(microsecond=0)
        self._entries_max = entries_max
        self._account_entries_max = account_entries_max
        self._seen: set[str] = set()
        self._held: Counter[str] = Counter()
        self._ends: list[tuple[datetime, str, str]] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def use(self, signature: str, account: str, signed_at: datetime, ends_at: datetime, now: datetime) -> None:
        """Remember a signature that has been verified; an ``AuthenticationError`` when it came before.

        It is kept until ``ends_at``, the last moment at which it is accepted.
        """
        if signed_at < self._started_at:
            raise refusals.replayed("signed before this process started, so an earlier one may have seen it")
        with self._lock:
            while self._ends and self._ends[0][0] < now:
                _, old, owner = heapq.heappop(self._ends)
                self._seen.remove(old)
                self._held[owner] -= 1
            if signature in self._seen:
                raise refusals.replayed(f"signature of {signed_at.isoformat()} by account {account} came again")
            if len(self._seen) >= self._entries_max or self._held[account] >= self._account_entries_max:
                raise refusals.busy(
                    f"replay cache full: {len(self._seen)} signatures, {self._held[account]} of account {account}"
                )
            self._seen.add(signature)
            self._held[account] += 1
            heapq.heappush(self._ends, (ends_at, signature, account))
