"""Whether a role may be assumed: the trust policy and the caller's side together, and what a refusal tells to whom."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outcrop.base.arn import AccountId, Arn
from outcrop.service.access import Denials
from outcrop.service.access.denials import find
from outcrop.service.operations.sts import grants
from outcrop.service.wire.errors import AwsError
from outcrop.trust.identity.records import Role
from outcrop.trust.policy import Layers, PolicyRole, Requester, RequesterKind, compile_policy

ACCOUNT, OTHER = AccountId("123456789012"), AccountId("444455556666")
ARN = Arn("aws", "iam", "", ACCOUNT, "role/reader")
USER = f"arn:aws:iam::{ACCOUNT}:user/alice"
ASSUME = ("sts:AssumeRole",)


def document(principal: Any, *, effect: str = "Allow", condition: Any = None, action: Any = "sts:*") -> str:
    statement = {"Effect": effect, "Principal": principal, "Action": action, "Condition": condition or {}}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def role(trust_policy: str, **more: Any) -> Role:
    return replace(Role("AROA1", ACCOUNT, ARN, "role", "reader", "/", "2026-01-01", trust_policy=trust_policy), **more)


def allowing(action: str = "sts:*", resource: str = "*") -> Layers:
    text = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}
    )
    return Layers(identity=(compile_policy(text, PolicyRole.IDENTITY, "own"),))


@pytest.fixture
def alice(tmp_path: Path) -> grants.Asker:
    requester = Requester(RequesterKind.USER, ACCOUNT, USER)
    keys = {"aws:CurrentTime": "2026-11-22T12:00:00Z", "aws:SecureTransport": "false", "aws:PrincipalArn": USER}
    return grants.Asker(USER, requester, Layers(), keys, "request-1", Denials(tmp_path))


def allowed(asker: grants.Asker, wanted: Role | None, keys: grants.Keys | None = None) -> bool:
    try:
        grants.must_allow(asker, ASSUME, str(ARN), wanted, keys or {})
    except AwsError as error:
        return error.code != "AccessDenied"
    return True


def test_whom_the_role_names_needs_no_more_in_its_account(alice: grants.Asker) -> None:
    assert allowed(alice, role(document({"AWS": USER})))
    assert not allowed(alice, role(document({"AWS": USER + "s"})))
    assert not allowed(alice, role(document({"AWS": USER}, effect="Deny")))


def test_whom_only_the_account_names_needs_a_policy(alice: grants.Asker) -> None:
    account = role(document({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}))
    assert not allowed(alice, account)
    assert allowed(replace(alice, layers=allowing()), account)
    assert not allowed(replace(alice, layers=allowing(resource=f"{ARN}-2")), account)


def test_another_account_needs_both(alice: grants.Asker) -> None:
    arn = f"arn:aws:iam::{OTHER}:user/dave"
    dave = replace(alice, shown=arn, requester=Requester(RequesterKind.USER, OTHER, arn))
    named = role(document({"AWS": arn}))
    assert not allowed(dave, named)
    assert allowed(replace(dave, layers=allowing()), named)
    assert not allowed(replace(dave, layers=allowing()), role(document({"AWS": USER})))


def test_a_policy_of_ones_own_never_opens_a_role_that_trusts_others(alice: grants.Asker) -> None:
    assert not allowed(replace(alice, layers=allowing("*")), role(document({"AWS": USER + "s"})))
    assert not allowed(replace(alice, layers=allowing("*")), role(document({"Service": "ec2.amazonaws.com"})))


def test_a_trust_policy_that_is_not_understood_opens_nothing(alice: grants.Asker) -> None:
    for text in ("", "{}", "no JSON", document({"AWS": USER}).replace("Allow", "Maybe")):
        assert not allowed(replace(alice, layers=allowing("*")), role(text))


def test_conditions_see_the_request_and_the_role(alice: grants.Asker) -> None:
    over_tls = role(document({"AWS": USER}, condition={"Bool": {"aws:SecureTransport": "true"}}))
    assert not allowed(alice, over_tls)
    assert allowed(replace(alice, keys={**alice.keys, "aws:SecureTransport": "true"}), over_tls)
    external = role(document({"AWS": USER}, condition={"StringEquals": {"sts:ExternalId": "x"}}))
    assert allowed(alice, external, {"sts:ExternalId": "x"})
    assert not allowed(alice, external)
    tagged = role(document({"AWS": USER}, condition={"StringEquals": {"aws:ResourceTag/team": "blue"}}))
    assert allowed(alice, replace(tagged, tags={"team": "blue"}))
    assert not allowed(alice, tagged)


def test_every_action_must_be_allowed_and_the_first_missing_is_named(alice: grants.Asker) -> None:
    only_assume = role(document({"AWS": USER}, action="sts:AssumeRole"))
    grants.must_allow(alice, ASSUME, str(ARN), only_assume, {})
    with pytest.raises(AwsError, match="perform: sts:TagSession on"):
        grants.must_allow(alice, (*ASSUME, "sts:TagSession", "sts:SetSourceIdentity"), str(ARN), only_assume, {})


def test_a_refusal_is_explained_to_administrators_and_tells_the_caller_nothing(
    alice: grants.Asker, tmp_path: Path
) -> None:
    texts = []
    for wanted in (role(document({"AWS": USER + "s"})), None):
        with pytest.raises(AwsError) as caught:
            grants.must_allow(alice, ASSUME, str(ARN), wanted, {})
        texts.append(caught.value.message)
    assert texts[0] == texts[1] == f"User: {USER} is not authorized to perform: sts:AssumeRole on resource: {ARN}"
    explained = find(tmp_path, "request-1")
    assert (explained["principal"], explained["action"], explained["resource"]) == (USER, "sts:AssumeRole", str(ARN))


def test_a_web_identity_needs_the_trust_policy_and_nothing_else(alice: grants.Asker) -> None:
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/issuer.example.org"
    requester = Requester(RequesterKind.WEB_IDENTITY, name=provider)
    somebody = replace(alice, shown="", requester=requester, keys={**alice.keys, "issuer.example.org:sub": "x"})
    condition = {"StringEquals": {"issuer.example.org:sub": "x"}}
    assert allowed(somebody, role(document({"Federated": provider}, condition=condition)))
    assert not allowed(somebody, role(document({"Federated": provider + "s"}, condition=condition)))
    assert not allowed(somebody, role(document({"AWS": f"arn:aws:iam::{ACCOUNT}:root"})))
    with pytest.raises(AwsError, match=r": Not authorized to perform sts:AssumeRole\Z"):
        grants.must_allow(somebody, ASSUME, str(ARN), None, {})
