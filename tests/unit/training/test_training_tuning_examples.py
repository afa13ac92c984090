"""Examples are read or reported line by line, whatever the file holds; each refusal beside a file that is taken."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from outcrop.base.errors import TrainingDataRefused
from outcrop.training.tuning.examples import (
    CONVERSATION_SCHEMA,
    DataLimits,
    Examples,
    Format,
    duplicates,
    overlap,
    read_examples,
)


def turn(role: str, text: Any) -> dict[str, Any]:
    return {"role": role, "content": text}


def simple(question: str = "Hello?", answer: str = "Yes.", **more: Any) -> dict[str, Any]:
    return {"messages": [turn("user", question), turn("assistant", answer)], **more}


def conversation(**changes: Any) -> dict[str, Any]:
    messages = [turn("user", [{"text": "Hello?"}]), turn("assistant", [{"text": "Yes."}])]
    return {"schemaVersion": CONVERSATION_SCHEMA, "system": [{"text": "Be brief."}], "messages": messages} | changes


def read(tmp_path: Path, *lines: Any, limits: DataLimits | None = None) -> Examples:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines) + b"\n")
    return read_examples(path, limits or DataLimits())


@pytest.mark.parametrize(
    ("record", "form", "turns"),
    [
        (conversation(), Format.CONVERSATION, ["system", "user", "assistant"]),
        (simple(), Format.MESSAGES, ["user", "assistant"]),
        (simple(system="Be brief."), Format.MESSAGES, ["system", "user", "assistant"]),
        ({"prompt": "1 + 1 =", "completion": "2"}, Format.PROMPT, ["user", "assistant"]),
    ],
)
def test_each_format_is_taken(tmp_path: Path, record: dict[str, Any], form: Format, turns: list[str]):
    found = read(tmp_path, record)
    assert found.problems == []
    assert found.format is form
    assert [message.role for message in found.examples[0].messages] == turns
    found.require_sound()


user, bot = turn("user", "a"), turn("assistant", "b")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"messages": [', "not JSON"),
        (b"[1]", "a JSON list"),
        (b'{"prompt": "a", "completion": "\xff"}', "not UTF-8: byte 32"),
        (b'{"prompt": "\\ud800", "completion": "b"}', "surrogate"),
        (b'{"prompt": "a", "prompt": "b", "completion": "c"}', "key twice"),
        (b'{"prompt": NaN, "completion": "c"}', "NaN"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"prompt": ' + b"9" * 5000 + b', "completion": "c"}', "digits"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ({"prompt": "a"}, "completion is missing"),
        ({"prompt": "a", "completion": " \n"}, "completion is empty"),
        ({"prompt": "a", "completion": "b", "weight": 1}, "unknown key 'weight'"),
        ({"text": "a"}, "neither messages nor"),
        ({"messages": [user]}, "two or more"),
        ({"messages": [bot, user]}, "messages[0] has role 'assistant'"),
        ({"messages": [user, user]}, "messages[1] has role 'user'"),
        ({"messages": [user, bot, user]}, "last message"),
        ({"messages": [user, bot | {"content": ""}]}, "messages[1].content is empty"),
        ({"messages": [user, bot | {"name": "x"}]}, "unknown key 'name'"),
        ({"messages": [user, bot], "tools": []}, "unknown key 'tools'"),
        ({"messages": [user, bot | {"content": [{"text": "b"}]}]}, "not a text"),
        (conversation(schemaVersion="2023"), "schemaVersion"),
        (conversation(system="text"), "system is not a list"),
        (conversation(messages=[turn("user", [{"image": {}}]), turn("assistant", [{"text": "b"}])]), "only text"),
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_the_others_are_taken(tmp_path: Path, line: Any, reason: str):
    at_first = isinstance(line, bytes) and line.startswith(b"\xef\xbb\xbf")
    found = read(tmp_path, line, simple()) if at_first else read(tmp_path, simple(), line, simple("Other?"))
    if at_first or found.format is Format.MESSAGES:
        assert [problem.line for problem in found.problems] == [1 if at_first else 2]
    assert reason in found.problems[0].reason
    assert len(found.examples) == (1 if at_first else 2)
    with pytest.raises(TrainingDataRefused, match="line"):
        found.require_sound()


def test_one_bad_of_ten_thousand_is_found(tmp_path: Path):
    lines = [simple(f"Question {i}?") for i in range(10_000)]
    lines[7_654] = simple("x", "")
    found = read(tmp_path, *lines)
    assert [(problem.line, problem.reason) for problem in found.problems] == [(7_655, "messages[1].content is empty")]
    assert len(found.examples) == 9_999


def test_a_line_of_a_hundred_megabytes_is_reported_without_being_held(tmp_path: Path):
    path = tmp_path / "data.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(simple()).encode() + b'\n{"prompt": "')
        file.write(b"a" * 100_000_000)
        file.write(b'", "completion": "b"}\n' + json.dumps(simple("More?")).encode())
    tracemalloc.start()
    found = read_examples(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(problem.line, "longer than" in problem.reason) for problem in found.problems] == [(2, True)]
    assert [example.line for example in found.examples] == [1, 3]
    assert peak < 20_000_000


def test_formats_are_not_mixed(tmp_path: Path):
    found = read(tmp_path, simple(), {"prompt": "a", "completion": "b"})
    assert "written as prompt-completion" in found.problems[0].reason


def test_problems_are_counted_beyond_those_kept_and_records_are_bounded(tmp_path: Path):
    found = read(tmp_path, *[{}] * 50, limits=DataLimits(problems_max=10))
    assert (len(found.problems), found.problem_count) == (10, 50)
    found = read(tmp_path, *[simple(str(i)) for i in range(5)], limits=DataLimits(records_max=3))
    assert (len(found.examples), found.problems[0].line) == (3, 4)


def test_files_without_records_or_that_are_not_there(tmp_path: Path):
    assert read(tmp_path, b"", b"  ").problems[0].reason == "the file has no records"
    with pytest.raises(TrainingDataRefused, match="cannot be read"):
        read_examples(tmp_path / "none.jsonl")


def test_duplicates_and_overlap_are_found_and_different_examples_are_not(tmp_path: Path):
    training = read(tmp_path, simple("A?"), simple("B?"), simple(" a? "), simple("A?", "No.")).examples
    assert duplicates(training) == [(3, 1)]
    validation = read(tmp_path, simple("b?"), simple("A?", "Perhaps."), simple("C?")).examples
    found = overlap(training, validation)
    assert found.whole == ((1, 2),)
    assert found.questions == ((2, 1),)
