"""Key policies, grants and aliases: who may use a key, and what it is called."""

from __future__ import annotations

import json

import pytest
from keys_rig import ACCOUNT, OTHER, Rig, root, user

from outcrop.trust.keys import Grant, Key, KeyRefused, KeySpec
from outcrop.trust.keys.grants import check_tokens, grant_id_of, new_token
from outcrop.trust.policy import (
    Layers,
    PolicyRole,
    Request,
    Requester,
    RequesterKind,
    compile_policy,
    decide,
)

ALICE, BOB = user("alice"), user("bob")
ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"
SESSION = Requester(RequesterKind.SESSION, ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/1", ROLE)
CONTEXT = {"tenant": "blue", "job": "7"}
ALLOW_ALL = compile_policy(
    {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}},
    PolicyRole.IDENTITY,
    "all",
)


def refused(code: str) -> object:
    return pytest.raises(KeyRefused, check=lambda error: error.code == code)


def allowed(
    rig: Rig, key: Key, who: Requester, action: str, context: dict[str, str] | None = None, *, identity: bool = False
) -> bool:
    policy = rig.keys.resource_policy(str(key.arn), who, action, context)
    layers = Layers(identity=(ALLOW_ALL,) if identity else (), resource=policy, resource_required=True)
    condition = {"kms:CallerAccount": who.account}
    return decide(Request(who, action, str(key.arn), key.account, condition), layers).allowed


def policy(*statements: dict[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def grant(rig: Rig, key: Key, grantee: Requester = ALICE, *operations: str, **limits: object) -> Grant:
    arn = grantee.role_arn or grantee.arn
    return rig.keys.grants.create(key, arn, operations or ("Decrypt", "Encrypt"), root().arn, **limits)


def test_the_first_policy_lets_root_do_all_and_others_what_their_own_policies_allow(rig: Rig) -> None:
    key = rig.key()
    assert allowed(rig, key, root(), "kms:Decrypt")
    assert allowed(rig, key, ALICE, "kms:Decrypt", identity=True)
    assert not allowed(rig, key, ALICE, "kms:Decrypt")
    assert not allowed(rig, key, root(OTHER), "kms:Decrypt", identity=True)


def test_a_policy_without_the_root_shuts_identity_policies_out(rig: Rig) -> None:
    key = rig.key()
    only_alice = policy({"Effect": "Allow", "Principal": {"AWS": ALICE.arn}, "Action": "kms:*", "Resource": "*"})
    rig.keys.policies.put(key, only_alice, ALICE)
    key = rig.keys.find(key.key_id, ACCOUNT)
    assert allowed(rig, key, ALICE, "kms:Decrypt")
    assert not allowed(rig, key, BOB, "kms:Decrypt", identity=True)
    assert not allowed(rig, key, root(), "kms:Decrypt")


def test_a_policy_that_locks_its_author_out_is_refused_unless_asked_for(rig: Rig) -> None:
    key = rig.key()
    only_bob = policy({"Effect": "Allow", "Principal": {"AWS": BOB.arn}, "Action": "kms:*", "Resource": "*"})
    with refused("MalformedPolicyDocumentException"):
        rig.keys.policies.put(key, only_bob, ALICE)
    denies = policy(
        {"Effect": "Allow", "Principal": {"AWS": root().arn}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "Action": "kms:PutKeyPolicy", "Resource": "*"},
    )
    with refused("MalformedPolicyDocumentException"):
        rig.keys.policies.put(key, denies, root())
    assert rig.keys.find(key.key_id, ACCOUNT).policy == key.policy
    rig.keys.policies.put(key, only_bob, None)
    assert rig.keys.find(key.key_id, ACCOUNT).policy == only_bob


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"Version":"2012-10-17","Statement":[]}',
        policy({"Effect": "Allow", "Action": "kms:*", "Resource": "*"}),  # no principal
        policy({"Effect": "Allow", "Principal": {"AWS": "alice"}, "Action": "kms:*", "Resource": "*"}),
        policy(
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "kms:*",
                "Resource": "*",
                "Condition": {"StringMaybe": {"a:b": "c"}},
            }
        ),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(rig: Rig, text: str) -> None:
    key = rig.key()
    with refused("MalformedPolicyDocumentException"):
        rig.keys.policies.put(key, text, None)
    with refused("LimitExceededException"):
        rig.keys.policies.put(key, " " * 32_769, None)


