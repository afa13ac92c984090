"""KMS through unmodified clients: envelope encryption as applications do it, rotation, deletion, grants, other users.

Not covered: asymmetric keys and the AWS Encryption SDK itself, which is not installed; the calls it makes are.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.service.trusted import Trust
from outcrop.trust.identity import IssuedKey
from serving import Running

AWS = [sys.executable, str(Path(sys.executable).with_name("aws"))]
CONTEXT = {"department": "finance"}
OTHER = "444455556666"


def client(service: Running, key: IssuedKey | None = None) -> Any:
    return boto3.client(
        "kms",
        endpoint_url=service.http_url,
        region_name=service.region,
        aws_access_key_id=key.access_key_id if key else service.access_key_id,
        aws_secret_access_key=key.secret_access_key if key else service.secret_access_key,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def kms(service: Running) -> Any:
    return client(service)


@pytest.fixture(scope="module")
def trust(service: Running) -> Iterator[Trust]:
    """The trust rooms as a second process of the deployment has them open."""
    opened = Trust.open(service.data, Deployment.load(service.data), SystemClock())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def alice(service: Running, trust: Trust) -> Any:
    """A user without any policy of her own."""
    trust.identity.users.create(service.account, "alice")
    return client(service, trust.identity.keys.create(service.account, "alice"))


@pytest.fixture(scope="module")
def stranger(service: Running, trust: Trust) -> Any:
    """The root of another account."""
    issued = trust.identity.ensure_account("aws", OTHER)
    assert issued is not None
    return client(service, issued)


@pytest.fixture
def key_id(kms: Any) -> str:
    return str(kms.create_key(Description="test")["KeyMetadata"]["KeyId"])


def refused(code: str) -> Any:
    return pytest.raises(ClientError, check=lambda error: error.response["Error"]["Code"] == code)


def test_a_key_is_made_described_and_listed(service: Running, kms: Any) -> None:
    made = kms.create_key(Description="d", Tags=[{"TagKey": "team", "TagValue": "a"}])["KeyMetadata"]
    assert made["Arn"] == f"arn:aws:kms:{service.region}:{service.account}:key/{made['KeyId']}"
    wanted = {
        "Enabled": True,
        "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "Origin": "AWS_KMS",
        "KeyManager": "CUSTOMER",
        "MultiRegion": False,
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
    }
    assert wanted.items() <= made.items()
    assert kms.describe_key(KeyId=made["Arn"])["KeyMetadata"] == made
    with pytest.raises(kms.exceptions.InvalidMarkerException):
        kms.list_keys(Marker="not one of ours")
    pages = kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 1})
    assert made["KeyId"] in [key["KeyId"] for page in pages for key in page["Keys"]]
    assert kms.list_resource_tags(KeyId=made["KeyId"])["Tags"] == [{"TagKey": "team", "TagValue": "a"}]
    kms.untag_resource(KeyId=made["KeyId"], TagKeys=["team"])
    kms.update_key_description(KeyId=made["KeyId"], Description="other")
    assert kms.list_resource_tags(KeyId=made["KeyId"])["Tags"] == []
    assert kms.describe_key(KeyId=made["KeyId"])["KeyMetadata"]["Description"] == "other"
    assert kms.list_key_policies(KeyId=made["KeyId"])["PolicyNames"] == ["default"]


def test_encrypt_and_decrypt_need_the_same_context(kms: Any, key_id: str) -> None:
    sealed = kms.encrypt(KeyId=key_id, Plaintext=b"attack at dawn", EncryptionContext=CONTEXT)
    blob = sealed["CiphertextBlob"]
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert (opened["Plaintext"], opened["KeyId"]) == (b"attack at dawn", sealed["KeyId"])
    assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId=key_id)["Plaintext"] == opened["Plaintext"]
    for context in ({}, {"department": "sales"}, {**CONTEXT, "more": "1"}):
        with pytest.raises(kms.exceptions.InvalidCiphertextException):
            kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)
    with pytest.raises(kms.exceptions.InvalidCiphertextException):
        kms.decrypt(CiphertextBlob=blob[:-1] + bytes([blob[-1] ^ 1]), EncryptionContext=CONTEXT)
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    with pytest.raises(kms.exceptions.IncorrectKeyException):
        kms.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, KeyId=other)
    moved = kms.re_encrypt(
        CiphertextBlob=blob,
        SourceEncryptionContext=CONTEXT,
        DestinationKeyId=other,
        DestinationEncryptionContext={"moved": "1"},
    )
    assert moved["SourceKeyId"] == sealed["KeyId"]
    opened = kms.decrypt(CiphertextBlob=moved["CiphertextBlob"], EncryptionContext={"moved": "1"})
    assert (opened["Plaintext"], opened["KeyId"]) == (b"attack at dawn", moved["KeyId"])


def test_envelope_encryption_as_the_encryption_sdk_does_it(kms: Any, key_id: str) -> None:
    arn = kms.describe_key(KeyId=key_id)["KeyMetadata"]["Arn"]
    made = kms.generate_data_key(KeyId=arn, NumberOfBytes=32, EncryptionContext=CONTEXT)
    assert made["KeyId"] == arn
    assert len(made["CiphertextBlob"]) < 600
    sealed = AESGCM(made["Plaintext"]).encrypt(bytes(12), b"document", None)
    second = kms.encrypt(KeyId=key_id, Plaintext=made["Plaintext"], EncryptionContext=CONTEXT)["CiphertextBlob"]
    for wrapped in (made["CiphertextBlob"], second):
        opened = kms.decrypt(CiphertextBlob=wrapped, EncryptionContext=CONTEXT, KeyId=arn)
        assert opened["KeyId"] == arn
        assert AESGCM(opened["Plaintext"]).decrypt(bytes(12), sealed, None) == b"document"
    hidden = kms.generate_data_key_without_plaintext(KeyId=key_id, KeySpec="AES_128")
    assert "Plaintext" not in hidden
    assert len(kms.decrypt(CiphertextBlob=hidden["CiphertextBlob"])["Plaintext"]) == 16
    with refused("ValidationException"):
        kms.generate_data_key(KeyId=key_id)
    assert len(kms.generate_random(NumberOfBytes=40)["Plaintext"]) == 40


def test_rotation_keeps_old_ciphertexts_open(kms: Any, key_id: str) -> None:
    old = kms.encrypt(KeyId=key_id, Plaintext=b"old")["CiphertextBlob"]
    assert kms.rotate_key_on_demand(KeyId=key_id)["KeyId"] == key_id
    kms.enable_key_rotation(KeyId=key_id, RotationPeriodInDays=180)
    status = kms.get_key_rotation_status(KeyId=key_id)
    assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 180)
    kms.disable_key_rotation(KeyId=key_id)
    assert not kms.get_key_rotation_status(KeyId=key_id)["KeyRotationEnabled"]
    rotations = kms.list_key_rotations(KeyId=key_id)["Rotations"]
    assert [rotation["RotationType"] for rotation in rotations] == ["ON_DEMAND"]
    before = kms.decrypt(CiphertextBlob=old)
    after = kms.decrypt(CiphertextBlob=kms.encrypt(KeyId=key_id, Plaintext=b"new")["CiphertextBlob"])
    assert (before["Plaintext"], after["Plaintext"]) == (b"old", b"new")
    assert before["KeyMaterialId"] != after["KeyMaterialId"] == rotations[0]["KeyMaterialId"]


def test_disabling_and_deleting(kms: Any, key_id: str) -> None:
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    kms.disable_key(KeyId=key_id)
    with pytest.raises(kms.exceptions.DisabledException):
        kms.decrypt(CiphertextBlob=blob)
    kms.enable_key(KeyId=key_id)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"
    with refused("ValidationException"):
        kms.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=6)
    scheduled = kms.schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    assert scheduled["KeyState"] == "PendingDeletion"
    assert kms.describe_key(KeyId=key_id)["KeyMetadata"]["DeletionDate"] == scheduled["DeletionDate"]
    with pytest.raises(kms.exceptions.KMSInvalidStateException):
        kms.decrypt(CiphertextBlob=blob)
    kms.cancel_key_deletion(KeyId=key_id)
    with pytest.raises(kms.exceptions.DisabledException):
        kms.decrypt(CiphertextBlob=blob)
    kms.enable_key(KeyId=key_id)
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"x"


def test_aliases(kms: Any, key_id: str) -> None:
    second = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/app/one", TargetKeyId=key_id)
    blob = kms.encrypt(KeyId="alias/app/one", Plaintext=b"x")["CiphertextBlob"]
    with pytest.raises(kms.exceptions.AlreadyExistsException):
        kms.create_alias(AliasName="alias/app/one", TargetKeyId=second)
    kms.update_alias(AliasName="alias/app/one", TargetKeyId=second)
    with pytest.raises(kms.exceptions.IncorrectKeyException):
        kms.decrypt(CiphertextBlob=blob, KeyId="alias/app/one")
    assert [alias["AliasName"] for alias in kms.list_aliases(KeyId=second)["Aliases"]] == ["alias/app/one"]
    kms.delete_alias(AliasName="alias/app/one")
    with pytest.raises(kms.exceptions.NotFoundException):
        kms.describe_key(KeyId="alias/app/one")
    with pytest.raises(kms.exceptions.InvalidAliasNameException):
        kms.create_alias(AliasName="alias/aws/mine", TargetKeyId=key_id)


def test_dry_runs_do_nothing(kms: Any, key_id: str) -> None:
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    for call in (
        lambda: kms.encrypt(KeyId=key_id, Plaintext=b"x", DryRun=True),
        lambda: kms.decrypt(CiphertextBlob=blob, DryRun=True),
        lambda: kms.generate_data_key(KeyId=key_id, KeySpec="AES_256", DryRun=True),
    ):
        with pytest.raises(kms.exceptions.DryRunOperationException):
            call()
    kms.disable_key(KeyId=key_id)
    with pytest.raises(kms.exceptions.DisabledException):
        kms.decrypt(CiphertextBlob=blob, DryRun=True)


def test_a_tag_key_is_given_once(kms: Any, key_id: str) -> None:
    twice = [{"TagKey": "team", "TagValue": "a"}, {"TagKey": "team", "TagValue": "b"}]
    for call in (lambda: kms.create_key(Tags=twice), lambda: kms.tag_resource(KeyId=key_id, Tags=twice)):
        with pytest.raises(ClientError, match="TagException"):
            call()
    kms.tag_resource(KeyId=key_id, Tags=twice[:1])


def test_message_authentication_codes(kms: Any) -> None:
    key_id = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    mac = kms.generate_mac(KeyId=key_id, Message=b"m", MacAlgorithm="HMAC_SHA_256")["Mac"]
    assert kms.verify_mac(KeyId=key_id, Message=b"m", MacAlgorithm="HMAC_SHA_256", Mac=mac)["MacValid"]
    with pytest.raises(kms.exceptions.KMSInvalidMacException):
        kms.verify_mac(KeyId=key_id, Message=b"n", MacAlgorithm="HMAC_SHA_256", Mac=mac)
    with pytest.raises(kms.exceptions.InvalidKeyUsageException):
        kms.encrypt(KeyId=key_id, Plaintext=b"x")


@pytest.mark.parametrize(
    "asked",
    [
        {"MultiRegion": True},
        {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"},
        {"Origin": "EXTERNAL"},
    ],
)
def test_keys_that_are_not_built_are_refused(kms: Any, asked: dict[str, Any]) -> None:
    with pytest.raises(kms.exceptions.UnsupportedOperationException):
        kms.create_key(**asked)


def test_policies(service: Running, kms: Any, alice: Any, key_id: str) -> None:
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]
    with refused("AccessDeniedException"):
        alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    policy = json.loads(kms.get_key_policy(KeyId=key_id)["Policy"])
    policy["Statement"].append(
        {
            "Sid": "Alice in finance",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{service.account}:user/alice"},
            "Action": "kms:Decrypt",
            "Resource": "*",
            "Condition": {"StringEquals": {"kms:EncryptionContext:department": "finance"}},
        }
    )
    kms.put_key_policy(KeyId=key_id, Policy=json.dumps(policy))
    assert alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"x"
    with refused("AccessDeniedException"):
        alice.decrypt(CiphertextBlob=blob, EncryptionContext={"department": "sales"})
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key_id, Plaintext=b"x", EncryptionContext=CONTEXT)
    with pytest.raises(kms.exceptions.MalformedPolicyDocumentException):
        kms.put_key_policy(KeyId=key_id, Policy="{}")
    locked_out = {"Version": "2012-10-17", "Statement": [policy["Statement"][1]]}
    with pytest.raises(kms.exceptions.MalformedPolicyDocumentException):
        kms.put_key_policy(KeyId=key_id, Policy=json.dumps(locked_out))


def test_what_identity_policies_allow_and_with_which_tags(
    service: Running, kms: Any, trust: Trust, alice: Any, key_id: str
) -> None:
    def allow(**statement: Any) -> None:
        whole = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", **statement}]}
        trust.identity.holdings.put_inline(service.account, "user", "alice", "kms", json.dumps(whole))

    try:
        allow(Action="kms:*", Condition={"StringEquals": {"aws:ResourceTag/team": "a"}})
        with refused("AccessDeniedException"):
            alice.encrypt(KeyId=key_id, Plaintext=b"x")
        kms.tag_resource(KeyId=key_id, Tags=[{"TagKey": "team", "TagValue": "a"}])
        alice.encrypt(KeyId=key_id, Plaintext=b"x")
        allow(Action="kms:Encrypt", Condition={"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/tagged"}})
        with refused("AccessDeniedException"):
            alice.encrypt(KeyId=key_id, Plaintext=b"x")
        kms.create_alias(AliasName="alias/tagged", TargetKeyId=key_id)
        alice.encrypt(KeyId=key_id, Plaintext=b"x")
        allow(Action="kms:CreateKey")
        assert alice.create_key()["KeyMetadata"]["Enabled"]
        with refused("AccessDeniedException"):
            alice.create_key(Tags=[{"TagKey": "team", "TagValue": "a"}])
        with refused("AccessDeniedException"):
            alice.list_keys()
    finally:
        trust.identity.holdings.delete_inline(service.account, "user", "alice", "kms")


def test_grants_to_another_user(service: Running, kms: Any, alice: Any, key_id: str) -> None:
    arn = f"arn:aws:iam::{service.account}:user/alice"
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x", EncryptionContext=CONTEXT)["CiphertextBlob"]
    made = kms.create_grant(
        KeyId=key_id,
        GranteePrincipal=arn,
        RetiringPrincipal=arn,
        Operations=["Decrypt", "CreateGrant"],
        Constraints={"EncryptionContextSubset": CONTEXT},
    )
    tokens = [made["GrantToken"]]
    assert alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, GrantTokens=tokens)["Plaintext"] == b"x"
    with refused("AccessDeniedException"):
        alice.encrypt(KeyId=key_id, Plaintext=b"x", EncryptionContext=CONTEXT)
    with refused("AccessDeniedException"):
        alice.create_grant(KeyId=key_id, GranteePrincipal=arn, Operations=["Encrypt"])
    with pytest.raises(alice.exceptions.InvalidGrantTokenException):
        alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT, GrantTokens=["bogus"])
    listed = kms.list_grants(KeyId=key_id)["Grants"]
    assert [(grant["GrantId"], grant["Operations"]) for grant in listed] == [
        (made["GrantId"], ["CreateGrant", "Decrypt"])
    ]
    assert listed[0]["Constraints"] == {"EncryptionContextSubset": CONTEXT}
    assert len(kms.list_retirable_grants(RetiringPrincipal=arn)["Grants"]) == 1
    alice.retire_grant(GrantToken=made["GrantToken"])
    with refused("AccessDeniedException"):
        alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    again = kms.create_grant(KeyId=key_id, GranteePrincipal=arn, Operations=["Decrypt"])
    assert alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["Plaintext"] == b"x"
    kms.revoke_grant(KeyId=key_id, GrantId=again["GrantId"])
    with refused("AccessDeniedException"):
        alice.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)


def test_another_account_learns_nothing(service: Running, kms: Any, stranger: Any, key_id: str) -> None:
    arn = kms.describe_key(KeyId=key_id)["KeyMetadata"]["Arn"]
    blob = kms.encrypt(KeyId=key_id, Plaintext=b"x")["CiphertextBlob"]
    missing = arn.replace(key_id, "12345678-1234-4234-8234-123456789012")
    own = stranger.encrypt(KeyId=stranger.create_key()["KeyMetadata"]["KeyId"], Plaintext=b"y")["CiphertextBlob"]
    for call in (
        lambda name: stranger.describe_key(KeyId=name),
        lambda name: stranger.encrypt(KeyId=name, Plaintext=b"x"),
        lambda name: stranger.decrypt(KeyId=name, CiphertextBlob=own),
        lambda name: stranger.create_alias(AliasName="alias/theirs", TargetKeyId=name),
        lambda name: stranger.retire_grant(KeyId=name, GrantId="0" * 64),
        lambda name: stranger.re_encrypt(CiphertextBlob=own, DestinationKeyId=name),
    ):
        said = []
        for name in (arn, missing):
            with refused("AccessDeniedException") as raised:
                call(name)
            said.append(raised.value.response["Error"]["Message"].replace(name, "NAME"))
        assert said[0] == said[1]
    with pytest.raises(stranger.exceptions.NotFoundException):
        stranger.describe_key(KeyId=key_id)
    with refused("AccessDeniedException"):
        stranger.decrypt(CiphertextBlob=blob)
    assert key_id not in [key["KeyId"] for key in stranger.list_keys()["Keys"]]


def test_the_aws_cli(service: Running, tmp_path: Path) -> None:
    def aws(*arguments: str) -> Any:
        done = subprocess.run(
            [*AWS, "kms", *arguments, "--output", "json"],
            env={
                **os.environ,
                "AWS_ENDPOINT_URL": service.http_url,
                "AWS_DEFAULT_REGION": service.region,
                "AWS_ACCESS_KEY_ID": service.access_key_id,
                "AWS_SECRET_ACCESS_KEY": service.secret_access_key,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    (tmp_path / "plain").write_bytes(b"by hand")
    key_id = aws("create-key")["KeyMetadata"]["KeyId"]
    assert aws("create-alias", "--alias-name", "alias/cli", "--target-key-id", key_id) is None
    sealed = aws("encrypt", "--key-id", "alias/cli", "--plaintext", f"fileb://{tmp_path / 'plain'}")
    (tmp_path / "sealed").write_bytes(base64.b64decode(sealed["CiphertextBlob"]))
    opened = aws("decrypt", "--ciphertext-blob", f"fileb://{tmp_path / 'sealed'}")
    assert base64.b64decode(opened["Plaintext"]) == b"by hand"
