"""What is taken in as a policy and what is refused: JSON, elements, roles, ARNs, variables, principals."""

from __future__ import annotations

import json

import pytest
from trust_policies import JOB, MODEL, OWN, PROVIDER, ROLE_ARN, SESSION_ARN, allow, deny, document

from outcrop.trust.policy import PolicyRefused, PolicyRole, compile_policy, size
from outcrop.trust.policy.document import MAX_CHARACTERS

ROLES = list(PolicyRole)
WITHOUT_PRINCIPAL = [PolicyRole.IDENTITY, PolicyRole.BOUNDARY, PolicyRole.SESSION, PolicyRole.SCP]
NAMED = {"AWS": OWN}
TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": NAMED}


def refuse(written, match: str, role: PolicyRole = PolicyRole.IDENTITY) -> None:
    with pytest.raises(PolicyRefused, match=match):
        compile_policy(written, role, "p")


def accept(written, role: PolicyRole = PolicyRole.IDENTITY):
    return compile_policy(written, role, "p")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("[]", "a JSON object"),
        ('{"Version":"2012-10-17"}', "no Statement"),
        ('{"Statement":[]}', "at Statement: it is empty"),
        ('{"Statement":[3]}', r"Statement\[0\]: a JSON object"),
        ('{"Statement":{"Effect":"Allow","Effect":"Deny","Action":"*","Resource":"*"}}', "'Effect' stands twice"),
        ('{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}', "'Version' stands twice"),
        ('{"Statement":{"Effect":"Allow","Action":NaN,"Resource":"*"}}', "not JSON"),
        ('{"Statement":' + "[" * 100_000 + "]" * 100_000 + "}", "more than"),
        ('{"Statement":' + "[" * 60_000 + "]" * 60_000 + "}", "nested too deeply"),
        ('{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}} x', "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        ('{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Sid":"\\ud800"}}', "a text belongs here"),
        ({"Statement": {"Effect": "Allow", "Action": {1, 2}}}, "cannot be written as JSON"),
    ],
)
def test_json_is_read_strictly(text, match):
    refuse(text, match)


