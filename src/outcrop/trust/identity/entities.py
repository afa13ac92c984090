"""Users, groups, roles and managed policies as rows: what they have in common is looked up, made and removed here.

Names are unique within an account and kind whatever their case, as in IAM; ids are never used again.
"""

from __future__ import annotations

from collections.abc import Mapping

from outcrop.base.arn import AccountId, Arn
from outcrop.base.errors import AlreadyExists, NotFound, QuotaReached
from outcrop.base.tables import Row, Transaction, Value
from outcrop.trust.crypto import random_id
from outcrop.trust.identity import limits
from outcrop.trust.identity.names import ID_PREFIXES, entity_name, entity_path
from outcrop.trust.identity.part import Reader
from outcrop.trust.identity.records import EntityKind

QUOTAS: Mapping[EntityKind, tuple[str, int]] = {
    "user": ("UsersPerAccount", limits.USERS),
    "group": ("GroupsPerAccount", limits.GROUPS),
    "role": ("RolesPerAccount", limits.ROLES),
    "policy": ("PoliciesPerAccount", limits.POLICIES),
}
SELECT = "SELECT entities.*, partition FROM entities JOIN accounts ON accounts.account = entities.account"


def find(reader: Reader, account: str, kind: EntityKind, name: str) -> Row:
    """The row of this name in any case, or ``NotFound`` in IAM's words."""
    rows = reader.query(
        f"{SELECT} WHERE entities.account = :account AND kind = :kind AND name_folded = :name",
        {"account": account, "kind": kind, "name": name.lower()},
    )
    if not rows:
        raise NotFound(f"The {kind} with name {name} cannot be found.")
    return rows[0]


def by_id(reader: Reader, identifier: str) -> Row | None:
    """The row of this id; ``None`` when it is gone, whatever has its name by now."""
    rows = reader.query(f"{SELECT} WHERE entities.id = :id", {"id": identifier})
    return rows[0] if rows else None


def listed(reader: Reader, account: str, kind: EntityKind, path_prefix: str = "/") -> list[Row]:
    """All of one kind below a path, by name."""
    rows = reader.query(
        f"{SELECT} WHERE entities.account = :account AND kind = :kind ORDER BY name_folded",
        {"account": account, "kind": kind},
    )
    return [row for row in rows if row["path"].startswith(path_prefix)]


def insert(
    transaction: Transaction,
    account: str,
    kind: EntityKind,
    name: str,
    *,
    path: str,
    now: str,
    columns: Mapping[str, Value] | None = None,
) -> Row:
    """Make one; ``AlreadyExists``, ``QuotaReached`` and ``UserError`` as IAM would refuse it."""
    entity_name(kind, name)
    entity_path(kind, path)
    free_name(transaction, account, kind, name)
    quota, most = QUOTAS[kind]
    within(count(transaction, account, kind) + 1, most, quota)
    identifier = random_id(ID_PREFIXES[kind])
    values: dict[str, Value] = {
        "id": identifier,
        "account": account,
        "kind": kind,
        "name": name,
        "name_folded": name.lower(),
        "path": path,
        "created_at": now,
        **(columns or {}),
    }
    transaction.execute(
        f"INSERT INTO entities ({', '.join(values)}) VALUES (:{', :'.join(values)})",  # noqa: S608 - names of ours
        values,
    )
    row = by_id(transaction, identifier)
    assert row is not None
    return row


def free_name(reader: Reader, account: str, kind: EntityKind, name: str) -> None:
    """Raise ``AlreadyExists`` when the name is taken, ``NotFound`` when there is no such account."""
    partition_of(reader, account)
    taken = reader.query(
        "SELECT 1 FROM entities WHERE account = :account AND kind = :kind AND name_folded = :name",
        {"account": account, "kind": kind, "name": name.lower()},
    )
    if taken and kind == "policy":
        raise AlreadyExists(f"A policy called {name} already exists. Duplicate names are not allowed.")
    if taken:
        raise AlreadyExists(f"{kind.title()} with name {name} already exists.")


def rename(transaction: Transaction, row: Row, name: str | None, path: str | None) -> None:
    """Give an entity another name, another path or both; its id and all that refers to it stay."""
    kind: EntityKind = row["kind"]
    if name is not None and name.lower() != row["name_folded"]:
        free_name(transaction, row["account"], kind, name)
    new_name = row["name"] if name is None else entity_name(kind, name)
    transaction.execute(
        "UPDATE entities SET name = :name, name_folded = :folded, path = :path WHERE id = :id",
        {
            "name": new_name,
            "folded": new_name.lower(),
            "path": row["path"] if path is None else entity_path(kind, path),
            "id": row["id"],
        },
    )


def delete(transaction: Transaction, identifier: str) -> None:
    """Remove the row and its tags; what else refers to it must be gone already."""
    transaction.execute("DELETE FROM tags WHERE resource = :id", {"id": identifier})
    transaction.execute("DELETE FROM last_uses WHERE id = :id", {"id": identifier})
    transaction.execute("DELETE FROM entities WHERE id = :id", {"id": identifier})


def count(reader: Reader, account: str, kind: EntityKind) -> int:
    rows = reader.query(
        "SELECT count(*) AS n FROM entities WHERE account = :account AND kind = :kind",
        {"account": account, "kind": kind},
    )
    return int(rows[0]["n"])


def within(wanted: int, most: int, quota: str) -> None:
    """Raise ``QuotaReached`` when ``wanted`` is more than ``most``."""
    if wanted > most:
        raise QuotaReached(f"Cannot exceed quota for {quota}: {most}")


def partition_of(reader: Reader, account: str) -> str:
    """The partition of an account, or ``NotFound``."""
    rows = reader.query("SELECT partition FROM accounts WHERE account = :account", {"account": account})
    if not rows:
        raise no_account(account)
    return str(rows[0]["partition"])


def no_account(account: str) -> NotFound:
    return NotFound(f"There is no account {account} here.", "`outcrop admin account list` shows those there are.")


def arn_of(row: Row) -> Arn:
    """The ARN of a row of ``SELECT``."""
    resource = "root" if row["kind"] == "root" else f"{row['kind']}{row['path']}{row['name']}"
    return Arn(row["partition"], "iam", "", row["account"], resource)


def common(row: Row) -> tuple[str, AccountId, Arn, EntityKind, str, str, str]:
    """The leading fields of every ``Entity`` record."""
    return (
        row["id"],
        AccountId(row["account"]),
        arn_of(row),
        row["kind"],
        row["name"],
        row["path"],
        row["created_at"],
    )
