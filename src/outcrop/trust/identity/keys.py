"""Access keys: two for each user and for each account's root, their secrets sealed.

SigV4 needs the secret itself on the server, so a hash would not do: it is sealed through the ``Sealer`` port, bound to
its account and key id, and unsealed when the process first reads it. Not covered: this process's memory, which holds
the secrets of all active keys, and whoever may use the sealer's key.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from outcrop.base.arn import AccountId
from outcrop.base.clock import Clock
from outcrop.base.errors import NotFound, Unsealable
from outcrop.base.tables import Database, Row, Transaction
from outcrop.trust.crypto import random_access_key_id, random_secret_key
from outcrop.trust.crypto.sealer import Sealer
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.changes import Changes
from outcrop.trust.identity.credentials import Credential
from outcrop.trust.identity.part import Part
from outcrop.trust.identity.records import IssuedKey, KeyRecord

log = logging.getLogger("outcrop.trust")

_KEYS = """SELECT access_key_id, sealed_secret, active, access_keys.created_at AS made_at, entities.*, partition
    FROM access_keys JOIN entities ON entities.id = owner JOIN accounts ON accounts.account = entities.account"""


class AccessKeys(Part):
    """The access keys of every account; a ``CredentialSource`` that any thread may use."""

    def __init__(self, database: Database, clock: Clock, sealer: Sealer, changes: Changes) -> None:
        super().__init__(database, clock)
        self._sealer = sealer
        self._changes = changes
        self._active: tuple[int, Mapping[str, Credential]] | None = None
        self._secrets: dict[bytes, str] = {}

    def create(self, account: str, user: str | None = None) -> IssuedKey:
        """A further key for a user, or for the account's root; ``QuotaReached`` at the third."""
        with self._change("key.create") as transaction:
            return self.issue(transaction, _owner(transaction, account, user))

    def issue(self, transaction: Transaction, owner: Row) -> IssuedKey:
        """A key for the entity ``owner`` within a transaction under way."""
        held = transaction.query("SELECT 1 FROM access_keys WHERE owner = :id", {"id": owner["id"]})
        entities.within(len(held) + 1, limits.ACCESS_KEYS_PER_USER, "AccessKeysPerUser")
        secret = random_secret_key()
        identifier = random_access_key_id()
        self.insert(transaction, owner, identifier, secret, active=True, created_at=self._now())
        row = transaction.query(f"{_KEYS} WHERE access_key_id = :id", {"id": identifier})[0]
        return IssuedKey(_record(row), secret)

    def insert(
        self, transaction: Transaction, owner: Row, identifier: str, secret: str, *, active: bool, created_at: str
    ) -> None:
        """Write a key; one whose id is there already stays as it is."""
        sealed = self._sealer.seal(secret.encode(), _context(owner["account"], identifier))
        transaction.execute(
            "INSERT INTO access_keys (access_key_id, owner, sealed_secret, active, created_at) "
            "VALUES (:id, :owner, :sealed, :active, :now) ON CONFLICT (access_key_id) DO NOTHING",
            {
                "id": identifier,
                "owner": owner["id"],
                "sealed": sealed,
                "active": int(active),
                "now": created_at,
            },
        )

    def all(self, account: str | None = None, user: str | None = None) -> list[KeyRecord]:
        """All keys, those of one account, or those of one user of it, oldest first."""
        where, parameters = "", {}
        if account is not None:
            where, parameters = " WHERE entities.account = :account", {"account": account}
        if account is not None and user is not None:
            where = " WHERE entities.id = :id"
            parameters = {"id": entities.find(self._database, account, "user", user)["id"]}
        rows = self._database.query(f"{_KEYS}{where} ORDER BY access_keys.created_at, access_key_id", parameters)
        return [_record(row) for row in rows]

    def get(self, access_key_id: str) -> KeyRecord:
        """The key of this id, or ``NotFound``."""
        return self._get(access_key_id)

    def of(self, account: str, user: str | None, access_key_id: str) -> KeyRecord:
        """The key of this id if it is the user's (the root's), else ``NotFound``."""
        name = "" if user is None else entities.find(self._database, account, "user", user)["name"]
        record = self._get(access_key_id)  # behind the user: the answer must not tell whether anybody has this key
        if record.account != account or record.user_name != name:
            raise _unknown(access_key_id)
        return record

    def set_active(self, access_key_id: str, active: bool) -> KeyRecord:
        """Enable or disable a key; a disabled key proves nothing until it is enabled again."""
        with self._change("key.set_active") as transaction:
            if not transaction.execute(
                "UPDATE access_keys SET active = :active WHERE access_key_id = :id",
                {"active": int(active), "id": access_key_id},
            ):
                raise _unknown(access_key_id)
        return self._get(access_key_id)

    def delete(self, access_key_id: str) -> KeyRecord:
        """Delete a key for good, and return what it was."""
        record = self._get(access_key_id)
        with self._change("key.delete") as transaction:
            transaction.execute("DELETE FROM last_uses WHERE id = :id", {"id": access_key_id})
            if not transaction.execute("DELETE FROM access_keys WHERE access_key_id = :id", {"id": access_key_id}):
                raise _unknown(access_key_id)
        return record

    def lookup(self, access_key_id: str) -> Credential | None:
        """The active key of this id in an active account, else ``None``.

        One look-up in a dictionary for known and unknown ids alike, so that the time tells nothing.
        """
        count = self._changes.count()
        active = self._active
        if active is None or active[0] != count:
            # Read after the count: a change in between shows as a newer count next time, never as a stale row.
            active = self._active = (count, self._read_active())
        return active[1].get(access_key_id)

    def _read_active(self) -> Mapping[str, Credential]:
        rows = self._database.query(f"{_KEYS} WHERE active = 1 AND status = 'ACTIVE'")
        kept: dict[bytes, str] = {}
        found = {}
        for row in rows:
            sealed = bytes(row["sealed_secret"])
            identifier = row["access_key_id"]
            try:
                secret = self._secrets.get(sealed) or self._open(row["account"], identifier, sealed)
            except Unsealable:
                # One damaged row must not lock every other key out.
                log.error("the secret of access key %s does not unseal: the key proves nothing", identifier)
                continue
            kept[sealed] = secret
            found[identifier] = Credential(
                identifier, secret, AccountId(row["account"]), entities.arn_of(row), row["id"], row["kind"]
            )
        self._secrets = kept
        return found

    def _open(self, account: str, identifier: str, sealed: bytes) -> str:
        return self._sealer.unseal(sealed, _context(account, identifier)).decode()

    def _get(self, access_key_id: str) -> KeyRecord:
        rows = self._database.query(f"{_KEYS} WHERE access_key_id = :id", {"id": access_key_id})
        if not rows:
            raise _unknown(access_key_id)
        return _record(rows[0])


def _owner(transaction: Transaction, account: str, user: str | None) -> Row:
    if user is not None:
        return entities.find(transaction, account, "user", user)
    row = entities.by_id(transaction, account)
    if row is None:
        raise entities.no_account(account)
    return row


def _context(account: str, identifier: str) -> dict[str, str]:
    return {"purpose": "access key", "account": account, "access_key_id": identifier}


def _record(row: Row) -> KeyRecord:
    name = row["name"] if row["kind"] == "user" else ""
    return KeyRecord(
        row["access_key_id"],
        AccountId(row["account"]),
        entities.arn_of(row),
        bool(row["active"]),
        row["made_at"],
        name,
    )


def _unknown(access_key_id: str) -> NotFound:
    return NotFound(f"The Access Key with id {access_key_id} cannot be found.")
