"""What the tests of keys share: a deployment in small, and who asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from outcrop.base.clock import FakeClock
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.keys import Key, KeyService, KeySpec
from outcrop.trust.policy import Requester, RequesterKind

ACCOUNT, OTHER = "111122223333", "444455556666"
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def root(account: str = ACCOUNT) -> Requester:
    return Requester(RequesterKind.ROOT, account, f"arn:aws:iam::{account}:root")


def user(name: str, account: str = ACCOUNT) -> Requester:
    return Requester(RequesterKind.USER, account, f"arn:aws:iam::{account}:user/{name}")


@dataclass
class Rig:
    path: Path
    clock: FakeClock
    store: MemoryKeyStore
    keys: KeyService

    def key(self, account: str = ACCOUNT, spec: KeySpec = KeySpec.SYMMETRIC) -> Key:
        return self.keys.lifecycle.create(account, self.keys.policies.initial(account), spec=spec)

    def another_process(self) -> KeyService:
        """The same deployment as a second process has it open."""
        return KeyService(Database(self.path), self.store, self.clock, "aws", "us-east-1")

    def wait(self, **time: float) -> None:
        self.clock.set(self.clock.now() + timedelta(**time))
