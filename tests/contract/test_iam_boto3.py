"""IAM through an unmodified boto3: users, groups, roles and policies that take effect with the next request.

Not covered: terraform's provider and the AWS CLI, which send the same requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from outcrop.trust.identity.controls import SCP
from serving import TINY_MODEL_ID, Running
from trust_rig import opened

MESSAGES = [{"role": "user", "content": [{"text": "Hi"}]}]
PLAIN = [{"role": "user", "content": "Hi"}]
BEDROCK = "bedrock.amazonaws.com"
MEMBER = "444455556666"


def document(*actions: str, effect: str = "Allow", resource: str = "*", **more: Any) -> str:
    statement = {"Effect": effect, "Action": list(actions), "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def trusting(*principals: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def client(service: Running, name: str, key: Any = None) -> Any:
    return boto3.client(
        name,
        endpoint_url=service.http_url,
        region_name=service.region,
        aws_access_key_id=key["AccessKeyId"] if key else service.access_key_id,
        aws_secret_access_key=key["SecretAccessKey"] if key else service.secret_access_key,
        aws_session_token=key.get("SessionToken") if key else None,
        config=Config(retries={"total_max_attempts": 1}),
    )


@contextmanager
def refused(code: str, text: str = "") -> Iterator[None]:
    with pytest.raises(ClientError) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == code
    assert text in caught.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def iam(service: Running) -> Any:
    return client(service, "iam")


def ask(runtime: Any) -> str:
    """One answer of the model."""
    reply = runtime.converse(modelId=TINY_MODEL_ID, messages=MESSAGES)
    return str(reply["output"]["message"]["content"][0]["text"])


def test_a_user_may_what_a_policy_says_and_no_longer_once_it_is_gone(service: Running, iam: Any) -> None:
    made = iam.create_user(UserName="reader", Path="/people/", Tags=[{"Key": "team", "Value": "red"}])["User"]
    assert made["Arn"] == f"arn:aws:iam::{service.account}:user/people/reader"
    assert made["UserId"].startswith("AIDA")
    assert made["Tags"] == [{"Key": "team", "Value": "red"}]
    runtime = client(service, "bedrock-runtime", iam.create_access_key(UserName="reader")["AccessKey"])
    with refused("AccessDeniedException", "bedrock:InvokeModel"):
        ask(runtime)
    policy = document("bedrock:InvokeModel", resource="arn:aws:bedrock:*")
    iam.put_user_policy(UserName="reader", PolicyName="invoke", PolicyDocument=policy)
    assert ask(runtime)
    got = iam.get_user_policy(UserName="reader", PolicyName="invoke")
    assert got["PolicyDocument"] == json.loads(policy)
    assert iam.list_user_policies(UserName="reader")["PolicyNames"] == ["invoke"]
    deny = document("bedrock:*", effect="Deny")
    iam.put_user_policy(UserName="reader", PolicyName="stop", PolicyDocument=deny)
    with refused("AccessDeniedException", "explicit deny"):
        ask(runtime)
    iam.delete_user_policy(UserName="reader", PolicyName="stop")
    assert ask(runtime)
    iam.delete_user_policy(UserName="reader", PolicyName="invoke")
    with refused("AccessDeniedException"):
        ask(runtime)


def test_a_user_goes_only_once_it_has_nothing(iam: Any) -> None:
    iam.create_user(UserName="leaver")
    key = iam.create_access_key(UserName="leaver")["AccessKey"]
    with refused("EntityAlreadyExists", "User with name LEAVER already exists."):
        iam.create_user(UserName="LEAVER")
    with refused("DeleteConflict", "must delete access keys first"):
        iam.delete_user(UserName="leaver")
    iam.delete_access_key(UserName="leaver", AccessKeyId=key["AccessKeyId"])
    assert iam.list_mfa_devices(UserName="leaver")["MFADevices"] == []
    assert iam.list_ssh_public_keys(UserName="leaver")["SSHPublicKeys"] == []
    assert iam.list_signing_certificates(UserName="leaver")["Certificates"] == []
    with refused("NoSuchEntity", "Login Profile for User leaver cannot be found."):
        iam.get_login_profile(UserName="leaver")
    iam.delete_user(UserName="leaver")
    with refused("NoSuchEntity", "The user with name leaver cannot be found."):
        iam.get_user(UserName="leaver")


def test_who_asks_without_a_name_is_asked_about(service: Running, iam: Any) -> None:
    assert iam.get_user()["User"]["Arn"] == f"arn:aws:iam::{service.account}:root"
    iam.create_user(UserName="self")
    iam.put_user_policy(UserName="self", PolicyName="me", PolicyDocument=document("iam:GetUser", "iam:*AccessKey*"))
    mine = client(service, "iam", iam.create_access_key(UserName="self")["AccessKey"])
    assert mine.get_user()["User"]["UserName"] == "self"
    assert [key["UserName"] for key in mine.list_access_keys()["AccessKeyMetadata"]] == ["self"]


def test_keys_are_rotated_without_a_gap(service: Running, iam: Any) -> None:
    iam.create_user(UserName="rotating")
    old, new = (iam.create_access_key(UserName="rotating")["AccessKey"] for _ in range(2))
    with refused("LimitExceeded", "AccessKeysPerUser: 2"):
        iam.create_access_key(UserName="rotating")
    for key in (old, new):
        assert client(service, "sts", key).get_caller_identity()["Arn"].endswith("user/rotating")
    iam.update_access_key(UserName="rotating", AccessKeyId=old["AccessKeyId"], Status="Inactive")
    with refused("InvalidClientTokenId"):
        client(service, "sts", old).get_caller_identity()
    assert client(service, "sts", new).get_caller_identity()["Arn"].endswith("user/rotating")
    with refused("NoSuchEntity"):  # a key of somebody else, by a name that may be changed
        iam.delete_access_key(UserName="rotating", AccessKeyId=service.access_key_id)
    iam.delete_access_key(UserName="rotating", AccessKeyId=old["AccessKeyId"])
    assert [key["Status"] for key in iam.list_access_keys(UserName="rotating")["AccessKeyMetadata"]] == ["Active"]
    used = iam.get_access_key_last_used(AccessKeyId=new["AccessKeyId"])
    assert used["UserName"] == "rotating"
    assert (used["AccessKeyLastUsed"]["ServiceName"], used["AccessKeyLastUsed"]["Region"]) == ("sts", service.region)
    unused = iam.create_access_key(UserName="rotating")["AccessKey"]["AccessKeyId"]
    assert iam.get_access_key_last_used(AccessKeyId=unused)["AccessKeyLastUsed"]["ServiceName"] == "N/A"


def test_a_key_of_one_user_is_not_another_users_to_delete(service: Running, iam: Any) -> None:
    for name in ("mallory", "victim"):
        iam.create_user(UserName=name)
    own = f"arn:aws:iam::{service.account}:user/${{aws:username}}"
    iam.put_user_policy(UserName="mallory", PolicyName="own", PolicyDocument=document("iam:*", resource=own))
    theirs = iam.create_access_key(UserName="victim")["AccessKey"]
    credential = iam.create_service_specific_credential(UserName="victim", ServiceName=BEDROCK)
    identifier = credential["ServiceSpecificCredential"]["ServiceSpecificCredentialId"]
    mallory = client(service, "iam", iam.create_access_key(UserName="mallory")["AccessKey"])
    with refused("AccessDenied"):
        mallory.delete_access_key(UserName="victim", AccessKeyId=theirs["AccessKeyId"])
    with refused("NoSuchEntity"):
        mallory.delete_access_key(AccessKeyId=theirs["AccessKeyId"])
    with refused("NoSuchEntity"):
        mallory.reset_service_specific_credential(ServiceSpecificCredentialId=identifier)
    with refused("AccessDenied", "user/*"):
        mallory.list_service_specific_credentials(AllUsers=True)
    assert mallory.list_service_specific_credentials()["ServiceSpecificCredentials"] == []
    assert [
        each["UserName"] for each in iam.list_service_specific_credentials(AllUsers=True)["ServiceSpecificCredentials"]
    ] == ["victim"]
    assert client(service, "sts", theirs).get_caller_identity()["Arn"].endswith("user/victim")


def test_groups_give_their_members_what_they_have(service: Running, iam: Any) -> None:
    iam.create_group(GroupName="callers", Path="/teams/")
    iam.create_user(UserName="member")
    runtime = client(service, "bedrock-runtime", iam.create_access_key(UserName="member")["AccessKey"])
    iam.attach_group_policy(GroupName="callers", PolicyArn="arn:aws:iam::aws:policy/AmazonBedrockFullAccess")
    with refused("AccessDeniedException"):
        ask(runtime)
    iam.add_user_to_group(GroupName="callers", UserName="member")
    assert ask(runtime)
    assert [user["UserName"] for user in iam.get_group(GroupName="callers")["Users"]] == ["member"]
    assert [group["GroupName"] for group in iam.list_groups_for_user(UserName="member")["Groups"]] == ["callers"]
    with refused("DeleteConflict"):
        iam.delete_group(GroupName="callers")
    iam.remove_user_from_group(GroupName="callers", UserName="member")
    with refused("AccessDeniedException"):
        ask(runtime)
    iam.detach_group_policy(GroupName="callers", PolicyArn="arn:aws:iam::aws:policy/AmazonBedrockFullAccess")
    iam.update_group(GroupName="callers", NewGroupName="ringers")
    iam.delete_group(GroupName="ringers")
    with refused("NoSuchEntity", "The group with name callers cannot be found."):
        iam.get_group(GroupName="callers")


def test_a_role_is_assumed_within_its_boundary(service: Running, iam: Any) -> None:
    iam.create_user(UserName="assumer")
    arn = f"arn:aws:iam::{service.account}:user/assumer"
    role = iam.create_role(
        RoleName="worker", AssumeRolePolicyDocument=trusting(arn), MaxSessionDuration=7200, Description="works"
    )["Role"]
    assert role["AssumeRolePolicyDocument"] == json.loads(trusting(arn))
    iam.put_user_policy(
        UserName="assumer", PolicyName="a", PolicyDocument=document("sts:AssumeRole", resource=role["Arn"])
    )
    iam.put_role_policy(
        RoleName="worker", PolicyName="w", PolicyDocument=document("bedrock:*", "iam:ListUsers", "iam:GetUser")
    )
    sts = client(service, "sts", iam.create_access_key(UserName="assumer")["AccessKey"])
    session = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="shift")["Credentials"]
    assert "LastUsedDate" not in iam.get_role(RoleName="worker")["Role"]["RoleLastUsed"]
    assert ask(client(service, "bedrock-runtime", session))
    assert iam.get_role(RoleName="worker")["Role"]["RoleLastUsed"]["Region"] == service.region
    assert client(service, "iam", session).list_users()["Users"]
    bound = iam.create_policy(PolicyName="bound", PolicyDocument=document("iam:*"))["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName="worker", PermissionsBoundary=bound)
    assert iam.get_role(RoleName="worker")["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == bound
    with refused("AccessDeniedException", "permissions boundary"):
        ask(client(service, "bedrock-runtime", session))
    assert client(service, "iam", session).list_users()["Users"]
    with refused("DeleteConflict"):
        iam.delete_policy(PolicyArn=bound)
    iam.delete_role_permissions_boundary(RoleName="worker")
    assert ask(client(service, "bedrock-runtime", session))
    with refused("ValidationError", "userName"):
        client(service, "iam", session).get_user()
    iam.delete_role_policy(RoleName="worker", PolicyName="w")
    assert iam.list_instance_profiles_for_role(RoleName="worker")["InstanceProfiles"] == []
    iam.delete_role(RoleName="worker")
    with refused("AccessDenied"):
        sts.assume_role(RoleArn=role["Arn"], RoleSessionName="shift")


def test_the_version_of_a_managed_policy_that_counts_is_the_default(service: Running, iam: Any) -> None:
    iam.create_user(UserName="versioned")
    runtime = client(service, "bedrock-runtime", iam.create_access_key(UserName="versioned")["AccessKey"])
    policy = iam.create_policy(PolicyName="moving", Path="/p/", PolicyDocument=document("bedrock:*"))["Policy"]
    arn = policy["Arn"]
    iam.attach_user_policy(UserName="versioned", PolicyArn=arn)
    assert ask(runtime)
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=document("s3:*"), SetAsDefault=True)
    with refused("AccessDeniedException"):
        ask(runtime)
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    assert ask(runtime)
    with refused("DeleteConflict", "default version"):
        iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    assert [each["VersionId"] for each in iam.list_policy_versions(PolicyArn=arn)["Versions"]] == ["v2", "v1"]
    got = iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]
    assert got["Document"] == json.loads(document("s3:*"))
    for number in range(3):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document(f"s3:Get{number}"))
    with refused("LimitExceeded", "VersionsPerPolicy: 5"):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document("s3:*"))
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    held = iam.list_entities_for_policy(PolicyArn=arn)
    assert [user["UserName"] for user in held["PolicyUsers"]] == ["versioned"]
    with refused("DeleteConflict", "attached to entities"):
        iam.delete_policy(PolicyArn=arn)
    listed = iam.list_policies(Scope="Local", OnlyAttached=True, PathPrefix="/p/")["Policies"]
    assert [each["Arn"] for each in listed] == [arn]
    with refused("MalformedPolicyDocument"):
        iam.create_policy(PolicyName="broken", PolicyDocument='{"Version":"2012-10-17","Statement":[{}]}')
    with refused("NoSuchEntity", "does not exist or is not attachable"):
        iam.attach_user_policy(UserName="versioned", PolicyArn=arn + "x")


def test_tags_are_shown_and_count_in_conditions(service: Running, iam: Any) -> None:
    iam.create_user(UserName="tagged", Tags=[{"Key": "team", "Value": "blue"}])
    condition = {"StringEquals": {"aws:PrincipalTag/team": "red"}}
    iam.put_user_policy(UserName="tagged", PolicyName="red", PolicyDocument=document("bedrock:*", Condition=condition))
    runtime = client(service, "bedrock-runtime", iam.create_access_key(UserName="tagged")["AccessKey"])
    with refused("AccessDeniedException"):
        ask(runtime)
    iam.tag_user(UserName="tagged", Tags=[{"Key": "Team", "Value": "red"}])
    assert ask(runtime)
    assert iam.list_user_tags(UserName="tagged")["Tags"] == [{"Key": "Team", "Value": "red"}]
    iam.untag_user(UserName="tagged", TagKeys=["team"])
    assert iam.list_user_tags(UserName="tagged")["Tags"] == []
    with refused("AccessDeniedException"):
        ask(runtime)
    with refused("InvalidInput", "looks like a key"):
        iam.tag_user(UserName="tagged", Tags=[{"Key": "key", "Value": service.access_key_id}])


def test_lists_come_in_pages(iam: Any) -> None:
    names = [f"page-{number:02}" for number in range(7)]
    for name in names:
        iam.create_user(UserName=name, Path="/pages/")
    pages = [*iam.get_paginator("list_users").paginate(PathPrefix="/pages/", PaginationConfig={"PageSize": 3})]
    assert [len(page["Users"]) for page in pages] == [3, 3, 1]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert [user["UserName"] for page in pages for user in page["Users"]] == names
    with refused("ValidationError", "Marker"):
        iam.list_users(Marker="never given")


def test_the_simulator_decides_as_requests_are_decided(service: Running, iam: Any) -> None:
    iam.create_user(UserName="simulated")
    iam.create_group(GroupName="simulated")
    iam.add_user_to_group(GroupName="simulated", UserName="simulated")
    iam.put_group_policy(GroupName="simulated", PolicyName="g", PolicyDocument=document("bedrock:InvokeModel"))
    condition = {"Bool": {"aws:MultiFactorAuthPresent": "true"}}
    iam.put_user_policy(UserName="simulated", PolicyName="u", PolicyDocument=document("s3:*", Condition=condition))
    arn = f"arn:aws:iam::{service.account}:user/simulated"

    def run(*actions: str, **more: Any) -> list[dict[str, Any]]:
        return list(
            iam.simulate_principal_policy(PolicySourceArn=arn, ActionNames=[*actions], **more)["EvaluationResults"]
        )

    allowed, implicit = run("bedrock:InvokeModel", "kms:Decrypt")
    assert (allowed["EvalDecision"], implicit["EvalDecision"]) == ("allowed", "implicitDeny")
    statement = allowed["MatchedStatements"][0]
    assert (statement["SourcePolicyId"], statement["SourcePolicyType"]) == ("group_simulated_g", "group")
    assert statement["StartPosition"] == {"Line": 1, "Column": document("bedrock:InvokeModel").index("[{") + 2}
    (missing,) = run("s3:GetObject")
    assert missing["EvalDecision"] == "implicitDeny"
    assert missing["MissingContextValues"] == ["aws:MultiFactorAuthPresent"]
    entry = {
        "ContextKeyName": "aws:multifactorauthpresent",
        "ContextKeyValues": ["true"],
        "ContextKeyType": "boolean",
    }
    assert run("s3:GetObject", ContextEntries=[entry])[0]["EvalDecision"] == "allowed"
    denied = run("bedrock:InvokeModel", PolicyInputList=[document("bedrock:*", effect="Deny")])[0]
    assert denied["EvalDecision"] == "explicitDeny"
    bounded = run("bedrock:InvokeModel", PermissionsBoundaryPolicyInputList=[document("s3:*")])[0]
    assert bounded["EvalDecision"] == "implicitDeny"
    assert not bounded["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"]
    keys = iam.get_context_keys_for_principal_policy(PolicySourceArn=arn)["ContextKeyNames"]
    assert keys == ["aws:MultiFactorAuthPresent"]
    with refused("AccessDenied"):
        iam.simulate_principal_policy(
            PolicySourceArn=arn.replace(service.account, "444455556666"), ActionNames=["s3:*"]
        )


def test_the_simulator_knows_the_ceilings_of_the_organisation(service: Running) -> None:
    with opened(service.data) as trust:
        issued = trust.identity.ensure_account("aws", MEMBER)
        assert issued is not None
        trust.identity.controls.put(SCP, "no-kms", document("kms:*", effect="Deny"))
        trust.identity.controls.attach(SCP, "no-kms", MEMBER)
    keys = {"AccessKeyId": issued.access_key_id, "SecretAccessKey": issued.secret_access_key}
    member = client(service, "iam", keys)
    role = member.create_role(RoleName="r", AssumeRolePolicyDocument=trusting(MEMBER))["Role"]["Arn"]
    member.put_role_policy(RoleName="r", PolicyName="all", PolicyDocument=document("*"))
    tried = member.simulate_principal_policy(PolicySourceArn=role, ActionNames=["kms:Decrypt", "s3:GetObject"])
    told = [
        (each["EvalDecision"], each["OrganizationsDecisionDetail"]["AllowedByOrganizations"])
        for each in tried["EvaluationResults"]
    ]
    assert told == [("explicitDeny", False), ("allowed", True)]
    with refused("NoSuchEntity"):  # another account's user is not there for the member
        member.get_user(UserName="reader")


def test_policies_are_tried_without_anybody_holding_them(iam: Any) -> None:
    bucket = "arn:aws:s3:::b/x"
    tried = iam.simulate_custom_policy(
        PolicyInputList=[document("s3:GetObject", resource="arn:aws:s3:::b/*")],
        ActionNames=["s3:GetObject", "s3:PutObject"],
        ResourceArns=[bucket, "arn:aws:s3:::c/x"],
    )["EvaluationResults"]
    assert [(each["EvalActionName"], each["EvalDecision"]) for each in tried] == [
        ("s3:GetObject", "allowed"),
        ("s3:GetObject", "implicitDeny"),
        ("s3:PutObject", "implicitDeny"),
        ("s3:PutObject", "implicitDeny"),
    ]
    assert tried[0]["ResourceSpecificResults"][0]["EvalResourceName"] == bucket
    (organised,) = iam.simulate_custom_policy(
        PolicyInputList=[document("s3:*")],
        ActionNames=["s3:GetObject"],
        OrderedOrganizationPolicyInputList=[{"ServiceControlPolicyInputList": [document("bedrock:*")]}],
    )["EvaluationResults"]
    assert organised["EvalDecision"] == "implicitDeny"
    assert organised["OrganizationsDecisionDetail"] == {"AllowedByOrganizations": False}
    keys = iam.get_context_keys_for_custom_policy(
        PolicyInputList=[document("s3:*", resource="arn:aws:s3:::${aws:username}/*")]
    )
    assert keys["ContextKeyNames"] == ["aws:username"]
    with refused("InvalidInput", "PolicyInputList.1"):
        iam.simulate_custom_policy(PolicyInputList=["{}"], ActionNames=["s3:GetObject"])


def test_an_api_key_of_a_user_opens_every_surface_and_closes_with_it(service: Running, iam: Any) -> None:
    iam.create_user(UserName="bearer")
    iam.attach_user_policy(UserName="bearer", PolicyArn="arn:aws:iam::aws:policy/AmazonBedrockFullAccess")
    made = iam.create_service_specific_credential(UserName="bearer", ServiceName=BEDROCK, CredentialAgeDays=30)
    credential = made["ServiceSpecificCredential"]
    key, identifier = credential["ServiceCredentialSecret"], credential["ServiceSpecificCredentialId"]
    assert key.startswith("ABSK")
    assert credential["ServiceCredentialAlias"].startswith("bearer+1-at-")

    def surfaces(key: str) -> tuple[anthropic.Anthropic, openai.OpenAI]:
        return (
            anthropic.Anthropic(base_url=f"{service.http_url}/anthropic", api_key=key, max_retries=0),
            openai.OpenAI(base_url=f"{service.http_url}/v1", api_key=key, max_retries=0),
        )

    messages, chat = surfaces(key)
    assert messages.messages.create(model=TINY_MODEL_ID, max_tokens=8, messages=PLAIN).content  # type: ignore[arg-type]
    assert chat.chat.completions.create(model=TINY_MODEL_ID, messages=PLAIN).choices  # type: ignore[arg-type]
    renewed = iam.reset_service_specific_credential(UserName="bearer", ServiceSpecificCredentialId=identifier)
    messages_new, _ = surfaces(renewed["ServiceSpecificCredential"]["ServiceCredentialSecret"])
    with pytest.raises(anthropic.AuthenticationError):
        messages.messages.create(model=TINY_MODEL_ID, max_tokens=8, messages=PLAIN)  # type: ignore[arg-type]
    assert messages_new.messages.create(model=TINY_MODEL_ID, max_tokens=8, messages=PLAIN).content  # type: ignore[arg-type]
    iam.update_service_specific_credential(UserName="bearer", ServiceSpecificCredentialId=identifier, Status="Inactive")
    with pytest.raises(anthropic.AuthenticationError):
        messages_new.messages.create(model=TINY_MODEL_ID, max_tokens=8, messages=PLAIN)  # type: ignore[arg-type]
    iam.update_service_specific_credential(UserName="bearer", ServiceSpecificCredentialId=identifier, Status="Active")
    iam.detach_user_policy(UserName="bearer", PolicyArn="arn:aws:iam::aws:policy/AmazonBedrockFullAccess")
    with pytest.raises(anthropic.PermissionDeniedError):
        messages_new.messages.create(model=TINY_MODEL_ID, max_tokens=8, messages=PLAIN)  # type: ignore[arg-type]
    with refused("NotSupportedService"):
        iam.create_service_specific_credential(UserName="bearer", ServiceName="codecommit.amazonaws.com")
    iam.delete_service_specific_credential(UserName="bearer", ServiceSpecificCredentialId=identifier)


def test_secrets_are_shown_once_and_written_nowhere(service: Running, iam: Any) -> None:
    iam.create_user(UserName="secretive")
    key = iam.create_access_key(UserName="secretive")["AccessKey"]
    made = iam.create_service_specific_credential(UserName="secretive", ServiceName=BEDROCK)
    secrets = (key["SecretAccessKey"], made["ServiceSpecificCredential"]["ServiceCredentialSecret"])
    shown = json.dumps(
        [
            iam.list_access_keys(UserName="secretive"),
            iam.list_service_specific_credentials(UserName="secretive"),
            iam.get_account_authorization_details(),
        ],
        default=str,
    )
    assert key["AccessKeyId"] in shown
    written = b"".join(path.read_bytes() for path in service.data.rglob("*") if path.is_file())
    assert key["AccessKeyId"].encode() in written
    for secret in secrets:
        assert secret not in shown
        assert secret.encode() not in written


def test_a_provider_is_registered_and_removed(service: Running, iam: Any) -> None:
    made = iam.create_open_id_connect_provider(
        Url="https://idp.example.org/x", ClientIDList=["outcrop"], ThumbprintList=["A" * 40]
    )
    arn = made["OpenIDConnectProviderArn"]
    assert arn == f"arn:aws:iam::{service.account}:oidc-provider/idp.example.org/x"
    iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="other")
    iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=arn, Tags=[{"Key": "a", "Value": "b"}])
    found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert (found["Url"], found["ClientIDList"]) == ("idp.example.org/x", ["outcrop", "other"])
    assert found["Tags"] == [{"Key": "a", "Value": "b"}]
    assert [each["Arn"] for each in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]] == [arn]
    with refused("EntityAlreadyExists"):
        iam.create_open_id_connect_provider(Url="https://idp.example.org/x")
    with refused("InvalidInput"):
        iam.create_open_id_connect_provider(Url="http://idp.example.org")
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    with refused("NoSuchEntity"):
        iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)


def test_the_account_as_a_whole(iam: Any) -> None:
    iam.create_account_alias(AccountAlias="quarry")
    assert iam.list_account_aliases()["AccountAliases"] == ["quarry"]
    iam.delete_account_alias(AccountAlias="quarry")
    assert iam.list_account_aliases()["AccountAliases"] == []
    with refused("NoSuchEntity"):
        iam.delete_account_alias(AccountAlias="quarry")
    iam.create_user(UserName="whole")
    iam.put_user_policy(UserName="whole", PolicyName="p", PolicyDocument=document("s3:*"))
    summary = iam.get_account_summary()["SummaryMap"]
    details = [
        user
        for page in iam.get_paginator("get_account_authorization_details").paginate(Filter=["User"])
        for user in page["UserDetailList"]
    ]
    assert summary["Users"] == len(details)
    (whole,) = [user for user in details if user["UserName"] == "whole"]
    assert whole["UserPolicyList"] == [{"PolicyName": "p", "PolicyDocument": json.loads(document("s3:*"))}]