def test_a_text_at_the_length_limit_is_read_and_one_above_is_not():
    text = json.dumps(document(allow()))
    assert accept(text.ljust(MAX_CHARACTERS)).statements
    refuse(text.ljust(MAX_CHARACTERS + 1), "more than 131072")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        (allow(Resources="*"), "'Resources' is not an element"),
        (allow(NotAction="s3:*"), "exactly one of Action and NotAction"),
        (allow(None), "exactly one of Action and NotAction"),
        (allow(NotResource="*"), "exactly one of Resource and NotResource"),
        (allow(resource=None), "exactly one of Resource and NotResource"),
        (allow([]), "Action: it is empty"),
        (allow(resource=[]), "Resource: it is empty"),
        (allow([["s3:*"]]), "a text belongs here"),
        (allow("InvokeModel"), "'InvokeModel' is not an action"),
        (allow("bedrock:"), "is not an action"),
        (allow("bed*:InvokeModel"), "is not an action"),
        (allow("bedrock:${aws:username}"), "is not an action"),
        ({**allow(), "Effect": "allow"}, "must be Allow or Deny"),
        ({**allow(), "Effect": ["Allow"]}, "must be Allow or Deny"),
        (allow(Sid="with space"), "only letters and digits"),
        (allow(Sid=3), "Sid: a text"),
        (allow(resource="MODEL"), "neither . nor an ARN"),
        (allow(resource="arn:aws:bedrock:us-east-1"), "not a whole ARN"),
        (allow(resource="arn:aws:s3:::"), "not a whole ARN"),
        (allow(resource="arn:aws-gov:s3:::b"), "unknown partition"),
        (allow(resource="arn:aws::::b"), "names no service"),
        (allow(resource="arn:aws:bedrock:us-east-1:12345:x"), "no account id"),
        (allow(resource="arn:aws:s3:${aws:RequestedRegion}::b"), "before its fifth colon"),
        (allow(resource="arn:aws:s3:::b/${aws:username"), "is not closed"),
        (allow(resource="arn:aws:s3:::b/${username}"), "is not a variable"),
        (allow(resource="arn:aws:s3:::b/${aws:username,anybody}"), "is not a variable"),
        (allow(resource="arn:aws:s3:::b/${aws:${aws:username}}"), "is not a variable"),
        (allow(resource="arn:aws:s3:::b/${}"), "is not a variable"),
        (allow(Condition=[]), "Condition: a JSON object"),
        (allow(Condition={"StringEquals": "x"}), "a JSON object"),
        (allow(Condition={"StringEquals": {}}), "names no condition key"),
        (allow(Condition={"StringEquals": {"aws:username": []}}), "it is empty"),
        (allow(Condition={"StringEquals": {"aws:username": None}}), "texts, numbers"),
        (allow(Condition={"StringEquals": {"aws:username": [["a"]]}}), "texts, numbers"),
        (allow(Condition={"StringEquals": {"username": "a"}}), "reads prefix:name"),
        (allow(Condition={"StringEquals": {"aws:*": "a"}}), "reads prefix:name"),
        (allow(Condition={"StringEquals": {"aws:username": "a", "AWS:UserName": "b"}}), "stands here twice"),
        (allow(Condition={"StringEquals": {"a:" + "b" * 511: "a"}}), "reads prefix:name"),
        (allow(Condition={"StringIs": {"aws:username": "a"}}), "not a condition operator"),
        (allow(Condition={"ForSomeValues:StringEquals": {"aws:username": "a"}}), "not a condition operator"),
        (allow(Condition={"NullIfExists": {"aws:username": "true"}}), "Null takes no"),
        (allow(Condition={"ForAnyValue:Null": {"aws:username": "true"}}), "Null takes no"),
        (allow(Condition={"Null": {"aws:username": "yes"}}), "neither true nor false"),
        (allow(Condition={"Bool": {"aws:SecureTransport": "${k:v}"}}), "neither true nor false"),
        (allow(Condition={"NumericEquals": {"k:v": "ten"}}), "not a number"),
        (allow(Condition={"NumericEquals": {"k:v": "1e9999"}}), "not a number"),
        (allow(Condition={"NumericEquals": {"k:v": "${k:w, '5'}"}}), "not a number"),
        (allow(Condition={"Bool": {"k:v": "${k:w, 'true'}"}}), "neither true nor false"),
        (allow(Condition={"DateLessThan": {"k:v": "yesterday"}}), "not a date"),
        (allow(Condition={"DateLessThan": {"k:v": "2026-13-01"}}), "month"),
        (allow(Condition={"DateLessThan": {"k:v": "2026-11-22T25:00Z"}}), "time of day"),
        (allow(Condition={"DateLessThan": {"k:v": "2026-11-22T10:00"}}), "not a date"),
        (allow(Condition={"BinaryEquals": {"k:v": "%%%"}}), "not base64"),
        (allow(Condition={"IpAddress": {"aws:SourceIp": "203.0.113.0/33"}}), "not an IP address"),
        (allow(Condition={"IpAddress": {"aws:SourceIp": "203.0.113.*"}}), "not an IP address"),
        (allow(Condition={"ArnLike": {"aws:SourceArn": "topic"}}), "not an ARN"),
        (allow(Condition={"ArnLike": {"aws:SourceArn": "*:aws:sns:*:*:t"}}), "not an ARN"),
        (allow(Condition={"ArnLike": {"aws:SourceArn": "arn:aws:sns:*"}}), "fewer than six parts"),
        (allow(Condition={"StringEquals": {"k:v": "${broken"}}), "is not closed"),
    ],
)
def test_a_statement_that_is_not_understood_is_refused(statement, match):
    refuse(document(statement), match)


