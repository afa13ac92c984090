"""Users, groups and roles: made, found, renamed, tagged and removed as IAM would, each with what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

from outcrop.base.clock import FakeClock
from outcrop.base.errors import AlreadyExists, NotFound, QuotaReached, StillInUse, UserError
from outcrop.trust.identity import IdentityStore, limits
from outcrop.trust.policy import PolicyRefused

ACCOUNT = "123456789012"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
ALLOW = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}],
    }
)


def test_a_user_has_the_id_and_arn_of_its_kind(store: IdentityStore) -> None:
    user = store.users.create(ACCOUNT, "Ann", "/eng/", tags=[("team", "rocks")])
    assert re.fullmatch("AIDA[A-Z2-7]{17}", user.id)
    assert str(user.arn) == f"arn:aws:iam::{ACCOUNT}:user/eng/Ann"
    assert store.users.get(ACCOUNT, "ann") == user, "names are found in any case"
    assert user.tags == {"team": "rocks"}
    with pytest.raises(NotFound, match=r"^The user with name bob cannot be found\.$"):
        store.users.get(ACCOUNT, "bob")
    with pytest.raises(NotFound, match="no account 999999999999"):
        store.users.create("999999999999", "ann")


def test_groups_and_roles_have_ids_of_their_kinds(store: IdentityStore) -> None:
    assert re.fullmatch("AGPA[A-Z2-7]{17}", store.groups.create(ACCOUNT, "g").id)
    role = store.roles.create(ACCOUNT, "r", TRUST, path="/service-role/", description="d", max_session_s=7200)
    assert re.fullmatch("AROA[A-Z2-7]{17}", role.id)
    assert str(role.arn) == f"arn:aws:iam::{ACCOUNT}:role/service-role/r"
    assert store.roles.get(ACCOUNT, "R") == role


def test_names_are_taken_in_any_case_but_only_by_their_kind(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    with pytest.raises(AlreadyExists, match=r"^User with name ANN already exists\.$"):
        store.users.create(ACCOUNT, "ANN", "/elsewhere/")
    store.groups.create(ACCOUNT, "ann")
    store.roles.create(ACCOUNT, "ann", TRUST)
    other = store.organisation.create_account("210987654321", "aws").account
    store.users.create(other, "ann")
    assert [user.name for user in store.users.all(other)] == ["ann"]


@pytest.mark.parametrize("name", ["", "a b", "ann!", "a" * 65, "ä", "a/b", "a\n"])
def test_a_malformed_name_is_refused(store: IdentityStore, name: str) -> None:
    with pytest.raises(UserError, match="value for userName is invalid"):
        store.users.create(ACCOUNT, name)
    assert store.users.all(ACCOUNT) == []


def test_the_longest_names_are_taken(store: IdentityStore) -> None:
    assert store.users.create(ACCOUNT, "a" * 64).name == "a" * 64
    assert store.groups.create(ACCOUNT, "+=,.@_-" + "b" * 121).name.endswith("b")


@pytest.mark.parametrize("path", ["eng", "/eng", "eng/", "", "/a b/", "/" + "a" * 511 + "/", "/aws-service-role/x/"])
def test_a_malformed_or_reserved_path_is_refused(store: IdentityStore, path: str) -> None:
    with pytest.raises(UserError, match="path"):
        store.roles.create(ACCOUNT, "r", TRUST, path=path)


def test_renaming_keeps_the_id_and_what_it_holds(store: IdentityStore) -> None:
    user = store.users.create(ACCOUNT, "ann")
    store.users.create(ACCOUNT, "bob")
    store.holdings.attach(ACCOUNT, "user", "ann", ADMIN)
    store.users.update(ACCOUNT, "ann", "anna", "/x/")
    renamed = store.users.get(ACCOUNT, "anna")
    assert (renamed.id, renamed.path) == (user.id, "/x/")
    assert store.holdings.attached(ACCOUNT, "user", "anna") == [ADMIN]
    store.users.update(ACCOUNT, "anna", "ANNA")
    with pytest.raises(AlreadyExists):
        store.users.update(ACCOUNT, "anna", "Bob")
    with pytest.raises(NotFound):
        store.users.get(ACCOUNT, "ann")


def test_a_list_is_by_name_and_below_its_path(store: IdentityStore) -> None:
    for name, path in (("b", "/x/"), ("A", "/"), ("c", "/x/y/")):
        store.users.create(ACCOUNT, name, path)
    assert [user.name for user in store.users.all(ACCOUNT)] == ["A", "b", "c"]
    assert [user.name for user in store.users.all(ACCOUNT, "/x/")] == ["b", "c"]


def test_a_user_goes_only_when_nothing_depends_on_it(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann", tags=[("a", "b")])
    store.groups.create(ACCOUNT, "g")
    key = store.keys.create(ACCOUNT, "ann")
    credential = store.service_credentials.create(ACCOUNT, "ann", "bedrock.amazonaws.com")
    store.groups.add_user(ACCOUNT, "g", "ann")
    store.holdings.attach(ACCOUNT, "user", "ann", ADMIN)
    store.holdings.put_inline(ACCOUNT, "user", "ann", "p", ALLOW)
    clear: list[tuple[str, Callable[[], object]]] = [
        ("must delete access keys first", lambda: store.keys.delete(key.access_key_id)),
        (
            "service-specific credentials",
            lambda: store.service_credentials.delete(ACCOUNT, "ann", credential.record.id),
        ),
        ("must remove user from groups first", lambda: store.groups.remove_user(ACCOUNT, "g", "ann")),
        ("must detach all policies first", lambda: store.holdings.detach(ACCOUNT, "user", "ann", ADMIN)),
        ("must delete policies first", lambda: store.holdings.delete_inline(ACCOUNT, "user", "ann", "p")),
    ]
    for text, remove in clear:
        with pytest.raises(StillInUse, match=text):
            store.users.delete(ACCOUNT, "ann")
        remove()
    store.users.delete(ACCOUNT, "ann")
    with pytest.raises(NotFound):
        store.users.get(ACCOUNT, "ann")


def test_a_forced_deletion_takes_everything_along(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann", tags=[("a", "b")])
    store.groups.create(ACCOUNT, "g")
    store.groups.add_user(ACCOUNT, "g", "ann")
    key = store.keys.create(ACCOUNT, "ann")
    issued = store.service_credentials.create(ACCOUNT, "ann", "bedrock.amazonaws.com")
    store.holdings.attach(ACCOUNT, "user", "ann", ADMIN)
    store.users.delete(ACCOUNT, "ann", force=True)
    assert store.lookup(key.access_key_id) is None
    assert store.lookup_api_key(issued.api_key) is None
    assert store.groups.members(ACCOUNT, "g") == []
    assert store.policies.holders(ACCOUNT, ADMIN) == []


def test_a_group_goes_only_when_it_is_empty(store: IdentityStore) -> None:
    store.groups.create(ACCOUNT, "g")
    store.users.create(ACCOUNT, "ann")
    store.groups.add_user(ACCOUNT, "g", "ann")
    store.groups.add_user(ACCOUNT, "g", "ann")
    assert [user.name for user in store.groups.members(ACCOUNT, "g")] == ["ann"]
    assert [group.name for group in store.groups.of_user(ACCOUNT, "ann")] == ["g"]
    with pytest.raises(StillInUse, match="remove users from group first"):
        store.groups.delete(ACCOUNT, "g")
    store.groups.remove_user(ACCOUNT, "g", "ann")
    store.groups.delete(ACCOUNT, "g")
    with pytest.raises(NotFound, match="group with name g"):
        store.groups.add_user(ACCOUNT, "g", "ann")


def test_a_user_is_in_ten_groups_at_most(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    for number in range(limits.GROUPS_PER_USER + 1):
        store.groups.create(ACCOUNT, f"g{number}")
    for number in range(limits.GROUPS_PER_USER):
        store.groups.add_user(ACCOUNT, f"g{number}", "ann")
    with pytest.raises(QuotaReached, match="GroupsPerUser: 10"):
        store.groups.add_user(ACCOUNT, "g10", "ann")


def test_a_quota_of_entities_is_held(store: IdentityStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.trust.identity.entities.QUOTAS", {"user": ("UsersPerAccount", 1)})
    store.users.create(ACCOUNT, "ann")
    with pytest.raises(QuotaReached, match="UsersPerAccount: 1"):
        store.users.create(ACCOUNT, "bob")


def test_a_roles_trust_policy_is_understood_or_refused(store: IdentityStore) -> None:
    for bad in ("{", ALLOW, json.dumps({"Version": "2012-10-17"})):
        with pytest.raises(PolicyRefused):
            store.roles.create(ACCOUNT, "r", bad)
    with pytest.raises(NotFound):
        store.roles.get(ACCOUNT, "r")
    store.roles.create(ACCOUNT, "r", TRUST)
    with pytest.raises(PolicyRefused):
        store.roles.set_trust_policy(ACCOUNT, "r", ALLOW)
    assert store.roles.get(ACCOUNT, "r").trust_policy == TRUST
    other = TRUST.replace(ACCOUNT, "210987654321")
    store.roles.set_trust_policy(ACCOUNT, "r", other)
    assert store.roles.get(ACCOUNT, "r").trust_policy == other


def test_a_trust_policy_has_2048_characters_at_most_white_space_apart(store: IdentityStore) -> None:
    room = limits.TRUST_POLICY_CHARACTERS - len("".join(TRUST.split()))
    fits = TRUST.replace('"Statement"', '"Id": "", "Statement"')
    fits = fits.replace('"Id": ""', '"Id": "' + "x" * (room - len('"Id":"",')) + '"')
    store.roles.create(ACCOUNT, "fits", fits + " " * 500)
    with pytest.raises(QuotaReached, match="ACLSizePerRole: 2048"):
        store.roles.create(ACCOUNT, "larger", fits.replace('"xx', '"xxx'))


@pytest.mark.parametrize("seconds", [3599, 43_201])
def test_a_roles_sessions_have_bounds(store: IdentityStore, seconds: int) -> None:
    with pytest.raises(UserError, match="maximum session duration"):
        store.roles.create(ACCOUNT, "r", TRUST, max_session_s=seconds)
    store.roles.create(ACCOUNT, "r", TRUST, max_session_s=3600)
    with pytest.raises(UserError, match="maximum session duration"):
        store.roles.update(ACCOUNT, "r", max_session_s=seconds)
    assert store.roles.update(ACCOUNT, "r", max_session_s=43_200).max_session_s == 43_200
    assert store.roles.update(ACCOUNT, "r", description="new").max_session_s == 43_200


def test_revocation_never_moves_back(store: IdentityStore, clock: FakeClock) -> None:
    store.roles.create(ACCOUNT, "r", TRUST)
    assert store.session_subject(f"arn:aws:iam::{ACCOUNT}:role/r").revoked_before is None
    store.roles.revoke(ACCOUNT, "r")
    store.roles.revoke(ACCOUNT, "r", clock.now() - timedelta(days=1))
    assert store.session_subject(f"arn:aws:iam::{ACCOUNT}:role/r").revoked_before == clock.now()
    later = clock.now() + timedelta(minutes=1)
    store.roles.revoke(ACCOUNT, "r", later)
    assert store.session_subject(f"arn:aws:iam::{ACCOUNT}:role/r").revoked_before == later


def test_the_subject_of_a_session_is_the_one_of_now(store: IdentityStore) -> None:
    first = store.roles.create(ACCOUNT, "r", TRUST, path="/p/")
    arn = f"arn:aws:iam::{ACCOUNT}:role/p/r"
    assert store.session_subject(arn).subject_id == first.id
    assert store.session_subject(f"arn:aws:iam::{ACCOUNT}:role/r") is None, "another path is another ARN"
    assert store.session_subject(f"arn:aws-us-gov:iam::{ACCOUNT}:role/p/r") is None
    store.roles.delete(ACCOUNT, "r")
    assert store.session_subject(arn) is None
    second = store.roles.create(ACCOUNT, "r", TRUST, path="/p/")
    assert store.session_subject(arn).subject_id == second.id != first.id
    assert store.session_subject(f"arn:aws:iam::{ACCOUNT}:root").subject_id == ACCOUNT
    for other in ("nonsense", f"arn:aws:iam::{ACCOUNT}:group/g", f"arn:aws:iam::{ACCOUNT}:role/", f"{arn}x"):
        assert store.session_subject(other) is None


def test_tags_are_added_replaced_and_taken_away(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann", tags=[("Team", "a"), ("cost", "1")])
    store.users.tag(ACCOUNT, "ann", [("team", "b"), ("x", "")])
    assert store.users.get(ACCOUNT, "ann").tags == {"team": "b", "cost": "1", "x": ""}
    store.users.untag(ACCOUNT, "ann", ["TEAM", "nothing"])
    assert store.users.get(ACCOUNT, "ann").tags == {"cost": "1", "x": ""}
    assert store.users.all(ACCOUNT)[0].tags == {"cost": "1", "x": ""}


@pytest.mark.parametrize(
    "tags",
    [
        [("", "v")],
        [("k" * 129, "v")],
        [("k", "v" * 257)],
        [("aws:k", "v")],
        [("AWS:k", "v")],
        [("k", "a\nb")],
        [("k", "<>")],
        [("k", "1"), ("K", "2")],
        [("k", "AKIAIOSFODNN7EXAMPLE")],
        [("k", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")],
        [("k", "ABSKQmVkcm9ja0FQSUtleQ==")],
        [("bedrock-api-key-YmVkcm9jaw", "v")],
        [(f"k{number}", "v") for number in range(51)],
    ],
)
def test_a_malformed_tag_or_a_secret_is_refused(store: IdentityStore, tags: list[tuple[str, str]]) -> None:
    with pytest.raises(UserError) as refused:
        store.users.create(ACCOUNT, "ann", tags=tags)
    assert "wJalr" not in str(refused.value)
    assert store.users.all(ACCOUNT) == [], "nothing of a refused change stays"


def test_fifty_tags_at_most_in_all(store: IdentityStore) -> None:
    store.roles.create(ACCOUNT, "r", TRUST, tags=[(f"k{number}", "ä b_.:/=+-@1") for number in range(50)])
    store.roles.tag(ACCOUNT, "r", [("K1", "again")])
    with pytest.raises(QuotaReached, match="TagsPerResource: 50"):
        store.roles.tag(ACCOUNT, "r", [("one more", "")])
    assert len(store.roles.get(ACCOUNT, "r").tags) == 50
    store.roles.untag(ACCOUNT, "r", ["k1"])
    store.roles.tag(ACCOUNT, "r", [("one more", "")])
    assert len(store.roles.get(ACCOUNT, "r").tags) == 50


def test_another_processs_change_shows_in_the_next_answer(
    store: IdentityStore, open_store: Callable[[], IdentityStore]
) -> None:
    store.roles.create(ACCOUNT, "r", TRUST)
    arn = f"arn:aws:iam::{ACCOUNT}:role/r"
    assert store.session_subject(arn) is not None
    open_store().roles.delete(ACCOUNT, "r")
    assert store.session_subject(arn) is None
