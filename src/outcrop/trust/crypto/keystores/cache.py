"""Unwrapped data keys, kept for a short while, so that not every read asks the key store.

A key is kept for at most 300 s and a bounded number of uses, and no longer once ``forget`` is called for its master
key, which is what disabling a key does. So a disabled key stops working at once in the process that disables it, and
within 300 s in any other.

Not covered: whoever holds an unwrapped key already (an open ``SealedReader``) keeps it. Forgetting drops the
reference; when Python overwrites the memory is its own affair.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.errors import check
from outcrop.trust.crypto.hashes import sha256_hex
from outcrop.trust.crypto.kdf import encode_context
from outcrop.trust.crypto.keystores.base import Unwrap
from outcrop.trust.crypto.secret import Secret

TTL_S_MAX = 300.0
USES_MAX = 10_000
ENTRIES_MAX = 1_000


@dataclass(slots=True)
class CacheCounts:
    """What happened since the start."""

    hits: int = 0
    misses: int = 0
    expired: int = 0
    forgotten: int = 0


@dataclass(slots=True)
class _Entry:
    key: Secret
    name: str
    until_s: float
    uses_left: int


class DataKeyCache:
    """Stands in front of a key store's ``unwrap``, and is called the same way. Safe in several threads."""

    def __init__(
        self,
        unwrap: Unwrap,
        clock: Clock | None = None,
        *,
        ttl_s: float = TTL_S_MAX,
        uses_max: int = USES_MAX,
        entries_max: int = ENTRIES_MAX,
    ) -> None:
        check(0 < ttl_s <= TTL_S_MAX, "an unwrapped key is kept for at most 300 s")
        check(uses_max >= 1 and entries_max >= 1, "a cache has room for one use of one key")
        self._unwrap = unwrap
        self._clock = clock or SystemClock()
        self._ttl_s, self._uses_max, self._entries_max = ttl_s, uses_max, entries_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._counts = CacheCounts()
        self._forgettings = 0
        self._lock = threading.Lock()

    def unwrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        """The data key, from here or from the store; raises what the store raises. Refusals are not kept."""
        place = sha256_hex(encode_context({"name": name, "wrapped": wrapped.hex()}) + encode_context(context))
        with self._lock:
            if (entry := self._live_entry(place)) is not None:
                self._counts.hits += 1
                entry.uses_left -= 1
                return entry.key
            self._counts.misses += 1
            forgettings_before = self._forgettings
            # Taken before the store is asked: a key disabled while the answer is under way must not live longer.
            until_s = self._clock.monotonic_s() + self._ttl_s
        key = self._unwrap(name, wrapped, context)
        with self._lock:
            if self._forgettings == forgettings_before and self._uses_max > 1:
                self._entries[place] = _Entry(key, name, until_s, self._uses_max - 1)
                self._entries.move_to_end(place)
                while len(self._entries) > self._entries_max:
                    self._entries.popitem(last=False)
        return key

    def forget(self, name: str) -> int:
        """Drop every data key of the master key ``name``, also one being unwrapped now; the number dropped."""
        with self._lock:
            places = [place for place, entry in self._entries.items() if entry.name == name]
            for place in places:
                del self._entries[place]
            self._counts.forgotten += len(places)
            self._forgettings += 1
            return len(places)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._counts.forgotten += len(self._entries)
            self._entries.clear()
            self._forgettings += 1

    def counts(self) -> CacheCounts:
        """A copy of the counts."""
        with self._lock:
            counts = self._counts
            return CacheCounts(counts.hits, counts.misses, counts.expired, counts.forgotten)

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def _live_entry(self, place: str) -> _Entry | None:
        entry = self._entries.get(place)
        if entry is None:
            return None
        if entry.uses_left < 1 or self._clock.monotonic_s() >= entry.until_s:
            del self._entries[place]
            self._counts.expired += 1
            return None
        self._entries.move_to_end(place)
        return entry
