"""The database port over a real PostgreSQL server behaves as it does over SQLite."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outcrop.base import tables
from outcrop.base.errors import DatabaseUnusable, UserError
from outcrop.base.tables import BrokenConstraint, Database

COUNTER = """
revision = "{0}"
down_revision = {1}
from alembic import op
import sqlalchemy as sa

def upgrade():
    {2}
"""


@pytest.fixture
def one(tmp_path: Path) -> Path:
    (tmp_path / "v0001_t.py").write_text(
        COUNTER.format(
            "0001",
            None,
            'op.create_table("t", sa.Column("x", sa.Integer, nullable=False), sa.Column("b", sa.LargeBinary))',
        )
    )
    return tmp_path


def test_the_real_history_applies_and_applies_once(postgres_url: str) -> None:
    Database(postgres_url).close()
    database = Database(postgres_url)
    assert len(database.query("SELECT version_num FROM alembic_version")) == 1
    database.close()


def test_transactions_are_whole_and_bytes_come_back(postgres_url: str, one: Path) -> None:
    database = Database(postgres_url, one)
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO t VALUES (:x, :b)", {"x": 1, "b": b"\x00\xff"})
    with pytest.raises(BrokenConstraint), database.transaction() as transaction:
        transaction.execute("INSERT INTO t VALUES (:x, NULL)", [{"x": 2}, {"x": None}])
    [row] = database.query("SELECT x, b FROM t")
    assert (row["x"], bytes(row["b"])) == (1, b"\x00\xff")
    database.close()


def test_writers_exclude_each_other(postgres_url: str, one: Path) -> None:
    database = Database(postgres_url, one)
    with database.transaction() as transaction:
        transaction.execute("INSERT INTO t (x) VALUES (0)")

    def add(_: int) -> None:
        with database.transaction() as transaction:
            seen = transaction.query("SELECT x FROM t")[0]["x"]
            transaction.execute("UPDATE t SET x = :x", {"x": seen + 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert database.query("SELECT x FROM t")[0]["x"] == 40
    database.close()


def test_a_commit_of_another_process_shows_in_the_version(
    postgres_url: str,
    one: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "VERSION_KNOWN_FOR_S", 0.0)
    mine, other = Database(postgres_url, one), Database(postgres_url, one)
    before = mine.version()
    assert mine.version() == before
    with other.transaction() as transaction:
        transaction.execute("INSERT INTO t (x) VALUES (5)")
    assert mine.version() != before
    mine.close()
    other.close()


def test_a_newer_database_is_refused(postgres_url: str, one: Path) -> None:
    database = Database(postgres_url, one)
    with database.transaction() as transaction:
        transaction.execute("UPDATE alembic_version SET version_num = '0009'")
    database.close()
    with pytest.raises(UserError, match="newer Outcrop"):
        Database(postgres_url, one)


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    with pytest.raises(UserError, match="cannot be used") as caught:
        Database("postgresql+pg8000://me:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(caught.value)


def test_a_writer_waits_for_another_program_so_long_and_no_longer(
    postgres_url: str, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BUSY_TIMEOUT_S", 0.2)
    holder, waiter = Database(postgres_url, one), Database(postgres_url, one)
    with holder.transaction(), pytest.raises(DatabaseUnusable, match="cannot be used"), waiter.transaction():
        pass
    with waiter.transaction():  # the twin: there is a turn again
        pass
    holder.close()
    waiter.close()
