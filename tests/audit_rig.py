"""What tests of the trail share: a sealer, a trail in a folder, events to put in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from outcrop.base.clock import Clock, FakeClock
from outcrop.trust.audit import Happened, Identity, Trail, TrailConfig, cloudtrail_event
from outcrop.trust.audit.disk import Disk
from outcrop.trust.crypto import aead

ACCOUNT = "111122223333"
OTHER = "444455556666"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class KeySealer:
    """A sealer under one key in memory."""

    def __init__(self, key: bytes = bytes(range(32))) -> None:
        self._key = key

    def seal(self, plaintext: bytes, context: dict[str, str]) -> bytes:
        return aead.seal(self._key, plaintext, context)

    def unseal(self, sealed: bytes, context: dict[str, str]) -> bytes:
        return aead.unseal(self._key, sealed, context)


def trail(directory: Path, clock: Clock | None = None, disk: Disk | None = None, **settings: object) -> Trail:
    config = TrailConfig(ACCOUNT, "us-east-1", **settings)
    return Trail(directory, KeySealer(), config, clock or FakeClock(NOON), disk)


def event(
    name: str = "CreateUser", account: str = ACCOUNT, at: datetime = NOON, **members: object
) -> dict[str, object]:
    identity = Identity("Root", account=account, arn=f"arn:aws:iam::{account}:root", principal_id=account)
    call = Happened(
        **{
            "time": at,
            "identity": identity,
            "source": "iam.amazonaws.com",
            "name": name,
            "region": "us-east-1",
            "account": account,
            "request_id": "request-1",
            "event_class": "Management",
            "read_only": False,
        }
        | members
    )
    return cloudtrail_event(call)
