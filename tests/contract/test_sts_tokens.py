"""How temporary credentials are come by without long-term ones, how they become API keys, and how they end.

Web identities of an issuer that is never asked, short-term and long-term API keys in four SDKs, expiry, revocation.
Not covered: SAML; refreshing credentials, which is the clients' own work.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
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
    BEARER,
    INVOKE,
    MESSAGES,
    Keys,
    alice,
    assume,
    by_alice,
    client,
    deny,
    document,
    make_role,
    make_user,
    next_second,
    opened,
    reader,
    refused,
    root_keys,
    say,
    trust,
    trusting,
    user_arn,
)

__all__ = ["alice", "by_alice", "reader", "trust"]  # fixtures

ISSUER = "https://issuer.example.org/tenant"
CLIENT_ID = "ci.example.org"


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


def test_the_trail_names_whom_a_token_speaks_for(
    service: Running, web_role: str, issuer_key: rsa.RSAPrivateKey
) -> None:
    reply = with_token(service, web_role, web_token(issuer_key))
    request_id = reply["ResponseMetadata"]["RequestId"]
    attribute = {"AttributeKey": "EventName", "AttributeValue": "AssumeRoleWithWebIdentity"}
    cloudtrail = client(service, "cloudtrail", Keys(service.access_key_id, service.secret_access_key))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:  # the index follows the trail within a second
        events = [json.loads(each["CloudTrailEvent"]) for each in looked_up(cloudtrail, attribute)]
        found = [each["userIdentity"] for each in events if each["requestID"] == request_id]
        if found:
            break
        time.sleep(0.1)
    [who] = found
    assert who["type"] == "WebIdentityUser"
    assert who["userName"] == "repo:rocks/outcrop:main"
    assert who["identityProvider"].endswith(":oidc-provider/issuer.example.org/tenant")
    assert who["principalId"] == f"{reply['Provider']}:{CLIENT_ID}:repo:rocks/outcrop:main"


def looked_up(cloudtrail: Any, attribute: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloudtrail.lookup_events(LookupAttributes=[attribute], MaxResults=20)["Events"]
    return found


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
