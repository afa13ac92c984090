"""From a new role to a denial that is explained and recorded, as users of AWS go that way: boto3, the CLI, JavaScript.

Everything is made through the API, but for what belongs to AWS Organizations, which is not served. Not covered: each
rule of the decision, which the unit tests of ``trust.policy`` have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from outcrop.trust.identity.controls import SCP
from outcrop.trust.policy import Reason
from serving import TINY_MODEL_ID, Running
from trust_rig import (
    ANSWER,
    INVOKE,
    MESSAGES,
    Keys,
    allow,
    client,
    deny,
    document,
    opened,
    refused,
    say,
    trusting,
    user_arn,
)

AWS = [sys.executable, str(Path(sys.executable).with_name("aws"))]
NODE = Path(__file__).parent / "node"
MODEL = f"arn:aws:bedrock:us-east-1::foundation-model/{TINY_MODEL_ID}"


@dataclass(frozen=True, slots=True)
class Member:
    """An account of the organisation that control policies hold for, its administrator, and a user who has roles."""

    service: Running
    account: str
    admin: Keys
    user: Keys

    @property
    def iam(self) -> Any:
        return client(self.service, "iam", self.admin)

    def role(self, name: str, *statements: dict[str, Any], **more: Any) -> str:
        """The ARN of a new role that the user may take on."""
        policy = trusting({"AWS": user_arn(self.account, "uma")})
        made = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy, **more)
        self.iam.put_role_policy(RoleName=name, PolicyName="may", PolicyDocument=document(*statements))
        return str(made["Role"]["Arn"])

    def assume(self, role: str, **more: Any) -> Keys:
        sts = client(self.service, "sts", self.user)
        return Keys.of(sts.assume_role(RoleArn=role, RoleSessionName="flow", **more))

    def explained(self, request_id: str) -> dict[str, Any]:
        """What ``outcrop policy explain`` tells an administrator of a denied request."""
        command = [sys.executable, "-m", "outcrop.cli.main", "policy", "explain", request_id, "--json"]
        done = subprocess.run(
            [*command, "--data", str(self.service.data)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def events(self, name: str) -> dict[str, dict[str, Any]]:
        """The account's events of one name as CloudTrail gives them, by request."""
        trail = client(self.service, "cloudtrail", self.admin)
        attributes = [{"AttributeKey": "EventName", "AttributeValue": name}]
        pages = trail.get_paginator("lookup_events").paginate(LookupAttributes=attributes)
        records = [json.loads(event["CloudTrailEvent"]) for page in pages for event in page["Events"]]
        return {record["requestID"]: record for record in records}


@pytest.fixture(scope="module")
def member(service: Running) -> Member:
    with opened(service.data) as trust:
        account = trust.identity.organisation.create_account(None, "aws", "member").account
        admin = Keys.issued(trust.identity.create_key(account))
    iam = client(service, "iam", admin)
    iam.create_user(UserName="uma")
    made = iam.create_access_key(UserName="uma")["AccessKey"]
    return Member(service, account, admin, Keys(made["AccessKeyId"], made["SecretAccessKey"]))


@pytest.fixture
def ceiling(member: Member) -> Iterator[None]:
    """A control policy that keeps the whole account from invoking models."""
    with opened(member.service.data) as trust:
        controls = trust.identity.controls
        controls.put(SCP, "no-models", document(deny("bedrock:Invoke*")))
        controls.attach(SCP, "no-models", member.account)
        yield
        controls.detach(SCP, "no-models", member.account)


def denial(member: Member, keys: Keys, **more: Any) -> tuple[str, dict[str, Any]]:
    """What the caller of Converse is told, and what an administrator is."""
    with refused("AccessDeniedException") as caught:
        say(member.service, keys, **more)
    answer = caught.value.response
    return answer["Error"]["Message"], member.explained(answer["ResponseMetadata"]["RequestId"])


def head(member: Member, role: str, action: str = "bedrock:InvokeModel", resource: str = MODEL) -> str:
    who = f"arn:aws:sts::{member.account}:assumed-role/{role}/flow"
    return f"User: {who} is not authorized to perform: {action} on resource: {resource}"


def test_a_service_control_policy(member: Member, ceiling: None) -> None:
    keys = member.assume(member.role("under-ceiling", INVOKE))
    told, explained = denial(member, keys)
    assert told == f"{head(member, 'under-ceiling')} with an explicit deny in a service control policy"
    assert explained["reason"] == Reason.EXPLICIT_DENY.value
    assert ("no-models", "Deny") in [(each["policy"], each["effect"]) for each in explained["matched"]]
    with refused("AccessDeniedException"):
        say(member.service, member.admin)  # the root of a member account is under it, too


