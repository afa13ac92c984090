"""A key service over a database of its own and a key store in memory, at a time that tests move."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from keys_rig import START, Rig

from outcrop.base.clock import FakeClock
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.keys import KeyService


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without rows, to be copied: making its tables takes longer than most tests here."""
    path = tmp_path_factory.mktemp("empty") / "outcrop.db"
    Database(path).close()
    return path


@pytest.fixture
def rig(tmp_path: Path, empty_database: Path) -> Iterator[Rig]:
    clock, store = FakeClock(START), MemoryKeyStore()
    path = tmp_path / "outcrop.db"
    shutil.copyfile(empty_database, path)
    database = Database(path)
    yield Rig(path, clock, store, KeyService(database, store, clock, "aws", "us-east-1"))
    database.close()
