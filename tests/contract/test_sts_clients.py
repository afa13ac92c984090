"""Temporary credentials through unmodified clients: boto3, the AWS CLI, API keys made from sessions.

Not covered: SAML and federated users, which are refused; multi-factor devices, of which none are known.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import boto3
import jwt
import openai
import pytest
from aws_bedrock_token_generator import BedrockTokenGenerator
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ParamValidationError
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from outcrop.base.clock import SystemClock
from outcrop.service.config import Limits
from outcrop.service.trusted import Trust
from serving import TINY_MODEL_ID, Running, running_service
from trust_rig import (
    ANSWER,
    INVOKE,
    MESSAGES,
    Keys,
    allow,
    client,
    deny,
    document,
    make_role,
    make_user,
    next_second,
    opened,
    refused,
    root_keys,
    say,
    trusting,
    user_arn,
)

AWS = [sys.executable, str(Path(sys.executable).with_name("aws"))]
ISSUER = "https://issuer.example.org/tenant"
CLIENT_ID = "ci.example.org"
BEARER = allow("bedrock:CallWithBearerToken")
NOT_AUTHORIZED = "is not authorized to perform: "


@pytest.fixture(scope="module")
def trust(service: Running) -> Iterator[Trust]:
    with opened(service.data) as found:
        yield found


@pytest.fixture(scope="module")
def alice(service: Running, trust: Trust) -> Keys:
    """A user without any policy: what she can do, she does in roles that trust her by name."""
    return make_user(trust, service.account, "alice")


@pytest.fixture(scope="module")
def by_alice(service: Running, alice: Keys) -> str:
    """A trust policy for her, with tags."""
    return trusting({"AWS": user_arn(service.account, "alice")}, ["sts:AssumeRole", "sts:TagSession"])


@pytest.fixture(scope="module")
def reader(service: Running, trust: Trust, by_alice: str) -> str:
    """A role that may use models, which alice may take on."""
    return make_role(trust, service.account, "reader", by_alice, INVOKE, BEARER)


def assume(service: Running, keys: Keys, role: str, name: str = "s1", **more: Any) -> Keys:
    return Keys.of(client(service, "sts", keys).assume_role(RoleArn=role, RoleSessionName=name, **more))


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


# --- web identities ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def web_role(service: Running, trust: Trust, issuer_key: rsa.RSAPrivateKey) -> str:
    """A role for the main branch of one project, as continuous integration uses it."""
    public = {**json.loads(RSAAlgorithm.to_jwk(issuer_key.public_key())), "kid": "k1", "use": "sig", "alg": "RS256"}
    jwks = json.dumps({"keys": [public]})
    provider = trust.identity.oidc.create(service.account, ISSUER, client_ids=[CLIENT_ID], jwks=jwks)
    name = ISSUER.removeprefix("https://")
    condition = {"StringEquals": {f"{name}:aud": CLIENT_ID}, "StringLike": {f"{name}:sub": "repo:rocks/*:main"}}
    actions = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]
    policy = trusting({"Federated": str(provider.arn)}, actions, Condition=condition)
    return make_role(trust, service.account, "ci", policy, INVOKE)


def web_token(key: rsa.RSAPrivateKey, **changes: Any) -> str:
    now = time.time()
    claims = {"iss": ISSUER, "sub": "repo:rocks/outcrop:main", "aud": CLIENT_ID, "iat": now, "exp": now + 600}
    return jwt.encode(claims | changes, key, "RS256", headers={"kid": "k1"})


def test_boto3s_web_identity_provider(
    service: Running, web_role: str, issuer_key: rsa.RSAPrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text(web_token(issuer_key))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", web_role)
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "build-7")
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.http_url)
    session = boto3.Session(region_name=service.region)
    reply = session.client("bedrock-runtime").converse(modelId=TINY_MODEL_ID, messages=MESSAGES)
    assert reply["output"]["message"]["content"] == [{"text": ANSWER}]
    known = session.client("sts").get_caller_identity()
    assert known["Arn"] == f"arn:aws:sts::{service.account}:assumed-role/ci/build-7"


def test_what_a_web_identity_is_told(service: Running, web_role: str, issuer_key: rsa.RSAPrivateKey) -> None:
    reply = with_token(service, web_role, web_token(issuer_key))
    assert reply["SubjectFromWebIdentityToken"] == "repo:rocks/outcrop:main"
    assert reply["Audience"] == CLIENT_ID
    assert reply["Provider"].endswith(":oidc-provider/issuer.example.org/tenant")
    assert say(service, Keys.of(reply)) == ANSWER
    tags = {"principal_tags": {"project": ["outcrop"]}, "transitive_tag_keys": ["project"]}
    assert with_token(service, web_role, web_token(issuer_key, **{"https://aws.amazon.com/tags": tags}))


def with_token(service: Running, role: str, token: str, **more: Any) -> dict[str, Any]:
    """By somebody without credentials."""
    sts = boto3.client("sts", endpoint_url=service.http_url, region_name=service.region)
    found: dict[str, Any] = sts.assume_role_with_web_identity(
        RoleArn=role, RoleSessionName="s1", WebIdentityToken=token, **more
    )
    return found


PAST = 1_500_000_000


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "somebody-else"}, "InvalidIdentityToken"),
        ({"iss": "https://issuer.example.org/other"}, "InvalidIdentityToken"),
        ({"iss": "http://issuer.example.org/tenant"}, "InvalidIdentityToken"),
        ({"iat": PAST, "exp": PAST + 600}, "ExpiredTokenException"),
        ({"azp": "somebody-else"}, "InvalidIdentityToken"),
        ({"sub": "repo:rocks/outcrop:branch"}, "AccessDenied"),
        ({"https://aws.amazon.com/source_identity": "alice"}, "AccessDenied"),
        ({"https://aws.amazon.com/tags": {"principal_tags": ["x"]}}, "InvalidIdentityToken"),
    ],
)
def test_tokens_that_are_refused(
    service: Running, web_role: str, issuer_key: rsa.RSAPrivateKey, changes: dict[str, Any], code: str
) -> None:
    with refused(code) as caught:
        with_token(service, web_role, web_token(issuer_key, **changes))
    if code == "AccessDenied":
        assert "Not authorized to perform sts:" in caught.value.response["Error"]["Message"]


def test_a_token_by_another_key_and_no_token(service: Running, web_role: str) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (web_token(other), "not a token", "e30.e30.e30"):
        with refused("InvalidIdentityToken"):
            with_token(service, web_role, token)


def test_a_token_opens_no_role_of_another_kind(service: Running, reader: str, web_role: str, issuer_key: Any) -> None:
    with refused("AccessDenied", "sts:AssumeRoleWithWebIdentity"):
        with_token(service, reader, web_token(issuer_key))
    with refused("AccessDenied", "sts:AssumeRoleWithWebIdentity"):
        with_token(service, web_role + "-of-nobody", web_token(issuer_key))


def test_who_signs_is_not_who_the_token_speaks_for(
    service: Running, alice: Keys, web_role: str, issuer_key: rsa.RSAPrivateKey
) -> None:
    with refused("AccessDenied"):
        assume(service, alice, web_role)
    wrong = Keys(alice.access_key_id, "x" * 40)  # a signature is not looked at, and proves nothing
    reply = client(service, "sts", wrong).assume_role_with_web_identity(
        RoleArn=web_role, RoleSessionName="s1", WebIdentityToken=web_token(issuer_key)
    )
    assert say(service, Keys.of(reply)) == ANSWER


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


# --- API keys ---------------------------------------------------------------------------------------------------------


def short_term(service: Running, keys: Keys) -> str:
    made = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    return BedrockTokenGenerator().get_token(made, service.region)


def asking_with(service: Running, key: str) -> list[Callable[[], str]]:
    """Anthropic's and OpenAI's clients and boto3, each about to ask with the API key ``key``."""
    claude = anthropic.Anthropic(api_key=key, base_url=service.http_url, max_retries=0)
    gpt = openai.OpenAI(api_key=key, base_url=f"{service.http_url}/openai/v1", max_retries=0)
    asked = [{"role": "user", "content": "hi"}]

    def by_boto3() -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
            runtime = boto3.Session(region_name=service.region).client(
                "bedrock-runtime",
                endpoint_url=service.https_url,
                verify=str(service.ca_certificate),
                config=Config(retries={"total_max_attempts": 1}),
            )
            reply = runtime.converse(modelId=TINY_MODEL_ID, messages=MESSAGES)
        return str(reply["output"]["message"]["content"][0]["text"])

    return [
        lambda: str(claude.messages.create(model=TINY_MODEL_ID, max_tokens=9, messages=asked).content[0].text),
        lambda: str(gpt.chat.completions.create(model=TINY_MODEL_ID, messages=asked).choices[0].message.content),
        by_boto3,
    ]


def say_with(service: Running, key: str) -> list[str]:
    return [ask() for ask in asking_with(service, key)]


def refuse_key(service: Running, key: str, text: str) -> None:
    """All three are refused, in the same words."""
    for ask in asking_with(service, key):
        with pytest.raises((anthropic.APIStatusError, openai.APIStatusError, ClientError), match=text) as caught:
            ask()
        error = caught.value
        assert isinstance(error, ClientError) or error.status_code in (401, 403)
        assert key not in str(error)


def test_short_term_keys_from_a_session(service: Running, trust: Trust, alice: Keys, reader: str) -> None:
    assert say_with(service, short_term(service, assume(service, alice, reader))) == [ANSWER] * 3
    narrowed = assume(service, alice, reader, Policy=document(INVOKE))
    refuse_key(service, short_term(service, narrowed), "bedrock:CallWithBearerToken")
    without_token = Keys(narrowed.access_key_id, narrowed.secret_access_key)
    refuse_key(service, short_term(service, without_token), "make sure your API Key is valid")


def test_the_longest_session_token_passes_every_door(service: Running, alice: Keys, reader: str) -> None:
    sts = client(service, "sts", alice)
    reply = sts.assume_role(RoleArn=reader, RoleSessionName="s1", MinimumSessionTokenSize=4096)
    session = Keys.of(reply)
    assert 4096 <= reply["SessionTokenSize"] == len(session.session_token)
    assert say(service, session) == ANSWER
    assert say_with(service, short_term(service, session)) == [ANSWER] * 3
    url = client(service, "sts", session).generate_presigned_url("get_caller_identity", HttpMethod="GET")
    assert len(url) > 4096
    with urllib.request.urlopen(url) as answer:
        assert b":assumed-role/reader/s1" in answer.read()
    with pytest.raises(ParamValidationError):
        sts.assume_role(RoleArn=reader, RoleSessionName="s1", MinimumSessionTokenSize=-1)
    with refused("ValidationError"):
        sts.assume_role(RoleArn=reader, RoleSessionName="s1", MinimumSessionTokenSize=4097)


def test_long_term_keys(service: Running, trust: Trust) -> None:
    make_user(trust, service.account, "grace", INVOKE, BEARER)
    made = trust.identity.service_credentials.create(service.account, "grace", "bedrock.amazonaws.com", 30)
    assert made.api_key.startswith("ABSK")
    assert say_with(service, made.api_key) == [ANSWER] * 3
    refuse_key(service, made.api_key[:-6] + "AAAA==", "make sure your API Key is valid")
    only_short = deny(
        "bedrock:CallWithBearerToken", Condition={"StringEquals": {"bedrock:BearerTokenType": "LONG_TERM"}}
    )
    trust.identity.holdings.put_inline(service.account, "user", "grace", "short", document(only_short))
    refuse_key(service, made.api_key, "bedrock:CallWithBearerToken")
    trust.identity.holdings.delete_inline(service.account, "user", "grace", "short")
    assert say_with(service, made.api_key) == [ANSWER] * 3
    trust.identity.service_credentials.set_active(service.account, "grace", made.record.id, False)
    refuse_key(service, made.api_key, "make sure your API Key is valid")


# --- the end of a session ---------------------------------------------------------------------------------------------


class Shifted(SystemClock):
    """The machine's clock, some seconds off."""

    offset_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.offset_s)


