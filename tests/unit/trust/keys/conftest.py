"""A key service over a database of its own and a key store in memory, at a time that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from keys_rig import START, Rig

from outcrop.base.clock import FakeClock
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.keys import KeyService


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    clock, store = FakeClock(START), MemoryKeyStore()
    path = tmp_path / "outcrop.db"
    database = Database(path)
    yield Rig(path, clock, store, KeyService(database, store, clock, "aws", "us-east-1"))
    database.close()
