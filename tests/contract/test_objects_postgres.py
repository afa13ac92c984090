"""Objects and settings of accounts on PostgreSQL: the same as on SQLite, whatever the collation of the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from objects_rig import ACCOUNT, OTHER, START
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AlreadyExists, NotFound, StillInUse
from outcrop.base.tables import Database
from outcrop.service.accounts import Accounts, LogBucket, LoggingSettings, RetentionMode
from outcrop.service.objects import SealedObjects
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.keys import KeyService, Vault

KEYS = ["B", "a", "a/b", "a/\u00e4", "ab", "\u00c4", "\U0001f5a5", "\uffff"]


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    yield opened
    opened.close()


def test_the_life_of_objects(database: Database, tmp_path: Path) -> None:
    clock = FakeClock(START)
    keys = KeyService(database, MemoryKeyStore(), clock, "aws", "us-east-1")
    objects = SealedObjects(keys, Vault(keys, clock), tmp_path / "objects", clock)
    objects.create_bucket("things", ACCOUNT)
    with pytest.raises(AlreadyExists):
        objects.create_bucket("things", OTHER)
    for key in KEYS:
        objects.put("things", key, key.encode(), ACCOUNT)
        objects.put("things", key, key.encode() * 2, ACCOUNT)
    ordered = sorted(KEYS, key=str.encode)
    assert [one.key for one in objects.list("things", ACCOUNT)] == ordered
    assert [one.key for one in objects.list("things", ACCOUNT, "a/", "a/b")] == ["a/\u00e4"]
    assert [one.key for one in objects.list("things", ACCOUNT, limit=2)] == ordered[:2]
    with objects.get("things", "\U0001f5a5", ACCOUNT) as reader:
        assert b"".join(reader.chunks()).decode() == "\U0001f5a5" * 2
    with pytest.raises(NotFound):
        objects.get("things", "a", OTHER)
    with pytest.raises(StillInUse):
        objects.delete_bucket("things", ACCOUNT)
    assert all(objects.delete("things", key, ACCOUNT) for key in KEYS)
    assert not any(path.is_file() for path in (tmp_path / "objects").rglob("*"))
    objects.delete_bucket("things", ACCOUNT)


def test_settings_come_back_and_are_replaced(database: Database) -> None:
    accounts = Accounts(database, FakeClock(START))
    wanted = LoggingSettings(LogBucket("logs", "p"), text=False)
    accounts.logging.put(ACCOUNT, wanted)
    assert accounts.logging.get(ACCOUNT) == wanted
    for mode in (RetentionMode.NONE, RetentionMode.DEFAULT):
        accounts.retention.set(ACCOUNT, mode)
        assert accounts.retention.mode(ACCOUNT) == (mode, START)
    accounts.logging.delete(ACCOUNT)
    assert accounts.logging.get(ACCOUNT) is None
