"""Keys, aliases and grants in the database: rows in, records out, and the look-up of a key by what a request calls it.

Records of keys are remembered until any process commits anything (``Database.version``), so a key disabled elsewhere
is found disabled by the next request (on PostgreSQL within half a second). Not covered: who may see a key; the callers
decide that.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import cast

from outcrop.base.arn import AccountId, Arn
from outcrop.base.clock import Clock
from outcrop.base.errors import KeyRefused
from outcrop.base.tables import Database, Row, Transaction, Value
from outcrop.trust.keys.records import (
    Alias,
    Context,
    Grant,
    Key,
    KeyManager,
    KeySpec,
    KeyUsage,
    Rotation,
    RotationKind,
)
from outcrop.trust.keys.refusals import foreign_key, no_alias, no_key
from outcrop.trust.keys.states import GONE, KeyState

ALIAS_PREFIX = "alias/"
_KEY_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


def stamp(moment: datetime) -> str:
    """A moment as the tables keep it: ISO 8601, UTC, microseconds, so that texts sort as moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


class KeyRows:
    """The tables of one deployment in one region. Any thread may use it."""

    def __init__(self, database: Database, clock: Clock, partition: str, region: str) -> None:
        self.database = database
        self.clock = clock
        self.partition = partition
        self.region = region
        self._known: tuple[int, dict[str, Key]] = (-1, {})

    def now(self) -> datetime:
        return self.clock.now()

    def key_arn(self, account: str, key_id: str) -> Arn:
        return Arn(self.partition, "kms", self.region, account, f"key/{key_id}")

    def alias_arn(self, account: str, name: str) -> Arn:
        return Arn(self.partition, "kms", self.region, account, name)

    def peek(self, key_id: str) -> Key | None:
        """The key of this id in whatever state, of whichever account; ``None`` where there is none."""
        version = self.database.version()  # before the row: a change in between shows as a newer version next time
        if self._known[0] != version:
            self._known = (version, {})
        known = self._known[1]
        if key_id not in known:
            rows = self.database.query("SELECT * FROM kms_keys WHERE key_id = :id", {"id": key_id})
            if not rows:
                return None
            known[key_id] = self._key(rows[0])
        return known[key_id]

    def read(self, transaction: Transaction, key_id: str) -> Key:
        """The key as a write transaction sees it; refused as not found where it is gone."""
        rows = transaction.query("SELECT * FROM kms_keys WHERE key_id = :id", {"id": key_id})
        if not rows or KeyState(rows[0]["state"]) in GONE:
            raise no_key(key_id)
        return self._key(rows[0])

    def find(self, named: str, account: str, *, alias: bool = True) -> Key:
        """The key that a request of ``account`` calls ``named``: an id, an alias, or the ARN of either.

        Without ``alias`` an alias is refused. A missing key of another account is ``AccessDeniedException``, which is
        what a caller without permission for an existing one is told too.
        """
        owner, resource = account, named
        if named.startswith("arn:"):
            owner, resource = self._of_arn(named)
        elif not named.startswith(ALIAS_PREFIX):
            resource = f"key/{named}"
        if resource.startswith(ALIAS_PREFIX):
            if not alias:
                raise KeyRefused("NotFoundException", f"Invalid keyId '{named}'")
            key_id = self._target(owner, resource)
            if key_id is None and owner == account:
                raise no_alias(str(self.alias_arn(owner, resource)))
        else:
            key_id = resource.removeprefix("key/")
            if owner == account and _KEY_ID.fullmatch(key_id) is None:
                raise KeyRefused("NotFoundException", f"Invalid keyId '{key_id}'")
        arn = self.key_arn(owner, key_id or "")
        key = self.peek(key_id) if key_id else None
        if key is None or key.state in GONE or key.account != owner:
            raise no_key(str(arn)) if owner == account else foreign_key(named)
        return key

    def list_keys(self, account: str) -> list[Key]:
        """The account's keys that exist, by id."""
        rows = self.database.query(
            "SELECT * FROM kms_keys WHERE account = :account"
            " AND state NOT IN ('Destroying', 'Destroyed') ORDER BY key_id",
            {"account": account},
        )
        return [self._key(row) for row in rows]

    def in_states(self, *states: KeyState) -> list[Key]:
        """Every account's keys in these states."""
        rows = [
            row
            for state in states
            for row in self.database.query("SELECT * FROM kms_keys WHERE state = :state", {"state": state.value})
        ]
        return [self._key(row) for row in rows]

    def rotating(self) -> list[Key]:
        """Keys whose rotation was begun and not finished."""
        return [self._key(row) for row in self.database.query("SELECT * FROM kms_keys WHERE rotating <> ''")]

    def due_for_rotation(self, now: datetime) -> list[Key]:
        """Enabled keys whose next automatic rotation is at ``now`` or before."""
        rows = self.database.query(
            "SELECT * FROM kms_keys WHERE state = 'Enabled' AND rotation_next <= :now", {"now": stamp(now)}
        )
        return [self._key(row) for row in rows]

    def rotations(self, key_id: str) -> list[Rotation]:
        """All versions of a key's material, oldest first."""
        rows = self.database.query("SELECT * FROM kms_versions WHERE key_id = :id ORDER BY version", {"id": key_id})
        return [
            Rotation(
                key_id,
                row["version"],
                RotationKind(row["kind"]) if row["kind"] else None,
                datetime.fromisoformat(row["created_at"]),
            )
            for row in rows
        ]

    def aliases(self, account: str, key_id: str = "") -> list[Alias]:
        """The account's aliases, or those of one key, by name."""
        only = " AND key_id = :id" if key_id else ""
        rows = self.database.query(
            f"SELECT * FROM kms_aliases WHERE account = :account{only} ORDER BY name",  # noqa: S608 - no value in it
            {"account": account, "id": key_id} if key_id else {"account": account},
        )
        return [
            Alias(
                row["name"],
                self.alias_arn(account, row["name"]),
                row["key_id"],
                datetime.fromisoformat(row["created_at"]),
                datetime.fromisoformat(row["updated_at"]),
            )
            for row in rows
        ]

    def tags(self, key_id: str) -> dict[str, str]:
        """A key's tags by name."""
        rows = self.database.query("SELECT name, value FROM kms_tags WHERE key_id = :id ORDER BY name", {"id": key_id})
        return {row["name"]: row["value"] for row in rows}

    def grants(self, key_id: str) -> list[Grant]:
        """A key's grants, by id."""
        rows = self.database.query("SELECT * FROM kms_grants WHERE key_id = :id ORDER BY grant_id", {"id": key_id})
        return [_grant(row) for row in rows]

    def grants_to(self, key_id: str, own: str, behind: str) -> list[Grant]:
        """A key's grants to one of two ARNs (a session and its role; the second may be empty), by id."""
        rows = self.database.query(
            "SELECT * FROM kms_grants WHERE key_id = :id AND grantee IN (:own, :behind) ORDER BY grant_id",
            {"id": key_id, "own": own, "behind": behind},
        )
        return [_grant(row) for row in rows]

    def retirable_grants(self, principal: str) -> list[Grant]:
        """The grants, of any key, that ``principal`` was named to retire, by id."""
        rows = self.database.query(
            "SELECT * FROM kms_grants WHERE retiring = :principal ORDER BY grant_id", {"principal": principal}
        )
        return [_grant(row) for row in rows]

    def update(self, transaction: Transaction, key_id: str, **columns: Value) -> None:
        """Set columns of one key's row."""
        names = ", ".join(f"{name} = :{name}" for name in columns)
        transaction.execute(f"UPDATE kms_keys SET {names} WHERE key_id = :key_id", {**columns, "key_id": key_id})  # noqa: S608

    def _of_arn(self, text: str) -> tuple[str, str]:
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[2] != "kms" or not parts[5].startswith(("key/", ALIAS_PREFIX)):
            raise KeyRefused("NotFoundException", f"Invalid arn {text}")
        if parts[1] != self.partition or parts[3] != self.region:
            raise KeyRefused("NotFoundException", f"Invalid arn {parts[3]}")
        return parts[4], parts[5]

    def _target(self, account: str, name: str) -> str | None:
        rows = self.database.query(
            "SELECT key_id FROM kms_aliases WHERE account = :account AND name = :name",
            {"account": account, "name": name},
        )
        return str(rows[0]["key_id"]) if rows else None

    def _key(self, row: Row) -> Key:
        return Key(
            key_id=row["key_id"],
            arn=self.key_arn(row["account"], row["key_id"]),
            account=AccountId(row["account"]),
            manager=KeyManager(row["manager"]),
            usage=KeyUsage(row["usage"]),
            spec=KeySpec(row["spec"]),
            state=KeyState(row["state"]),
            description=row["description"],
            policy=row["policy"],
            created_at=datetime.fromisoformat(row["created_at"]),
            version=row["version"],
            rotating=row["rotating"],
            rotation_days=row["rotation_days"],
            rotation_next=_moment(row["rotation_next"]),
            deletion_at=_moment(row["deletion_at"]),
            deletion_days=row["deletion_days"],
            material=None if row["material"] is None else bytes(row["material"]),
        )


def encode_constraints(subset: Context | None, equals: Context | None) -> str:
    """A grant's constraints as the tables keep them."""
    pairs = {"subset": subset, "equals": equals}
    return json.dumps({name: dict(value) for name, value in pairs.items() if value is not None}, sort_keys=True)


def _grant(row: Row) -> Grant:
    constraints = cast("dict[str, dict[str, str]]", json.loads(row["constraints"]))
    return Grant(
        grant_id=row["grant_id"],
        key_id=row["key_id"],
        name=row["name"],
        grantee=row["grantee"],
        retiring=row["retiring"],
        issuer=row["issuer"],
        operations=tuple(row["operations"].split()),
        subset=constraints.get("subset"),
        equals=constraints.get("equals"),
        created_at=datetime.fromisoformat(row["created_at"]),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
