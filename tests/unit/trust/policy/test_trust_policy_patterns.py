"""Wildcards and variables: against a plain matcher, part by part in ARNs, and in bounded time."""

from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trust_policies import allow, deny, identity_allows

from outcrop.trust.policy.patterns import components, like, like_arn, like_resource, parse

WORD = st.text("ab:?*", max_size=9)


def plain_like(pattern: str, text: str) -> bool:
    """The definition, by recursion over both texts."""

    @cache
    def at(i: int, j: int) -> bool:
        if i == len(pattern):
            return j == len(text)
        if pattern[i] == "*":
            return at(i + 1, j) or (j < len(text) and at(i, j + 1))
        return j < len(text) and pattern[i] in ("?", text[j]) and at(i + 1, j + 1)

    return at(0, 0)


@settings(derandomize=True, deadline=None)
@given(WORD, st.text("ab:.\n", max_size=12))
def test_wildcards_match_as_defined(pattern, text):
    assert like(parse(pattern))(text) is plain_like(pattern, text)


@settings(derandomize=True, deadline=None)
@given(st.text("a.+(|[\\^$\n", max_size=6))
def test_other_characters_stand_for_themselves(text):
    assert like(parse(text))(text)
    assert not like(parse(text))(text + "a")
    assert like(parse(f"*{text}?"))(f"x{text}y")


@pytest.mark.parametrize(
    "pattern", ["*a" * 1000 + "*b", "*?" * 1000 + "b", "a*" * 1500 + "b", "*" * 3000 + "b", "?*a*" * 700 + "b"]
)
def test_no_pattern_takes_more_than_its_length_times_the_texts(pattern):
    test = like(parse(pattern))
    began = time.process_time()
    assert not test("a" * 2000 + "c")
    assert time.process_time() - began < 2  # milliseconds when quiet; backtracking would outlast the universe


def test_components_split_at_colons_and_the_last_keeps_the_rest():
    assert components(parse("arn:aws:*:?:a:b:c*")) == [
        ("arn",),
        ("aws",),
        parse("*"),
        parse("?"),
        ("a",),
        parse("b:c*"),
    ]
    assert components(parse("a::"), 2) == [("a",), (":",)]
    assert components(()) == [()]


RESOURCES = {
    ("arn:aws:s3:::b/*", "arn:aws:s3:::b/x/y:z"): True,
    ("arn:aws:s3:::b/*", "arn:aws:s3:::c/x"): False,
    ("arn:aws:s3:us-*-1:1:x", "arn:aws:s3:us-east-1:1:x"): True,
    ("arn:aws:s3:us-*-1:1:x", "arn:aws:s3:us:y-1:1:x"): False,  # within a part, * stays there
    ("arn:aws:s3:us-?:1:x", "arn:aws:s3:us-::1:x"): False,
    ("arn:aws:x:*:1:f/*", "arn:aws:x:r:2:s:1:f/d"): True,  # at a part's end it may run on
    ("arn:aws:bedrock:*", "arn:aws:bedrock:us-east-1::foundation-model/a:0"): True,
    ("arn:aws:bedrock:*", "arn:aws:s3:::b"): False,
    ("arn:a?s:bedrock:*", "arn:aws:bedrock:us-east-1::foundation-model/a:0"): True,
    ("arn:a?s:bedrock:*", "arn:aws"): False,
    ("arn:aws:s3:::b?*d", "arn:aws:s3:::b:c:d"): True,
}


@pytest.mark.parametrize(("pattern", "text"), RESOURCES, ids=str)
def test_resources(pattern, text):
    assert like_resource(parse(pattern))(text) is RESOURCES[pattern, text]


ARNS = {
    ("*", "arn:aws:s3:::b"): True,
    ("*", "b"): False,
    ("*", "arn:aws:s3"): False,
    ("arn:*:*:*:*:*", "arn:aws:s3:::b:c"): True,
    ("arn:*:*:*:*:*", "arn:aws:s3"): False,
    ("arn:aws:x:*:1:f/*", "arn:aws:x:r:2:s:1:f/d"): False,
    ("arn:aws:x:*:1:f/*", "arn:aws:x:r:1:f/d:e"): True,
    ("arn:aws:x:?:1:f", "arn:aws:x:r:1:f"): True,
    ("arn:aws:x:?:1:f", "arn:aws:x::1:f"): False,
    ("arn:aws:x:r:1", "arn:aws:x:r:1"): False,
    ("arn:aws:x:r:1:F", "arn:aws:x:r:1:f"): False,
}


