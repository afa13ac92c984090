"""What a tenant owns, sealed under the tenant's key: files written and read through the key's present state.

Each object has a data key of its own, wrapped under a customer's key or the account's default key, and is bound to its
ARN, account and version: moved to another place or another tenant it does not open. A disabled key closes every object
under it at once in every process (on PostgreSQL within half a second), open readers included; enabling it opens them
again. A destroyed key closes them for good, wherever copies of the files lie: that is how a tenant's data is erased.

Not covered: whether the caller may use a key, which the service decides before it names one here; which version of an
object is the newest, which its owner records; and plaintext that was read already, in memory or elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from outcrop.base.clock import Clock
from outcrop.base.errors import KeyRefused, NotFound
from outcrop.trust.crypto.keystores import DataKeyCache
from outcrop.trust.crypto.keystores.cache import TTL_S_MAX, USES_MAX
from outcrop.trust.crypto.objects import SealedReader, SealedWriter
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys.ciphers import told
from outcrop.trust.keys.records import Context, Key, master_name
from outcrop.trust.keys.service import KeyService

_BLOCK_BYTES = 1 << 20


class VaultReader(SealedReader):
    """A ``SealedReader`` that looks at its key's state before every chunk, and stops when the key may not be used."""

    def __init__(
        self,
        file: BinaryIO,
        unwrap: Callable[[str, bytes, Context], Secret],
        context: Context,
        require: Callable[[str], object],
    ) -> None:
        self._require = require
        super().__init__(file, unwrap, context)

    def _chunk(self, index: int) -> bytes:
        # The one way to plaintext: whatever method reads, it reads chunks.
        self._require(self.key_name)
        return super()._chunk(index)


class Vault:
    """Objects of every tenant, sealed. Safe in several threads."""

    def __init__(self, keys: KeyService, clock: Clock, *, ttl_s: float = TTL_S_MAX, uses_max: int = USES_MAX) -> None:
        """Unwrapped data keys are kept for ``ttl_s`` (at most 300) and ``uses_max`` uses, and less when withdrawn."""
        self._keys = keys
        self._cache = DataKeyCache(keys.store.unwrap, clock, ttl_s=ttl_s, uses_max=uses_max)
        keys.on_withdrawal(self._forget)

    @property
    def cached_keys(self) -> int:
        """How many unwrapped data keys are in memory here."""
        return len(self._cache)

    def writer(
        self,
        path: Path,
        arn: str,
        account: str,
        version: str,
        *,
        key_id: str | None = None,
        size_bytes: int | None = None,
    ) -> SealedWriter:
        """Begin the object at ``path``; nothing is there until it is finished (see ``SealedWriter``).

        ``key_id`` is a key's id, ARN or alias of the same account; ``None`` is the account's default key. Raises
        ``KeyRefused`` for a key that may not be used, before anything is written.
        """
        key = self._key(account, key_id)
        context = _context(arn, account, version)
        with told(key):
            data_key = self._keys.store.generate_data_key(key.master_name, context)
        return SealedWriter(path, data_key, context, size_bytes=size_bytes)

    def seal_object(
        self,
        path: Path,
        data: bytes | BinaryIO,
        arn: str,
        account: str,
        version: str,
        *,
        key_id: str | None = None,
    ) -> None:
        """Write ``data``, bytes or a binary stream to its end, as the object at ``path``: whole, or not at all."""
        size_bytes = len(data) if isinstance(data, bytes) else None
        with self.writer(path, arn, account, version, key_id=key_id, size_bytes=size_bytes) as writer:
            if isinstance(data, bytes):
                writer.write(data)
            else:
                while block := data.read(_BLOCK_BYTES):
                    writer.write(block)

    def open_object(self, path: Path, arn: str, account: str, version: str) -> SealedReader:
        """Open the object at ``path`` as what it was written as.

        Raises ``NotFound`` (no file), ``Unsealable`` (another ARN, account or version, or changed bytes) and
        ``KeyRefused`` (the key is disabled, waits for its deletion or is gone), also on later reads.
        """
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"There is no {path}.") from None
        try:
            return VaultReader(file, self._unwrap, _context(arn, account, version), self._require)
        except BaseException:
            file.close()
            raise

    def _key(self, account: str, key_id: str | None) -> Key:
        named = self._keys.default_key(account).key_id if key_id is None else key_id
        key = self._keys.ciphers.usable(self._keys.find(named, account).key_id)
        if key.account != account:
            raise KeyRefused("AccessDeniedException", f"{key.arn} is of another account than what it would protect.")
        return key

    def _unwrap(self, name: str, wrapped: bytes, context: Context) -> Secret:
        key = self._require(name)
        with told(key):
            return self._cache.unwrap(name, wrapped, context)

    def _forget(self, key_id: str) -> None:
        self._cache.forget(master_name(key_id))

    def _require(self, name: str) -> Key:
        key_id = name.removeprefix("kms-")
        try:
            return self._keys.ciphers.usable(key_id)
        except KeyRefused:
            self._cache.forget(name)
            raise


def _context(arn: str, account: str, version: str) -> dict[str, str]:
    return {"arn": arn, "account": account, "version": version}
