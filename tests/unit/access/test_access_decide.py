"""Decisions as callers see them, over real sockets, signatures, identities and keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.base.errors import NotFound
from outcrop.service.access.denials import Denials, find
from outcrop.service.trusted import Trust
from outcrop.trust.policy import Decision, Effect, Reason, Request, Requester, RequesterKind
from serving import TINY_MODEL_ID, Running, running_service
from signing import Response, api_key, connection, message, read_responses, signed_headers

MODEL_ARN = f"arn:aws:bedrock:us-east-1::foundation-model/{TINY_MODEL_ID}"
PROFILE = f"us.{TINY_MODEL_ID}"
ASK = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
As = Callable[..., Running]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_service(tmp_path_factory.mktemp("access") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def trust(service: Running) -> Iterator[Trust]:
    opened = Trust.open(service.data, Deployment.load(service.data), SystemClock())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def user(service: Running, trust: Trust) -> As:
    """Makes a user with an inline policy and gives the service as that user reaches it."""

    def make(name: str, *statements: dict[str, Any], tags: tuple[tuple[str, str], ...] = ()) -> Running:
        identity = trust.identity
        identity.users.create(service.account, name, tags=tags)
        if statements:
            document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
            identity.holdings.put_inline(service.account, "user", name, "own", document)
        key = identity.keys.create(service.account, name)
        return replace(service, access_key_id=key.access_key_id, secret_access_key=key.secret_access_key)

    return make


def allow(action: str | list[str], resource: str | list[str] = "*", **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})


def deny(action: str, resource: str = "*", **condition: Any) -> dict[str, Any]:
    return allow(action, resource, **condition) | {"Effect": "Deny"}


def ask(who: Running, target: str, document: Any = ASK, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(document).encode()
    sent = headers or signed_headers(who, "POST", target, body)
    sent.setdefault("Host", "localhost")
    with connection(who) as sock:
        sock.sendall(message("POST", target, sent, body))
        (answer,) = read_responses(sock, 1, "POST")
    assert answer is not None
    return answer


def converse(who: Running, model: str = TINY_MODEL_ID, suffix: str = "converse", **more: Any) -> Response:
    return ask(who, f"/model/{quote(model, safe='')}/{suffix}", ASK | more)


def told(answer: Response) -> str:
    assert (answer.status, answer.error_type) == (403, "AccessDeniedException")
    text: str = json.loads(answer.body)["message"]
    return text


def test_the_root_may_and_a_user_without_policies_may_not(service: Running, user: As) -> None:
    assert converse(service).status == 200
    who = user("nothing")
    assert told(converse(who)) == (
        f"User: arn:aws:iam::{service.account}:user/nothing is not authorized to perform: bedrock:InvokeModel on "
        f"resource: {MODEL_ARN} because no identity-based policy allows the bedrock:InvokeModel action"
    )


def test_converse_and_its_stream_are_two_permissions(user: As) -> None:
    who = user("whole", allow("bedrock:InvokeModel", MODEL_ARN))
    assert converse(who).status == 200
    assert "bedrock:InvokeModelWithResponseStream" in told(converse(who, suffix="converse-stream"))
    streamer = user("streamer", allow("bedrock:InvokeModelWithResponseStream", MODEL_ARN))
    assert converse(streamer, suffix="converse-stream").status == 200
    assert "perform: bedrock:InvokeModel on" in told(converse(streamer))


@pytest.mark.parametrize("stream", [False, True])
def test_the_vendors_surfaces_take_the_same_permissions(user: As, stream: bool) -> None:
    allowed = user(f"vendor-{stream}", allow(f"bedrock:InvokeModel{'WithResponseStream' if stream else ''}", MODEL_ARN))
    other = user(f"other-{stream}", allow(f"bedrock:InvokeModel{'' if stream else 'WithResponseStream'}", MODEL_ARN))
    body = {"model": TINY_MODEL_ID, "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    for target in ("/anthropic/v1/messages", "/openai/v1/chat/completions"):
        assert ask(allowed, target, body).status == 200
        refused = ask(other, target, body)
        assert refused.status == 403
        assert b"is not authorized to perform" in refused.body


def test_an_inference_profile_needs_the_profile_and_the_model(service: Running, user: As) -> None:
    profile = f"arn:aws:bedrock:us-east-1:{service.account}:inference-profile/{PROFILE}"
    both = user("both", allow("bedrock:InvokeModel", [profile, MODEL_ARN]))
    assert converse(both, PROFILE).status == 200
    assert f"resource: {profile}" in told(converse(user("only-model", allow("bedrock:*", MODEL_ARN)), PROFILE))
    assert f"resource: {MODEL_ARN}" in told(converse(user("only-profile", allow("bedrock:*", profile)), PROFILE))
    through = {"StringEquals": {"bedrock:InferenceProfileArn": profile}}
    bound = user("through", allow("bedrock:*", profile), allow("bedrock:*", MODEL_ARN, **through))
    assert converse(bound, PROFILE).status == 200
    assert told(converse(bound, TINY_MODEL_ID))


def test_an_explicit_deny_is_told_as_one(user: As) -> None:
    who = user("denied", allow("*"), deny("bedrock:InvokeModel"))
    assert told(converse(who)).endswith(" with an explicit deny in an identity-based policy")


@pytest.mark.parametrize(
    ("name", "condition", "holds"),
    [
        ("ip", {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, True),
        ("other-ip", {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, False),
        ("plain", {"Bool": {"aws:SecureTransport": "false"}}, True),
        ("secure", {"Bool": {"aws:SecureTransport": "true"}}, False),
        ("tag", {"StringEquals": {"aws:PrincipalTag/team": "red"}}, True),
        ("other-tag", {"StringEquals": {"aws:PrincipalTag/team": "blue"}}, False),
        ("name", {"StringEquals": {"aws:username": "name"}}, True),
        ("type", {"StringEquals": {"aws:PrincipalType": "User"}}, True),
        ("region", {"StringEquals": {"aws:RequestedRegion": "us-east-1"}}, True),
        ("time", {"DateGreaterThan": {"aws:CurrentTime": "2024-01-01T00:00:00Z"}}, True),
        ("past", {"DateLessThan": {"aws:CurrentTime": "2024-01-01T00:00:00Z"}}, False),
        ("epoch", {"NumericGreaterThan": {"aws:EpochTime": "1700000000"}}, True),
        ("mfa", {"Bool": {"aws:MultiFactorAuthPresent": "true"}}, False),
        ("no-mfa", {"Null": {"aws:MultiFactorAuthPresent": "true"}}, True),
        ("direct", {"Bool": {"aws:ViaAWSService": "false"}}, True),
        ("deputy", {"Null": {"aws:SourceArn": "true"}}, True),
        ("tier", {"StringEquals": {"bedrock:ServiceTier": "default"}}, False),
        ("guarded", {"Null": {"bedrock:GuardrailIdentifier": "false"}}, False),
    ],
)
def test_condition_keys_hold_what_is_known(user: As, name: str, condition: dict[str, Any], holds: bool) -> None:
    who = user(name, allow("bedrock:InvokeModel", **condition), tags=(("team", "red"),))
    assert converse(who).status == (200 if holds else 403)


def test_a_guardrail_and_a_service_tier_are_condition_keys(service: Running, user: As) -> None:
    arn = f"arn:aws:bedrock:us-east-1:{service.account}:guardrail/g1"
    unless = {"StringNotEquals": {"bedrock:GuardrailIdentifier": f"{arn}:1"}}
    who = user("must-guard", allow("*"), deny("bedrock:InvokeModel", **unless))
    assert told(converse(who))
    guard = {"guardrailIdentifier": "g1", "guardrailVersion": "2"}
    assert told(converse(who, guardrailConfig=guard))
    # Guardrails are not built: what is allowed comes as far as being told so.
    assert converse(who, guardrailConfig=guard | {"guardrailVersion": "1"}).status == 400
    only = user("no-apply", allow("bedrock:InvokeModel"))
    assert f"bedrock:ApplyGuardrail on resource: {arn}" in told(converse(only, guardrailConfig=guard))


def test_an_api_key_takes_a_permission_of_its_own(user: As) -> None:
    for name, statements, status in (
        ("keyed", (allow(["bedrock:InvokeModel", "bedrock:CallWithBearerToken"]),), 200),
        ("unkeyed", (allow("bedrock:InvokeModel"),), 403),
        (
            "short",
            (allow("*"), deny("*", StringEquals={"bedrock:BearerTokenType": "SHORT_TERM"})),
            403,
        ),
    ):
        who = user(name, *statements)
        headers = {"Authorization": f"Bearer {api_key(who)}"}
        answer = ask(who, f"/model/{quote(TINY_MODEL_ID)}/converse", ASK, headers)
        assert answer.status == status, name
    assert b"bedrock:CallWithBearerToken" in answer.body


def test_a_model_that_is_not_there_is_refused_like_one_that_is(service: Running, user: As) -> None:
    who = user("nobody")
    missing = told(converse(who, "local.none-v1:0")).replace("local.none-v1:0", TINY_MODEL_ID)
    assert missing == told(converse(who))
    assert converse(service, "local.none-v1:0").status == 400


def kms(who: Running, operation: str, document: dict[str, Any]) -> Response:
    body = json.dumps(document).encode()
    headers = {"X-Amz-Target": f"TrentService.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    return ask(who, "/", document, signed_headers(who, "POST", "/", body, headers=headers, signing_name="kms"))


def error_of(answer: Response) -> str:
    return str(json.loads(answer.body)["message"])


def test_a_key_is_used_where_its_policy_and_the_user_s_let_it(service: Running, user: As) -> None:
    key = json.loads(kms(service, "CreateKey", {}).body)["KeyMetadata"]
    arn, context = key["Arn"], {"project": "red"}
    red = {"StringEquals": {"kms:EncryptionContext:project": "red"}}
    who = user("sealer", allow(["kms:Encrypt", "kms:Decrypt"], arn, **red))
    sealed = kms(who, "Encrypt", {"KeyId": arn, "Plaintext": "aGk=", "EncryptionContext": context})
    assert sealed.status == 200
    blob = json.loads(sealed.body)["CiphertextBlob"]
    assert kms(who, "Decrypt", {"CiphertextBlob": blob, "EncryptionContext": context}).status == 200
    refused = kms(who, "Encrypt", {"KeyId": arn, "Plaintext": "aGk=", "EncryptionContext": {"project": "blue"}})
    assert (refused.status, refused.error_type) == (400, "AccessDeniedException")
    assert error_of(refused).endswith("because no identity-based policy allows the kms:Encrypt action")
    assert kms(who, "DescribeKey", {"KeyId": arn}).status == 400
    bystander = user("bystander", allow("kms:*", arn + "0"))
    assert kms(bystander, "Decrypt", {"CiphertextBlob": blob, "EncryptionContext": context}).status == 400


def test_another_account_s_key_is_refused_in_the_same_words_whether_it_is_there(
    service: Running, trust: Trust, user: As
) -> None:
    other = trust.identity.organisation.create_account(None, "aws", "other").account
    there = str(trust.keys.lifecycle.create(other, policy=trust.keys.policies.initial(other)).arn)
    missing = there[:-4] + ("0000" if not there.endswith("0000") else "1111")
    for who in (service, user("stranger", allow("kms:*"))):
        answers = [kms(who, "DescribeKey", {"KeyId": arn}) for arn in (there, missing)]
        assert {answer.error_type for answer in answers} == {"AccessDeniedException"}
        assert error_of(answers[0]).replace(there, "") == error_of(answers[1]).replace(missing, "")
        assert "the resource does not exist in this Region, no resource-based policies allow access" in error_of(
            answers[0]
        )
    own = missing.replace(other, service.account)
    assert kms(service, "DescribeKey", {"KeyId": own}).error_type == "NotFoundException"


def test_a_denial_is_kept_and_found_by_the_id_of_its_request(service: Running, user: As) -> None:
    answer = converse(user("kept", allow("s3:*"), deny("bedrock:*", StringEquals={"aws:PrincipalTag/x": "1"})))
    record = find(service.data, answer.headers["x-amzn-requestid"])
    assert record["principal"] == f"arn:aws:iam::{service.account}:user/kept"
    assert (record["action"], record["resource"]) == ("bedrock:InvokeModel", MODEL_ARN)
    assert record["missing_keys"] == ["aws:PrincipalTag/x"]
    assert record["context"]["aws:SourceIp"] == "127.0.0.1"
    assert (service.data / "denials.jsonl").stat().st_mode & 0o777 == 0o600
    secret = service.secret_access_key
    assert secret not in (service.data / "denials.jsonl").read_text()


def test_a_change_of_policy_holds_for_the_next_request(service: Running, trust: Trust, user: As) -> None:
    who = user("changing", allow("bedrock:InvokeModel"))
    assert converse(who).status == 200
    trust.identity.holdings.delete_inline(service.account, "user", "changing", "own")
    assert converse(who).status == 403


def test_the_policy_that_bounds_is_named(service: Running, trust: Trust, user: As) -> None:
    who = user("bounded", allow("*"))
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("s3:*")]})
    policy = trust.identity.policies.create(service.account, "Edge", document)
    trust.identity.holdings.put_boundary(service.account, "user", "bounded", str(policy.arn))
    assert told(converse(who)).endswith("because no permissions boundary allows the bedrock:InvokeModel action")


def test_where_denials_go_is_no_reason_to_fail(tmp_path: Path) -> None:
    request = Request(Requester(RequesterKind.ANONYMOUS), "a:B", "*", "", {"aws:UserAgent": "x" * 5000})
    decision = Decision(Effect.DENY, Reason.IDENTITY)
    Denials(tmp_path / "gone").keep("r", "t", request, decision)
    kept = Denials(tmp_path)
    for number in range(4100):
        kept.keep(f"r{number}", "t", request, decision)
    assert find(tmp_path, "r4099")["id"] == "r4099"
    assert len(find(tmp_path, "r4099")["context"]["aws:UserAgent"]) == 512
    with pytest.raises(NotFound, match="No denial"):
        find(tmp_path, "r0")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4_000_000
