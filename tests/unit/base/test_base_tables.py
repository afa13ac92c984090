"""The SQLite helper: migrations once and in order, whole transactions, a private file, clear refusals."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from outcrop.base import tables
from outcrop.base.errors import UserError
from outcrop.base.tables import Database, Migration

FIRST: Migration = ("CREATE TABLE t (x INTEGER NOT NULL) STRICT", "INSERT INTO t VALUES (1)")
SECOND: Migration = ("ALTER TABLE t ADD COLUMN y TEXT", "UPDATE t SET y = 'two'")


def rows(database: Database) -> list[tuple]:
    return [tuple(row) for row in database.query("SELECT * FROM t")]


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, [FIRST]).close()
    assert rows(Database(path, [FIRST])) == [(1,)]
    assert rows(Database(path, [FIRST, SECOND])) == [(1, "two")]
    assert rows(Database(path, [FIRST, SECOND])) == [(1, "two")]


def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, [FIRST]).close()
    with pytest.raises(sqlite3.OperationalError, match="no such table: absent"):
        Database(path, [FIRST, ("UPDATE t SET x = 9", "UPDATE absent SET x = 1")])
    assert rows(Database(path, [FIRST])) == [(1,)]


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    Database(tmp_path / "a.db", [FIRST, SECOND]).close()
    with pytest.raises(UserError, match=r"newer Outcrop \(format 2, this one knows 1\)"):
        Database(tmp_path / "a.db", [FIRST])


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(UserError, match=r"a\.db is damaged or not a database"):
        Database(path, [FIRST])


def test_the_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Database(tmp_path / "a.db", [FIRST])
    finally:
        os.umask(old)
    names = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert names == dict.fromkeys(["a.db", "a.db-wal", "a.db-shm"], 0o600)


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db", [FIRST])
    with pytest.raises(sqlite3.IntegrityError), database.transaction() as connection:
        connection.executemany("INSERT INTO t VALUES (?)", [(2,), (None,)])
    assert rows(database) == [(1,)]
    with database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
    assert rows(Database(tmp_path / "a.db", [FIRST])) == [(1,), (2,)]


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BUSY_TIMEOUT_S", 0.01)
    one, two = Database(tmp_path / "a.db", [FIRST]), Database(tmp_path / "a.db", [FIRST])
    with one.transaction(), pytest.raises(UserError, match=r"a\.db cannot be used: database is locked"):
        two.transaction().__enter__()
    with pytest.raises(UserError, match="unable to open"):
        Database(tmp_path, [FIRST])


def test_constraints_hold(tmp_path: Path) -> None:
    database = Database(
        tmp_path / "a.db", [("CREATE TABLE a (i INTEGER PRIMARY KEY)", "CREATE TABLE b (i REFERENCES a)")]
    )
    with pytest.raises(sqlite3.IntegrityError), database.transaction() as connection:
        connection.execute("INSERT INTO b VALUES (5)")


def test_the_data_version_tells_of_others_only(tmp_path: Path) -> None:
    one, two = Database(tmp_path / "a.db", [FIRST]), Database(tmp_path / "a.db", [FIRST])
    before = one.data_version()
    with one.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
    assert one.data_version() == before
    with two.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (3)")
    assert one.data_version() != before


def _open_and_add(path: Path) -> int:
    database = Database(path, [FIRST, SECOND])
    with database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (7, 'x')")
    return len(rows(database))


def test_many_processes_may_make_the_same_database_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        list(pool.map(_open_and_add, [tmp_path / "a.db"] * 8))
    assert len(rows(Database(tmp_path / "a.db", [FIRST, SECOND]))) == 9
    assert {path.name for path in tmp_path.iterdir()} <= {"a.db", "a.db-wal", "a.db-shm"}
