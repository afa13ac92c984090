"""Accounts and keys on disk: made once, shown once, and gone at once when disabled."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from outcrop.base.clock import FakeClock
from outcrop.base.errors import NotFound, QuotaReached, UserError
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores import EnvelopeSealer, KeyStoreConfig, open_key_store
from outcrop.trust.identity import IdentityStore, IssuedKey

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ACCOUNT = "123456789012"


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    return opened(tmp_path)


def opened(directory: Path) -> IdentityStore:
    sealer = EnvelopeSealer(open_key_store(KeyStoreConfig(), directory))
    return IdentityStore(Database(directory / "outcrop.db"), FakeClock(NOW), sealer)


def first_key(store: IdentityStore) -> IssuedKey:
    key = store.ensure_account("aws-us-gov", ACCOUNT)
    assert key is not None
    return key


def test_the_first_start_makes_an_account_with_a_root_key(store: IdentityStore) -> None:
    key = first_key(store)
    assert re.fullmatch("AKIA[A-Z2-7]{16}", key.access_key_id)
    assert re.fullmatch("[A-Za-z0-9+/]{40}", key.secret_access_key)
    assert str(key.record.arn) == f"arn:aws-us-gov:iam::{ACCOUNT}:root"
    assert key.record.active
    assert key.record.created_at == "2026-03-01T12:00:00.000+00:00"
    credential = store.lookup(key.access_key_id)
    assert credential is not None
    assert (credential.secret, credential.user_id, credential.kind) == (key.secret_access_key, ACCOUNT, "root")


def test_the_secret_is_given_once(store: IdentityStore, tmp_path: Path) -> None:
    key = first_key(store)
    assert store.ensure_account("aws-us-gov", ACCOUNT) is None
    assert opened(tmp_path).ensure_account("aws-us-gov", ACCOUNT) is None
    assert key.secret_access_key not in repr(key) + repr(store.lookup(key.access_key_id)) + repr(store.list_keys())


def test_a_second_start_finds_the_key(store: IdentityStore, tmp_path: Path) -> None:
    key = first_key(store)
    again = opened(tmp_path).lookup(key.access_key_id)
    assert again is not None
    assert again.secret == key.secret_access_key


def test_the_file_is_for_its_owner_only(store: IdentityStore, tmp_path: Path) -> None:
    first_key(store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}
    assert "outcrop.db" in modes


def test_a_principal_has_two_keys_at_most(store: IdentityStore) -> None:
    first = first_key(store)
    second = store.create_key(ACCOUNT)
    with pytest.raises(QuotaReached, match="AccessKeysPerUser: 2"):
        store.create_key(ACCOUNT)
    store.delete_key(first.access_key_id)
    third = store.create_key(ACCOUNT)
    assert {key.access_key_id for key in store.list_keys()} == {second.access_key_id, third.access_key_id}


def test_disabled_and_deleted_keys_prove_nothing(store: IdentityStore) -> None:
    identifier = first_key(store).access_key_id
    assert not store.set_key_active(identifier, active=False).active
    assert store.lookup(identifier) is None
    assert store.set_key_active(identifier, active=True).active
    assert store.lookup(identifier) is not None
    assert store.delete_key(identifier).access_key_id == identifier
    assert store.lookup(identifier) is None
    assert store.list_keys() == []


def test_another_connections_change_is_seen_by_the_next_lookup(store: IdentityStore, tmp_path: Path) -> None:
    identifier = first_key(store).access_key_id
    assert store.lookup(identifier) is not None
    other = opened(tmp_path)
    other.set_key_active(identifier, active=False)
    assert store.lookup(identifier) is None
    other.set_key_active(identifier, active=True)
    assert store.lookup(identifier) is not None


def test_another_processs_change_is_seen_by_the_next_lookup(store: IdentityStore, tmp_path: Path) -> None:
    identifier = first_key(store).access_key_id
    assert store.lookup(identifier) is not None
    program = (
        "import sys; from pathlib import Path; from outcrop.base.clock import SystemClock\n"
        "from outcrop.base.tables import Database\n"
        "from outcrop.trust.crypto.keystores import EnvelopeSealer, MemoryKeyStore\n"
        "from outcrop.trust.identity import IdentityStore\n"
        "store = IdentityStore(Database(Path(sys.argv[1])), SystemClock(), EnvelopeSealer(MemoryKeyStore()))\n"
        "store.set_key_active(sys.argv[2], False)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "outcrop.db", identifier], check=True)
    assert store.lookup(identifier) is None


def test_lookups_and_changes_from_many_threads_agree_in_the_end(store: IdentityStore) -> None:
    identifier = first_key(store).access_key_id
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            store.lookup(identifier)

    with ThreadPoolExecutor(3) as pool:
        lookers = [pool.submit(look) for _ in range(3)]
        for turn in range(20):
            store.set_key_active(identifier, active=turn % 2 == 0)
            assert (store.lookup(identifier) is not None) == (turn % 2 == 0)
        stop.set()
    for looker in lookers:
        looker.result()
    assert store.lookup(identifier) is None


def test_keys_are_listed_by_account(store: IdentityStore) -> None:
    first_key(store)
    other = store.ensure_account("aws", "999999999999")
    assert other is not None
    assert [key.access_key_id for key in store.list_keys("999999999999")] == [other.access_key_id]
    assert len(store.list_keys()) == 2


def test_unknown_names_are_not_found(store: IdentityStore) -> None:
    assert store.lookup("AKIA") is None
    for act in (store.get_key, store.delete_key, lambda key: store.set_key_active(key, active=True)):
        with pytest.raises(NotFound, match="The Access Key with id AKIANOSUCHKEY cannot be found"):
            act("AKIANOSUCHKEY")
    with pytest.raises(NotFound, match="no account 000000000000"):
        store.create_key("000000000000")
    with pytest.raises(UserError, match="twelve digits"):
        store.ensure_account("aws", "12")
