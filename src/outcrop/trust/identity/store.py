"""Accounts, principals and access keys in one SQLite file, readable by its owner only.

SigV4 needs the secret itself on the server (a hash would not do), so secrets stand in this file as they are. What
protects them today is the file's mode (0600, in a 0700 directory) and nothing else: whoever can read the file, as
this user or root or from a backup, can sign as every account. Sealing them under a key store comes in a later issue.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from outcrop.base.arn import AccountId, Arn, account_id
from outcrop.base.clock import Clock
from outcrop.base.errors import NotFound, UserError
from outcrop.base.tables import Database, Row, Transaction
from outcrop.trust.crypto import random_access_key_id, random_secret_key
from outcrop.trust.identity.credentials import Credential, PrincipalKind

KEYS_PER_PRINCIPAL_MAX = 2  # as AWS IAM: one in use, one to rotate to

_KEYS = """SELECT access_key_id, secret, active, access_keys.created_at, account, arn, user_id, kind
    FROM access_keys JOIN principals ON principals.id = access_keys.principal"""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What may be shown of an access key."""

    access_key_id: str
    account: AccountId
    arn: Arn
    active: bool
    created_at: str  # ISO 8601, UTC


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key just made, with the secret that is never shown again. Its ``repr`` leaves the secret out."""

    record: KeyRecord
    secret_access_key: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.record!r})"

    @property
    def access_key_id(self) -> str:
        """The key's id."""
        return self.record.access_key_id


class IdentityStore:
    """The accounts and keys of one deployment; a ``CredentialSource`` that any thread may use.

    Active keys are held in memory and read again when any process has changed the file, so a key disabled by another
    process stops working with the next request.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._database = Database(path)
        self._clock = clock
        self._snapshot: tuple[int, dict[str, Credential]] | None = None

    def ensure_account(self, partition: str, account: str) -> IssuedKey | None:
        """Make the account with its root and a root key if it is new; the key is returned this once, else ``None``."""
        identifier = account_id(account)
        now = self._now()
        with self._write() as connection:
            if connection.query("SELECT 1 FROM accounts WHERE account = :account", {"account": identifier}):
                return None
            arn = Arn(partition, "iam", "", identifier, "root")
            connection.execute(
                "INSERT INTO accounts VALUES (:account, :partition, :now)",
                {"account": identifier, "partition": partition, "now": now},
            )
            connection.execute(
                "INSERT INTO principals (account, arn, user_id, kind) VALUES (:account, :arn, :account, 'root')",
                {"account": identifier, "arn": str(arn)},
            )
            return self._issue(connection, str(arn))

    def create_key(self, account: str) -> IssuedKey:
        """A further key for the account's root; ``UserError`` when it has two already."""
        with self._write() as connection:
            rows = connection.query(
                "SELECT arn FROM principals WHERE account = :account AND kind = 'root'", {"account": account}
            )
            if not rows:
                raise NotFound(f"There is no account {account} here.", "`outcrop up` makes the deployment's account.")
            return self._issue(connection, rows[0]["arn"])

    def list_keys(self, account: str | None = None) -> list[KeyRecord]:
        """All keys, or those of one account, oldest first."""
        where = "" if account is None else " WHERE account = :account"
        rows = self._database.query(
            f"{_KEYS}{where} ORDER BY access_keys.created_at, access_key_id", {"account": account}
        )
        return [_record(row) for row in rows]

    def get_key(self, access_key_id: str) -> KeyRecord:
        """The key of this id, or ``NotFound``."""
        rows = self._database.query(f"{_KEYS} WHERE access_key_id = :id", {"id": access_key_id})
        if not rows:
            raise NotFound(f"There is no access key {access_key_id}.", "`outcrop key list` shows those there are.")
        return _record(rows[0])

    def set_key_active(self, access_key_id: str, active: bool) -> KeyRecord:
        """Enable or disable a key; a disabled key proves nothing until it is enabled again."""
        with self._write() as connection:
            connection.execute(
                "UPDATE access_keys SET active = :active WHERE access_key_id = :id",
                {"active": int(active), "id": access_key_id},
            )
        return self.get_key(access_key_id)

    def delete_key(self, access_key_id: str) -> KeyRecord:
        """Delete a key for good, and return what it was."""
        record = self.get_key(access_key_id)
        with self._write() as connection:
            connection.execute("DELETE FROM access_keys WHERE access_key_id = :id", {"id": access_key_id})
        return record

    def lookup(self, access_key_id: str) -> Credential | None:
        """The active key of this id: one dictionary look-up for known and unknown ids alike, so timing tells none."""
        version = self._database.version()
        snapshot = self._snapshot
        if snapshot is None or snapshot[0] != version:
            # Read after the version: a change in between shows as a newer version next time, never as a stale row.
            rows = self._database.query(f"{_KEYS} WHERE active = 1")
            snapshot = self._snapshot = (version, {row["access_key_id"]: _credential(row) for row in rows})
        return snapshot[1].get(access_key_id)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _write(self) -> Iterator[Transaction]:
        with self._database.transaction() as connection:
            yield connection

    def _issue(self, connection: Transaction, arn: str) -> IssuedKey:
        held = connection.query(f"{_KEYS} WHERE arn = :arn", {"arn": arn})
        if len(held) >= KEYS_PER_PRINCIPAL_MAX:
            raise UserError(
                f"{arn} has {len(held)} access keys already, the most it may have.",
                "Delete one with `outcrop key delete ID` first.",
            )
        access_key_id, secret = random_access_key_id(), random_secret_key()
        connection.execute(
            "INSERT INTO access_keys SELECT :id, id, :secret, 1, :now FROM principals WHERE arn = :arn",
            {"id": access_key_id, "secret": secret, "now": self._now(), "arn": arn},
        )
        row = connection.query(f"{_KEYS} WHERE access_key_id = :id", {"id": access_key_id})[0]
        return IssuedKey(_record(row), secret)

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds")


def _record(row: Row) -> KeyRecord:
    return KeyRecord(
        row["access_key_id"],
        account_id(row["account"]),
        Arn.parse(row["arn"]),
        bool(row["active"]),
        row["created_at"],
    )


def _credential(row: Row) -> Credential:
    return Credential(
        row["access_key_id"],
        row["secret"],
        account_id(row["account"]),
        Arn.parse(row["arn"]),
        row["user_id"],
        cast(PrincipalKind, row["kind"]),
    )
