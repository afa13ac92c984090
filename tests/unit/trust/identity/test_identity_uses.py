"""When keys and roles were last used: what counts as a use, and when it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from outcrop.base.arn import Arn
from outcrop.base.clock import FakeClock
from outcrop.trust.identity import IdentityStore, Principal, Session
from outcrop.trust.identity.uses import UseWriter

ACCOUNT = "123456789012"


def user(store: IdentityStore) -> Principal:
    """A user as its own access key proves it."""
    store.users.create(ACCOUNT, "u")
    credential = store.lookup(store.keys.create(ACCOUNT, "u").access_key_id)
    assert credential is not None
    return credential.principal("sigv4")


def test_uses_are_known_at_once_and_written_at_the_end(
    store: IdentityStore, open_store: Callable[[], IdentityStore]
) -> None:
    who = user(store)
    writer = UseWriter(store.uses, every_s=3600)
    assert store.uses.get(who.access_key_id) is None
    store.uses.note_request(who, "sts", "us-east-1")
    assert store.uses.get(who.access_key_id) is not None
    assert open_store().uses.get(who.access_key_id) is None
    writer.close()
    written = open_store().uses.get(who.access_key_id)
    assert written is not None
    assert (written.service, written.region, written.used_at) == ("sts", "us-east-1", "2026-03-01T12:00:00+00:00")


def test_a_session_is_a_use_of_its_role_and_of_no_key(store: IdentityStore, clock: FakeClock) -> None:
    who = user(store)
    now = clock.now()
    of_role = Session(role_arn=f"arn:aws:iam::{ACCOUNT}:role/r", name="s", issued_at=now, expires_at=now)
    arn = Arn("aws", "sts", "", ACCOUNT, "assumed-role/r/s")
    role = Principal(who.account, arn, "AROAEXAMPLE:s", "ASIAROLE", "role", "sigv4", of_role)
    store.uses.note_request(role, "bedrock", "us-east-1")
    assert store.uses.get("AROAEXAMPLE") is not None
    assert store.uses.get("ASIAROLE") is None
    of_user = replace(who, access_key_id="ASIAUSER", session=replace(of_role, role_arn=""))
    store.uses.note_request(of_user, "bedrock", "us-east-1")
    assert store.uses.get("ASIAUSER") is None
    assert store.uses.get(who.user_id) is None


def test_nobody_leaves_no_use(store: IdentityStore, open_store: Callable[[], IdentityStore]) -> None:
    nobody = replace(user(store), access_key_id="", kind="anonymous", auth="none")
    store.uses.note_request(nobody, "sts", "us-east-1")
    store.uses.flush()
    assert open_store().uses.get("") is None
