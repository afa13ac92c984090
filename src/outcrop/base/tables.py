"""SQLite as Outcrop uses it: write-ahead log, whole transactions, migrations as an ordered list, a private file.

A migration is a tuple of statements; the list only ever grows at its end. ``PRAGMA user_version`` counts the ones
applied, inside the same transaction, so a crash leaves a database at one version or the next, never between.

Not covered: network file systems (SQLite's locks and shared memory do not work there), and encryption at rest: who
can read the file can read every row.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from outcrop.base.errors import UserError
from outcrop.base.files import sync_directory

Migration = tuple[str, ...]
Value = str | int | float | bytes | None

BUSY_TIMEOUT_S = 10.0


class Database:
    """One SQLite file behind one connection; safe to share between threads, and between processes through the file."""

    def __init__(self, path: Path, migrations: Sequence[Migration]) -> None:
        """Open ``path``, making it (0600) if need be, and apply the migrations it lacks.

        Raises ``UserError`` when the file is not a database, cannot be used, or was written by a newer Outcrop.
        """
        self.path = path
        self._lock = threading.RLock()
        with _explained(path):
            if not path.exists():
                _create(path)
            self._connection = _connect(path)
            try:
                self._migrate(migrations)
            except BaseException:
                self.close()
                raise

    def query(self, sql: str, parameters: Sequence[Value] = ()) -> list[sqlite3.Row]:
        """All rows of one SELECT; columns go by name."""
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: everything done in the block is committed at its end, or nothing if it raises.

        It takes the write lock at the start (BEGIN IMMEDIATE), so what the block reads cannot change before it writes.
        A full disk, a read-only file or a lock held too long is a ``UserError``; a broken constraint stays SQLite's.
        """
        with self._lock, _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def data_version(self) -> int:
        """A number that changes when another connection, in any process, has committed; our own commits leave it."""
        with self._lock:
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
            return version

    def close(self) -> None:
        """Close the connection; the database object is of no use afterwards."""
        with self._lock:
            self._connection.close()

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        if self._version() == len(migrations):
            return
        with self.transaction() as connection:
            # Read again under the write lock: another process may have just applied the same migrations.
            version = self._version()
            if version > len(migrations):
                raise UserError(
                    f"{self.path} was written by a newer Outcrop (format {version}, this one knows {len(migrations)}).",
                    "Start it with that version, or restore a copy made before the upgrade.",
                )
            for migration in migrations[version:]:
                for statement in migration:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(migrations)}")

    def _version(self) -> int:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        return version


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Tell what the world did to the file as a ``UserError``."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR:
            raise  # a mistake in our SQL, not in the world
        raise UserError(
            f"{path} cannot be used: {error}.",
            "Check that its disk has room, that this user may write it, and that no other program holds it locked.",
        ) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
            raise
        raise UserError(f"{path} is damaged or not a database: {error}.", "Restore it from a copy.") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a commit that was answered survives a power cut
    except BaseException:
        connection.close()
        raise
    return connection


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
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        sync_directory(path.parent)
    finally:
        Path(temporary).unlink(missing_ok=True)