def test_without_the_control_policy_the_same_call_is_answered(member: Member) -> None:
    assert say(member.service, member.assume(member.role("no-ceiling", INVOKE))) == ANSWER
    assert say(member.service, member.admin) == ANSWER


def test_a_boundary(member: Member) -> None:
    boundary = member.iam.create_policy(PolicyName="bounds", PolicyDocument=document(allow("kms:*")))["Policy"]["Arn"]
    keys = member.assume(member.role("bounded", INVOKE, PermissionsBoundary=boundary))
    told, explained = denial(member, keys)
    assert told == f"{head(member, 'bounded')} because no permissions boundary allows the bedrock:InvokeModel action"
    assert explained["principal"] == f"arn:aws:sts::{member.account}:assumed-role/bounded/flow"
    assert (explained["action"], explained["resource"]) == ("bedrock:InvokeModel", MODEL)
    member.iam.delete_role_permissions_boundary(RoleName="bounded")
    assert say(member.service, keys) == ANSWER


def test_a_guardrail_that_must_be_there(member: Member) -> None:
    guardrail = f"arn:aws:bedrock:us-east-1:{member.account}:guardrail/gr1234567890"
    needed = deny(
        "bedrock:InvokeModel*", Condition={"StringNotEquals": {"bedrock:GuardrailIdentifier": f"{guardrail}:1"}}
    )
    keys = member.assume(member.role("guarded", INVOKE, allow("bedrock:ApplyGuardrail"), needed))
    explicit = f"{head(member, 'guarded')} with an explicit deny in an identity-based policy"
    told, explained = denial(member, keys)
    assert told == explicit
    assert "bedrock:GuardrailIdentifier" in explained["missing_keys"]
    assert denial(member, keys, guardrailConfig=config("gr0987654321"))[0] == explicit
    assert denial(member, keys, guardrailConfig=config("gr1234567890", "2"))[0] == explicit
    with pytest.raises(ClientError) as caught:  # the policies let it pass; guardrails themselves are not built
        say(member.service, keys, guardrailConfig=config("gr1234567890"))
    assert caught.value.response["Error"]["Code"] != "AccessDeniedException"


def config(identifier: str, version: str = "1") -> dict[str, str]:
    return {"guardrailIdentifier": identifier, "guardrailVersion": version}


def test_a_session_policy(member: Member) -> None:
    role = member.role("wide", INVOKE)
    told, explained = denial(member, member.assume(role, Policy=document(allow("kms:*"))))
    assert told == f"{head(member, 'wide')} because no session policy allows the bedrock:InvokeModel action"
    assert explained["reason"] == Reason.SESSION.value
    assert say(member.service, member.assume(role, Policy=document(INVOKE))) == ANSWER


def test_a_role_that_is_not_given_is_explained(member: Member) -> None:
    role = member.role("asks", INVOKE)
    condition = {"StringEquals": {"sts:ExternalId": "agreed-on"}}
    policy = trusting({"AWS": user_arn(member.account, "uma")}, Condition=condition)
    member.iam.update_assume_role_policy(RoleName="asks", PolicyDocument=policy)
    with refused("AccessDenied") as caught:
        member.assume(role)
    answer = caught.value.response
    assert answer["Error"]["Message"] == (
        f"User: {user_arn(member.account, 'uma')} is not authorized to perform: sts:AssumeRole on resource: {role}"
    )
    explained = member.explained(answer["ResponseMetadata"]["RequestId"])
    assert (explained["action"], explained["resource"]) == ("sts:AssumeRole", role)
    assert "sts:ExternalId" in explained["missing_keys"]


def test_the_trail_has_the_allowed_and_the_denied_call(member: Member, ceiling: None) -> None:
    role = member.role("recorded", INVOKE, allow("kms:CreateKey"))
    keys = member.assume(role)
    kms = client(member.service, "kms", keys)
    allowed = kms.create_key()["ResponseMetadata"]["RequestId"]
    with refused("AccessDeniedException") as caught:
        kms.list_keys()
    denied = caught.value.response["ResponseMetadata"]["RequestId"]
    with refused("AccessDeniedException") as caught:
        say(member.service, keys)
    invoked = caught.value.response["ResponseMetadata"]["RequestId"]
    role_id = member.iam.get_role(RoleName="recorded")["Role"]["RoleId"]
    done = member.events("CreateKey")[allowed]
    for name, request_id in (("ListKeys", denied), ("Converse", invoked)):
        record = member.events(name)[request_id]
        assert record["errorCode"] == "AccessDeniedException"
        assert record["userIdentity"] == done["userIdentity"]
    assert "errorCode" not in done
    identity = done["userIdentity"]
    assert (identity["type"], identity["accountId"]) == ("AssumedRole", member.account)
    assert identity["arn"] == f"arn:aws:sts::{member.account}:assumed-role/recorded/flow"
    assert identity["principalId"] == f"{role_id}:flow"
    assert identity["accessKeyId"] == keys.access_key_id
    issuer = identity["sessionContext"]["sessionIssuer"]
    assert (issuer["type"], issuer["arn"], issuer["userName"], issuer["principalId"]) == (
        "Role",
        role,
        "recorded",
        role_id,
    )
    assumed = [
        record for record in member.events("AssumeRole").values() if record["requestParameters"]["roleArn"] == role
    ]
    assert assumed[0]["userIdentity"]["arn"] == user_arn(member.account, "uma")
    assert assumed[0]["responseElements"]["credentials"]["accessKeyId"] == keys.access_key_id
    assert keys.session_token not in json.dumps(assumed)


