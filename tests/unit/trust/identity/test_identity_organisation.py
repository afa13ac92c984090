"""Accounts, units and control policies: the tree, its rules, aliases, OIDC providers, and the old file taken in."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from outcrop.base.errors import AlreadyExists, NotFound, QuotaReached, StillInUse, UserError
from outcrop.trust.identity import IdentityStore, limits
from outcrop.trust.identity.controls import RCP, SCP
from outcrop.trust.policy import PolicyRefused

ACCOUNT, OTHER = "123456789012", "210987654321"
JWKS = json.dumps({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "1"}]})


def deny(action: str, **more: object) -> str:
    statement = {"Effect": "Deny", "Action": action, "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_the_first_account_manages_the_organisation(store: IdentityStore) -> None:
    found = store.organisation.organisation()
    assert found.management_account == ACCOUNT
    assert re.fullmatch("o-[a-z0-9]{10}", found.id)
    assert re.fullmatch("r-[a-z0-9]{4}", found.root)
    other = store.organisation.create_account(None, "aws", "Research")
    assert (other.parent, other.name, other.status) == (found.root, "Research", "ACTIVE")
    assert store.organisation.organisation().management_account == ACCOUNT
    assert {account.account for account in store.organisation.accounts()} == {ACCOUNT, other.account}
    with pytest.raises(AlreadyExists):
        store.organisation.create_account(other.account, "aws")
    with pytest.raises(UserError, match="twelve digits"):
        store.organisation.create_account("12", "aws")
    with pytest.raises(NotFound, match="no account"):
        store.organisation.account("000000000000")


def test_there_is_no_organisation_before_the_first_account(open_store: Callable[[], IdentityStore]) -> None:
    with pytest.raises(NotFound, match="no organisation yet"):
        open_store().organisation.organisation()


def test_units_form_a_tree(store: IdentityStore) -> None:
    root = store.organisation.organisation()
    top = store.organisation.create_unit("eng")
    below = store.organisation.create_unit("eng", top.id)
    assert re.fullmatch(f"ou-{root.root[2:]}-[a-z0-9]{{8}}", top.id)
    with pytest.raises(AlreadyExists):
        store.organisation.create_unit("eng")
    with pytest.raises(NotFound):
        store.organisation.create_unit("x", "ou-none-12345678")
    store.organisation.create_account(OTHER, "aws")
    store.organisation.move_account(OTHER, below.id)
    assert store.organisation_path(OTHER) == f"{root.id}/{root.root}/{top.id}/{below.id}/"
    assert store.organisation_path("000000000000") == ""
    for unit in (top.id, below.id):
        with pytest.raises(StillInUse, match="not empty"):
            store.organisation.delete_unit(unit)
    store.organisation.move_account(OTHER, root.root)
    store.organisation.delete_unit(below.id)
    store.organisation.delete_unit(top.id)
    assert store.organisation.units() == []
    with pytest.raises(NotFound):
        store.organisation.delete_unit(root.root)


def test_units_are_five_levels_deep_at_most(store: IdentityStore) -> None:
    parent = None
    for level in range(limits.UNIT_DEPTH):
        parent = store.organisation.create_unit(f"level {level}", parent).id
    with pytest.raises(QuotaReached, match="OUDepth: 5"):
        store.organisation.create_unit("one more", parent)


def test_an_account_leaves_and_comes_back_but_not_the_managements(store: IdentityStore) -> None:
    store.organisation.create_account(OTHER, "aws")
    assert store.organisation.move_account(OTHER, None).parent == ""
    assert store.organisation_path(OTHER) == ""
    root = store.organisation.organisation().root
    assert store.organisation.move_account(OTHER, root).parent == root
    assert [policy.name for policy in store.controls.all(SCP) if OTHER in policy.targets] == ["FullAWSAccess"]
    with pytest.raises(UserError, match="cannot leave"):
        store.organisation.move_account(ACCOUNT, None)


def test_control_policies_are_written_attached_and_removed(store: IdentityStore) -> None:
    store.organisation.create_account(OTHER, "aws")
    made = store.controls.put(SCP, "NoIam", deny("iam:*"), "d")
    assert re.fullmatch("p-[a-z0-9]{8}", made.id)
    assert store.controls.put(SCP, "NoIam", deny("kms:*")).id == made.id
    assert store.controls.get(SCP, made.id).document == deny("kms:*")
    store.controls.attach(SCP, "NoIam", "root")
    store.controls.attach(SCP, made.id, OTHER)
    with pytest.raises(AlreadyExists, match="attached to"):
        store.controls.attach(SCP, made.id, OTHER)
    with pytest.raises(StillInUse, match="is attached to"):
        store.controls.delete(SCP, "NoIam")
    store.controls.detach(SCP, "FullAWSAccess", OTHER)
    with pytest.raises(StillInUse, match="last SCP"):
        store.controls.detach(SCP, "NoIam", OTHER)
    store.controls.attach(SCP, "FullAWSAccess", OTHER)
    store.controls.detach(SCP, "NoIam", OTHER)
    store.controls.detach(SCP, "NoIam", "root")
    with pytest.raises(NotFound, match="is not attached"):
        store.controls.detach(SCP, "NoIam", "root")
    store.controls.delete(SCP, "NoIam")
    with pytest.raises(NotFound):
        store.controls.get(SCP, "NoIam")
    with pytest.raises(NotFound):
        store.controls.attach(SCP, "FullAWSAccess", "000000000000")


def test_control_policies_have_their_own_grammar_and_kinds(store: IdentityStore) -> None:
    with pytest.raises(PolicyRefused):
        store.controls.put(SCP, "x", deny("s3:*", Principal="*"))
    with pytest.raises(PolicyRefused):
        store.controls.put(RCP, "x", deny("s3:*"))
    store.controls.put(RCP, "x", deny("s3:*", Principal="*"))
    with pytest.raises(NotFound, match="service control policy x"):
        store.controls.get(SCP, "x")
    for name in ("FullAWSAccess", "RCPFullAWSAccess"):
        with pytest.raises(UserError, match="managed by AWS"):
            store.controls.put(SCP, name, deny("s3:*"))
    with pytest.raises(UserError, match="managed by AWS"):
        store.controls.delete(SCP, "FullAWSAccess")
    with pytest.raises(QuotaReached, match="PolicySize: 5120"):
        store.controls.put(SCP, "large", deny("s3:*", Sid="x" * 5120))


def test_five_control_policies_at_a_target_at_most(store: IdentityStore) -> None:
    store.organisation.create_account(OTHER, "aws")
    for number in range(5):
        store.controls.put(SCP, f"p{number}", deny("s3:*"))
    for number in range(4):
        store.controls.attach(SCP, f"p{number}", OTHER)
    with pytest.raises(QuotaReached, match="PoliciesPerTarget: 5"):
        store.controls.attach(SCP, "p4", OTHER)


def test_an_alias_belongs_to_one_account(store: IdentityStore) -> None:
    store.organisation.create_account(OTHER, "aws")
    store.organisation.set_alias(ACCOUNT, "quarry")
    with pytest.raises(AlreadyExists, match="quarry already exists"):
        store.organisation.set_alias(OTHER, "quarry")
    with pytest.raises(NotFound):
        store.organisation.delete_alias(OTHER, "quarry")
    for alias in ("ab", "Quarry", "-ab", "ab-", "a--b", "a" * 64):
        with pytest.raises(UserError, match="alias"):
            store.organisation.set_alias(OTHER, alias)
    store.organisation.delete_alias(ACCOUNT, "quarry")
    store.organisation.set_alias(OTHER, "quarry")
    assert store.organisation.account(OTHER).alias == "quarry"


def test_an_oidc_provider_and_its_keys(store: IdentityStore) -> None:
    made = store.oidc.create(ACCOUNT, "https://id.example.org/realm", client_ids=["a", "a", "b"], tags=[("k", "v")])
    assert str(made.arn) == f"arn:aws:iam::{ACCOUNT}:oidc-provider/id.example.org/realm"
    assert (made.client_ids, made.jwks, made.tags) == (("a", "b"), "", {"k": "v"})
    assert store.oidc.of_issuer(ACCOUNT, "https://id.example.org/realm") == made
    assert store.oidc.of_issuer(OTHER, "https://id.example.org/realm") is None
    with pytest.raises(AlreadyExists):
        store.oidc.create(ACCOUNT, "https://id.example.org/realm")
    arn = str(made.arn)
    store.oidc.set_jwks(ACCOUNT, arn, JWKS)
    store.oidc.add_client(ACCOUNT, arn, "c")
    store.oidc.remove_client(ACCOUNT, arn, "a")
    store.oidc.set_thumbprints(ACCOUNT, arn, ["A" * 40])
    changed = store.oidc.get(ACCOUNT, arn)
    assert (changed.client_ids, changed.jwks, changed.thumbprints) == (("b", "c"), JWKS, ("a" * 40,))
    with pytest.raises(NotFound):
        store.oidc.get(OTHER, arn)
    store.oidc.delete(ACCOUNT, arn)
    with pytest.raises(NotFound):
        store.oidc.delete(ACCOUNT, arn)


@pytest.mark.parametrize(
    "url", ["http://id.example.org", "https://", "id.example.org", "https://a b", "https://a?b", "https://a#b"]
)
def test_an_issuer_is_an_https_url(store: IdentityStore, url: str) -> None:
    with pytest.raises(UserError, match="Invalid Open ID Connect Provider URL"):
        store.oidc.create(ACCOUNT, url)


@pytest.mark.parametrize(
    "jwks",
    [
        "{",
        "[]",
        '{"keys": []}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        '{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}]}',
        '{"keys": [{"n": "AQAB"}]}',
        '{"keys": [{"kty": []}]}',
        '{"keys": {"kty": "RSA"}}',
    ],
)
def test_a_key_set_holds_public_keys(store: IdentityStore, jwks: str) -> None:
    with pytest.raises(UserError, match="key set"):
        store.oidc.create(ACCOUNT, "https://id.example.org", jwks=jwks)
    assert store.oidc.all(ACCOUNT) == []


def test_the_old_file_is_taken_in_once_and_removed(open_store: Callable[[], IdentityStore], tmp_path: Path) -> None:
    old = tmp_path / "identity.db"
    write_old(old)
    store = open_store()
    credential = store.lookup("AKIAOLDOLDOLDOLDOLDO")
    assert credential is not None
    assert (credential.secret, credential.kind, credential.account) == ("old secret that was plain", "root", ACCOUNT)
    assert store.lookup("AKIAOFFOFFOFFOFFOFFO") is None
    assert not store.get_key("AKIAOFFOFFOFFOFFOFFO").active
    assert store.get_key("AKIAOLDOLDOLDOLDOLDO").created_at == "2025-01-01T00:00:00.000+00:00"
    assert not old.exists()
    assert store.ensure_account("aws-us-gov", ACCOUNT) is None
    assert all(b"old secret" not in path.read_bytes() for path in tmp_path.iterdir())
    assert store.organisation.organisation().management_account == ACCOUNT


def test_an_import_cut_short_is_done_again_without_harm(
    open_store: Callable[[], IdentityStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_old(tmp_path / "identity.db")
    with monkeypatch.context() as patch:
        patch.setattr("outcrop.trust.identity.store.remove_legacy", lambda path: None)
        open_store().set_key_active("AKIAOLDOLDOLDOLDOLDO", active=False)
    store = open_store()
    assert not store.get_key("AKIAOLDOLDOLDOLDOLDO").active, "what was imported stays as it was left"
    assert len(store.list_keys()) == 2
    assert not (tmp_path / "identity.db").exists()


def test_an_old_file_that_is_damaged_stops_the_start(open_store: Callable[[], IdentityStore], tmp_path: Path) -> None:
    (tmp_path / "identity.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="cannot be read"):
        open_store()
    assert (tmp_path / "identity.db").exists()


def write_old(path: Path) -> None:
    """The file as releases before the common database made it."""
    connection = sqlite3.connect(path)
    connection.executescript(
        f"""PRAGMA journal_mode = WAL;
        CREATE TABLE accounts (account TEXT PRIMARY KEY, partition TEXT NOT NULL, created_at TEXT NOT NULL) STRICT;
        CREATE TABLE principals (id INTEGER PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts (account),
            arn TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, kind TEXT NOT NULL) STRICT;
        CREATE TABLE access_keys (access_key_id TEXT PRIMARY KEY, principal INTEGER NOT NULL REFERENCES principals (id),
            secret TEXT NOT NULL, active INTEGER NOT NULL, created_at TEXT NOT NULL) STRICT;
        INSERT INTO accounts VALUES ('{ACCOUNT}', 'aws-us-gov', '2025-01-01T00:00:00.000+00:00');
        INSERT INTO principals VALUES (1, '{ACCOUNT}', 'arn:aws-us-gov:iam::{ACCOUNT}:root', '{ACCOUNT}', 'root');
        INSERT INTO access_keys VALUES
            ('AKIAOLDOLDOLDOLDOLDO', 1, 'old secret that was plain', 1, '2025-01-01T00:00:00.000+00:00'),
            ('AKIAOFFOFFOFFOFFOFFO', 1, 'another old secret', 0, '2025-01-01T00:00:00.000+00:00');
        PRAGMA user_version = 1;"""
    )
    connection.close()
