"""The database as Outcrop uses it: SQLite in a private file by default, PostgreSQL by URL, through SQLAlchemy Core.

SQL is written by hand with named parameters (``:name``) in the dialect that both share (``ON CONFLICT``, ``RETURNING``
work on both). Write transactions exclude each other on both, so what one reads cannot change before it writes. The
tables' history is ``base.migrations``; opening a database brings it up to date in one transaction, so a crash leaves
it at one revision or another, never between.

Not covered: network file systems (SQLite's locks and shared memory do not work there), and encryption at rest: who can
read the file can read every row but those columns that their owner sealed.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from outcrop.base.errors import DatabaseUnusable, InvariantError, UserError
from outcrop.base.faultpoints import point
from outcrop.base.files import sync_directory

Value = str | int | float | bytes | bool | None
Parameters = Mapping[str, Value]
Row = sa.RowMapping

BUSY_TIMEOUT_S = 10.0
VERSION_KNOWN_FOR_S = 0.5
"""On PostgreSQL the change counter is asked for this often at most: a change by another process shows that late."""

VERSIONS = Path(__file__).parent / "migrations" / "versions"
_INTEGRITY = "23"  # the class of PostgreSQL's codes for integrity constraints; its driver knows one of them only
_LOCK_NOT_AVAILABLE = "55P03"
_WRITE_LOCK = 0x4F75_7463  # PostgreSQL advisory lock of every write transaction; any number, the same in all processes


class BrokenConstraint(InvariantError):
    """A row breaks a rule of its table: a name that is taken, a reference to nothing, a value that must be."""

    id = "OC-9100"


class Transaction:
    """A write transaction: what it did is committed at the end of its block, or nothing if the block raises."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def query(self, sql: str, parameters: Parameters | None = None) -> list[Row]:
        """All rows of a statement that returns rows; columns go by name."""
        return list(self._connection.execute(sa.text(sql), dict(parameters or {})).mappings())

    def execute(self, sql: str, parameters: Parameters | Sequence[Parameters] | None = None) -> int:
        """Run a statement, or run it for each of several rows; the number of rows changed."""
        changed = self._connection.execute(sa.text(sql), parameters or {}).rowcount
        point("base.tables.executed")
        return changed