def test_another_accounts_trail_has_none_of_it(member: Member, service: Running) -> None:
    member.assume(member.role("unseen", INVOKE))
    root = Keys(service.access_key_id, service.secret_access_key)
    trail = client(service, "cloudtrail", root)
    records = [event["CloudTrailEvent"] for event in trail.lookup_events()["Events"]]
    assert not any(member.account in record for record in records)


# --- the AWS CLI and JavaScript ---------------------------------------------------------------------------------------


def aws(member: Member, keys: Keys, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AWS, *arguments, "--output", "json"],
        env={**os.environ, **keys.environment(member.service)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_aws_cli(member: Member) -> None:
    policy = trusting({"AWS": user_arn(member.account, "uma")})
    made = aws(
        member, member.admin, "iam", "create-role", "--role-name", "cli", "--assume-role-policy-document", policy
    )
    assert made.returncode == 0, made.stderr
    role = json.loads(made.stdout)["Role"]["Arn"]
    may = ("--policy-name", "may", "--policy-document", document(INVOKE))
    assert aws(member, member.admin, "iam", "put-role-policy", "--role-name", "cli", *may).returncode == 0
    asked = ("sts", "assume-role", "--role-arn", role, "--role-session-name", "flow")
    keys = Keys.of(json.loads(aws(member, member.user, *asked).stdout))
    converse = ("bedrock-runtime", "converse", "--model-id", TINY_MODEL_ID, "--messages", json.dumps(MESSAGES))
    said = aws(member, keys, *converse)
    assert json.loads(said.stdout)["output"]["message"]["content"] == [{"text": ANSWER}]
    narrowed = Keys.of(json.loads(aws(member, member.user, *asked, "--policy", document(allow("kms:*"))).stdout))
    refusal = aws(member, narrowed, *converse)
    assert refusal.returncode != 0
    assert "(AccessDeniedException)" in refusal.stderr
    assert f"{head(member, 'cli')} because no session policy allows" in refusal.stderr


def test_the_javascript_sdk(member: Member) -> None:
    program = shutil.which("node")
    if program is None or not (NODE / "node_modules" / "@aws-sdk" / "client-iam").is_dir():
        missing = "Node or its packages are missing: run `npm ci` in tests/contract/node."
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    settings = {
        "PATH": os.environ["PATH"],
        "AWS_EC2_METADATA_DISABLED": "true",
        "ENDPOINT": member.service.http_url,
        "MODEL": TINY_MODEL_ID,
        "REGION": member.service.region,
        "ACCOUNT": member.account,
        "AWS_ACCESS_KEY_ID": member.admin.access_key_id,
        "AWS_SECRET_ACCESS_KEY": member.admin.secret_access_key,
    }
    done = subprocess.run(
        [program, str(NODE / "trust.mjs")], env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    met = json.loads(done.stdout)
    assert met["role"] == f"arn:aws:iam::{member.account}:role/js-role"
    assert (met["said"], met["opened"]) == (ANSWER, "js")
    assert met["identity"] == f"arn:aws:sts::{member.account}:assumed-role/js-role/from-js"
    who = user_arn(member.account, "js-user")
    refusals = met["refusals"]
    assert {name: (found["name"], found["status"]) for name, found in refusals.items()} == {
        "user": ("AccessDeniedException", 403),
        "session": ("AccessDeniedException", 403),
        "role": ("AccessDenied", 403),
    }
    assert refusals["user"]["message"] == (
        f"User: {who} is not authorized to perform: bedrock:InvokeModel on resource: {MODEL} because no identity-based "
        "policy allows the bedrock:InvokeModel action"
    )
    assert "because no session policy allows" in refusals["session"]["message"]
    assert member.explained(refusals["session"]["requestId"])["reason"] == Reason.SESSION.value
