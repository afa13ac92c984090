"""What bears on a principal: the right policies in the right layer, nothing stale, and denial for the unreadable."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from outcrop.base.arn import AccountId, Arn
from outcrop.base.clock import FakeClock
from outcrop.base.tables import Database
from outcrop.trust.identity import IdentityStore, Principal, Session, requester_of
from outcrop.trust.identity.controls import RCP, SCP
from outcrop.trust.policy import Decision, Layers, Policy, Reason, Request, RequesterKind, decide

ACCOUNT, OTHER = "123456789012", "210987654321"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
)


def statement(effect: str, action: str, **more: object) -> str:
    one = {"Effect": effect, "Action": action, "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


def user(store: IdentityStore, name: str, account: str = ACCOUNT) -> Principal:
    found = store.users.get(account, name)
    return Principal(AccountId(account), found.arn, found.id, "AKIA", "user", "sigv4")


def session(store: IdentityStore, clock: FakeClock, **more: object) -> Principal:
    role = store.roles.get(ACCOUNT, "r")
    said = Session(str(role.arn), "me", clock.now(), clock.now() + timedelta(hours=1), subject_id=role.id, **more)
    arn = Arn("aws", "sts", "", ACCOUNT, "assumed-role/r/me")
    return Principal(AccountId(ACCOUNT), arn, f"{role.id}:me", "ASIA", "role", "sigv4", said)


def names(policies: Sequence[Policy]) -> list[str]:
    return [policy.name for policy in policies]


def ask(store: IdentityStore, who: Principal, action: str) -> Decision:
    return decide(Request(requester_of(who), action, "*", who.account), store.layers_of(who))


def test_a_user_has_its_own_policies_and_its_groups(store: IdentityStore) -> None:
    for name in ("ann", "bob"):
        store.users.create(ACCOUNT, name)
    store.groups.create(ACCOUNT, "g")
    store.groups.add_user(ACCOUNT, "g", "ann")
    store.holdings.put_inline(ACCOUNT, "user", "ann", "own", statement("Allow", "s3:*"))
    store.holdings.attach(ACCOUNT, "user", "ann", READ_ONLY)
    store.holdings.put_inline(ACCOUNT, "group", "g", "shared", statement("Allow", "kms:*"))
    store.holdings.put_boundary(ACCOUNT, "user", "ann", ADMIN)
    layers = store.layers_of(user(store, "ann"))
    assert names(layers.identity) == ["own", READ_ONLY, "shared"]
    assert layers.boundary.name == ADMIN
    assert (layers.session, layers.scps, layers.rcps, layers.unreadable) == (None, (), (), ())
    assert store.layers_of(user(store, "bob")) == Layers()
    assert ask(store, user(store, "ann"), "kms:Encrypt").allowed
    assert ask(store, user(store, "bob"), "kms:Encrypt").reason is Reason.IDENTITY


def test_every_change_shows_at_once_in_every_process(
    store: IdentityStore, open_store: Callable[[], IdentityStore]
) -> None:
    store.users.create(ACCOUNT, "ann")
    who, other = user(store, "ann"), open_store()
    arn = str(store.policies.create(ACCOUNT, "p", statement("Allow", "s3:*")).arn)
    assert not ask(store, who, "s3:GetObject").allowed
    other.holdings.attach(ACCOUNT, "user", "ann", arn)
    assert ask(store, who, "s3:GetObject").allowed
    other.policies.create_version(ACCOUNT, arn, statement("Deny", "s3:*"), set_default=True)
    assert ask(store, who, "s3:GetObject").reason is Reason.EXPLICIT_DENY
    other.policies.set_default_version(ACCOUNT, arn, "v1")
    assert ask(store, who, "s3:GetObject").allowed
    other.holdings.detach(ACCOUNT, "user", "ann", arn)
    assert not ask(store, who, "s3:GetObject").allowed


def test_layers_are_kept_while_nothing_changes(store: IdentityStore, tmp_path: Path) -> None:
    store.users.create(ACCOUNT, "ann")
    who = user(store, "ann")
    first = store.layers_of(who)
    assert store.layers_of(who) is first
    unrelated = Database(tmp_path / "outcrop.db")
    with unrelated.transaction() as transaction:
        transaction.execute("CREATE TABLE unrelated (x INTEGER)")
    unrelated.close()
    assert store.layers_of(who) is first, "a change to other tables does not empty the cache"
    store.users.create(ACCOUNT, "bob")
    assert store.layers_of(who) is not first


def test_a_session_has_its_roles_policies_within_its_own(store: IdentityStore, clock: FakeClock) -> None:
    store.roles.create(ACCOUNT, "r", TRUST, boundary=ADMIN)
    store.holdings.attach(ACCOUNT, "role", "r", ADMIN)
    plain = store.layers_of(session(store, clock))
    assert (names(plain.identity), plain.boundary.name, plain.session) == ([ADMIN], ADMIN, None)
    own = str(store.policies.create(ACCOUNT, "p", statement("Allow", "s3:*")).arn)
    limited = session(store, clock, policies=(statement("Allow", "kms:*"),), policy_arns=(own,))
    assert names(store.layers_of(limited).session) == ["session policy 1", own]
    assert ask(store, limited, "kms:Encrypt").allowed
    assert ask(store, limited, "s3:GetObject").allowed
    assert ask(store, limited, "iam:GetUser").reason is Reason.SESSION
    assert ask(store, session(store, clock), "iam:GetUser").allowed


@pytest.mark.parametrize("policies", [{"policies": ("{",)}, {"policy_arns": (f"arn:aws:iam::{ACCOUNT}:policy/gone",)}])
def test_an_unreadable_session_policy_denies(store: IdentityStore, clock: FakeClock, policies: dict) -> None:
    store.roles.create(ACCOUNT, "r", TRUST)
    store.holdings.attach(ACCOUNT, "role", "r", ADMIN)
    who = session(store, clock, **policies)
    assert store.layers_of(who).unreadable != ()
    assert not ask(store, who, "s3:GetObject").allowed


def test_a_session_of_a_role_made_again_has_nothing(store: IdentityStore, clock: FakeClock) -> None:
    store.roles.create(ACCOUNT, "r", TRUST)
    store.holdings.attach(ACCOUNT, "role", "r", ADMIN)
    who = session(store, clock)
    assert ask(store, who, "s3:GetObject").allowed
    store.holdings.detach(ACCOUNT, "role", "r", ADMIN)
    store.roles.delete(ACCOUNT, "r")
    store.roles.create(ACCOUNT, "r", TRUST)
    store.holdings.attach(ACCOUNT, "role", "r", ADMIN)
    assert ask(store, who, "s3:GetObject").reason is Reason.UNREADABLE
    assert ask(store, session(store, clock), "s3:GetObject").allowed


def test_a_revoked_session_is_denied_and_a_later_one_is_not(store: IdentityStore, clock: FakeClock) -> None:
    store.roles.create(ACCOUNT, "r", TRUST)
    store.holdings.attach(ACCOUNT, "role", "r", ADMIN)
    before = session(store, clock)
    clock.set(clock.now() + timedelta(seconds=1))
    store.roles.revoke(ACCOUNT, "r")
    assert ask(store, before, "s3:GetObject").reason is Reason.UNREADABLE
    assert ask(store, session(store, clock), "s3:GetObject").allowed


def test_a_stored_policy_that_is_not_understood_denies(store: IdentityStore, tmp_path: Path) -> None:
    store.users.create(ACCOUNT, "ann")
    store.holdings.attach(ACCOUNT, "user", "ann", ADMIN)
    store.holdings.put_inline(ACCOUNT, "user", "ann", "own", statement("Allow", "s3:*"))
    who = user(store, "ann")
    assert ask(store, who, "s3:GetObject").allowed
    database = Database(tmp_path / "outcrop.db")
    with database.transaction() as transaction:
        transaction.execute('UPDATE inline_policies SET document = \'{"Version": "2032-10-17"}\'')
        transaction.execute("UPDATE identity_changes SET count = count + 1")
    database.close()
    assert store.layers_of(who).unreadable == ("own",)
    assert ask(store, who, "s3:GetObject").reason is Reason.UNREADABLE


def test_a_user_that_is_gone_is_denied(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    who = user(store, "ann")
    store.users.delete(ACCOUNT, "ann")
    assert ask(store, who, "s3:GetObject").reason is Reason.UNREADABLE
    swapped = replace(who, user_id=ACCOUNT)
    assert store.layers_of(swapped).unreadable != (), "the root's id is no user"


def test_control_policies_go_level_by_level_down_to_the_account(store: IdentityStore) -> None:
    store.organisation.create_account(OTHER, "aws")
    unit = store.organisation.create_unit("eng").id
    store.organisation.move_account(OTHER, unit)
    store.users.create(OTHER, "ann")
    store.holdings.attach(OTHER, "user", "ann", ADMIN)
    store.controls.put(SCP, "no-iam", statement("Deny", "iam:*"))
    store.controls.attach(SCP, "no-iam", unit)
    store.controls.put(RCP, "no-kms", statement("Deny", "kms:*", Principal="*"))
    store.controls.attach(RCP, "no-kms", "root")
    who = user(store, "ann", OTHER)
    layers = store.layers_of(who)
    assert [names(level) for level in layers.scps] == [
        ["FullAWSAccess"],
        ["FullAWSAccess", "no-iam"],
        ["FullAWSAccess"],
    ]
    assert [names(level) for level in layers.rcps] == [
        ["RCPFullAWSAccess", "no-kms"],
        ["RCPFullAWSAccess"],
        ["RCPFullAWSAccess"],
    ]
    assert ask(store, who, "s3:GetObject").allowed
    assert not ask(store, who, "iam:GetUser").allowed
    root = Principal(AccountId(OTHER), Arn("aws", "iam", "", OTHER, "root"), OTHER, "AKIA", "root", "sigv4")
    assert ask(store, root, "s3:GetObject").reason is Reason.ALLOWED_ROOT
    assert not ask(store, root, "iam:GetUser").allowed, "the account's root is bound as well"
    store.organisation.move_account(OTHER, None)
    assert ask(store, who, "iam:GetUser").allowed


def test_the_management_account_is_under_no_control_policy(store: IdentityStore) -> None:
    store.controls.put(SCP, "no-iam", statement("Deny", "iam:*"))
    store.controls.attach(SCP, "no-iam", "root")
    store.users.create(ACCOUNT, "ann")
    store.holdings.attach(ACCOUNT, "user", "ann", ADMIN)
    assert store.layers_of(user(store, "ann")).scps == ()
    assert ask(store, user(store, "ann"), "iam:GetUser").allowed


def test_resource_control_policies_are_those_of_the_resources_account(store: IdentityStore) -> None:
    store.organisation.create_account(OTHER, "aws")
    store.users.create(ACCOUNT, "ann")
    who = user(store, "ann")
    assert store.layers_of(who).rcps == ()
    assert len(store.layers_of(who, OTHER).rcps) == 2
    assert store.layers_of(who, OTHER).scps == ()


def test_tags_of_the_session_stand_above_those_of_the_role(store: IdentityStore, clock: FakeClock) -> None:
    store.roles.create(ACCOUNT, "r", TRUST, tags=[("Team", "role"), ("cost", "1")])
    assert store.principal_tags(session(store, clock)) == {"Team": "role", "cost": "1"}
    assert store.principal_tags(session(store, clock, tags={"team": "session"})) == {"cost": "1", "team": "session"}
    store.users.create(ACCOUNT, "ann", tags=[("k", "v")])
    assert store.principal_tags(user(store, "ann")) == {"k": "v"}
    store.users.untag(ACCOUNT, "ann", ["k"])
    assert store.principal_tags(user(store, "ann")) == {}


def test_the_requester_is_what_policies_name(store: IdentityStore, clock: FakeClock) -> None:
    store.roles.create(ACCOUNT, "r", TRUST, path="/p/")
    of_session = requester_of(session(store, clock))
    assert (of_session.kind, of_session.role_arn) == (RequesterKind.SESSION, f"arn:aws:iam::{ACCOUNT}:role/p/r")
    store.users.create(ACCOUNT, "ann")
    assert requester_of(user(store, "ann")).kind is RequesterKind.USER


def test_entities_are_found_for_decisions(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann", "/x/")
    assert str(store.entity(ACCOUNT, "user", "ann").arn).endswith("user/x/ann")
    assert store.entity(ACCOUNT, "policy", ADMIN).aws_managed
    for kind, name in (("user", "bob"), ("policy", "nonsense"), ("planet", "ann"), ("role", "ann")):
        assert store.entity(ACCOUNT, kind, name) is None