@pytest.mark.parametrize(
    "statement",
    [
        allow(["bedrock:InvokeModel", "s3:Get*", "*:Describe*", "*"]),
        allow(resource=[MODEL, JOB, "arn:aws:s3:::b/*", "arn:aws:bedrock:*", "arn:aws*:iam::aws:policy/X"]),
        allow(resource="arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/*"),
        allow(resource="arn:aws:s3:::b/${aws:PrincipalTag/team and unit, 'x{}'}/${*}${?}${$}"),
        allow(Sid=""),
        allow(Condition={}),
        allow(Condition={"Bool": {"aws:SecureTransport": True}, "NumericLessThan": {"k:v": [1, 2.5, "3"]}}),
        allow(Condition={"stringlike": {"k:v": ""}, "FORANYVALUE:StringLikeIFEXISTS": {"k:v": ["*"]}}),
        allow(Condition={"ArnLike": {"aws:SourceArn": ["*", "arn:aws:sns:*:*:*", "${k:v}", "arn:aws:sns:${k:v}"]}}),
        allow(
            Condition={
                "DateLessThan": {"k:v": ["2026", "2026-11", "2026-11-22", "2026-11-22T10:00+01:00", "1793700000"]}
            }
        ),
    ],
)
def test_a_statement_that_is_understood_is_taken_in(statement):
    assert accept(document(statement)).statements


def test_the_older_version_knows_no_variables_and_is_the_one_meant_when_none_is_said():
    literal = allow(resource="arn:aws:s3:::b/${username")
    assert accept(document(literal, version="2008-10-17")).statements
    assert accept({"Statement": literal}).statements
    refuse(document(literal), "is not closed")
    refuse(document(literal, version="2012-10-18"), "neither 2008-10-17 nor 2012-10-17")


@pytest.mark.parametrize("role", WITHOUT_PRINCIPAL)
@pytest.mark.parametrize("element", ["Principal", "NotPrincipal"])
def test_a_principal_stands_only_in_policies_of_resources(role, element):
    assert accept(document(deny()), role).role is role
    refuse(document(deny(**{element: NAMED})), f"a {role} names no principals", role)


def test_policies_of_resources_need_a_principal():
    for role in (PolicyRole.RESOURCE, PolicyRole.RCP):
        refuse(document(deny()), "exactly one of Principal and NotPrincipal", role)
    assert accept(document(deny(Principal=NAMED)), PolicyRole.RESOURCE).statements
    refuse(document(allow(NotPrincipal=NAMED)), "only in Deny", PolicyRole.RESOURCE)
    assert accept(document(deny(NotPrincipal=NAMED)), PolicyRole.RESOURCE).statements


def test_a_trust_policy_names_no_resource_and_only_actions_of_sts():
    assert accept(document(TRUST), PolicyRole.TRUST).statements
    refuse(document({**TRUST, "Resource": "*"}), "names no resource", PolicyRole.TRUST)
    refuse(document({**TRUST, "NotResource": "*"}), "names no resource", PolicyRole.TRUST)
    refuse(document({**TRUST, "Action": "*"}), "not an STS action", PolicyRole.TRUST)
    not_action = {"Effect": "Allow", "NotAction": "sts:TagSession", "Principal": NAMED}
    refuse(document(not_action), "takes Action only", PolicyRole.TRUST)


def test_a_service_control_policy_has_the_full_language_and_the_later_version():
    full = [
        allow("bedrock:*", MODEL, Condition={"StringEquals": {"aws:RequestedRegion": "us-east-1"}}),
        allow(None, NotAction="iam:*", Sid="A"),
        deny(resource=None, NotResource=MODEL),
    ]
    assert len(accept(document(*full), PolicyRole.SCP).statements) == 3
    refuse(document(allow(), version="2008-10-17"), "must say 2012-10-17", PolicyRole.SCP)
    refuse({"Statement": allow()}, "must say 2012-10-17", PolicyRole.SCP)


