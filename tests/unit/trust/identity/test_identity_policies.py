"""Managed and inline policies, attachments and boundaries: versions, quotas, conflicts, and what is not understood."""

from __future__ import annotations

import json
import re

import pytest

from outcrop.base.errors import AlreadyExists, NotFound, QuotaReached, StillInUse, UserError
from outcrop.trust.identity import IdentityStore, limits
from outcrop.trust.identity.managed import aws_policies
from outcrop.trust.policy import PolicyRefused, PolicyRole, compile_policy

ACCOUNT, OTHER = "123456789012", "210987654321"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}]}
)


def allow(action: str = "*", sid: str = "") -> str:
    statement = {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def of_size(size: int) -> str:
    """A policy of exactly ``size`` characters other than white space."""
    return allow(sid="x" * (size - len("".join(allow().split()))))


def test_a_policy_begins_with_version_one(store: IdentityStore) -> None:
    made = store.policies.create(ACCOUNT, "p", allow(), path="/a/", description="d", tags=[("k", "v")])
    assert re.fullmatch("ANPA[A-Z2-7]{17}", made.id)
    assert str(made.arn) == f"arn:aws:iam::{ACCOUNT}:policy/a/p"
    assert (made.default_version, made.attachments, made.tags) == ("v1", 0, {"k": "v"})
    assert store.policies.get(ACCOUNT, str(made.arn)) == made
    assert store.policies.version(ACCOUNT, str(made.arn), "v1").document == allow()
    with pytest.raises(AlreadyExists, match="A policy called P already exists"):
        store.policies.create(ACCOUNT, "P", allow())
    for wrong in (str(made.arn).replace("/a/", "/"), str(made.arn).replace("aws:iam", "aws-cn:iam")):
        with pytest.raises(NotFound, match="was not found"):
            store.policies.get(ACCOUNT, wrong)
    with pytest.raises(UserError, match="is not valid"):
        store.policies.get(ACCOUNT, "arn:aws:iam::123456789012:user/p")


def test_a_version_number_is_never_used_again(store: IdentityStore) -> None:
    arn = str(store.policies.create(ACCOUNT, "p", allow()).arn)
    for number in range(2, 6):
        assert store.policies.create_version(ACCOUNT, arn, allow(f"s3:G{number}*")).version_id == f"v{number}"
    with pytest.raises(QuotaReached):
        store.policies.create_version(ACCOUNT, arn, allow())
    store.policies.delete_version(ACCOUNT, arn, "v5")
    made = store.policies.create_version(ACCOUNT, arn, allow("s3:*"), set_default=True)
    assert (made.version_id, made.is_default) == ("v6", True)
    assert store.policies.get(ACCOUNT, arn).default_version == "v6"
    assert [version.version_id for version in store.policies.versions(ACCOUNT, arn)] == ["v6", "v4", "v3", "v2", "v1"]
    assert [version.is_default for version in store.policies.versions(ACCOUNT, arn)].count(True) == 1


def test_the_default_version_can_be_changed_and_not_deleted(store: IdentityStore) -> None:
    arn = str(store.policies.create(ACCOUNT, "p", allow()).arn)
    store.policies.create_version(ACCOUNT, arn, allow("s3:*"))
    assert store.policies.get(ACCOUNT, arn).default_version == "v1"
    with pytest.raises(StillInUse, match="default version"):
        store.policies.delete_version(ACCOUNT, arn, "v1")
    store.policies.set_default_version(ACCOUNT, arn, "v2")
    store.policies.delete_version(ACCOUNT, arn, "v1")
    for gone in (store.policies.set_default_version, store.policies.delete_version, store.policies.version):
        with pytest.raises(NotFound, match="version v1"):
            gone(ACCOUNT, arn, "v1")


def test_a_policy_goes_when_it_is_attached_nowhere_and_has_one_version(store: IdentityStore) -> None:
    arn = str(store.policies.create(ACCOUNT, "p", allow()).arn)
    store.users.create(ACCOUNT, "ann")
    store.users.create(ACCOUNT, "bob", boundary=arn)
    store.holdings.attach(ACCOUNT, "user", "ann", arn)
    counted = store.policies.get(ACCOUNT, arn)
    assert (counted.attachments, counted.boundary_uses) == (1, 1)
    holders = [(holder.name, holder.as_boundary) for holder in store.policies.holders(ACCOUNT, arn)]
    assert holders == [("ann", False), ("bob", True)]
    for release in (
        lambda: store.holdings.detach(ACCOUNT, "user", "ann", arn),
        lambda: store.holdings.delete_boundary(ACCOUNT, "user", "bob"),
    ):
        with pytest.raises(StillInUse, match="attached to entities"):
            store.policies.delete(ACCOUNT, arn)
        release()
    store.policies.create_version(ACCOUNT, arn, allow())
    with pytest.raises(StillInUse, match="more than one version"):
        store.policies.delete(ACCOUNT, arn)
    store.policies.delete_version(ACCOUNT, arn, "v2")
    store.policies.delete(ACCOUNT, arn)
    with pytest.raises(NotFound):
        store.policies.get(ACCOUNT, arn)


def test_what_is_not_understood_is_not_stored(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    arn = str(store.policies.create(ACCOUNT, "p", allow()).arn)
    unknown = json.loads(allow())
    unknown["Statement"][0]["Condition"] = {"StringSortOf": {"aws:username": "a"}}
    for bad in ("", "[]", TRUST, json.dumps(unknown)):
        with pytest.raises(PolicyRefused):
            store.policies.create(ACCOUNT, "q", bad)
        with pytest.raises(PolicyRefused):
            store.policies.create_version(ACCOUNT, arn, bad)
        with pytest.raises(PolicyRefused):
            store.holdings.put_inline(ACCOUNT, "user", "ann", "i", bad)
    assert len(store.policies.versions(ACCOUNT, arn)) == 1
    assert store.holdings.inline(ACCOUNT, "user", "ann") == {}


def test_policies_have_sizes_without_white_space(store: IdentityStore) -> None:
    store.policies.create(ACCOUNT, "fits", of_size(limits.POLICY_CHARACTERS) + "\n" * 300)
    with pytest.raises(QuotaReached, match="PolicySize: 6144"):
        store.policies.create(ACCOUNT, "larger", of_size(limits.POLICY_CHARACTERS + 1))


@pytest.mark.parametrize(("kind", "most"), list(limits.INLINE_CHARACTERS.items()))
def test_inline_policies_share_the_room_of_their_holder(store: IdentityStore, kind: str, most: int) -> None:
    store.users.create(ACCOUNT, "x")
    store.groups.create(ACCOUNT, "x")
    store.roles.create(ACCOUNT, "x", TRUST)
    store.holdings.put_inline(ACCOUNT, kind, "x", "a", of_size(most - 200))
    store.holdings.put_inline(ACCOUNT, kind, "x", "b", of_size(200))
    with pytest.raises(QuotaReached, match=f"{most}"):
        store.holdings.put_inline(ACCOUNT, kind, "x", "b", of_size(201))
    store.holdings.put_inline(ACCOUNT, kind, "x", "a", of_size(300))
    assert [*store.holdings.inline(ACCOUNT, kind, "x")] == ["a", "b"]
    assert store.holdings.get_inline(ACCOUNT, kind, "x", "a") == of_size(300)
    store.holdings.delete_inline(ACCOUNT, kind, "x", "a")
    for gone in (store.holdings.get_inline, store.holdings.delete_inline):
        with pytest.raises(NotFound, match=rf"^The {kind} policy with name a cannot be found\.$"):
            gone(ACCOUNT, kind, "x", "a")


def test_ten_policies_are_attached_at_most(store: IdentityStore) -> None:
    store.users.create(ACCOUNT, "ann")
    arns = [str(store.policies.create(ACCOUNT, f"p{number}", allow()).arn) for number in range(11)]
    for arn in arns[:10]:
        store.holdings.attach(ACCOUNT, "user", "ann", arn)
    store.holdings.attach(ACCOUNT, "user", "ann", arns[0])
    with pytest.raises(QuotaReached, match="PoliciesPerUser: 10"):
        store.holdings.attach(ACCOUNT, "user", "ann", arns[10])
    store.holdings.detach(ACCOUNT, "user", "ann", arns[0])
    with pytest.raises(NotFound, match="was not found"):
        store.holdings.detach(ACCOUNT, "user", "ann", arns[0])
    store.holdings.attach(ACCOUNT, "user", "ann", arns[10])


def test_only_own_policies_and_known_ones_of_aws_are_attachable(store: IdentityStore) -> None:
    store.organisation.create_account(OTHER, "aws")
    foreign = str(store.policies.create(OTHER, "theirs", allow()).arn)
    store.users.create(ACCOUNT, "ann")
    for arn in (foreign, f"arn:aws:iam::{ACCOUNT}:policy/none", "arn:aws:iam::aws:policy/NoSuchAccess"):
        with pytest.raises(NotFound, match="does not exist or is not attachable"):
            store.holdings.attach(ACCOUNT, "user", "ann", arn)
        with pytest.raises(NotFound, match="does not exist or is not attachable"):
            store.users.create(ACCOUNT, "bob", boundary=arn)
    with pytest.raises(UserError, match="is not valid"):
        store.holdings.attach(ACCOUNT, "user", "ann", "arn:aws:s3:::bucket/policy/x")
    store.holdings.put_boundary(ACCOUNT, "user", "ann", ADMIN)
    assert store.users.get(ACCOUNT, "ann").boundary == ADMIN
    with pytest.raises(NotFound):
        store.policies.get(ACCOUNT, foreign)


def test_awss_policies_compile_and_cannot_be_changed(store: IdentityStore) -> None:
    for policy in aws_policies().values():
        compile_policy(policy.document, PolicyRole.IDENTITY, policy.name)
        compile_policy(policy.document, PolicyRole.BOUNDARY, policy.name)
    assert store.policies.get(ACCOUNT, ADMIN).aws_managed
    assert store.policies.version(ACCOUNT, ADMIN, "v1").is_default
    for change in (
        lambda: store.policies.delete(ACCOUNT, ADMIN),
        lambda: store.policies.create_version(ACCOUNT, ADMIN, allow()),
        lambda: store.policies.tag(ACCOUNT, ADMIN, [("k", "v")]),
    ):
        with pytest.raises(UserError, match="managed by AWS"):
            change()


def test_lists_are_by_scope(store: IdentityStore) -> None:
    store.policies.create(ACCOUNT, "mine", allow())
    assert [policy.name for policy in store.policies.all(ACCOUNT, "Local")] == ["mine"]
    known = {policy.name for policy in aws_policies().values()}
    assert {policy.name for policy in store.policies.all(ACCOUNT, "AWS")} == known
    assert {policy.name for policy in store.policies.all(ACCOUNT)} == {*known, "mine"}