def test_a_session_ends_in_time(tmp_path: Path) -> None:
    clock = Shifted()
    with (
        running_service(tmp_path / "data", clock=clock, limits=Limits(max_clock_skew_s=1200)) as service,
        opened(service.data) as trust,
    ):
        alice = make_user(trust, service.account, "alice")
        by_alice = trusting({"AWS": user_arn(service.account, "alice")})
        role = make_role(trust, service.account, "reader", by_alice, INVOKE, BEARER)
        session = assume(service, alice, role, DurationSeconds=900)
        key = short_term(service, session)
        assert say(service, session) == ANSWER
        assert say_with(service, key) == [ANSWER] * 3
        clock.offset_s = 901
        with refused("ExpiredTokenException", "expired"):
            say(service, session)
        with refused("ExpiredToken"):
            client(service, "sts", session).get_caller_identity()
        refuse_key(service, key, "expired")
        assert say(service, assume(service, alice, role)) == ANSWER


def test_a_clock_that_is_off_is_told_so(tmp_path: Path) -> None:
    clock = Shifted()
    with running_service(tmp_path / "data", clock=clock) as service:
        session = Keys.of(client(service, "sts", root_keys(service)).get_session_token())
        for offset_s, text in ((310, "Signature expired"), (-310, "Signature not yet current")):
            clock.offset_s = offset_s
            with refused("InvalidSignatureException", text):
                say(service, session)
            with refused("SignatureDoesNotMatch", text):
                client(service, "sts", session).get_caller_identity()


