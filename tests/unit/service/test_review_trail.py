"""What a review found missing in the trail: changes whose client went away, roles and keys used from another account,
sessions of web identities; and who fills the trail's queue keeps no change out of it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from audit_rig import event, trail
from outcrop.base.arn import AccountId, Scope
from outcrop.base.clock import SystemClock
from outcrop.base.errors import AuditUnavailable
from outcrop.service.auditing import Auditor
from outcrop.service.endpoints import aws_endpoints
from outcrop.service.http import RawRequest
from outcrop.service.pipeline import Call
from outcrop.trust.audit import writer
from outcrop.trust.audit.segments import signed_records
from outcrop.trust.identity.users import Users
from serving import Running
from signing import connection, message, signed_headers
from trust_rig import Keys, allow, client, make_role, make_user, opened, trusting, user_arn

OTHER = "555566667777"
ISSUER = "https://issuer.example.org/t"


def events(data: Path, wanted: Callable[[dict[str, Any]], bool], count: int = 1) -> list[dict[str, Any]]:
    """The events that are wanted, once there are ``count``; batched ones take a moment."""
    deadline = time.monotonic() + 10
    while True:
        every = [line.parsed()["event"] for _, line in signed_records(data / "audit" / "log")]
        found = [one for one in every if wanted(one)]
        if len(found) >= count or time.monotonic() > deadline:
            assert len(found) == count
            return found
        time.sleep(0.01)


def of_user(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda one: one["eventName"] == "CreateUser" and (one["requestParameters"] or {}).get("userName") == name


@pytest.mark.parametrize("fails", [False, True])
def test_a_change_whose_client_went_away_is_told_as_what_became_of_it(
    service: Running, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    name, real = f"ghost{fails}", Users.create
    if fails:
        with opened(service.data) as trust:
            trust.identity.users.create(service.account, name)  # the name is taken
    monkeypatch.setattr(Users, "create", lambda *args, **more: (time.sleep(0.4), real(*args, **more))[1])
    body = f"Action=CreateUser&Version=2010-05-08&UserName={name}".encode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    headers = signed_headers(service, "POST", "/", body, headers=form, signing_name="iam")
    with connection(service) as sock:
        sock.sendall(message("POST", "/", headers, body))
        time.sleep(0.15)
    (told,) = events(service.data, of_user(name))
    if fails:
        assert told["errorCode"] == "EntityAlreadyExists"
    else:
        assert "errorCode" not in told
        assert told["responseElements"]["user"]["userName"] == name


@pytest.fixture(scope="module")
def other(service: Running) -> Keys:
    """Root keys of a second account."""
    with opened(service.data) as trust:
        trust.identity.organisation.create_account(OTHER, "aws")
        return Keys.issued(trust.identity.create_key(OTHER))


def seen_by(service: Running, keys: Keys, name: str) -> list[dict[str, Any]]:
    found = client(service, "cloudtrail", keys).lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": name}]
    )
    return [json.loads(one["CloudTrailEvent"]) for one in found["Events"]]


def test_a_role_taken_from_another_account_shows_in_both_trails(service: Running, other: Keys) -> None:
    with opened(service.data) as trust:
        alice = make_user(trust, service.account, "alice", allow("sts:AssumeRole"))
        role = make_role(trust, OTHER, "guest", trusting({"AWS": user_arn(service.account, "alice")}))
    sts = client(service, "sts", alice)
    made = sts.assume_role(RoleArn=role, RoleSessionName="s1")
    with pytest.raises(ClientError):  # the twin: what is refused tells nothing to whoever owns the name
        sts.assume_role(RoleArn=f"{role}s", RoleSessionName="s2")
    (theirs,) = seen_by(service, other, "AssumeRole")
    (own,) = events(
        service.data,
        lambda one: (
            one["eventName"] == "AssumeRole" and one["recipientAccountId"] == service.account and "errorCode" not in one
        ),
    )
    assert theirs["recipientAccountId"] == OTHER
    assert theirs["sharedEventID"] == own["sharedEventID"]
    assert theirs["userIdentity"]["type"] == "AWSAccount"
    assert theirs["userIdentity"]["accountId"] == service.account
    assert "alice" not in json.dumps(theirs)
    assert theirs["requestParameters"]["roleArn"] == role
    assert made["Credentials"]["SecretAccessKey"] not in json.dumps([own, theirs])
    assert made["Credentials"]["SessionToken"] not in json.dumps([own, theirs])


def test_a_key_used_from_another_account_shows_in_its_owners_trail(service: Running, other: Keys) -> None:
    root = f"arn:aws:iam::{service.account}:root"
    theirs = client(service, "kms", other)
    arn = theirs.create_key()["KeyMetadata"]["Arn"]
    policy = json.loads(theirs.get_key_policy(KeyId=arn)["Policy"])
    policy["Statement"].append({"Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"})
    theirs.put_key_policy(KeyId=arn, Policy=json.dumps(policy))
    own = client(service, "kms", Keys(service.access_key_id, service.secret_access_key))
    blob = own.encrypt(KeyId=arn, Plaintext=b"x")["CiphertextBlob"]
    own.decrypt(CiphertextBlob=blob)
    for name in ("Encrypt", "Decrypt"):
        (seen,) = seen_by(service, other, name)
        assert seen["userIdentity"]["accountId"] == service.account


def test_a_session_of_a_web_identity_shows_in_the_trail_of_the_roles_account(service: Running, other: Keys) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwks = json.dumps({"keys": [{**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": "k1"}]})
    with opened(service.data) as trust:
        provider = trust.identity.oidc.create(OTHER, ISSUER, client_ids=["c"], jwks=jwks)
        policy = trusting({"Federated": str(provider.arn)}, "sts:AssumeRoleWithWebIdentity")
        role = make_role(trust, OTHER, "ci", policy)
    claims = {"iss": ISSUER, "sub": "s", "aud": "c", "iat": time.time(), "exp": time.time() + 600}
    token = jwt.encode(claims, key, "RS256", headers={"kid": "k1"})
    anybody = boto3.client(
        "sts",
        endpoint_url=service.http_url,
        region_name=service.region,
        config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
    )
    made = anybody.assume_role_with_web_identity(RoleArn=role, RoleSessionName="s1", WebIdentityToken=token)
    with pytest.raises(ClientError):
        anybody.assume_role_with_web_identity(RoleArn=role, RoleSessionName="s2", WebIdentityToken=f"{token}x")
    name = "AssumeRoleWithWebIdentity"
    (seen,) = seen_by(service, other, name)
    assert seen["requestParameters"]["roleArn"] == role
    every = events(service.data, lambda one: one["eventName"] == name, 2)
    assert {one["recipientAccountId"] for one in every} == {OTHER, service.account}
    assert token not in json.dumps(every)
    assert made["Credentials"]["SecretAccessKey"] not in json.dumps(every)


def test_a_full_queue_keeps_out_only_what_nobody_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_EVENTS_MAX", 20)
    with trail(tmp_path) as full:

        async def act() -> None:
            with full._committing:  # the disk stands still
                full.submit(event("Converse"))
                await asyncio.sleep(0.05)  # the first is on its way
                for _ in range(writer.QUEUE_EVENTS_MAX):
                    full.submit(event("Converse"))
                with pytest.raises(AuditUnavailable):
                    full.submit(event("Converse"))
                done = asyncio.create_task(full.record(event("CreateAccessKey")))
                await asyncio.sleep(0.05)
                assert not done.done()
            await done

        asyncio.run(act())
        names = [line.parsed()["event"]["eventName"] for _, line in signed_records(full.log_directory)]
        assert names.count("CreateAccessKey") == 1


@pytest.mark.parametrize(
    ("operation", "once"),
    [
        (("sts", "AssumeRole"), True),
        (("sts", "GetSessionToken"), True),
        (("iam", "CreateAccessKey"), True),
        (("sts", "GetCallerIdentity"), False),
        (("iam", "GetUser"), False),
    ],
)
def test_a_signature_gives_credentials_out_once(operation: tuple[str, str], once: bool, tmp_path: Path) -> None:
    """Where there is a replay cache: who captured a request must not get credentials for it."""
    request = RawRequest("POST", b"/", b"", [], b"")
    with trail(tmp_path) as some:
        auditor = Auditor(some, Scope("aws", "us-east-1", AccountId(OTHER)), SystemClock())
        assert auditor.counts_once(Call(request, "r", 0.0, aws_endpoints()[operation])) is once
