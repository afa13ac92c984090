"""Access keys and long-term API keys: what they prove, when they stop, and that no file holds a secret."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from outcrop.base.clock import FakeClock
from outcrop.base.errors import NotFound, QuotaReached, UserError
from outcrop.base.tables import Database
from outcrop.trust.identity import IdentityStore
from outcrop.trust.identity.service_credentials import UnsupportedService

ACCOUNT = "123456789012"
BEDROCK = "bedrock.amazonaws.com"


def test_a_users_key_signs_as_the_user(store: IdentityStore) -> None:
    user = store.users.create(ACCOUNT, "ann", "/eng/")
    issued = store.keys.create(ACCOUNT, "ann")
    credential = store.lookup(issued.access_key_id)
    assert credential is not None
    assert credential.secret == issued.secret_access_key
    assert (credential.kind, credential.user_id, credential.arn) == ("user", user.id, user.arn)
    assert [key.user_name for key in store.keys.all(ACCOUNT, "ann")] == ["ann"]
    store.keys.create(ACCOUNT, "ann")
    with pytest.raises(QuotaReached, match="AccessKeysPerUser: 2"):
        store.keys.create(ACCOUNT, "ann")
    with pytest.raises(NotFound):
        store.keys.create(ACCOUNT, "bob")


def test_a_key_is_found_only_for_its_owner(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    store.users.create(ACCOUNT, "bob")
    issued = store.keys.create(ACCOUNT, "ann")
    other = store.organisation.create_account("210987654321", "aws").account
    assert store.keys.of(ACCOUNT, "ann", issued.access_key_id) == issued.record
    for account, user in ((ACCOUNT, "bob"), (ACCOUNT, None), (other, None)):
        with pytest.raises(NotFound, match="cannot be found"):
            store.keys.of(account, user, issued.access_key_id)


def test_keys_of_a_suspended_account_prove_nothing(store: IdentityStore) -> None:
    other = store.organisation.create_account("210987654321", "aws").account
    store.users.create(other, "ann")
    key = store.keys.create(other, "ann").access_key_id
    api_key = store.service_credentials.create(other, "ann", BEDROCK).api_key
    arn = f"arn:aws:iam::{other}:user/ann"
    store.organisation.set_status(other, "SUSPENDED")
    assert (store.lookup(key), store.lookup_api_key(api_key), store.session_subject(arn)) == (None, None, None)
    store.organisation.set_status(other, "ACTIVE")
    assert None not in (store.lookup(key), store.lookup_api_key(api_key), store.session_subject(arn))
    with pytest.raises(UserError, match="cannot be suspended"):
        store.organisation.set_status(ACCOUNT, "SUSPENDED")


def test_no_file_holds_a_secret(store: IdentityStore, tmp_path: Path) -> None:
    store.users.create(ACCOUNT, "ann")
    key = store.keys.create(ACCOUNT, "ann")
    issued = store.service_credentials.create(ACCOUNT, "ann", BEDROCK)
    again = store.service_credentials.reset(ACCOUNT, "ann", issued.record.id)
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.access_key_id.encode() in found, "the files looked into are those that are written"
    for text in (issued.api_key, again.api_key):
        secret = base64.b64decode(text.removeprefix("ABSK")).partition(b":")[2]
        assert len(secret) >= 43
        assert secret not in found
        assert text.encode() not in found
    assert key.secret_access_key.encode() not in found
    assert base64.b64decode(key.secret_access_key) not in found
    shown = repr(issued) + repr(again) + repr(key) + repr(store.lookup(key.access_key_id))
    assert key.secret_access_key not in shown
    assert issued.api_key not in shown


def test_a_sealed_secret_moved_to_another_key_proves_nothing(
    store: IdentityStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.users.create(ACCOUNT, "ann")
    mine, theirs = store.keys.create(ACCOUNT, "ann"), store.create_key(ACCOUNT)
    database = Database(tmp_path / "outcrop.db")
    with database.transaction() as transaction:
        transaction.execute(
            "UPDATE access_keys SET sealed_secret = (SELECT sealed_secret FROM access_keys WHERE access_key_id = :mine)"
            " WHERE access_key_id = :theirs",
            {"mine": mine.access_key_id, "theirs": theirs.access_key_id},
        )
        transaction.execute("UPDATE identity_changes SET count = count + 1")
    database.close()
    with caplog.at_level(logging.ERROR):
        assert store.lookup(theirs.access_key_id) is None
    assert theirs.access_key_id in caplog.text
    assert store.lookup(mine.access_key_id) is not None, "one damaged row locks nobody else out"


def test_a_long_term_api_key_proves_its_user(store: IdentityStore, clock: FakeClock) -> None:
    user = store.users.create(ACCOUNT, "ann")
    issued = store.service_credentials.create(ACCOUNT, "ann", BEDROCK, 30)
    assert re.fullmatch("ACCA[A-Z2-7]{17}", issued.record.id)
    assert issued.record.alias == f"ann+1-at-{ACCOUNT}"
    principal = store.lookup_api_key(issued.api_key)
    assert principal is not None
    assert (principal.arn, principal.user_id, principal.kind) == (user.arn, user.id, "user")
    assert (principal.auth, principal.bearer_type) == ("bearer", "LONG_TERM")
    assert principal.token_expires_at == clock.now() + timedelta(days=30)
    endless = store.service_credentials.create(ACCOUNT, "ann", BEDROCK)
    assert store.lookup_api_key(endless.api_key).token_expires_at is None


def test_every_changed_character_of_an_api_key_is_refused(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    key = store.service_credentials.create(ACCOUNT, "ann", BEDROCK).api_key.rstrip("=")
    last = len(key) - 1  # base64 may leave bits of the last character unused
    for place in range(last):
        changed = key[:place] + ("A" if key[place] != "A" else "B") + key[place + 1 :]
        assert store.lookup_api_key(changed) is None, place
    for text in ("", "ABSK", "ABSK%%%", "bedrock-api-key-" + key, key[4:], key + "AAAA", key[:-8], "ABSKOg=="):
        assert store.lookup_api_key(text) is None
    assert store.lookup_api_key(key) is not None


def test_api_keys_stop_when_inactive_reset_or_deleted(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    first = store.service_credentials.create(ACCOUNT, "ann", BEDROCK)
    identifier = first.record.id
    store.service_credentials.set_active(ACCOUNT, "ann", identifier, active=False)
    assert store.lookup_api_key(first.api_key) is None
    store.service_credentials.set_active(ACCOUNT, None, identifier, active=True)
    assert store.lookup_api_key(first.api_key) is not None
    second = store.service_credentials.reset(ACCOUNT, "ann", identifier)
    assert store.lookup_api_key(first.api_key) is None
    assert store.lookup_api_key(second.api_key) is not None
    for account, user in ((ACCOUNT, "bob"), ("210987654321", None)):
        with pytest.raises(NotFound, match="No such credential"):
            store.service_credentials.delete(account, user, identifier)
    store.service_credentials.delete(ACCOUNT, "ann", identifier)
    assert store.lookup_api_key(second.api_key) is None


def test_what_api_keys_are_made_for(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    with pytest.raises(UnsupportedService, match="codecommit"):
        store.service_credentials.create(ACCOUNT, "ann", "codecommit.amazonaws.com")
    for days in (0, 36_601):
        with pytest.raises(UserError, match="cannot live"):
            store.service_credentials.create(ACCOUNT, "ann", BEDROCK, days)
    store.service_credentials.create(ACCOUNT, "ann", BEDROCK, 36_600)
    store.service_credentials.create(ACCOUNT, "ann", BEDROCK, 1)
    with pytest.raises(QuotaReached, match="ServiceSpecificCredentialsPerUser: 2"):
        store.service_credentials.create(ACCOUNT, "ann", BEDROCK)
    assert [each.alias[:5] for each in store.service_credentials.all(ACCOUNT, "ann")] == ["ann+1", "ann+2"]
    assert store.service_credentials.all(ACCOUNT, service=BEDROCK) == store.service_credentials.all(ACCOUNT)


def test_another_processs_change_holds_for_the_next_request(
    store: IdentityStore, open_store: Callable[[], IdentityStore]
) -> None:
    store.users.create(ACCOUNT, "ann")
    key = store.keys.create(ACCOUNT, "ann").access_key_id
    issued = store.service_credentials.create(ACCOUNT, "ann", BEDROCK)
    assert store.lookup(key) is not None
    assert store.lookup_api_key(issued.api_key) is not None
    other = open_store()
    other.keys.set_active(key, active=False)
    assert store.lookup(key) is None
    other.service_credentials.delete(ACCOUNT, "ann", issued.record.id)
    assert store.lookup_api_key(issued.api_key) is None


def test_last_uses_are_known_at_once_and_elsewhere_after_a_flush(
    store: IdentityStore, open_store: Callable[[], IdentityStore], clock: FakeClock
) -> None:
    key = store.create_key(ACCOUNT).access_key_id
    other = open_store()
    store.uses.note(key, "bedrock", "us-east-1")
    assert store.uses.get(key).service == "bedrock"
    assert other.uses.get(key) is None
    store.uses.flush()
    assert (other.uses.get(key).service, other.uses.get(key).region) == ("bedrock", "us-east-1")
    clock.set(clock.now() + timedelta(hours=1))
    store.uses.note(key, "iam", "us-east-1")
    store.uses.flush()
    assert other.uses.get(key).used_at == clock.now().isoformat(timespec="seconds")
    store.delete_key(key)
    assert other.uses.get(key) is None
