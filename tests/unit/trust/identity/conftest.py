"""Stores over a copied database: making the tables once is much faster than once for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outcrop.base.clock import FakeClock
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores import EnvelopeSealer, MemoryKeyStore
from outcrop.trust.identity import IdentityStore

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ACCOUNT = "123456789012"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "outcrop.db"
    Database(path).close()
    return path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def open_store(empty_database: Path, tmp_path: Path, clock: FakeClock) -> Iterator[Callable[[], IdentityStore]]:
    """Opens the test's database again, as another process would; all share one key store."""
    path = tmp_path / "outcrop.db"
    shutil.copy(empty_database, path)
    keys = MemoryKeyStore()
    opened: list[Database] = []

    def open_one() -> IdentityStore:
        opened.append(Database(path))
        return IdentityStore(opened[-1], clock, EnvelopeSealer(keys))

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def store(open_store: Callable[[], IdentityStore]) -> IdentityStore:
    """A store with one account, which manages the organisation."""
    store = open_store()
    store.ensure_account("aws", ACCOUNT)
    return store