def test_the_default_key_is_used_through_bedrock_and_its_account_only(rig: Rig) -> None:
    key = rig.keys.default_key(ACCOUNT)
    bearing = rig.keys.resource_policy(str(key.arn))
    via = {"kms:CallerAccount": ACCOUNT, "kms:ViaService": "bedrock.us-east-1.amazonaws.com"}
    cases = (
        (root(), "kms:Decrypt", via, True),
        (root(), "kms:Decrypt", {"kms:CallerAccount": ACCOUNT}, False),
        (root(), "kms:DescribeKey", {"kms:CallerAccount": ACCOUNT}, True),
        (root(), "kms:DisableKey", via, False),
        (root(OTHER), "kms:Decrypt", {**via, "kms:CallerAccount": OTHER}, False),
    )
    for who, action, context, expected in cases:
        layers = Layers(resource=bearing, resource_required=True)
        assert decide(Request(who, action, str(key.arn), ACCOUNT, context), layers).allowed is expected, action


def test_a_grant_allows_its_operations_to_its_grantee_and_nothing_else(rig: Rig) -> None:
    key, other = rig.key(), rig.key()
    made = grant(rig, key, ALICE, "Decrypt")
    assert allowed(rig, key, ALICE, "kms:Decrypt", CONTEXT)
    assert rig.keys.grants_allow(str(key.arn), ALICE, "kms:Decrypt", CONTEXT)
    for who, target, action in (
        (ALICE, key, "kms:Encrypt"),
        (BOB, key, "kms:Decrypt"),
        (ALICE, other, "kms:Decrypt"),
        (user("alice", OTHER), key, "kms:Decrypt"),
    ):
        assert not allowed(rig, target, who, action, CONTEXT)
        assert not rig.keys.grants_allow(str(target.arn), who, action, CONTEXT)
    rig.keys.grants.remove(made)
    assert not allowed(rig, key, ALICE, "kms:Decrypt", CONTEXT)


def test_a_grant_to_a_role_is_its_sessions(rig: Rig) -> None:
    key = rig.key()
    grant(rig, key, SESSION, "Decrypt")
    assert allowed(rig, key, SESSION, "kms:Decrypt")
    assert not allowed(rig, key, SESSION, "kms:Encrypt")