def test_a_session_is_signed_for_one_region(service: Running, alice: Keys, reader: str) -> None:
    session = assume(service, alice, reader)
    elsewhere = client(service, "bedrock-runtime", session, region="eu-north-1")
    with refused("InvalidSignatureException", "eu-north-1"):
        elsewhere.converse(modelId=TINY_MODEL_ID, messages=MESSAGES)


def test_sessions_are_revoked(service: Running, trust: Trust, alice: Keys, by_alice: str) -> None:
    role = make_role(trust, service.account, "revoked", by_alice, INVOKE, BEARER)
    before = assume(service, alice, role)
    key = short_term(service, before)
    next_second()
    trust.identity.roles.revoke(service.account, "revoked")
    with refused("ExpiredTokenException"):
        say(service, before)
    refuse_key(service, key, "expired")
    next_second()
    assert say(service, assume(service, alice, role)) == ANSWER


def test_sessions_are_revoked_as_the_console_of_aws_does_it(
    service: Running, trust: Trust, alice: Keys, by_alice: str
) -> None:
    role = make_role(trust, service.account, "older", by_alice, INVOKE)
    before = assume(service, alice, role)
    next_second()
    now = datetime.now().astimezone().isoformat(timespec="milliseconds")
    older = deny("*", Condition={"DateLessThan": {"aws:TokenIssueTime": now}})
    trust.identity.holdings.put_inline(service.account, "role", "older", "AWSRevokeOlderSessions", document(older))
    with refused("AccessDeniedException", "with an explicit deny in an identity-based policy"):
        say(service, before)
    next_second()
    assert say(service, assume(service, alice, role)) == ANSWER


def test_a_deleted_role_takes_its_sessions_along(service: Running, trust: Trust, alice: Keys, by_alice: str) -> None:
    role = make_role(trust, service.account, "short-lived", by_alice)
    session = assume(service, alice, role)
    assert client(service, "sts", session).get_caller_identity()
    trust.identity.roles.delete(service.account, "short-lived")
    with refused("InvalidClientTokenId"):
        client(service, "sts", session).get_caller_identity()
    assert make_role(trust, service.account, "short-lived", by_alice, INVOKE) == role
    with refused("UnrecognizedClientException"):
        say(service, session)  # the role of the same name is another one
    assert say(service, assume(service, alice, role)) == ANSWER


def test_operations_that_are_not_built_say_so(service: Running, alice: Keys) -> None:
    sts = client(service, "sts", alice)
    with refused("NotImplemented"):
        sts.get_federation_token(Name="somebody")
    with refused("NotImplemented"):
        sts.decode_authorization_message(EncodedMessage="abc")