def test_a_resource_control_policy_denies_everyone_under_conditions():
    everyone = {"Principal": "*"}
    assert accept(document(allow(**everyone)), PolicyRole.RCP).statements
    assert accept(
        document(deny("s3:*", Condition={"Bool": {"aws:SecureTransport": False}}, **everyone)), PolicyRole.RCP
    )
    refuse(document(allow("s3:*", **everyone)), "it may only allow everything", PolicyRole.RCP)
    refuse(document(allow(resource=MODEL, **everyone)), "it may only allow everything", PolicyRole.RCP)
    refuse(document(allow(Condition={"Null": {"k:v": "true"}}, **everyone)), "only allow everything", PolicyRole.RCP)
    refuse(document(allow(resource=None, NotResource="*", **everyone)), "only allow everything", PolicyRole.RCP)
    refuse(document(deny(Principal=NAMED)), 'has the Principal "[*]"', PolicyRole.RCP)
    refuse(document(deny(NotPrincipal=NAMED)), 'has the Principal "[*]"', PolicyRole.RCP)
    refuse(document(deny(None, NotAction="s3:*", **everyone)), "takes Action only", PolicyRole.RCP)


@pytest.mark.parametrize("role", ROLES)
def test_an_id_stands_only_in_resource_and_trust_policies(role):
    statement = TRUST if role is PolicyRole.TRUST else allow()
    if role in (PolicyRole.RESOURCE, PolicyRole.RCP):
        statement = allow(Principal="*")
    written = {**document(statement), "Id": "an id"}
    if role in (PolicyRole.RESOURCE, PolicyRole.TRUST):
        assert accept(written, role).statements
    else:
        refuse(written, "has no Id", role)


def test_a_sid_stands_once():
    assert accept(document(allow(Sid="A"), allow(Sid="B"), allow(Sid=""), allow(Sid=""))).statements
    refuse(document(allow(Sid="A"), deny(Sid="A")), "'A' occurs twice")
    assert accept(document(allow(Sid="with space", Principal="*")), PolicyRole.RESOURCE).statements


@pytest.mark.parametrize(
    "principal",
    [
        "*",
        {"AWS": "*"},
        {"AWS": [OWN, f"arn:aws:iam::{OWN}:root", f"arn:aws:iam::{OWN}:user/path/bob", ROLE_ARN, SESSION_ARN]},
        {"AWS": f"arn:aws:sts::{OWN}:federated-user/bob"},
        {"Service": ["bedrock.amazonaws.com", "s3.amazonaws.com.cn"], "AWS": OWN},
        {"Federated": [PROVIDER, "accounts.google.com", f"arn:aws:iam::{OWN}:saml-provider/corp"]},
    ],
)
def test_a_principal_that_is_understood_is_taken_in(principal):
    assert accept(document(allow(Principal=principal)), PolicyRole.RESOURCE).statements


@pytest.mark.parametrize(
    ("principal", "match"),
    [
        (OWN, 'can only be "[*]"'),
        ({}, "must be"),
        ([], "must be"),
        ({"AWS": []}, "it is empty"),
        ({"AWS": f"arn:aws:iam::{OWN}:user/*"}, "is not a principal"),
        ({"AWS": f"arn:aws:iam::{OWN}:user/${{aws:username}}"}, "is not a principal"),
        ({"AWS": f"arn:aws:iam::{OWN}:group/g"}, "is not a principal"),
        ({"AWS": f"arn:aws:sts::{OWN}:assumed-role/worker"}, "is not a principal"),
        ({"AWS": "AIDAEXAMPLE"}, "is not a principal"),
        ({"AWS": "12345"}, "is not a principal"),
        ({"AWS": f"arn:aws-gov:iam::{OWN}:root"}, "not a known partition"),
        ({"Service": "*"}, "not a service's name"),
        ({"Service": "bedrock"}, "not a service's name"),
        ({"Federated": "*"}, "not the ARN of an OIDC or SAML provider"),
        ({"Federated": PROVIDER.replace("aws", "aws-gov")}, "not a known partition"),
        ({"CanonicalUser": "79a59d"}, "'CanonicalUser' is not supported"),
        ({"Everyone": "*"}, "'Everyone' is not supported"),
    ],
)
def test_a_principal_that_is_not_understood_is_refused(principal, match):
    refuse(document(allow(Principal=principal)), match, PolicyRole.RESOURCE)


