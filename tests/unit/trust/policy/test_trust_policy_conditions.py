"""Every condition operator on values that hold, that do not, on absent keys, lists, sets and unreadable values."""

from __future__ import annotations

import pytest
from trust_policies import allow, ask, deny, identity_allows, policy

from outcrop.trust.policy import Effect, Layers
from outcrop.trust.policy.conditions import OPERATORS, compile_condition

ARN = "arn:aws:sns:us-east-1:111122223333:t1"

# operator, the policy's value, a request's value that passes, one that does not
CASES = [
    ("StringEquals", "a*", "a*", "ab"),
    ("StringNotEquals", "a", "A", "a"),
    ("StringEqualsIgnoreCase", "straße", "STRASSE", "strase"),
    ("StringNotEqualsIgnoreCase", "a", "b", "A"),
    ("StringLike", "a?c*", "abcd", "ac"),
    ("StringNotLike", "a*", "ba", "ab"),
    ("NumericEquals", "10", "10.0", "11"),
    ("NumericNotEquals", "10", "9", "1e1"),
    ("NumericLessThan", "10", "9.99", "10"),
    ("NumericLessThanEquals", "10", "10", "10.01"),
    ("NumericGreaterThan", "-1", "0", "-1"),
    ("NumericGreaterThanEquals", "10", "10", "9"),
    ("DateEquals", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00+01:00", "2026-11-22T10:00:00.5Z"),
    ("DateNotEquals", "2026-11-22", "2026-11-23", "2026-11-22T00:00Z"),
    ("DateLessThan", "2026-11-22T10:00:00Z", "2026-11-22T09:59:59Z", "2026-11-22T10:00:00Z"),
    ("DateLessThanEquals", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z", "2026-11-22T10:00:01Z"),
    ("DateGreaterThan", "0" * 4 + "1", "1970-01-01T00:00:02Z", "1970-01-01T00:00:01Z"),
    ("DateGreaterThanEquals", "2026-11", "2026-11-01T00:00:00Z", "2026-10-31T23:59:59Z"),
    ("Bool", "true", "TRUE", "false"),
    ("BinaryEquals", "AQID", "AQID", "AQI="),
    ("IpAddress", "203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
    ("NotIpAddress", "203.0.113.7", "203.0.113.8", "203.0.113.7"),
    ("ArnEquals", "arn:aws:sns:*:*:t?", ARN, ARN + "2"),
    ("ArnLike", "arn:aws:sns:*:*:t*", ARN, "arn:aws:sqs:us-east-1:111122223333:t1"),
    ("ArnNotEquals", ARN, ARN + "x", ARN),
    ("ArnNotLike", "arn:aws:sns:*:*:*", "not an arn", ARN),
]
NEGATED = {name for name, *_ in CASES if "Not" in name}


def holds(operator: str, values, context: dict, effect: Effect = Effect.ALLOW) -> bool:
    listed = values if isinstance(values, list) else [values]
    known = {key.lower(): tuple(v) if isinstance(v, list) else v for key, v in context.items()}
    return compile_condition(operator, "k:v", listed, effect, True).test(known)


def test_the_cases_name_every_operator():
    assert {name.lower() for name, *_ in CASES} == set(OPERATORS)


@pytest.mark.parametrize(("operator", "value", "passes", "fails"), CASES, ids=lambda case: str(case)[:24])
@pytest.mark.parametrize("effect", Effect)
def test_each_operator(operator, value, passes, fails, effect):
    negated = operator in NEGATED
    assert holds(operator, value, {"k:v": passes}, effect)
    assert not holds(operator, value, {"k:v": fails}, effect)
    assert holds(operator, value, {}, effect) is negated
    assert holds(f"{operator}IfExists", value, {}, effect)
    assert not holds(f"{operator}IfExists", value, {"k:v": fails}, effect)
    assert holds(f"ForAllValues:{operator}", value, {}, effect)
    assert not holds(f"ForAnyValue:{operator}", value, {}, effect)
    assert holds(f"ForAnyValue:{operator}IfExists", value, {}, effect)
    assert holds(f"ForAllValues:{operator}", value, {"k:v": [passes, passes]}, effect)
    assert not holds(f"ForAllValues:{operator}", value, {"k:v": [passes, fails]}, effect)
    assert holds(f"ForAnyValue:{operator}", value, {"k:v": [fails, passes]}, effect)
    assert not holds(f"ForAnyValue:{operator}", value, {"k:v": [fails, fails]}, effect)


@pytest.mark.parametrize(("operator", "value", "passes", "fails"), CASES, ids=lambda case: str(case)[:24])
def test_several_values_without_a_set_operator_permit_least(operator, value, passes, fails):
    mixed = {"k:v": [passes, fails]}
    assert not holds(operator, value, mixed, Effect.ALLOW)
    assert holds(operator, value, mixed, Effect.DENY)
    assert holds(operator, value, {"k:v": [passes]}, Effect.ALLOW)
    assert not holds(operator, value, {"k:v": [fails]}, Effect.DENY)


def test_a_list_is_or_and_a_negated_list_nor():
    assert holds("StringEquals", ["a", "b"], {"k:v": "b"})
    assert not holds("StringEquals", ["a", "b"], {"k:v": "c"})
    assert holds("StringNotEquals", ["a", "b"], {"k:v": "c"})
    assert not holds("StringNotEquals", ["a", "b"], {"k:v": "b"})
    assert not holds("NotIpAddress", ["10.0.0.0/8", "192.168.0.0/16"], {"k:v": "192.168.1.1"})


def test_null_asks_whether_the_key_is_there():
    assert holds("Null", "true", {})
    assert not holds("Null", "true", {"k:v": ""})
    assert holds("Null", "false", {"k:v": ""})
    assert not holds("Null", "false", {})
    assert holds("Null", ["true", "FALSE"], {})


def test_a_key_without_values_is_absent():
    present = allow(Condition={"Null": {"aws:TagKeys": "false"}, "ForAllValues:StringEquals": {"aws:TagKeys": "a"}})
    assert identity_allows(present, context={"aws:TagKeys": ["a"]})
    assert not identity_allows(present, context={"aws:TagKeys": []})
    assert not identity_allows(present, context={"aws:TagKeys": [""]})
    assert not identity_allows(present, context={"aws:TagKeys": ["", "a"]})


def test_tag_keys_that_differ_in_case_are_one_key_with_both_values():
    tagged = {"aws:ResourceTag/Team": "a", "aws:ResourceTag/team": "b"}
    wanted = {"StringEquals": {"aws:ResourceTag/TEAM": "a"}}
    assert identity_allows(allow(Condition=wanted), context={"aws:ResourceTag/team": "a"})
    assert not identity_allows(allow(Condition=wanted), context=tagged)
    assert not identity_allows(allow(), deny(Condition=wanted), context=tagged)


def test_all_operators_and_all_keys_of_a_statement_must_hold():
    both = allow(Condition={"StringEquals": {"a:a": "1", "b:b": "2"}, "Bool": {"c:c": "true"}})
    whole = {"a:a": "1", "b:b": "2", "c:c": "true"}
    assert identity_allows(both, context=whole)
    for key in whole:
        assert not identity_allows(both, context={**whole, key: "false"})


@pytest.mark.parametrize(
    ("operator", "value"),
    [("NumericNotEquals", "10"), ("DateNotEquals", "2026"), ("NotIpAddress", "10.0.0.0/8")],
)
def test_a_value_that_cannot_be_compared_permits_nothing(operator, value):
    assert not holds(operator, value, {"k:v": "???"}, Effect.ALLOW)
    assert holds(operator, value, {"k:v": "???"}, Effect.DENY)


@pytest.mark.parametrize("operator", ["NumericLessThan", "DateLessThan", "Bool", "BinaryEquals", "IpAddress"])
@pytest.mark.parametrize("effect", Effect)
def test_a_value_that_cannot_be_compared_does_not_match(operator, effect):
    value = {"Bool": "true", "BinaryEquals": "AQID", "IpAddress": "10.0.0.0/8"}.get(operator, "20000")
    assert not holds(operator, value, {"k:v": "???"}, effect)


@pytest.mark.parametrize("operator", ["StringNotEquals", "StringNotEqualsIgnoreCase", "StringNotLike", "ArnNotLike"])
@pytest.mark.parametrize("effect", Effect)
def test_nothing_is_equal_to_a_variable_without_a_value(operator, effect):
    assert holds(operator, "${aws:SourceArn}", {"k:v": ARN}, effect)
    assert not holds(operator, "${aws:SourceArn}", {"k:v": ARN, "aws:SourceArn": ARN}, effect)
    assert holds(operator, "${aws:SourceArn}", {"k:v": ARN, "aws:SourceArn": ARN + "2"}, effect)
    # What is matched by a neighbouring value is matched, whatever the variable would have been.
    assert not holds(operator, ["${k:absent}", ARN], {"k:v": ARN}, effect)


@pytest.mark.parametrize("operator", ["StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnLike"])
@pytest.mark.parametrize("effect", Effect)
def test_a_variable_without_a_value_does_not_match(operator, effect):
    assert not holds(operator, "${aws:SourceArn}", {"k:v": ARN}, effect)
    assert holds(operator, ["${aws:SourceArn}", ARN], {"k:v": ARN}, effect)
    assert holds(operator, "${aws:SourceArn}", {"k:v": ARN, "aws:SourceArn": ARN}, effect)


TEXTUAL = [name for name, *_ in CASES if name.startswith(("String", "Arn"))]


@pytest.mark.parametrize("operator", TEXTUAL)
@pytest.mark.parametrize("effect", Effect)
def test_variables_stand_in_every_operator_on_texts(operator, effect):
    negated = operator in NEGATED
    assert holds(operator, "${k:w}", {"k:v": ARN, "k:w": ARN}, effect) is not negated
    assert holds(operator, "${k:w}", {"k:v": ARN, "k:w": ARN + "2"}, effect) is negated


@pytest.mark.parametrize("operator", TEXTUAL)
def test_wildcards_stand_in_like_and_arn_operators_only(operator):
    wild = "Like" in operator or operator.startswith("Arn")
    found = holds(operator, ARN[:-1] + "?", {"k:v": ARN})
    assert found is (wild if operator not in NEGATED else not wild)


def test_a_variables_value_is_no_wildcard_in_conditions():
    assert not holds("StringLike", "${aws:username}", {"k:v": "bob", "aws:username": "*"})
    assert holds("StringLike", "${aws:username}*", {"k:v": "*bob", "aws:username": "*"})
    assert not holds("ArnLike", "arn:aws:sns:*:*:${aws:username}", {"k:v": ARN, "aws:username": "*"})


ADDRESSES = [
    ("0.0.0.0/0", "255.1.2.3", True),
    ("0.0.0.0/0", "2001:db8::1", False),
    ("::/0", "10.0.0.1", False),
    ("2001:DB8:1234:5678::/64", "2001:db8:1234:5678:ffff::1", True),
    ("2001:DB8:1234:5678::/64", "2001:db8:1234:5679::1", False),
    ("10.1.2.3/8", "10.200.0.1", True),
    ("10.0.0.0/8", "::ffff:10.1.1.1", True),
    ("::ffff:10.0.0.0/104", "10.1.1.1", True),
    ("::ffff:10.0.0.0/104", "11.1.1.1", False),
    ("10.0.0.0/8", "::fffe:10.1.1.1", False),
    ("10.0.0.0/16", "10.0.0.0/8", False),
    ("10.0.0.0/8", "10.0.0.0/16", True),
]


@pytest.mark.parametrize(("bound", "seen", "within"), ADDRESSES)
def test_addresses(bound, seen, within):
    assert holds("IpAddress", bound, {"k:v": seen}) is within
    assert holds("NotIpAddress", bound, {"k:v": seen}) is not within


def test_dates_as_seconds_and_as_text_are_one_time_line():
    assert holds("DateEquals", "1793700000", {"k:v": "2026-11-03T10:00:00Z"})
    assert holds("DateEquals", "2026-11-03T10:00:00Z", {"k:v": "1793700000.0"})
    assert holds("DateLessThan", "2026-11-03T10:00:00-02:30", {"k:v": "2026-11-03T12:29:59Z"})
    assert not holds("DateLessThan", "2026-11-03T10:00:00-02:30", {"k:v": "2026-11-03T12:30:00Z"})
    assert holds("DateEquals", "2026", {"k:v": "2026-01-01T00:00:00.000Z"})
    assert holds("DateLessThan", "2026-02-28", {"k:v": "2026-02-27"})


def test_fractions_of_a_second_count():
    assert holds("DateGreaterThan", "2026-11-22T10:00:00Z", {"k:v": "2026-11-22T10:00:00.25Z"})
    assert holds("DateEquals", "2026-11-03T10:00:00.25Z", {"k:v": "1793700000.25"})
    assert holds("DateEquals", "2026-11-03T10:00:07Z", {"k:v": "1793700007"})


TIMES = {
    "23:59:59Z": True,
    "23:59:60Z": True,
    "00:00:61Z": False,
    "23:00:00Z": True,
    "24:00:00Z": False,
    "00:60:00Z": False,
    "10:00:00+23:59": True,
    "10:00:00+24:00": False,
    "10:59:00+00:59": True,
    "10:00:00+00:60": False,
}


@pytest.mark.parametrize(("time", "understood"), TIMES.items())
def test_times_of_day(time, understood):
    assert holds("DateGreaterThan", "20000", {"k:v": f"2026-11-22T{time}"}) is understood


def test_the_older_version_reads_a_condition_literally():
    named = allow(Condition={"StringEquals": {"k:v": "${aws:username}"}})
    bob = {"k:v": "bob", "aws:username": "bob"}
    assert identity_allows(named, context=bob)
    assert not identity_allows(named, version="2008-10-17", context=bob)
    assert identity_allows(named, version="2008-10-17", context={**bob, "k:v": "${aws:username}"})
    wild = allow(Condition={"StringLike": {"k:v": "b*"}})
    assert identity_allows(wild, version="2008-10-17", context=bob)


def test_absent_keys_are_reported_once_and_only_where_they_were_asked_for():
    said = policy(
        allow("bedrock:*", Condition={"StringEquals": {"aws:Username": "a"}, "Bool": {"k:There": "true"}}),
        deny("bedrock:*", "arn:aws:s3:::${k:Tag}", Condition={"Null": {"k:NotReached": "true"}}),
        deny("bedrock:*", Condition={"StringLike": {"aws:username": ["${k:Other}", "${k:Default, 'x'}"]}}),
        allow("s3:*", Condition={"StringEquals": {"k:Elsewhere": "a"}}),
    )
    decision = ask(Layers(identity=(said,)), k__there="true")
    assert decision.missing_keys == ("aws:Username", "k:Other", "k:Tag")
    assert not decision.allowed
    assert ask(Layers(identity=(said,)), aws__username="a", k__there="true", k__other="", k__tag="").missing_keys == ()