class Database:
    """One database; safe to share between threads, and between processes through the file or the server."""

    def __init__(self, where: Path | str, versions: Path = VERSIONS) -> None:
        """Open ``where`` (a file, made 0600 if need be, or a ``postgresql+pg8000://`` URL) and bring it up to date.

        Raises ``UserError`` when it is no database, cannot be used, or was written by a newer Outcrop.
        """
        self.path = where if isinstance(where, Path) else None
        self.name = str(where) if self.path else sa.engine.make_url(str(where)).render_as_string(hide_password=True)
        self._write_lock = threading.RLock()
        self._watch_lock = threading.Lock()
        self._watch: sqlite3.Connection | None = None
        self._counter = (-1.0, 0)
        with self._explained():
            if self.path is not None and not self.path.exists():
                _create(self.path)
            self._engine = _sqlite(self.path) if self.path is not None else _postgresql(str(where))
            try:
                self._upgrade(versions)
                if self.path is not None:
                    self._watch = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            except BaseException:
                self.close()
                raise

    @property
    def is_sqlite(self) -> bool:
        return self.path is not None

    def query(self, sql: str, parameters: Parameters | None = None) -> list[Row]:
        """All rows of one SELECT, outside any transaction; columns go by name."""
        with self._explained(), self._engine.connect() as connection:
            return list(connection.execute(sa.text(sql), dict(parameters or {})).mappings())

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A write transaction, alone among all processes.

        A full disk, a read-only file or a lock held too long is a ``DatabaseUnusable``; a broken constraint stays
        ``BrokenConstraint``. Not to be nested.
        """
        with self._turn(), self._explained(), self._engine.connect() as connection:
            connection = connection.execution_options(outcrop_writes=True)  # noqa: PLW2901 - the same, with the option
            with connection.begin():
                if not self.is_sqlite:
                    _lock(connection)
                point("base.tables.begun")
                yield Transaction(connection)
                if not self.is_sqlite:
                    connection.execute(sa.text("UPDATE outcrop_changes SET count = count + 1"))
                point("base.tables.written")
        point("base.tables.committed")
        self._counter = (-1.0, 0)

    def version(self) -> int:
        """A number that changes when anything was committed, by anyone.

        Cheap enough for every request. On PostgreSQL it may be ``VERSION_KNOWN_FOR_S`` old.
        """
        if self._watch is not None:
            with self._watch_lock:
                version: int = self._watch.execute("PRAGMA data_version").fetchone()[0]
                return version
        asked_s, count = self._counter
        now_s = time.monotonic()
        if now_s - asked_s > VERSION_KNOWN_FOR_S:
            count = int(self.query("SELECT count FROM outcrop_changes")[0]["count"])
            self._counter = (now_s, count)
        return count

    def close(self) -> None:
        """Close every connection; the database object is of no use afterwards."""
        self._engine.dispose()
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()

    def _upgrade(self, versions: Path) -> None:
        head = max(path.name[1:5] for path in versions.glob("v*.py"))
        if self._revision() == head:
            return
        with self._engine.connect() as connection:
            connection = connection.execution_options(outcrop_writes=True)  # noqa: PLW2901
            with connection.begin():
                if not self.is_sqlite:
                    _lock(connection)
                    connection.execute(sa.text("CREATE TABLE IF NOT EXISTS outcrop_changes (count BIGINT NOT NULL)"))
                    connection.execute(
                        sa.text("INSERT INTO outcrop_changes SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM outcrop_changes)")
                    )
                # Read again under the write lock: another process may have just done the same.
                revision = self._revision(connection)
                if revision > head:
                    raise UserError(
                        f"{self.name} was written by a newer Outcrop (format {revision}, this one knows {head}).",
                        "Start it with that version, or restore a copy made before the upgrade.",
                    )
                _run_alembic(connection, versions)
                point("base.upgrade.written")
        point("base.upgrade.committed")

    def _revision(self, connection: sa.Connection | None = None) -> str:
        if connection is None:
            with self._engine.connect() as fresh:
                return self._revision(fresh)
        if not sa.inspect(connection).has_table("alembic_version"):
            return ""
        rows = connection.execute(sa.text("SELECT version_num FROM alembic_version")).all()
        return str(rows[0][0]) if rows else ""

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """This process's turn to write. Who waits for one that waits itself does not wait its time over again."""
        if not self._write_lock.acquire(timeout=BUSY_TIMEOUT_S):
            raise DatabaseUnusable(
                f"{self.name} cannot be used: others are writing for too long.",
                "Check that its disk is well, and that no other program holds it locked.",
            )
        try:
            yield
        finally:
            self._write_lock.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell what the world did to the database as a ``DatabaseUnusable``."""
        try:
            yield
        except (OperationalError, InterfaceError, sqlite3.OperationalError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if getattr(cause, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:
                raise  # a mistake in our SQL, not in the world
            remedy = (
                "Check that its disk has room, that this user may write it, and that no other program holds it locked."
                if self.is_sqlite
                else "Check that the server runs, that it can be reached from here, and that it lets this user in."
            )
            raise DatabaseUnusable(f"{self.name} cannot be used: {cause}.", remedy) from error
        except (DBAPIError, sqlite3.DatabaseError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(error, IntegrityError) or _sqlstate(cause).startswith(_INTEGRITY):
                raise BrokenConstraint(f"{self.name}: {cause}") from error
            if _sqlstate(cause) == _LOCK_NOT_AVAILABLE:
                raise DatabaseUnusable(
                    f"{self.name} cannot be used: another program holds it locked.", "End that program, then try again."
                ) from error
            if type(cause) is not sqlite3.DatabaseError:
                raise
            raise DatabaseUnusable(
                f"{self.name} is damaged or not a database: {cause}.", "Restore it from a copy."
            ) from error


def _lock(connection: sa.Connection) -> None:
    """PostgreSQL's turn to write, waited for as long as SQLite's."""
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {round(BUSY_TIMEOUT_S * 1000)}"))
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})


def _sqlstate(cause: object) -> str:
    """PostgreSQL's code for an error (its manual, appendix A); empty where there is none."""
    facts = cause.args[0] if isinstance(cause, Exception) and cause.args else None
    return str(facts.get("C", "")) if isinstance(facts, dict) else ""


def _run_alembic(connection: sa.Connection, versions: Path) -> None:
    from alembic import command, config  # noqa: PLC0415 - 0.2 s, needed only where there is something to upgrade

    settings = config.Config()
    settings.set_main_option("script_location", str(VERSIONS.parent))
    settings.set_main_option("version_locations", str(versions))
    settings.set_main_option("path_separator", "newline")
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "check_same_thread": False},
        pool_size=4,
        max_overflow=12,
        hide_parameters=True,  # an error goes into the log whole, and what rows hold does not belong there
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a commit that was answered survives a power cut

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # The driver is told to begin nothing by itself. A write takes its lock at once, a read at its first row.
        writes = connection.get_execution_options().get("outcrop_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: str) -> sa.Engine:
    parsed = sa.engine.make_url(url)
    if parsed.get_backend_name() != "postgresql":
        raise UserError(
            f"{parsed.render_as_string(hide_password=True)} is not a database that Outcrop knows.",
            "Give a URL such as postgresql+pg8000://USER@HOST/NAME, or none for SQLite.",
        )
    return sa.create_engine(
        parsed.set(drivername="postgresql+pg8000"),
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=12,
        hide_parameters=True,
    )


def _create(path: Path) -> None:
    """Put an empty database, private and in write-ahead mode, at ``path`` unless another process does so first.

    It is made under another name and linked into place: switching a file to the write-ahead log while others open it
    fails with "database is locked" whatever the timeout. SQLite gives the -wal and -shm files the mode of this one.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)  # mode 0600
    os.close(descriptor)
    try:
        connection = sqlite3.connect(temporary, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        point("base.create.made")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        point("base.create.linked")
        sync_directory(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)