@pytest.mark.parametrize(("pattern", "text"), ARNS, ids=str)
def test_arns(pattern, text):
    assert like_arn(parse(pattern))(text) is ARNS[pattern, text]


HOME = "arn:aws:s3:::b/${aws:username}/*"


def s3(statement: dict, resource: str, version: str = "2012-10-17", **context) -> bool:
    keys = {key.replace("__", ":"): value for key, value in context.items()}
    other = () if statement["Effect"] == "Allow" else (allow(),)
    return identity_allows(*other, statement, version=version, resource=resource, context=keys)


def test_a_variable_takes_the_requests_value_as_plain_text():
    assert s3(allow(resource=HOME), "arn:aws:s3:::b/bob/x", aws__UserName="bob")
    assert not s3(allow(resource=HOME), "arn:aws:s3:::b/eve/x", aws__username="bob")
    assert not s3(allow(resource=HOME), "arn:aws:s3:::b/eve/x", aws__username="*")
    assert not s3(allow(resource=HOME), "arn:aws:s3:::b/eve/x", aws__username="e?e")
    assert s3(allow(resource=HOME), "arn:aws:s3:::b/*/x", aws__username="*")
    assert not s3(allow(resource=HOME), "arn:aws:s3:::b/bob/x", aws__username="${aws:username}")


def test_escapes_are_the_characters_themselves():
    assert s3(allow(resource="arn:aws:s3:::b/${*}${?}${$}{x}"), "arn:aws:s3:::b/*?${x}")
    assert not s3(allow(resource="arn:aws:s3:::b/${*}"), "arn:aws:s3:::b/x")
    assert s3(allow(resource="arn:aws:s3:::b/$x$"), "arn:aws:s3:::b/$x$")


def test_a_default_is_plain_text_too():
    home = "arn:aws:s3:::b/${aws:username, '*'}/x"
    assert s3(allow(resource=home), "arn:aws:s3:::b/*/x")
    assert not s3(allow(resource=home), "arn:aws:s3:::b/bob/x")
    assert s3(allow(resource=home), "arn:aws:s3:::b/bob/x", aws__username="bob")
    assert s3(allow(resource="arn:aws:s3:::b${aws:username, ''}"), "arn:aws:s3:::b")


def test_the_older_version_reads_variables_as_text():
    assert s3(allow(resource=HOME), "arn:aws:s3:::b/${aws:username}/x", version="2008-10-17", aws__username="bob")
    assert not s3(allow(resource=HOME), "arn:aws:s3:::b/bob/x", version="2008-10-17", aws__username="bob")


def test_without_a_value_a_resource_matches_nothing_and_its_neighbours_still_do():
    assert not s3(allow(resource=HOME), "arn:aws:s3:::b//x")
    assert s3(allow(resource=[HOME, "arn:aws:s3:::b/shared"]), "arn:aws:s3:::b/shared")
    assert s3(deny(resource=HOME), "arn:aws:s3:::b//x")
    assert not s3(deny(resource=[HOME, "arn:aws:s3:::b/shared"]), "arn:aws:s3:::b/shared")


def test_without_a_value_not_resource_leaves_nothing_out():
    assert not s3(allow(resource=None, NotResource=HOME), "arn:aws:s3:::b/bob/x", aws__username="bob")
    assert s3(allow(resource=None, NotResource=HOME), "arn:aws:s3:::b/bob/x")
    assert not s3(deny(resource=None, NotResource=HOME), "arn:aws:s3:::b/eve/x")
    assert s3(deny(resource=None, NotResource=[HOME, "arn:aws:s3:::b/eve/*"]), "arn:aws:s3:::b/eve/x")


def test_a_key_of_several_values_is_no_variable():
    assert not s3(allow(resource="arn:aws:s3:::${aws:TagKeys}"), "arn:aws:s3:::a", aws__TagKeys=["a"])
    assert s3(allow(resource="arn:aws:s3:::${aws:TagKeys, 'z'}"), "arn:aws:s3:::z", aws__TagKeys=["a"])


def test_variables_that_fill_a_pattern_to_the_last_character():
    assert s3(allow(resource="arn:aws:s3:::b/?${aws:username}"), "arn:aws:s3:::b/xbob", aws__username="bob")
    assert not s3(allow(resource="arn:aws:s3:::b/?${aws:username}"), "arn:aws:s3:::b/bob", aws__username="bob")
    long = allow(resource="arn:aws:s3:::b/" + "${aws:username}" * 300)
    assert not s3(long, "arn:aws:s3:::b/" + "x" * 2000, aws__username="x" * 256)
    assert s3(long, "arn:aws:s3:::b/" + "x" * 300, aws__username="x")
