"""The deployment's own secrets (what seals sessions, signs the audit log), wrapped in the database.

The master key that unwraps them is in the key store and nowhere else, so a copy of the database gives none away. All
processes over one database share them. Rotation keeps one version back, for what is still in use.
"""

from __future__ import annotations

import secrets

from outcrop.base.clock import Clock
from outcrop.base.tables import Database, Row
from outcrop.trust.crypto.keystores import DEPLOYMENT_KEY, KeyStore
from outcrop.trust.crypto.secret import Secret

SECRET_BYTES = 32
VERSIONS_KEPT = 2


class DeploymentSecrets:
    """Named random secrets of 32 bytes, or named values once given."""

    def __init__(self, database: Database, key_store: KeyStore, clock: Clock) -> None:
        self._database = database
        self._key_store = key_store
        self._clock = clock
        key_store.ensure(DEPLOYMENT_KEY)

    def get(self, name: str, value: bytes | None = None) -> tuple[Secret, ...]:
        """The live versions of ``name``, newest first; made at the first call, as ``value`` where one is given."""
        found = self._read(name)
        if not found:
            self._add(name, 1, value or secrets.token_bytes(SECRET_BYTES))
            found = self._read(name)
        return tuple(found)

    def rotate(self, name: str) -> None:
        """A new version to use from now on; what is older than the one before it is destroyed."""
        versions = [row["version"] for row in self._rows(name)]
        newest = max(versions, default=0) + 1
        self._add(name, newest, secrets.token_bytes(SECRET_BYTES))
        with self._database.transaction() as transaction:
            transaction.execute(
                "DELETE FROM deployment_secrets WHERE name = :name AND version <= :old",
                {"name": name, "old": newest - VERSIONS_KEPT},
            )

    def replace(self, name: str, value: bytes) -> None:
        """``value`` alone from now on, as a new version; what was before it is destroyed."""
        newest = max((row["version"] for row in self._rows(name)), default=0) + 1
        self._add(name, newest, value)
        with self._database.transaction() as transaction:
            transaction.execute(
                "DELETE FROM deployment_secrets WHERE name = :name AND version < :newest",
                {"name": name, "newest": newest},
            )

    def _add(self, name: str, version: int, value: bytes) -> None:
        wrapped = self._key_store.wrap(DEPLOYMENT_KEY, Secret(value), _context(name, version))
        with self._database.transaction() as transaction:
            # Another process may have made the same version: then its value is the one that counts.
            transaction.execute(
                "INSERT INTO deployment_secrets VALUES (:name, :version, :wrapped, :now) ON CONFLICT DO NOTHING",
                {"name": name, "version": version, "wrapped": wrapped, "now": self._clock.now().isoformat()},
            )

    def _read(self, name: str) -> list[Secret]:
        return [
            self._key_store.unwrap(DEPLOYMENT_KEY, bytes(row["wrapped"]), _context(name, row["version"]))
            for row in self._rows(name)
        ]

    def _rows(self, name: str) -> list[Row]:
        return self._database.query(
            "SELECT version, wrapped FROM deployment_secrets WHERE name = :name ORDER BY version DESC", {"name": name}
        )


def _context(name: str, version: int) -> dict[str, str]:
    return {"secret": name, "version": str(version)}
