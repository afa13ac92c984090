"""Partition and region are configuration: every ARN, policy and signature follows, in GovCloud's names or one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from serving import TINY_MODEL_ID, running_service

MESSAGES = [{"role": "user", "content": [{"text": "Hello"}]}]


@pytest.mark.parametrize(
    ("partition", "region"),
    [
        ("aws-us-gov", "us-gov-west-1"),
        ("aws-iso-b", "us-isob-east-1"),
        ("aws-eusc", "eusc-de-east-1"),
        ("aws-own", "here-1"),
    ],
)
def test_a_deployment_stands_in_any_partition(tmp_path: Path, partition: str, region: str) -> None:
    with running_service(tmp_path / "data", partition=partition, region=region) as service:

        def client(name: str, **credentials: str) -> Any:
            given = credentials or {
                "aws_access_key_id": service.access_key_id,
                "aws_secret_access_key": service.secret_access_key,
            }
            return boto3.client(name, endpoint_url=service.http_url, region_name=region, **given)

        iam = client("iam")
        model = f"arn:{partition}:bedrock:{region}::foundation-model/{TINY_MODEL_ID}"
        statement = {"Effect": "Allow", "Action": ["bedrock:InvokeModel", "sts:AssumeRole"], "Resource": ["*", model]}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        user = iam.create_user(UserName="ada")["User"]
        assert user["Arn"] == f"arn:{partition}:iam::{service.account}:user/ada"
        iam.put_user_policy(UserName="ada", PolicyName="p", PolicyDocument=policy)
        trust = {"Effect": "Allow", "Principal": {"AWS": user["Arn"]}, "Action": "sts:AssumeRole"}
        role = iam.create_role(
            RoleName="r", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        )["Role"]
        iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=policy)
        key = iam.create_access_key(UserName="ada")["AccessKey"]
        sts = client("sts", aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
        narrow = json.dumps({"Version": "2012-10-17", "Statement": [{**statement, "Resource": model}]})
        taken = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="one", Policy=narrow)
        assert taken["AssumedRoleUser"]["Arn"] == f"arn:{partition}:sts::{service.account}:assumed-role/r/one"
        session = {
            "aws_access_key_id": taken["Credentials"]["AccessKeyId"],
            "aws_secret_access_key": taken["Credentials"]["SecretAccessKey"],
            "aws_session_token": taken["Credentials"]["SessionToken"],
        }
        runtime = client("bedrock-runtime", **session)
        assert runtime.converse(modelId=model, messages=MESSAGES)["stopReason"] == "end_turn"
        with pytest.raises(ClientError, match="AccessDenied"):
            client("kms", **session).create_key()
        with pytest.raises(ClientError):
            runtime.converse(modelId=model.replace(f":{partition}:", ":aws-cn:"), messages=MESSAGES)
        assert f"arn:{partition}:kms:{region}:" in client("kms").create_key()["KeyMetadata"]["Arn"]
