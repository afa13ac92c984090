"""What IAM's operations do besides the store: the places of statements, pages, and how refusals are told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.base.errors import AlreadyExists, NotFound, Overloaded, QuotaReached, StillInUse, UserError
from outcrop.service.operations.iam.errors import told
from outcrop.service.operations.iam.positions import position, statement_spans
from outcrop.service.operations.iam.render import numbered, page
from outcrop.service.wire.errors import AwsError
from outcrop.trust.policy import PolicyRefused

STATEMENT = {"Effect": "Allow", "Action": ["s3:*", '[{"]'], "Resource": "*"}


@given(count=st.integers(1, 5), indent=st.sampled_from([None, 0, 1, 4]), before=st.booleans())
def test_statements_are_found_where_they_stand(count: int, indent: int | None, before: bool) -> None:
    statements = [{**STATEMENT, "Sid": f"S{number}"} for number in range(count)]
    document: dict[str, object] = {"Version": "2012-10-17", "Statement": statements, "Id": "x"}
    if before:
        document = dict(reversed(document.items()))
    text = "\n\t " + json.dumps(document, indent=indent) + "\n"
    assert [json.loads(text[start:end]) for start, end in statement_spans(text)] == statements


def test_a_single_statement_needs_no_list() -> None:
    text = json.dumps({"Statement": STATEMENT})
    ((start, end),) = statement_spans(text)
    assert json.loads(text[start:end]) == STATEMENT
    assert (position(text, start).line, position(text, start).column) == (1, len('{"Statement": ') + 1)
    assert position("a\nbc", 3).line == 2
    assert position("a\nbc", 3).column == 2


@given(entries=st.lists(st.text("abcXYZ-09", min_size=1), unique=True), size=st.integers(1, 5))
def test_pages_have_every_entry_once_and_in_order(entries: list[str], size: int) -> None:
    found: list[str] = []
    marker: str | None = None
    while True:
        shown = page(entries, str, size, marker)
        found += shown.entries
        assert len(shown.entries) <= size
        if shown.marker is None:
            break
        marker = shown.marker
    assert found == sorted(entries)


def test_a_page_goes_on_after_an_entry_that_is_gone() -> None:
    first = page(["a", "b", "c"], str, 2, None)
    assert page(["a", "c"], str, 2, first.marker).entries == ["c"]
    assert numbered(["z", "y"], 1, numbered(["z", "y"], 1, None).marker).entries == ["y"]


@pytest.mark.parametrize("marker", ["?", "YQ", "/w=="])
def test_a_marker_that_was_never_given_is_refused(marker: str) -> None:
    with pytest.raises(AwsError, match="Invalid Marker"):
        page(["a"], str, 1, marker)


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (NotFound("x"), "NoSuchEntity", 404),
        (AlreadyExists("x"), "EntityAlreadyExists", 409),
        (StillInUse("x"), "DeleteConflict", 409),
        (QuotaReached("x"), "LimitExceeded", 409),
        (PolicyRefused("x"), "MalformedPolicyDocument", 400),
        (UserError("x"), "InvalidInput", 400),
    ],
)
def test_refusals_have_iams_names(error: UserError, code: str, status: int) -> None:
    answer = told(error)
    assert answer is not None
    assert (answer.code, answer.status) == (code, status)


def test_what_is_not_the_stores_is_left_to_others() -> None:
    assert told(Overloaded("x")) is None
