"""What a key store still has to do for keys: make their material, add a version, destroy it all.

Two stores have to agree: the database says what a key is, the key store holds its material. Where both change, the
database first says what is to be done (``Creating``, ``Destroying``, ``rotating``), and that is committed. Then it is
done and written down within one write transaction, alone among all processes. After a crash the row still says what is
left: making or rotating a second time finds what the first time left, so no version is lost and none is made twice.

Not covered: a key store that is changed by others, or restored to an earlier time than the database.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta

from outcrop.base.errors import NotFound, UserError
from outcrop.base.faultpoints import point
from outcrop.base.tables import Transaction
from outcrop.trust.crypto.keystores import KeyStore
from outcrop.trust.keys.records import KeySpec, RotationKind, master_name
from outcrop.trust.keys.rows import KeyRows, stamp
from outcrop.trust.keys.states import KeyState, require_edge

log = logging.getLogger("outcrop.trust")

HMAC_CONTEXT = {"kms": "HMAC material"}
"""What the material of an HMAC key is wrapped for, under its own master key."""


class Unfinished:
    """Finishes what the rows of keys say was begun."""

    def __init__(self, rows: KeyRows, store: KeyStore) -> None:
        self._rows = rows
        self._store = store

    def finish_all(self) -> None:
        """Finish what a crash cut short. For the start of a process, and for ``reap``."""
        unfinished = self._rows.in_states(KeyState.CREATING, KeyState.DESTROYING) + self._rows.rotating()
        for key in unfinished:
            try:
                self.finish(key.key_id)
            except UserError as error:  # one key that its store has lost must not keep the others from being used
                log.error("key %s stays %s: %s", key.arn, key.rotating or key.state, error)

    def finish(self, key_id: str) -> None:
        """Do what the key's row says is still to be done; nothing where another process has done it meanwhile."""
        with self._rows.database.transaction() as transaction:
            rows = transaction.query(
                "SELECT state, spec, version, rotating, rotation_days FROM kms_keys WHERE key_id = :id", {"id": key_id}
            )
            if not rows:
                return
            row = rows[0]
            state = KeyState(row["state"])
            if state is KeyState.CREATING:
                self._make_material(transaction, key_id, KeySpec(row["spec"]))
            elif state is KeyState.DESTROYING:
                self._destroy_material(transaction, key_id)
            elif row["rotating"]:
                self._rotate_material(transaction, key_id, row["version"], row["rotating"], row["rotation_days"])
        point("kms.finish.committed")

    def _make_material(self, transaction: Transaction, key_id: str, spec: KeySpec) -> None:
        name = master_name(key_id)
        version = self._store.ensure(name).current_version
        point("kms.create.stored")
        material = None
        if spec is KeySpec.HMAC_256:
            material = self._store.generate_data_key(name, HMAC_CONTEXT).wrapped
        require_edge(key_id, KeyState.CREATING, KeyState.ENABLED)
        self._rows.update(transaction, key_id, state=KeyState.ENABLED.value, version=version, material=material)
        self._record_version(transaction, key_id, version, "")
        point("kms.create.written")

    def _rotate_material(
        self, transaction: Transaction, key_id: str, version: int, kind: str, days: int | None
    ) -> None:
        name = master_name(key_id)
        newest = self._store.describe(name).current_version
        if newest <= version:
            newest = self._store.rotate(name).current_version
        point("kms.rotate.stored")
        changes: dict[str, str | int | None] = {"version": newest, "rotating": ""}
        if kind == RotationKind.AUTOMATIC and days is not None:
            changes["rotation_next"] = stamp(self._rows.now() + timedelta(days=days))
        self._rows.update(transaction, key_id, **changes)
        self._record_version(transaction, key_id, newest, kind)
        point("kms.rotate.written")

    def _destroy_material(self, transaction: Transaction, key_id: str) -> None:
        point("kms.delete.begun")
        with suppress(NotFound):  # destroyed before a crash, which kept this row from saying so
            self._store.destroy(master_name(key_id))
        point("kms.delete.destroyed")
        for table in ("kms_grants", "kms_aliases", "kms_tags", "kms_versions"):
            transaction.execute(f"DELETE FROM {table} WHERE key_id = :id", {"id": key_id})  # noqa: S608 - our names
        require_edge(key_id, KeyState.DESTROYING, KeyState.DESTROYED)
        self._rows.update(
            transaction,
            key_id,
            state=KeyState.DESTROYED.value,
            material=None,
            description="",
            policy="",
            rotating="",
            rotation_days=None,
            rotation_next=None,
        )
        point("kms.delete.written")

    def _record_version(self, transaction: Transaction, key_id: str, version: int, kind: str) -> None:
        transaction.execute(
            "INSERT INTO kms_versions VALUES (:id, :version, :kind, :now)",
            {"id": key_id, "version": version, "kind": kind, "now": stamp(self._rows.now())},
        )
