"""The database port over SQLite: revisions once and in order, whole transactions, a private file, clear refusals."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from outcrop.base import tables
from outcrop.base.errors import UserError
from outcrop.base.tables import BrokenConstraint, Database

FIRST = 'op.execute("CREATE TABLE t (x INTEGER NOT NULL)")\n    op.execute("INSERT INTO t VALUES (1)")'
SECOND = 'op.execute("ALTER TABLE t ADD COLUMN y TEXT")\n    op.execute("UPDATE t SET y = \'two\'")'


def write_versions(folder: Path, *bodies: str) -> Path:
    """A history of one revision per body."""
    folder.mkdir(exist_ok=True)
    for number, body in enumerate(bodies, 1):
        before = f'"{number - 1:04}"' if number > 1 else None
        text = f'from alembic import op\nrevision = "{number:04}"\ndown_revision = {before}\n'
        (folder / f"v{number:04}_test.py").write_text(f"{text}\ndef upgrade():\n    {body}\n")
    return folder


@pytest.fixture
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_versions(tmp_path_factory.mktemp("one"), FIRST)


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_versions(tmp_path_factory.mktemp("two"), FIRST, SECOND)


def rows(database: Database) -> list[tuple]:
    return [tuple(row.values()) for row in database.query("SELECT * FROM t")]


def test_revisions_run_once_and_in_order(tmp_path: Path, one: Path, two: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, one).close()
    assert rows(Database(path, one)) == [(1,)]
    assert rows(Database(path, two)) == [(1, "two")]
    assert rows(Database(path, two)) == [(1, "two")]


def test_a_revision_that_fails_leaves_the_database_as_it_was(tmp_path: Path, one: Path) -> None:
    path = tmp_path / "a.db"
    Database(path, one).close()
    bad = write_versions(
        tmp_path / "bad", FIRST, 'op.execute("UPDATE t SET x = 9")\n    op.execute("UPDATE absent SET x = 1")'
    )
    with pytest.raises(Exception, match="no such table: absent"):
        Database(path, bad)
    assert rows(Database(path, one)) == [(1,)]


def test_a_newer_database_is_refused(tmp_path: Path, one: Path, two: Path) -> None:
    Database(tmp_path / "a.db", two).close()
    with pytest.raises(UserError, match=r"newer Outcrop \(format 0002, this one knows 0001\)"):
        Database(tmp_path / "a.db", one)


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path, one: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(UserError, match=r"a\.db is damaged or not a database"):
        Database(path, one)


def test_the_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path, one: Path) -> None:
    old = os.umask(0)
    try:
        database = Database(tmp_path / "a.db", one)
    finally:
        os.umask(old)
    names = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert names == dict.fromkeys(["a.db", "a.db-wal", "a.db-shm"], 0o600)
    database.close()


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path, one: Path) -> None:
    database = Database(tmp_path / "a.db", one)
    with pytest.raises(BrokenConstraint), database.transaction() as transaction:
        transaction.execute("INSERT INTO t VALUES (:x)", [{"x": 2}, {"x": None}])
    assert rows(database) == [(1,)]
    with database.transaction() as transaction:
        assert transaction.execute("INSERT INTO t VALUES (:x)", {"x": 2}) == 1
        assert transaction.query("SELECT count(*) AS n FROM t")[0]["n"] == 2
    assert rows(Database(tmp_path / "a.db", one)) == [(1,), (2,)]


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BUSY_TIMEOUT_S", 0.01)
    first, second = Database(tmp_path / "a.db", one), Database(tmp_path / "a.db", one)
    with first.transaction(), pytest.raises(UserError, match=r"a\.db cannot be used: database is locked"):
        second.transaction().__enter__()
    with pytest.raises(UserError, match="unable to open"):
        Database(tmp_path, one)


def test_constraints_hold(tmp_path: Path) -> None:
    versions = write_versions(
        tmp_path / "v",
        'op.execute("CREATE TABLE a (i INTEGER PRIMARY KEY)")\n    op.execute("CREATE TABLE b (i REFERENCES a)")',
    )
    database = Database(tmp_path / "a.db", versions)
    with pytest.raises(BrokenConstraint), database.transaction() as transaction:
        transaction.execute("INSERT INTO b VALUES (5)")


def test_the_version_tells_of_every_commit_and_of_nothing_else(tmp_path: Path, one: Path) -> None:
    mine, other = Database(tmp_path / "a.db", one), Database(tmp_path / "a.db", one)
    before = mine.version()
    mine.query("SELECT * FROM t")
    assert mine.version() == before
    with mine.transaction() as transaction:
        transaction.execute("INSERT INTO t VALUES (2)")
    after = mine.version()
    assert after != before
    with other.transaction() as transaction:
        transaction.execute("INSERT INTO t VALUES (3)")
    assert mine.version() != after


def test_a_mistake_in_sql_is_not_blamed_on_the_disk(tmp_path: Path, one: Path) -> None:
    with pytest.raises(Exception, match="no such column") as caught:
        Database(tmp_path / "a.db", one).query("SELECT absent FROM t")
    assert not isinstance(caught.value, UserError | sqlite3.Error)


def test_a_url_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(UserError, match="not a database that Outcrop knows") as caught:
        Database("mysql://root:hunter2@localhost/x")
    assert "hunter2" not in str(caught.value)


def _open_and_add(given: tuple[Path, Path]) -> int:
    database = Database(*given)
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO t VALUES (7, 'x')")
    return len(rows(database))


def test_many_processes_may_make_the_same_database_at_once(tmp_path: Path, two: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        list(pool.map(_open_and_add, [(tmp_path / "a.db", two)] * 8))
    assert len(rows(Database(tmp_path / "a.db", two))) == 9
    assert {path.name for path in tmp_path.iterdir()} <= {"a.db", "a.db-wal", "a.db-shm"}
