"""What a permission is asked on, for identities: paths, boundaries, and names that are still to be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from outcrop.base.clock import SystemClock
from outcrop.base.deployment import Deployment
from outcrop.service.access import Access, Asking, Denials
from outcrop.service.access.denials import FILE
from outcrop.service.access.resources import Resources
from outcrop.service.http import RawRequest
from outcrop.service.trusted import Trust
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.model import Shape
from outcrop.trust.identity import Principal

REQUEST = RawRequest("POST", b"/", b"", [(b"user-agent", b"test")], b"", "::ffff:10.0.0.1", "https")


class Rig:
    """Decisions over a real identity store, for a user whose only policy is the one given."""

    def __init__(self, data: Path) -> None:
        clock = SystemClock()
        self.deployment = Deployment.create(data, region="us-east-1")
        self.trust = Trust.open(data, self.deployment, clock)
        self.account = self.deployment.scope.account
        self.identity = self.trust.identity
        self.identity.ensure_account("aws", self.account)
        host: Any = SimpleNamespace(scope=self.deployment.scope)
        self.access = Access(
            self.identity,
            Resources(host, clock, self.identity, self.trust.keys),
            clock,
            Denials(data),
            self.identity.organisation.organisation_path,
        )
        self.log = data / FILE
        self.edge = self.policy("Edge")
        self.wide = self.policy("Wide")
        self.identity.users.create(self.account, "Bob", path="/dev/", tags=(("team", "red"),))

    def policy(self, name: str) -> str:
        document = json.dumps({"Version": "2012-10-17", "Statement": [allow("s3:*")]})
        return str(self.identity.policies.create(self.account, name, document).arn)

    def may(self, name: str, statement: dict[str, Any], operation: str, **members: Any) -> bool:
        """Whether a user with one statement may do one operation on these members."""
        made = self.identity.users.create(self.account, name)
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.identity.holdings.put_inline(self.account, "user", name, "own", document)
        who = Principal(self.account, made.arn, made.id, "AKIA" + name, "user", "sigv4")
        try:
            self.access.decide(operation, Asking(who, REQUEST, name, given(members)))
        except AwsError as error:
            if error.code != "AccessDeniedException":
                raise
            return False
        return True

    def arn(self, resource: str) -> str:
        return f"arn:aws:iam::{self.account}:{resource}"


def given(members: dict[str, Any]) -> Shape:
    """An input with these members by their wire names; what the rows may ask for besides is absent."""
    known = ("UserName", "NewUserName", "NewPath", "Path", "PermissionsBoundary", "PolicyArn", "Tags")
    # The path of what is made is read as the attribute ``path``, as generated types have it.
    names = {"path" if name == "Path" else f"f{index}": name for index, name in enumerate(known)}
    fields = [(field, Any, None) for field in names]
    kind = msgspec.defstruct("Given", fields, rename=names)
    return kind(**{field: members[name] for field, name in names.items() if name in members})


def allow(action: str, resource: str = "*", **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    made = Rig(tmp_path_factory.mktemp("resources") / "data")
    yield made
    made.trust.close()


def test_a_user_is_asked_on_with_its_path(rig: Rig) -> None:
    assert rig.may("a1", allow("iam:GetUser", rig.arn("user/dev/*")), "iam:GetUser", UserName="bob")
    assert not rig.may("a2", allow("iam:GetUser", rig.arn("user/Bob")), "iam:GetUser", UserName="Bob")
    assert rig.may("a3", allow("iam:GetUser", rig.arn("user/a3")), "iam:GetUser")
    assert not rig.may("a4", allow("iam:GetUser", rig.arn("user/a3")), "iam:GetUser")


def test_a_user_that_is_still_to_be_is_asked_on_with_its_new_path(rig: Rig) -> None:
    statement = allow("iam:CreateUser", rig.arn("user/dev/*"))
    assert rig.may("b1", statement, "iam:CreateUser", UserName="new", Path="/dev/")
    assert not rig.may("b2", statement, "iam:CreateUser", UserName="new")
    assert not rig.may("b3", statement, "iam:CreateUser", UserName="new", Path="/admin/")


def test_renaming_is_asked_on_both_names(rig: Rig) -> None:
    statement = allow("iam:UpdateUser", rig.arn("user/dev/*"))
    assert rig.may("c1", statement, "iam:UpdateUser", UserName="Bob", NewUserName="Rob")
    assert not rig.may("c2", statement, "iam:UpdateUser", UserName="Bob", NewPath="/admin/")
    assert not rig.may("c3", statement, "iam:UpdateUser", UserName="c1", NewPath="/dev/")


def test_a_boundary_is_the_one_asked_for_else_the_one_there_is(rig: Rig) -> None:
    only = {"StringEquals": {"iam:PermissionsBoundary": rig.edge}}
    rig.identity.holdings.put_boundary(rig.account, "user", "Bob", rig.edge)
    for name, boundary, may in (("d1", rig.edge, True), ("d2", rig.wide, False)):
        put = allow("iam:PutUserPermissionsBoundary", "*", **only)
        members = {"UserName": "Bob", "PermissionsBoundary": boundary}
        assert rig.may(name, put, "iam:PutUserPermissionsBoundary", **members) is may
    policy = allow("iam:PutUserPolicy", "*", **only)
    assert rig.may("d3", policy, "iam:PutUserPolicy", UserName="Bob")
    assert not rig.may("d4", policy, "iam:PutUserPolicy", UserName="d1")


def test_tags_of_the_resource_are_condition_keys(rig: Rig) -> None:
    for name, team, may in (("e1", "red", True), ("e2", "blue", False)):
        statement = allow("iam:GetUser", "*", StringEquals={"aws:ResourceTag/team": team})
        assert rig.may(name, statement, "iam:GetUser", UserName="Bob") is may


def test_an_attached_policy_is_a_condition_key(rig: Rig) -> None:
    for name, arn, may in (("f1", rig.edge, True), ("f2", rig.wide, False)):
        statement = allow("iam:AttachUserPolicy", "*", ArnEquals={"iam:PolicyARN": rig.edge})
        assert rig.may(name, statement, "iam:AttachUserPolicy", UserName="Bob", PolicyArn=arn) is may


def test_another_account_s_policy_is_refused(rig: Rig) -> None:
    arn = rig.edge.replace(rig.account, "999988887777")
    assert rig.may("g1", allow("iam:*"), "iam:GetPolicy", PolicyArn=rig.edge)
    assert not rig.may("g2", allow("iam:*"), "iam:GetPolicy", PolicyArn=arn)


def test_the_organisation_and_the_connection_are_known(rig: Rig) -> None:
    organisation = rig.identity.organisation.organisation().id
    for name, condition, may in (
        ("h1", {"StringEquals": {"aws:PrincipalOrgID": organisation}}, True),
        ("h2", {"StringEquals": {"aws:PrincipalOrgID": "o-elsewhere0"}}, False),
        ("h3", {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, True),
        ("h4", {"Bool": {"aws:SecureTransport": "true"}}, True),
        ("h5", {"StringEquals": {"aws:ResourceAccount": rig.account}}, True),
        ("h6", {"StringEquals": {"aws:UserAgent": "test"}}, True),
    ):
        assert rig.may(name, allow("iam:GetUser", "*", **condition), "iam:GetUser", UserName="Bob") is may


def test_an_operation_without_a_row_is_no_permission(rig: Rig) -> None:
    root = Principal(rig.account, rig.identity.organisation.arn(rig.account), rig.account, "AKIA", "root", "sigv4")
    with pytest.raises(Exception, match="has a row"):
        rig.access.decide("iam:InventUser", Asking(root, REQUEST, "r"))
    assert rig.log.exists()
