"""Sealed objects over a database and a key store of their own, at a time that tests move."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from outcrop.base.arn import AccountId
from outcrop.base.clock import FakeClock
from outcrop.base.tables import Database
from outcrop.service.accounts import Accounts
from outcrop.service.objects import SealedObjects
from outcrop.service.objects.sealed import OBJECTS_FOLDER
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.keys import Key, KeyService, Vault

ACCOUNT, OTHER = AccountId("111122223333"), AccountId("444455556666")
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class ObjectsRig:
    data: Path
    clock: FakeClock
    database: Database
    keys: KeyService
    objects: SealedObjects
    accounts: Accounts

    def key(self, account: AccountId = ACCOUNT) -> Key:
        return self.keys.lifecycle.create(account, self.keys.policies.initial(account))

    def files(self) -> list[Path]:
        """Every file of every object, and whatever else lies among them."""
        return sorted(path for path in (self.data / OBJECTS_FOLDER).rglob("*") if path.is_file())


@cache
def _empty_database() -> Path:
    path = Path(mkdtemp(prefix="outcrop-test-")) / "outcrop.db"
    Database(path).close()
    return path


@contextmanager
def objects_rig(data: Path) -> Iterator[ObjectsRig]:
    """A rig over the directory ``data``."""
    data.mkdir(exist_ok=True)
    shutil.copyfile(_empty_database(), data / "outcrop.db")
    clock, database = FakeClock(START), Database(data / "outcrop.db")
    keys = KeyService(database, MemoryKeyStore(), clock, "aws", "us-east-1")
    objects = SealedObjects(keys, Vault(keys, clock), data / OBJECTS_FOLDER, clock)
    yield ObjectsRig(data, clock, database, keys, objects, Accounts(database, clock))
    database.close()