def test_a_denial_wins_over_a_grant(rig: Rig) -> None:
    key = rig.key()
    grant(rig, key, ALICE, "Decrypt")
    denies = policy(
        {"Effect": "Allow", "Principal": {"AWS": root().arn}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": {"AWS": ALICE.arn}, "Action": "kms:Decrypt", "Resource": "*"},
    )
    rig.keys.policies.put(key, denies, root())
    assert not allowed(rig, rig.keys.find(key.key_id, ACCOUNT), ALICE, "kms:Decrypt", CONTEXT)


@pytest.mark.parametrize(
    ("limit", "context", "fits"),
    [
        ({"equals": CONTEXT}, CONTEXT, True),
        ({"equals": CONTEXT}, {**CONTEXT, "more": "1"}, False),
        ({"equals": CONTEXT}, {"tenant": "blue"}, False),
        ({"equals": CONTEXT}, {"Tenant": "blue", "job": "7"}, False),
        ({"subset": {"tenant": "blue"}}, CONTEXT, True),
        ({"subset": {"tenant": "blue"}}, {"tenant": "red"}, False),
        ({"subset": {"tenant": "blue"}}, {}, False),
    ],
)
def test_constraints_on_the_encryption_context(
    rig: Rig, limit: dict[str, dict[str, str]], context: dict[str, str], fits: bool
) -> None:
    key = rig.key()
    grant(rig, key, ALICE, "Decrypt", "DescribeKey", **limit)
    assert allowed(rig, key, ALICE, "kms:Decrypt", context) is fits
    assert allowed(rig, key, ALICE, "kms:DescribeKey")  # which has no encryption context


def test_a_grant_made_under_a_grant_goes_no_further(rig: Rig) -> None:
    key = rig.key()
    parent = grant(rig, key, ALICE, "CreateGrant", "Decrypt", subset={"tenant": "blue"})
    for operations, limits in (
        (("Encrypt",), {"subset": {"tenant": "blue"}}),
        (("Decrypt",), {}),
        (("Decrypt",), {"subset": {"tenant": "red"}}),
        (("Decrypt",), {"equals": {"job": "7"}}),
    ):
        with refused("AccessDeniedException"):
            grant(rig, key, BOB, *operations, within=parent, **limits)
    grant(rig, key, BOB, "Decrypt", within=parent, equals=CONTEXT)
    assert allowed(rig, key, BOB, "kms:Decrypt", CONTEXT)


def test_the_same_named_grant_is_made_once(rig: Rig) -> None:
    key = rig.key()
    first = grant(rig, key, ALICE, "Decrypt", name="n")
    assert grant(rig, key, ALICE, "Decrypt", name="n") == first
    assert grant(rig, key, ALICE, "Encrypt", name="n") != first
    assert grant(rig, key, ALICE, "Decrypt") != first
    assert len(rig.keys.grants.of_key(key.key_id)) == 3


def test_tokens_name_their_grant_and_anything_else_is_refused(rig: Rig) -> None:
    made = grant(rig, rig.key())
    tokens = {new_token(made), new_token(made)}
    assert len(tokens) == 2
    check_tokens(tokens)
    assert {grant_id_of(token) for token in tokens} == {made.grant_id}
    assert rig.keys.grants.of_token(new_token(made)) == made
    for token in ("", "!", "AAAA", next(iter(tokens))[:-4]):
        with refused("InvalidGrantTokenException"):
            check_tokens([token])
    rig.keys.grants.remove(made)
    with refused("NotFoundException"):
        rig.keys.grants.of_token(next(iter(tokens)))


def test_who_may_retire(rig: Rig) -> None:
    key = rig.key()
    plain = grant(rig, key, ALICE, "Decrypt", retiring=BOB.arn)
    own = grant(rig, key, ALICE, "Decrypt", "RetireGrant")
    may = [
        [rig.keys.grants.may_retire(each, who) for who in (ALICE, BOB, root(), root(OTHER), user("eve"))]
        for each in (plain, own)
    ]
    assert may == [[False, True, True, False, False], [True, False, True, False, False]]
    assert rig.keys.grants.retirable(BOB.arn) == [plain]
    assert rig.keys.grants.retirable(ALICE.arn) == []


def test_grants_that_make_no_sense_are_refused(rig: Rig) -> None:
    key = rig.key()
    for operations in (("Sign",), ("Decrypt", "GenerateMac"), ("kms:Decrypt",)):
        with refused("ValidationException"):
            grant(rig, key, ALICE, *operations)
    with refused("ValidationException"):
        grant(rig, rig.key(spec=KeySpec.HMAC_256), ALICE, "GenerateMac", equals=CONTEXT)
    for principal in ("*", "alice", f"arn:aws:iam::{ACCOUNT}:user/*", "arn:aws:s3:::bucket", "bedrock.amazonaws.com"):
        with refused("InvalidArnException"):
            rig.keys.grants.create(key, principal, ["Decrypt"], root().arn)
    rig.keys.lifecycle.disable(key.key_id)
    with refused("DisabledException"):
        grant(rig, key)


def test_aliases_name_keys_within_their_account(rig: Rig) -> None:
    first, second, foreign = rig.key(), rig.key(), rig.key(OTHER)
    rig.keys.aliases.create(ACCOUNT, "alias/app/main", first)
    assert rig.keys.find("alias/app/main", ACCOUNT) == first
    assert rig.keys.find(f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/app/main", OTHER) == first
    with refused("AlreadyExistsException"):
        rig.keys.aliases.create(ACCOUNT, "alias/app/main", second)
    rig.keys.aliases.create(OTHER, "alias/app/main", foreign)
    rig.keys.aliases.update(ACCOUNT, "alias/app/main", second)
    assert rig.keys.find("alias/app/main", ACCOUNT) == second
    assert rig.keys.find("alias/app/main", OTHER) == foreign
    with refused("NotFoundException"):
        rig.keys.find("alias/app/main", ACCOUNT, alias=False)
    with refused("NotFoundException"):
        rig.keys.aliases.create(ACCOUNT, "alias/theirs", foreign)
    with refused("ValidationException"):
        rig.keys.aliases.update(ACCOUNT, "alias/app/main", rig.key(spec=KeySpec.HMAC_256))
    rig.keys.aliases.delete(ACCOUNT, "alias/app/main")
    for change in (
        lambda: rig.keys.aliases.delete(ACCOUNT, "alias/app/main"),
        lambda: rig.keys.aliases.update(ACCOUNT, "alias/app/main", first),
        lambda: rig.keys.find("alias/app/main", ACCOUNT),
    ):
        with refused("NotFoundException"):
            change()
    assert rig.keys.find("alias/app/main", OTHER) == foreign


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("main", "ValidationException"),
        ("alias/", "InvalidAliasNameException"),
        ("alias/a b", "InvalidAliasNameException"),
        ("alias/aws/bedrock", "InvalidAliasNameException"),
        ("alias/" + "a" * 251, "InvalidAliasNameException"),
    ],
)
def test_names_that_are_no_aliases(rig: Rig, name: str, code: str) -> None:
    with refused(code):
        rig.keys.aliases.create(ACCOUNT, name, rig.key())
