"""Small values sealed under a data key of a key store: what rooms use for the secrets in their tables and tokens.

A sealed value is the length of the wrapped data key (2 bytes), the wrapped data key, and the value sealed by ``aead``.
One data key serves many values for an hour, which is safe because ``aead`` gives each message a key of its own; so
sealing does not ask the store each time, and unsealing asks the cache.

Not covered: as for ``aead`` (lengths show, replays are not noticed). When the master key is destroyed, values sealed in
the last hour still open in the process that sealed them until the cache forgets.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.errors import Unsealable
from outcrop.trust.crypto.aead import seal, unseal
from outcrop.trust.crypto.keystores.base import DEPLOYMENT_KEY, DataKey, KeyStore
from outcrop.trust.crypto.keystores.cache import DataKeyCache

DATA_KEY_LIFETIME_S = 3600.0
_LENGTH_BYTES = 2
_KEY_CONTEXT = {"purpose": "sealed values"}


class EnvelopeSealer:
    """Seals small values under the master key ``name``, which is made when it is not there. Safe in several threads."""

    def __init__(
        self,
        store: KeyStore,
        name: str = DEPLOYMENT_KEY,
        *,
        clock: Clock | None = None,
        cache: DataKeyCache | None = None,
    ) -> None:
        """``cache`` lets several sealers and readers share one, so that one ``forget`` reaches all."""
        self._store, self._name = store, name
        self._clock = clock or SystemClock()
        self._cache = cache or DataKeyCache(store.unwrap, self._clock)
        self._current: DataKey | None = None
        self._until_s = 0.0
        self._lock = threading.Lock()
        store.ensure(name)

    def seal(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """``plaintext`` (at most 64 MiB), sealed for ``context``."""
        key = self._sealing_key()
        head = len(key.wrapped).to_bytes(_LENGTH_BYTES, "big") + key.wrapped
        return head + seal(key.plaintext, plaintext, self._bound(context))

    def unseal(self, sealed: bytes, context: Mapping[str, str]) -> bytes:
        """What was sealed; ``Unsealable`` for another context, another store's or changed bytes."""
        end = _LENGTH_BYTES + int.from_bytes(sealed[:_LENGTH_BYTES], "big")
        if len(sealed) <= end:
            raise Unsealable
        key = self._cache.unwrap(self._name, sealed[_LENGTH_BYTES:end], _KEY_CONTEXT)
        return unseal(key, sealed[end:], self._bound(context))

    def renew(self) -> None:
        """Seal with a new data key from now on: to be called after the master key was rotated or withdrawn."""
        with self._lock:
            self._current = None

    def _sealing_key(self) -> DataKey:
        with self._lock:
            if self._current is None or self._clock.monotonic_s() >= self._until_s:
                self._current = self._store.generate_data_key(self._name, _KEY_CONTEXT)
                self._until_s = self._clock.monotonic_s() + DATA_KEY_LIFETIME_S
            return self._current

    def _bound(self, context: Mapping[str, str]) -> dict[str, str]:
        # The caller's keys get a prefix, so that none of them can take the place of ours.
        return {"master key": self._name, **{f"context {key}": context[key] for key in context}}
