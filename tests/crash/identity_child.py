"""Changes to identities, one after the other, for a process that is killed at one of their fault points.

Each finished change is appended to a journal, flushed to the disk: what it says was done must be found afterwards.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from outcrop.base.clock import FakeClock
from outcrop.base.tables import Database
from outcrop.trust.crypto.aead import seal, unseal
from outcrop.trust.identity import IdentityStore

ACCOUNT = "111122223333"
START = datetime(2026, 11, 22, tzinfo=UTC)
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
)
ALLOW = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
OLD_KEY = "AKIAOLDOLDOLDOLDOLDO"


class FixedSealer:
    """Seals under one key that every process of the test knows."""

    seal = staticmethod(lambda plaintext, context: seal(bytes(32), plaintext, context))
    unseal = staticmethod(lambda sealed, context: unseal(bytes(32), sealed, context))


def open_identities(directory: Path) -> IdentityStore:
    """The identities in ``directory``, as a process that starts opens them."""
    return IdentityStore(Database(directory / "outcrop.db"), FakeClock(START), FixedSealer())


def write_old(path: Path) -> None:
    """An ``identity.db`` as releases before the common database made it, with one root key."""
    connection = sqlite3.connect(path)
    connection.executescript(
        f"""CREATE TABLE accounts (account TEXT, partition TEXT, created_at TEXT);
        CREATE TABLE principals (id INTEGER PRIMARY KEY, account TEXT, arn TEXT, user_id TEXT, kind TEXT);
        CREATE TABLE access_keys (access_key_id TEXT, principal INTEGER, secret TEXT, active INTEGER, created_at TEXT);
        INSERT INTO accounts VALUES ('{ACCOUNT}', 'aws', '2025-01-01T00:00:00.000+00:00');
        INSERT INTO principals VALUES (1, '{ACCOUNT}', 'arn:aws:iam::{ACCOUNT}:root', '{ACCOUNT}', 'root');
        INSERT INTO access_keys VALUES ('{OLD_KEY}', 1, 'the old secret', 1, '2025-01-01T00:00:00.000+00:00');"""
    )
    connection.close()


def changes(store: IdentityStore) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every change with its name, in order."""
    arn = f"arn:aws:iam::{ACCOUNT}:policy/p"
    yield "user", lambda: store.users.create(ACCOUNT, "ann", tags=[("k", "v")])
    yield "group", lambda: store.groups.create(ACCOUNT, "g")
    yield "member", lambda: store.groups.add_user(ACCOUNT, "g", "ann")
    yield "key", lambda: store.keys.create(ACCOUNT, "ann")
    yield "credential", lambda: store.service_credentials.create(ACCOUNT, "ann", "bedrock.amazonaws.com")
    yield "attached", lambda: store.holdings.attach(ACCOUNT, "user", "ann", READ_ONLY)
    yield "inline", lambda: store.holdings.put_inline(ACCOUNT, "user", "ann", "own", ALLOW)
    yield "policy", lambda: store.policies.create(ACCOUNT, "p", ALLOW)
    yield "version", lambda: store.policies.create_version(ACCOUNT, arn, ALLOW, set_default=True)
    yield "role", lambda: store.roles.create(ACCOUNT, "r", TRUST, boundary=arn, tags=[("k", "v")])
    yield "revoked", lambda: store.roles.revoke(ACCOUNT, "r")
    yield "account", lambda: store.organisation.create_account("444455556666", "aws")
    yield "user gone", lambda: store.users.delete(ACCOUNT, "ann", force=True)


def main(directory: Path) -> None:
    with (directory / "journal").open("a", encoding="utf-8") as journal:
        for name, change in changes(open_identities(directory)):
            change()
            journal.write(name + "\n")
            journal.flush()
            os.fsync(journal.fileno())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
