"""Roles assumed by unmodified clients, boto3 and the AWS CLI: trust, session policies, tags, chains, sessions of users.

Web identities, API keys and the end of sessions are in ``test_sts_tokens``. Not covered: SAML and federated users,
which are refused; multi-factor devices, of which none are known.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ParamValidationError

from outcrop.service.trusted import Trust
from serving import TINY_MODEL_ID, Running
from trust_rig import (
    ANSWER,
    INVOKE,
    MESSAGES,
    Keys,
    alice,
    allow,
    assume,
    by_alice,
    client,
    deny,
    document,
    make_role,
    make_user,
    reader,
    refused,
    root_keys,
    say,
    trust,
    trusting,
    user_arn,
)

__all__ = ["alice", "by_alice", "reader", "trust"]  # fixtures

AWS = [sys.executable, str(Path(sys.executable).with_name("aws"))]
NOT_AUTHORIZED = "is not authorized to perform: "


# --- AssumeRole -------------------------------------------------------------------------------------------------------


def test_a_role_is_assumed_and_used(service: Running, alice: Keys, reader: str) -> None:
    with refused("AccessDeniedException", NOT_AUTHORIZED + "bedrock:InvokeModel"):
        say(service, alice)
    before = datetime.now().astimezone()
    reply = client(service, "sts", alice).assume_role(RoleArn=reader, RoleSessionName="s1", DurationSeconds=900)
    assert timedelta(seconds=898) < reply["Credentials"]["Expiration"] - before < timedelta(seconds=930)
    assert "PackedPolicySize" not in reply
    arn = f"arn:aws:sts::{service.account}:assumed-role/reader/s1"
    assert reply["AssumedRoleUser"]["Arn"] == arn
    session = Keys.of(reply)
    assert session.access_key_id.startswith("ASIA")
    assert say(service, session) == ANSWER
    known = client(service, "sts", session).get_caller_identity()
    assert (known["Arn"], known["UserId"]) == (arn, reply["AssumedRoleUser"]["AssumedRoleId"])
    assert known["UserId"].startswith("AROA")
    assert known["UserId"].endswith(":s1")
    with refused("AccessDeniedException", f"User: {arn} {NOT_AUTHORIZED}bedrock:ListFoundationModels"):
        client(service, "bedrock", session).list_foundation_models()


def test_keys_secret_and_token_must_belong_together(service: Running, alice: Keys, reader: str) -> None:
    one, two = (assume(service, alice, reader, name) for name in ("one", "two"))
    for keys, code in (
        (Keys(one.access_key_id, one.secret_access_key), "UnrecognizedClientException"),
        (Keys(one.access_key_id, one.secret_access_key, two.session_token), "UnrecognizedClientException"),
        (Keys(one.access_key_id, two.secret_access_key, one.session_token), "InvalidSignatureException"),
        (Keys(alice.access_key_id, alice.secret_access_key, one.session_token), "UnrecognizedClientException"),
    ):
        with refused(code):
            say(service, keys)


def test_who_is_not_trusted_learns_nothing_of_the_role(
    service: Running, trust: Trust, alice: Keys, reader: str
) -> None:
    bob = client(service, "sts", make_user(trust, service.account, "bob"))
    said = []
    for arn in (reader, reader + "-of-nobody", reader.replace(":role/", ":role/other/")):
        with refused("AccessDenied") as caught:
            bob.assume_role(RoleArn=arn, RoleSessionName="s1")
        said.append(caught.value.response["Error"]["Message"].replace(arn, "ROLE"))
    who = user_arn(service.account, "bob")
    assert said == [f"User: {who} is not authorized to perform: sts:AssumeRole on resource: ROLE"] * 3
    with refused("ValidationError"):
        bob.assume_role(RoleArn="arn:aws:iam::111122223333:user/somebody", RoleSessionName="s1")
    with refused("AccessDenied", "root accounts"):
        assume(service, root_keys(service), reader)


def test_a_role_that_trusts_the_account_leaves_it_to_its_policies(service: Running, trust: Trust) -> None:
    account = service.account
    role = make_role(trust, account, "shared", trusting({"AWS": f"arn:aws:iam::{account}:root"}), INVOKE)
    carol = make_user(trust, account, "carol")
    with refused("AccessDenied"):
        assume(service, carol, role)
    trust.identity.holdings.put_inline(account, "user", "carol", "own", document(allow("sts:AssumeRole", role)))
    assert say(service, assume(service, carol, role)) == ANSWER


def test_roles_of_another_account_need_both_sides(service: Running, trust: Trust) -> None:
    theirs = trust.identity.organisation.create_account(None, "aws", "partner").account
    dave = make_user(trust, theirs, "dave")
    role = make_role(trust, service.account, "visited", trusting({"AWS": user_arn(theirs, "dave")}), INVOKE)
    with refused("AccessDenied"):
        assume(service, dave, role)
    trust.identity.holdings.put_inline(theirs, "user", "dave", "own", document(allow("sts:AssumeRole", role)))
    assert say(service, assume(service, dave, role)) == ANSWER
    untrusting = make_role(trust, service.account, "closed", trusting({"AWS": user_arn(service.account, "alice")}))
    trust.identity.holdings.put_inline(theirs, "user", "dave", "own", document(allow("sts:AssumeRole")))
    with refused("AccessDenied"):
        assume(service, dave, untrusting)


def test_an_external_id_is_asked_for(service: Running, trust: Trust, alice: Keys) -> None:
    condition = {"StringEquals": {"sts:ExternalId": "agreed-on"}}
    policy = trusting({"AWS": user_arn(service.account, "alice")}, Condition=condition)
    role = make_role(trust, service.account, "vendor", policy, INVOKE)
    for given in ({}, {"ExternalId": "guessed"}):
        with refused("AccessDenied"):
            assume(service, alice, role, **given)
    assert say(service, assume(service, alice, role, ExternalId="agreed-on")) == ANSWER


def test_durations(service: Running, trust: Trust, alice: Keys, by_alice: str) -> None:
    role = make_role(trust, service.account, "long", by_alice, INVOKE)
    with refused("ValidationError", "MaxSessionDuration"):
        assume(service, alice, role, DurationSeconds=3601)
    with pytest.raises(ParamValidationError):
        assume(service, alice, role, DurationSeconds=899)
    trust.identity.roles.update(service.account, "long", max_session_s=7200)
    reply = client(service, "sts", alice).assume_role(RoleArn=role, RoleSessionName="s1", DurationSeconds=7200)
    assert reply["Credentials"]["Expiration"] - datetime.now().astimezone() > timedelta(seconds=7000)


def test_a_session_policy_only_narrows(service: Running, trust: Trust, alice: Keys, reader: str) -> None:
    narrowed = assume(service, alice, reader, Policy=document(allow("bedrock:ListFoundationModels")))
    with refused("AccessDeniedException", "because no session policy allows the bedrock:InvokeModel action"):
        say(service, narrowed)
    with refused("AccessDeniedException", "because no identity-based policy allows"):
        client(service, "bedrock", narrowed).list_foundation_models()  # allowed by the session policy alone
    denied = assume(service, alice, reader, Policy=document(allow("*"), deny("bedrock:InvokeModel")))
    with refused("AccessDeniedException", "with an explicit deny in a session policy"):
        say(service, denied)
    whole = client(service, "sts", alice).assume_role(
        RoleArn=reader, RoleSessionName="s1", Policy=document(allow("bedrock:*"))
    )
    assert 0 < whole["PackedPolicySize"] <= 100
    assert say(service, Keys.of(whole)) == ANSWER


def test_managed_session_policies(service: Running, trust: Trust, alice: Keys, reader: str) -> None:
    made = trust.identity.policies.create(service.account, "lists", document(allow("bedrock:List*")))
    narrowed = assume(service, alice, reader, PolicyArns=[{"arn": str(made.arn)}])
    with refused("AccessDeniedException", "session policy"):
        say(service, narrowed)
    both = assume(service, alice, reader, PolicyArns=[{"arn": str(made.arn)}], Policy=document(INVOKE))
    assert say(service, both) == ANSWER  # session policies add up among themselves
    with refused("MalformedPolicyDocument"):
        assume(service, alice, reader, PolicyArns=[{"arn": str(made.arn) + "-gone"}])


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"Policy": "{}"}, "MalformedPolicyDocument"),
        ({"Policy": '{"Statement": [{"Effect": "Maybe"}]}'}, "MalformedPolicyDocument"),
        ({"SerialNumber": "arn:aws:iam::111122223333:mfa/x", "TokenCode": "123456"}, "AccessDenied"),
        ({"Tags": [{"Key": "aws:x", "Value": "y"}]}, "ValidationError"),
        ({"Tags": [{"Key": "Team", "Value": "y"}, {"Key": "team", "Value": "z"}]}, "ValidationError"),
        ({"TransitiveTagKeys": ["team"]}, "ValidationError"),
        ({"ProvidedContexts": [{"ProviderArn": "arn:aws:iam::aws:contextProvider/x", "ContextAssertion": "abcd"}]},
         "ValidationError"),
        ({"RoleSessionName": "with space"}, "ValidationError"),
    ],
)  # fmt: skip
def test_requests_that_break_a_rule_of_sts(
    service: Running, alice: Keys, reader: str, asked: dict[str, Any], code: str
) -> None:
    with refused(code):
        client(service, "sts", alice).assume_role(**{"RoleArn": reader, "RoleSessionName": "s1", **asked})


def test_what_does_not_fit_into_a_session_is_told_with_its_size(service: Running, alice: Keys, reader: str) -> None:
    tags = [{"Key": os.urandom(30).hex(), "Value": os.urandom(120).hex()} for _ in range(50)]
    with refused("PackedPolicyTooLarge", "%"):
        assume(service, alice, reader, Tags=tags)


# --- tags, chains, source identity ------------------------------------------------------------------------------------


def test_tags_decide(service: Running, trust: Trust, alice: Keys, by_alice: str) -> None:
    """Attributes of the session meet those of the resource: ABAC."""
    kms = client(service, "kms", root_keys(service))
    key_id = kms.create_key(Tags=[{"TagKey": "team", "TagValue": "blue"}])["KeyMetadata"]["KeyId"]
    same = {"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}
    role = make_role(trust, service.account, "by-team", by_alice, allow("kms:Encrypt", Condition=same))

    def encrypt(keys: Keys) -> bytes:
        return bytes(client(service, "kms", keys).encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"])

    def tagged(team: str) -> Keys:
        return assume(service, alice, role, Tags=[{"Key": "team", "Value": team}])

    assert encrypt(tagged("blue"))
    for keys in (tagged("red"), assume(service, alice, role)):
        with refused("AccessDeniedException"):
            encrypt(keys)
    trust.identity.roles.tag(service.account, "by-team", [("Team", "blue")])
    assert encrypt(assume(service, alice, role))  # the role's own tag stands where the session has none
    with refused("AccessDeniedException"):
        encrypt(tagged("red"))  # and is covered by the session's, whatever its letters


def test_tagging_is_a_permission_of_its_own(service: Running, trust: Trust, alice: Keys) -> None:
    who = {"AWS": user_arn(service.account, "alice")}
    role = make_role(trust, service.account, "untagged", trusting(who), INVOKE)
    tags = [{"Key": "team", "Value": "blue"}]
    with refused("AccessDenied", NOT_AUTHORIZED + "sts:TagSession"):
        assume(service, alice, role, Tags=tags)
    condition = {"StringEquals": {"aws:RequestTag/team": ["blue", "green"]}}
    both = ["sts:AssumeRole", "sts:TagSession"]
    trust.identity.roles.set_trust_policy(service.account, "untagged", trusting(who, both, Condition=condition))
    assert say(service, assume(service, alice, role, Tags=tags)) == ANSWER
    with refused("AccessDenied"):
        assume(service, alice, role, Tags=[{"Key": "team", "Value": "red"}])


def test_roles_in_a_chain(service: Running, trust: Trust, alice: Keys, by_alice: str) -> None:
    account = service.account
    first = make_role(trust, account, "first", by_alice, allow(["sts:AssumeRole", "sts:TagSession"]))
    trusts_first = trusting({"AWS": first}, ["sts:AssumeRole", "sts:TagSession"])
    second = make_role(trust, account, "second", trusts_first, INVOKE)
    trust.identity.roles.update(account, "second", max_session_s=7200)
    only_blue = {"StringEquals": {"aws:PrincipalTag/team": "blue"}}
    trust.identity.holdings.put_inline(account, "role", "second", "own", document({**INVOKE, "Condition": only_blue}))
    tags = [{"Key": "team", "Value": "blue"}, {"Key": "stays", "Value": "behind"}]
    one = assume(service, alice, first, Tags=tags, TransitiveTagKeys=["team"])
    assert say(service, assume(service, one, second)) == ANSWER
    with refused("AccessDeniedException"):  # the tag was not transitive: it stays behind
        say(service, assume(service, assume(service, alice, first, Tags=tags), second))
    with refused("ValidationError", "transitive"):
        assume(service, one, second, Tags=[{"Key": "Team", "Value": "red"}])
    with refused("ValidationError", "1 hour"):
        assume(service, one, second, DurationSeconds=3601)
    with refused("AccessDenied"):  # alice herself is not trusted by the second role
        assume(service, alice, second)


def test_a_source_identity_stays(service: Running, trust: Trust, alice: Keys) -> None:
    actions = ["sts:AssumeRole", "sts:SetSourceIdentity"]
    who = {"AWS": user_arn(service.account, "alice")}
    first = make_role(trust, service.account, "sourced", trusting(who, actions), allow("sts:*"))
    known = {"StringEquals": {"aws:SourceIdentity": "alice@example.org"}}
    second = make_role(
        trust, service.account, "sourced-2", trusting({"AWS": first}, actions), {**INVOKE, "Condition": known}
    )
    one = assume(service, alice, first, SourceIdentity="alice@example.org")
    assert say(service, assume(service, one, second)) == ANSWER
    with refused("AccessDenied", "sts:SetSourceIdentity"):
        assume(service, one, second, SourceIdentity="somebody@example.org")
    with refused("AccessDeniedException"):
        say(service, assume(service, assume(service, alice, first), second))


# --- the AWS CLI ------------------------------------------------------------------------------------------------------


def aws(environment: dict[str, str], *arguments: str) -> Any:
    command = [*AWS, *arguments, "--output", "json"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_aws_cli_assumes_a_role(service: Running, alice: Keys, reader: str) -> None:
    asked = ("sts", "assume-role", "--role-arn", reader, "--role-session-name", "cli")
    reply = aws(alice.environment(service), *asked)
    assert reply["AssumedRoleUser"]["Arn"].endswith(":assumed-role/reader/cli")
    known = aws(Keys.of(reply).environment(service), "sts", "get-caller-identity")
    assert known["Arn"] == reply["AssumedRoleUser"]["Arn"]


def test_the_aws_clis_profiles(service: Running, alice: Keys, reader: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[profile base]\naws_access_key_id = {alice.access_key_id}\n"
        f"aws_secret_access_key = {alice.secret_access_key}\n"
        f"[profile reader]\nrole_arn = {reader}\nsource_profile = base\nrole_session_name = by-profile\n"
        "duration_seconds = 900\n"
    )
    environment = {
        "AWS_ENDPOINT_URL": service.http_url,
        "AWS_DEFAULT_REGION": service.region,
        "AWS_CONFIG_FILE": str(config),
        "HOME": str(tmp_path),
    }
    known = aws(environment, "sts", "get-caller-identity", "--profile", "reader")
    assert known["Arn"].endswith(":assumed-role/reader/by-profile")
    asked = ("bedrock-runtime", "converse", "--model-id", TINY_MODEL_ID, "--messages", json.dumps(MESSAGES))
    reply = aws(environment, *asked, "--profile", "reader")
    assert reply["output"]["message"]["content"] == [{"text": ANSWER}]


# --- GetSessionToken --------------------------------------------------------------------------------------------------


def test_a_session_of_oneself(service: Running, trust: Trust) -> None:
    erin = make_user(trust, service.account, "erin", INVOKE)
    reply = client(service, "sts", erin).get_session_token(DurationSeconds=900)
    session = Keys.of(reply)
    assert say(service, session) == ANSWER
    assert client(service, "sts", session).get_caller_identity()["Arn"] == user_arn(service.account, "erin")
    with refused("AccessDenied", "GetSessionToken"):
        client(service, "sts", session).get_session_token()
    trust.identity.holdings.delete_inline(service.account, "user", "erin", "own")
    with refused("AccessDeniedException"):
        say(service, session)  # a session has what its user has, and no longer


def test_a_session_of_root_lives_an_hour(service: Running) -> None:
    reply = client(service, "sts", root_keys(service)).get_session_token(DurationSeconds=43_200)
    assert reply["Credentials"]["Expiration"] - datetime.now().astimezone() < timedelta(seconds=3601)
    assert say(service, Keys.of(reply)) == ANSWER


def test_access_keys_are_told_of_in_their_account_only(service: Running, trust: Trust) -> None:
    sts = client(service, "sts", root_keys(service))
    assert sts.get_access_key_info(AccessKeyId=service.access_key_id)["Account"] == service.account
    theirs = trust.identity.organisation.create_account(None, "aws", "stranger").account
    foreign = make_user(trust, theirs, "frank")
    for key in (foreign.access_key_id, "AKIAABCDEFGHIJKLMNOP"):
        with refused("ValidationError"):
            sts.get_access_key_info(AccessKeyId=key)


def test_operations_that_are_not_built_say_so(service: Running, alice: Keys) -> None:
    sts = client(service, "sts", alice)
    with refused("NotImplemented"):
        sts.get_federation_token(Name="somebody")
    with refused("NotImplemented"):
        sts.decode_authorization_message(EncodedMessage="abc")
