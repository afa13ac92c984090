"""Settings of accounts: what another process changes holds at once; modes that are not understood keep nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from objects_rig import ACCOUNT, OTHER, START, ObjectsRig, objects_rig
from outcrop.base.errors import NotKept
from outcrop.base.tables import Database
from outcrop.service.accounts import Accounts, AccountSettings, LogBucket, LoggingSettings, RetentionMode
from outcrop.service.isolation import CacheScopes

WANTED = LoggingSettings(LogBucket("logs", "p"), text=False)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ObjectsRig]:
    with objects_rig(tmp_path / "data") as made:
        yield made


def test_nothing_is_logged_and_the_mode_is_inherit_until_an_account_says_otherwise(rig: ObjectsRig):
    assert rig.accounts.logging.get(ACCOUNT) is None
    assert rig.accounts.retention.mode(ACCOUNT) == (RetentionMode.INHERIT, None)
    assert rig.accounts.retention.keeps(ACCOUNT)


def test_a_setting_is_one_accounts_and_comes_back_as_it_was_made(rig: ObjectsRig):
    rig.accounts.logging.put(ACCOUNT, WANTED)
    rig.accounts.retention.set(ACCOUNT, RetentionMode.NONE)
    assert rig.accounts.logging.get(ACCOUNT) == WANTED
    assert rig.accounts.retention.mode(ACCOUNT) == (RetentionMode.NONE, START)
    assert rig.accounts.logging.get(OTHER) is None
    assert rig.accounts.retention.keeps(OTHER)
    rig.accounts.logging.delete(ACCOUNT)
    rig.accounts.logging.delete(ACCOUNT)
    assert rig.accounts.logging.get(ACCOUNT) is None
    assert not rig.accounts.retention.keeps(ACCOUNT)


def test_what_another_process_changes_holds_for_the_next_request(rig: ObjectsRig):
    assert rig.accounts.retention.keeps(ACCOUNT)
    database = Database(rig.data / "outcrop.db")
    elsewhere = Accounts(database, rig.clock)
    for mode, keeps in ((RetentionMode.NONE, False), (RetentionMode.DEFAULT, True), (RetentionMode.NONE, False)):
        elsewhere.retention.set(ACCOUNT, mode)
        assert rig.accounts.retention.keeps(ACCOUNT) is keeps
    database.close()


def test_a_setting_that_did_not_change_is_not_read_again(rig: ObjectsRig, monkeypatch: pytest.MonkeyPatch):
    rig.accounts.logging.put(ACCOUNT, WANTED)
    asked = []
    query = rig.database.query
    monkeypatch.setattr(rig.database, "query", lambda *given: asked.append(given) or query(*given))
    for _ in range(3):
        assert rig.accounts.logging.get(ACCOUNT) == WANTED
    assert len(asked) == 1


def test_require_refuses_in_words_under_none_only(rig: ObjectsRig):
    for mode in (RetentionMode.DEFAULT, RetentionMode.INHERIT):
        rig.accounts.retention.set(ACCOUNT, mode)
        rig.accounts.retention.require(ACCOUNT, "no answer is stored")
    rig.accounts.retention.set(ACCOUNT, RetentionMode.NONE)
    with pytest.raises(NotKept, match="is none: no answer is stored"):
        rig.accounts.retention.require(ACCOUNT, "no answer is stored")


@pytest.mark.parametrize("stored", ["", "provider_data_share", "something-newer"])
def test_a_mode_that_is_not_understood_keeps_nothing(rig: ObjectsRig, stored: str):
    AccountSettings(rig.database, rig.clock).write(ACCOUNT, "data-retention", stored)
    assert not rig.accounts.retention.keeps(ACCOUNT)


def test_an_account_that_keeps_nothing_has_no_prefix_cache(rig: ObjectsRig):
    scopes = CacheScopes(rig.accounts.retention.keeps)
    before = scopes.scope(ACCOUNT, "m")
    assert len(before) == 32
    rig.accounts.retention.set(ACCOUNT, RetentionMode.NONE)
    assert scopes.scope(ACCOUNT, "m") == b""
    assert len(scopes.scope(OTHER, "m")) == 32
    rig.accounts.retention.set(ACCOUNT, RetentionMode.INHERIT)
    assert scopes.scope(ACCOUNT, "m") == before
