"""A key store in memory: the twin for tests, gone with the process.

It wraps as the passphrase store does (``VersionedKeys``), which keeps the same records in a file.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping

from outcrop.base.errors import AlreadyExists, Unsealable
from outcrop.trust.crypto.aead import seal, unseal
from outcrop.trust.crypto.kdf import KEY_BYTES
from outcrop.trust.crypto.keystores.base import (
    DEPLOYMENT_KEY,
    KeyStore,
    MasterKey,
    check_contract,
    no_such_key,
    require_name,
    require_wrappable,
)
from outcrop.trust.crypto.secret import Secret

VERSION_BYTES = 4  # before a wrapped key: the master key's version, big endian


class VersionedKeys:
    """Master keys in this process's memory, and wrapping under them. Not locked: its owner sees to that."""

    def __init__(self, keys: Mapping[str, Mapping[int, Secret]] | None = None) -> None:
        self._keys = {name: dict(versions) for name, versions in (keys or {}).items()}

    def copy(self) -> VersionedKeys:
        """The same keys, to be changed apart."""
        return VersionedKeys(self._keys)

    def items(self) -> list[tuple[str, dict[int, Secret]]]:
        """Every name with its versions."""
        return sorted(self._keys.items())

    def create(self, name: str) -> None:
        require_name(name)
        if name in self._keys:
            raise AlreadyExists(f"The key store has a master key {name!r} already.", "Rotate it, or choose a name.")
        self._keys[name] = {1: Secret(secrets.token_bytes(KEY_BYTES))}

    def rotate(self, name: str) -> None:
        versions = self._versions(name)
        versions[max(versions) + 1] = Secret(secrets.token_bytes(KEY_BYTES))

    def destroy(self, name: str) -> None:
        self._versions(name)
        del self._keys[name]

    def describe(self, name: str) -> MasterKey:
        versions = self._versions(name)
        return MasterKey(name, max(versions), tuple(sorted(versions)), in_process=True)

    def wrap(self, name: str, plaintext: Secret, context: Mapping[str, str]) -> bytes:
        require_wrappable(plaintext, context)
        versions = self._versions(name)
        version = max(versions)
        sealed = seal(versions[version], plaintext.reveal(), _bound(context, name, version))
        return version.to_bytes(VERSION_BYTES, "big") + sealed

    def unwrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        versions = self._versions(name)
        version = named_version(wrapped)
        if version not in versions:
            raise Unsealable
        return Secret(unseal(versions[version], wrapped[VERSION_BYTES:], _bound(context, name, version)))

    def _versions(self, name: str) -> dict[int, Secret]:
        try:
            return self._keys[name]
        except KeyError:
            raise no_such_key(name) from None


class MemoryKeyStore(KeyStore):
    """Master keys that live as long as this object."""

    kind = "memory"

    def __init__(self) -> None:
        self._keys = VersionedKeys()
        self._lock = threading.Lock()

    def create(self, name: str) -> MasterKey:
        with self._lock:
            self._keys.create(name)
            return self._keys.describe(name)

    def names(self) -> list[str]:
        with self._lock:
            return [name for name, _ in self._keys.items()]

    def describe(self, name: str) -> MasterKey:
        with self._lock:
            return self._keys.describe(name)

    def rotate(self, name: str) -> MasterKey:
        with self._lock:
            self._keys.rotate(name)
            return self._keys.describe(name)

    def destroy(self, name: str) -> None:
        with self._lock:
            self._keys.destroy(name)

    def wrap(self, name: str, plaintext: Secret, context: Mapping[str, str]) -> bytes:
        with self._lock:
            return self._keys.wrap(name, plaintext, context)

    def unwrap(self, name: str, wrapped: bytes, context: Mapping[str, str]) -> Secret:
        with self._lock:
            return self._keys.unwrap(name, wrapped, context)

    def wrapping_version(self, wrapped: bytes) -> int:
        return named_version(wrapped)

    def check(self) -> str:
        self.ensure(DEPLOYMENT_KEY)
        check_contract(self, DEPLOYMENT_KEY)
        return f"memory, {len(self.names())} master keys"


def named_version(wrapped: bytes) -> int:
    """The version that a wrapped key names; ``Unsealable`` when it is too short to name one."""
    if len(wrapped) <= VERSION_BYTES:
        raise Unsealable
    return int.from_bytes(wrapped[:VERSION_BYTES], "big")


def _bound(context: Mapping[str, str], name: str, version: int) -> dict[str, str]:
    # The caller's keys get a prefix, so that none of them can take the place of ours.
    return {"master key": name, "version": str(version), **{f"context {key}": context[key] for key in context}}
