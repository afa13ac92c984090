"""KMS keys on PostgreSQL: the same life as on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from outcrop.base.clock import FakeClock
from outcrop.base.errors import KeyRefused
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys import KeyService, KeySpec, KeyState

ACCOUNT = "111122223333"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"


@pytest.fixture
def keys(postgres_url: str) -> Iterator[KeyService]:
    database = Database(postgres_url)
    clock = FakeClock(datetime(2026, 11, 22, tzinfo=UTC))
    yield KeyService(database, MemoryKeyStore(), clock, "aws", "us-east-1")
    database.close()


def test_the_life_of_a_key(keys: KeyService) -> None:
    key = keys.lifecycle.create(ACCOUNT, keys.policies.initial(ACCOUNT), description="d", tags={"team": "a"})
    blob = keys.ciphers.encrypt(key.key_id, Secret("x"), {"a": "1"})
    keys.aliases.create(ACCOUNT, "alias/a", key)
    keys.lifecycle.tag(key.key_id, {"team": "b"})
    keys.lifecycle.set_rotation(key.key_id, 365)
    grant = keys.grants.create(key, ROOT, ["Decrypt"], ROOT, name="n", subset={"a": "1"})
    assert keys.grants.create(key, ROOT, ["Decrypt"], ROOT, name="n", subset={"a": "1"}) == grant
    assert keys.rows.tags(key.key_id) == {"team": "b"}
    assert keys.lifecycle.rotate(key.key_id).version == 2
    assert keys.find("alias/a", ACCOUNT).version == 2
    assert keys.ciphers.decrypt(blob, {"a": "1"}).plaintext == Secret("x")
    hmac = keys.lifecycle.create(ACCOUNT, keys.policies.initial(ACCOUNT), spec=KeySpec.HMAC_256)
    keys.ciphers.verify_mac(hmac.key_id, b"m", keys.ciphers.mac(hmac.key_id, b"m"))
    assert keys.default_key(ACCOUNT) == keys.default_key(ACCOUNT)
    keys.lifecycle.disable(key.key_id)
    assert keys.lifecycle.schedule_deletion(key.key_id, 7).state is KeyState.PENDING_DELETION
    due = keys.rows.now() + timedelta(days=7)
    assert [done.action for done in keys.reap(due)] == ["destroyed"]
    with pytest.raises(KeyRefused):
        keys.ciphers.decrypt(blob, {"a": "1"})
    assert keys.rows.peek(key.key_id).state is KeyState.DESTROYED
