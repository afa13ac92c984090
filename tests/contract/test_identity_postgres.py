"""Identities on PostgreSQL: the same users, policies, keys and layers as on SQLite, seen by a second process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from outcrop.base.clock import FakeClock
from outcrop.base.errors import AlreadyExists, NotFound, QuotaReached, StillInUse
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores import EnvelopeSealer, MemoryKeyStore
from outcrop.trust.identity import IdentityStore, Principal, requester_of
from outcrop.trust.identity.controls import SCP
from outcrop.trust.policy import Request, decide

MANAGEMENT, ACCOUNT = "111122223333", "444455556666"
SEEN_WITHIN_S = 5.0


def document(action: str, effect: str = "Allow") -> str:
    statement = {"Effect": effect, "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def stores(postgres_url: str) -> Iterator[tuple[IdentityStore, IdentityStore]]:
    """Two processes of one deployment."""
    clock, keys = FakeClock(datetime(2026, 11, 22, tzinfo=UTC)), MemoryKeyStore()
    databases = Database(postgres_url), Database(postgres_url)
    first, second = (IdentityStore(database, clock, EnvelopeSealer(keys)) for database in databases)
    for account in (MANAGEMENT, ACCOUNT):
        assert first.ensure_account("aws", account) is not None
    yield first, second
    for database in databases:
        database.close()


def allowed(store: IdentityStore, user: str, action: str) -> bool:
    found = store.users.get(ACCOUNT, user)
    who = Principal(found.account, found.arn, found.id, "", "user", "sigv4")
    return decide(Request(requester_of(who), action, "*", ACCOUNT), store.layers_of(who)).allowed


def soon(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold: PostgreSQL's changes may be seen a moment later."""
    end = time.monotonic() + SEEN_WITHIN_S
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_the_life_of_a_user_on_postgresql(stores: tuple[IdentityStore, IdentityStore]) -> None:
    store, other = stores
    store.users.create(ACCOUNT, "Alice", "/people/", tags=[("team", "red")])
    with pytest.raises(AlreadyExists):
        other.users.create(ACCOUNT, "ALICE")
    store.groups.create(ACCOUNT, "g")
    store.groups.add_user(ACCOUNT, "g", "alice")
    arn = str(store.policies.create(ACCOUNT, "p", document("s3:*")).arn)
    store.holdings.attach(ACCOUNT, "group", "g", arn)
    assert allowed(store, "alice", "s3:GetObject")
    assert soon(lambda: allowed(other, "alice", "s3:GetObject"))
    other.policies.create_version(ACCOUNT, arn, document("kms:*"), set_default=True)
    assert soon(lambda: not allowed(store, "alice", "s3:GetObject"))
    assert allowed(store, "alice", "kms:Decrypt")
    store.controls.put(SCP, "no-kms", document("kms:*", "Deny"))
    store.controls.attach(SCP, "no-kms", ACCOUNT)
    assert not allowed(store, "alice", "kms:Decrypt")
    with pytest.raises(StillInUse):
        store.policies.delete(ACCOUNT, arn)
    with pytest.raises(StillInUse):
        store.users.delete(ACCOUNT, "alice")
    store.users.delete(ACCOUNT, "alice", force=True)
    with pytest.raises(NotFound):
        store.users.get(ACCOUNT, "alice")


def test_credentials_work_everywhere_and_stop_everywhere(stores: tuple[IdentityStore, IdentityStore]) -> None:
    store, other = stores
    store.users.create(ACCOUNT, "u")
    key = store.keys.create(ACCOUNT, "u")
    api_key = store.service_credentials.create(ACCOUNT, "u", "bedrock.amazonaws.com")
    store.keys.create(ACCOUNT, "u")
    with pytest.raises(QuotaReached):
        store.keys.create(ACCOUNT, "u")
    assert soon(lambda: other.lookup(key.access_key_id) is not None)
    assert soon(lambda: other.lookup_api_key(api_key.api_key) is not None)
    store.keys.set_active(key.access_key_id, active=False)
    store.service_credentials.delete(ACCOUNT, "u", api_key.record.id)
    assert store.lookup(key.access_key_id) is None
    assert soon(lambda: other.lookup(key.access_key_id) is None)
    assert soon(lambda: other.lookup_api_key(api_key.api_key) is None)
    store.uses.note("k", "sts", "us-east-1")
    store.uses.flush()
    assert other.uses.get("k") == store.uses.get("k")


def test_what_fails_half_way_leaves_nothing(stores: tuple[IdentityStore, IdentityStore]) -> None:
    store, other = stores
    with pytest.raises(NotFound):
        store.users.create(ACCOUNT, "u", boundary=f"arn:aws:iam::{ACCOUNT}:policy/none")
    assert other.users.all(ACCOUNT) == []
