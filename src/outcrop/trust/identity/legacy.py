"""Takes in the ``identity.db`` that releases before the common database kept, once, and removes it.

That file held its secrets as they are; here they are sealed. The old file goes after the commit, so a crash in between
imports again, which changes nothing. Not covered: what the file system keeps of removed files, and copies made of it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from outcrop.base.errors import UserError
from outcrop.base.faultpoints import point
from outcrop.base.files import sync_directory

LEGACY_FILE = "identity.db"
_READ = """SELECT access_key_id, secret, active, access_keys.created_at, account
    FROM access_keys JOIN principals ON principals.id = access_keys.principal WHERE kind = 'root'"""

LegacyAccount = tuple[str, str, str]
LegacyKey = tuple[str, str, int, str, str]


def read_legacy(path: Path) -> tuple[list[LegacyAccount], list[LegacyKey]]:
    """Accounts (number, partition, creation) and root keys (id, secret, active, creation, account) of the old file."""
    try:
        connection = sqlite3.connect(path)
        try:
            accounts = connection.execute("SELECT account, partition, created_at FROM accounts").fetchall()
            keys = connection.execute(_READ).fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UserError(
            f"{path}, which an earlier release made, cannot be read: {error}.",
            "Restore it from a copy, or move it away to go on without its keys.",
        ) from error
    return accounts, keys


def remove_legacy(path: Path) -> None:
    """Delete the old file and what SQLite may have left beside it."""
    point("identity.legacy.imported")
    for suffix in ("-wal", "-shm", ""):  # the file itself last: as long as it is there, the import is done again
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    sync_directory(path.parent)
    point("identity.legacy.removed")
