from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.base.errors import UserError
from outcrop.inference.base import TextDelta, TokenLogprob
from outcrop.inference.stops import StopMatcher, TextStream


def run(stops: list[str], pieces: list[str]) -> tuple[list[TextDelta], str | None]:
    stream = TextStream(stops)
    deltas = []
    for piece in pieces:
        deltas.append(stream.feed(piece))
        if stream.stopped is not None:
            break
    else:
        deltas.append(stream.finish())
    return [delta for delta in deltas if delta], stream.stopped


def texts(stops: list[str], pieces: list[str]) -> tuple[list[str], str | None]:
    deltas, stopped = run(stops, pieces)
    return [delta.text for delta in deltas], stopped


def by_definition(stops: list[str], text: str) -> tuple[str, str | None]:
    """The stop sequence that is complete first, the longest of several; the text before it."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return text[: end - len(stop)], stop
    return text, None


def test_text_passes_at_once_where_nothing_stops_it() -> None:
    assert texts([], ["a", "b"]) == (["a", "b"], None)
    assert texts(["xyz"], ["a", "b"]) == (["a", "b"], None)


def test_a_stop_sequence_across_tokens_is_cut_out() -> None:
    assert texts(["</end>"], ["Hi <", "/e", "nd", "> more"]) == (["Hi "], "</end>")


def test_a_false_beginning_is_held_back_and_then_released() -> None:
    assert texts(["</end>"], ["a <", "/e", "m>"]) == (["a ", "</em>"], None)
    assert texts(["</end>"], ["a </en"]) == (["a ", "</en"], None)


def test_an_end_of_a_false_beginning_may_be_a_beginning() -> None:
    assert texts(["aab"], ["a", "a", "a", "b"]) == (["a"], "aab")


@pytest.mark.parametrize(
    ("stops", "text", "expected"),
    [
        (["b", "ab"], "xab", ("x", "ab")),
        (["abcd", "bc"], "abcd", ("a", "bc")),
        (["abc", "b"], "abc", ("a", "b")),
        (["\n\nHuman:"], "yes\n\n\nHuman: no", ("yes\n", "\n\nHuman:")),
        (["🙂🙂"], "a🙂b🙂🙂", ("a🙂b", "🙂🙂")),
        (["\U0010ffff"], "a\U0010ffffb", ("a", "\U0010ffff")),
    ],
)
def test_the_first_complete_stop_sequence_ends_the_text(stops: list[str], text: str, expected: tuple[str, str]) -> None:
    assert by_definition(stops, text) == expected
    found, stopped = texts(stops, [text])
    assert ("".join(found), stopped) == expected


def test_an_empty_stop_sequence_is_refused() -> None:
    with pytest.raises(UserError, match="empty"):
        StopMatcher(["a", ""])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_agrees_with_the_definition_however_the_text_is_cut(data: st.DataObject) -> None:
    words = st.text("abc", min_size=1, max_size=5)
    stops = data.draw(st.lists(words, max_size=8))
    pieces = data.draw(st.lists(st.text("abc", max_size=6), max_size=12))
    expected = by_definition(stops, "".join(pieces))
    deltas, stopped = run(stops, pieces)
    assert ("".join(delta.text for delta in deltas), stopped) == expected
    assert all(delta.text for delta in deltas)


def test_text_is_never_held_longer_than_it_may_begin_a_stop_sequence() -> None:
    stream = TextStream(["abcd", "bd"])
    emitted = ""
    for count, character in enumerate("xabcxabdx"[:7], start=1):
        delta = stream.feed(character)
        emitted += delta.text if delta else ""
        held = "xabcxabdx"[:count].removeprefix(emitted)
        assert held == "" or any(stop.startswith(held) for stop in ("abcd", "bd"))


def test_tokens_settle_with_the_delta_that_emits_the_last_of_them() -> None:
    marks = [TokenLogprob(i, "", b"", -1.0) for i in range(5)]
    stream = TextStream(["END"])
    deltas = [stream.feed(text, mark) for text, mark in zip(["a", "bE", "N", "x", "yEND"], marks, strict=True)]
    assert [(d.text, d.tokens, [m.token_id for m in d.logprobs]) if d else None for d in deltas] == [
        ("a", 1, [0]),
        ("b", 0, []),
        None,
        ("ENx", 3, [1, 2, 3]),
        ("y", 1, [4]),
    ]


def test_tokens_of_the_stop_sequence_alone_never_settle() -> None:
    stream = TextStream(["END"])
    deltas = [stream.feed(text, TokenLogprob(0, text, b"", -1.0)) for text in ("a", "E", "ND")]
    assert [delta and delta.tokens for delta in deltas] == [1, None, None]
    assert stream.stopped == "END"


def test_tokens_without_text_settle_with_the_next_that_has_some_or_at_the_end() -> None:
    stream = TextStream([])
    mark = TokenLogprob(0, "", b"", -1.0)
    assert stream.feed("", mark) is None
    assert stream.feed("é", mark) == TextDelta("é", 2, (mark, mark))
    assert stream.feed("", mark) is None
    assert stream.finish() == TextDelta("", 1, (mark,))
    assert TextStream([]).finish() is None


def test_thousands_of_long_stop_sequences_learn_only_what_the_text_reaches() -> None:
    draw = random.Random(1)
    stops = ["".join(draw.choices("ab", k=400)) + str(i) for i in range(2500)]
    stream = TextStream(stops)
    text = "".join(draw.choices("ab", k=2000))
    emitted = "".join(delta.text for delta in map(stream.feed, text) if delta)
    rest = stream.finish()
    assert emitted + (rest.text if rest else "") == text
    deltas, stopped = texts(stops, [text, stops[77], "more"])
    assert ("".join(deltas), stopped) == (text, stops[77])


def test_a_text_of_one_repeated_character_neither_recurses_nor_crawls() -> None:
    stops = ["a" * n + "b" for n in range(1, 2500)]
    stream = TextStream(stops)
    assert "".join(delta.text for delta in map(stream.feed, "a" * 6000) if delta) == "a" * (6000 - 2499)
    stream.feed("c")
    stream.feed("ab")
    assert stream.stopped == "ab"