def test_not_principal_cannot_except_everyone():
    refuse(document(deny(NotPrincipal="*")), "only in Principal", PolicyRole.RESOURCE)
    refuse(document(deny(NotPrincipal={"AWS": "*"})), "excepts everyone", PolicyRole.RESOURCE)


def test_a_private_partition_is_known_where_it_is_the_deployments_own():
    written = document(allow(resource="arn:aws-outcrop:s3:::b"))
    refuse(written, "unknown partition")
    assert compile_policy(written, PolicyRole.IDENTITY, "p", partition="aws-outcrop").statements


def test_size_counts_all_but_white_space():
    assert size('{ "Version" : "2012-10-17",\n\t"Statement": [] }') == len('{"Version":"2012-10-17","Statement":[]}')
    assert size(b'{ "a": 1 }') == 7
    assert size({"a": 1}) == 7


def test_a_policy_keeps_its_text_and_has_one_normal_form():
    text = '{"Statement": {"Action": ["s3:B", "s3:A", "s3:A"], "Resource": "*", "Effect": "Allow", "Sid": ""}}'
    one = compile_policy(text, PolicyRole.IDENTITY, "one")
    assert (one.name, one.role, one.text) == ("one", PolicyRole.IDENTITY, text)
    same = {"Statement": [{"Effect": "Allow", "Resource": ["*"], "Action": ["s3:A", "s3:B"]}], "Version": "2008-10-17"}
    assert accept(same).normal == one.normal
    assert accept(one.normal).normal == one.normal
    assert accept({**same, "Version": "2012-10-17"}).normal != one.normal
    assert text not in repr(one)


def test_the_normal_form_keeps_every_element():
    statement = deny(
        None,
        None,
        Sid="A b",
        NotAction=["s3:*"],
        NotResource=[MODEL],
        NotPrincipal={"AWS": [OWN]},
        Condition={"StringEquals": {"k:v": ["a"]}, "Null": {"k:v": ["true"]}},
    )
    written = {**document(statement), "Id": "i"}
    assert json.loads(accept(written, PolicyRole.RESOURCE).normal) == written


def test_a_refusal_can_be_sent_whatever_it_quotes():
    with pytest.raises(PolicyRefused) as caught:
        accept('{"\\udc00": 1}')
    assert str(caught.value).encode()
    assert caught.value.id == "OC-4300"


def test_the_normal_form_is_the_documents_meaning_and_nothing_else():
    written = {
        "Id": "i",
        "Statement": [
            {
                "Effect": "Deny",
                "NotAction": ["b:Y", "a:X", "a:X"],
                "NotResource": "*",
                "NotPrincipal": {"AWS": ["444455556666", OWN]},
            },
            {"Sid": "s", "Action": "a:X", "Effect": "Allow", "Resource": ["*"], "Principal": "*"},
        ],
        "Version": "2012-10-17",
    }
    written["Statement"][1]["Condition"] = {"StringEquals": {"k:b": ["2", "1"], "k:a": "3"}}
    assert compile_policy(written, PolicyRole.RESOURCE, "p").normal == (
        '{"Id":"i","Statement":['
        '{"Effect":"Deny","NotAction":["a:X","b:Y"],"NotPrincipal":{"AWS":["111122223333","444455556666"]},'
        '"NotResource":["*"]},'
        '{"Action":["a:X"],"Condition":{"StringEquals":{"k:a":["3"],"k:b":["1","2"]}},"Effect":"Allow",'
        '"Principal":"*","Resource":["*"],"Sid":"s"}],"Version":"2012-10-17"}'
    )


def test_a_policys_text_is_not_shown_when_it_is_printed():
    assert repr(accept(document(allow()))) == "Policy(name='p', role=<PolicyRole.IDENTITY: 'identity policy'>)"
