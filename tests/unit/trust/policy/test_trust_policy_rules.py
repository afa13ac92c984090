"""Small policies on which evaluators have been found wrong, first the basic rules, then the deeper ones.

The cases are those in which other open evaluators fail open or closed (unknown keys, ``NotResource``, a dot in an ARN,
negated operators on absent keys, …); each has its twin that must come out the other way.
"""

from __future__ import annotations

import pytest
from trust_policies import INVOKE, JOB, MODEL, allow, deny, identity_allows

from outcrop.trust.policy import PolicyRefused

STAR = allow()
GUARDED = deny(INVOKE, Condition={"StringNotEquals": {"bedrock:GuardrailIdentifier": "g1"}})

BASIC = {
    "no statement applies": ([allow("s3:*")], {}, False),
    "an allow applies": ([allow("bedrock:*")], {}, True),
    "a deny wins": ([STAR, deny(INVOKE)], {}, False),
    "a deny of something else": ([STAR, deny("bedrock:CreateGuardrail")], {}, True),
    "an absent key does not match": ([allow(Condition={"StringEquals": {"aws:username": "bob"}})], {}, False),
    "a present key matches": (
        [allow(Condition={"StringEquals": {"aws:username": "bob"}})],
        {"aws:username": "bob"},
        True,
    ),
    "a condition that fails is neutral": (
        [STAR, deny(Condition={"StringEquals": {"aws:username": "eve"}})],
        {"aws:username": "bob"},
        True,
    ),
    "a condition that holds denies": (
        [STAR, deny(Condition={"StringEquals": {"aws:username": "eve"}})],
        {"aws:username": "eve"},
        False,
    ),
    "NotResource leaves out": ([allow(resource=None, NotResource=MODEL)], {}, False),
    "NotResource takes the rest": ([allow(resource=None, NotResource=JOB)], {}, True),
    "NotResource in a deny spares": ([STAR, deny(resource=None, NotResource=MODEL)], {}, True),
    "NotResource in a deny hits the rest": ([STAR, deny(resource=None, NotResource=JOB)], {}, False),
    "a dot in an ARN is a dot": ([allow(resource=MODEL.replace(".", "x"))], {}, False),
    "a dot is no wildcard": ([allow(resource=MODEL.replace("x", "."))], {}, True),
    "a question mark is one character": ([allow(resource=MODEL[:-1] + "?")], {}, True),
    "a question mark is not two": ([allow(resource=MODEL[:-2] + "?")], {}, False),
    "actions ignore case": ([allow("BEDROCK:invokeMODEL")], {}, True),
    "action wildcards": ([allow("bedrock:Invoke?odel")], {}, True),
    "resources keep case": ([allow(resource=MODEL.replace("small", "Small"))], {}, False),
    "NotAction": ([allow(None, NotAction="bedrock:Create*")], {}, True),
    "NotAction leaves out": ([allow(None, NotAction="bedrock:Invoke*")], {}, False),
}

DEEPER = {
    "negated deny on an absent key": ([STAR, GUARDED], {}, False),
    "negated deny on the right value": ([STAR, GUARDED], {"bedrock:GuardrailIdentifier": "g1"}, True),
    "negated deny on another value": ([STAR, GUARDED], {"bedrock:GuardrailIdentifier": "g2"}, False),
    "StringNotLike deny on an absent key": (
        [STAR, deny(Condition={"StringNotLike": {"aws:PrincipalTag/team": "a*"}})],
        {},
        False,
    ),
    "a negated list is NOR": ([allow(Condition={"StringNotEquals": {"k:v": ["a", "b"]}})], {"k:v": "b"}, False),
    "a negated list is not OR": ([allow(Condition={"StringNotEquals": {"k:v": ["a", "b"]}})], {"k:v": "c"}, True),
    "ForAllValues on an absent key": (
        [allow(Condition={"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}})],
        {},
        True,
    ),
    "ForAllValues on a foreign value": (
        [allow(Condition={"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}})],
        {"aws:TagKeys": ["a", "b"]},
        False,
    ),
    "keys ignore case": ([allow(Condition={"StringEquals": {"AWS:UserName": "bob"}})], {"aws:username": "bob"}, True),
    "values keep case": ([allow(Condition={"StringEquals": {"aws:username": "Bob"}})], {"aws:username": "bob"}, False),
    "BinaryEquals": ([allow(Condition={"BinaryEquals": {"k:v": "AQID"}})], {"k:v": "AQID"}, True),
    "BinaryEquals differs": ([allow(Condition={"BinaryEquals": {"k:v": "AQID"}})], {"k:v": "AQIE"}, False),
    "ArnEquals takes wildcards": (
        [allow(Condition={"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::b*"}})],
        {"aws:SourceArn": "arn:aws:s3:::bucket"},
        True,
    ),
    "ArnEquals goes part by part": (
        [allow(Condition={"ArnEquals": {"aws:SourceArn": "arn:aws:x:*:111122223333:finance/*"}})],
        {"aws:SourceArn": "arn:aws:x:us-east-2:999999999999:store/abc:111122223333:finance/document.txt"},
        False,
    ),
    "a variable's default": ([allow(resource="arn:aws:s3:::b/${aws:username, 'anybody'}")], {}, False),
    "a variable's default counts": (
        [allow(Condition={"StringEquals": {"k:v": "${aws:username, 'anybody'}"}})],
        {"k:v": "anybody"},
        True,
    ),
    "a variable's value goes before the default": (
        [allow(Condition={"StringEquals": {"k:v": "${aws:username, 'anybody'}"}})],
        {"k:v": "anybody", "aws:username": "bob"},
        False,
    ),
}


@pytest.mark.parametrize(("statements", "context", "allowed"), (BASIC | DEEPER).values(), ids=(BASIC | DEEPER).keys())
def test_rule(statements, context, allowed):
    assert identity_allows(*statements, context=context) is allowed


def test_an_unknown_operator_is_refused_and_not_ignored():
    with pytest.raises(PolicyRefused, match=r"Statement\[0\]\.Condition\.StringMatches"):
        identity_allows(allow(Condition={"StringMatches": {"aws:username": "bob"}}))
