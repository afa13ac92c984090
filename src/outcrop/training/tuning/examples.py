"""Training examples out of a JSON Lines file, each line either taken or reported with its number and the reason.

Three formats are read, one for each file: the 2024 conversation schema (``schemaVersion``, ``system`` and
``messages`` with content blocks), the older conversations (``system`` and ``messages`` with plain texts) and
``prompt``/``completion``. Rules are those that Amazon Bedrock documents for text: the first message is the user's,
roles alternate, the last one is the assistant's, no text is empty, no key is unknown.

The file may be anything: lines of any length, bytes that are no UTF-8, JSON nested without end. No more than
``DataLimits.line_bytes_max`` of a line is ever held.

Not covered: images, documents and tool use in examples (reported as such); near-duplicates that differ in more than
white space and letter case.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from outcrop.base.errors import TrainingDataRefused

CONVERSATION_SCHEMA = "bedrock-conversation-2024"
_PIECE_BYTES = 2**20


class Format(StrEnum):
    """How the examples of one file are written."""

    CONVERSATION = "bedrock-conversation-2024"
    MESSAGES = "messages"
    PROMPT = "prompt-completion"


@dataclass(frozen=True, slots=True)
class DataLimits:
    """What is taken in. Records beyond ``records_max`` are one problem; ``problems_max`` of them are kept in words."""

    line_bytes_max: int = 4 * 2**20
    records_max: int = 100_000
    problems_max: int = 1_000


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; ``role`` is system, user or assistant."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation to learn from, and the line of the file that it stands on (from 1)."""

    line: int
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line was not taken; ``line`` 0 is the file as a whole."""

    line: int
    reason: str


@dataclass(slots=True)
class Examples:
    """What a file holds. ``problem_count`` counts all problems, ``problems`` has the first of them."""

    path: Path
    format: Format | None = None
    examples: list[Example] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0

    def require_sound(self) -> None:
        """Raise ``TrainingDataRefused`` naming the first lines, unless every line was taken."""
        if not self.problem_count:
            return
        first = "; ".join(f"line {p.line}: {p.reason}" if p.line else p.reason for p in self.problems[:3])
        more = f"; and {self.problem_count - 3} more" if self.problem_count > 3 else ""
        raise TrainingDataRefused(
            f"{self.path}: {first}{more}.", f"`outcrop tune inspect {self.path} --model MODEL` shows every line."
        )


class _BadLineError(Exception):
    """A line that is not taken; the text is the reason."""


def read_examples(path: Path, limits: DataLimits = DataLimits()) -> Examples:
    """Every line of ``path``, as an example or as a problem. Raises only where the file cannot be read at all."""
    found = Examples(path)

    def report(line: int, reason: str) -> None:
        found.problem_count += 1
        if len(found.problems) < limits.problems_max:
            found.problems.append(Problem(line, reason))

    try:
        file = path.open("rb")
    except OSError as error:
        raise TrainingDataRefused(f"{path} cannot be read ({error.strerror}).", "Check the name and rights.") from error
    with file:
        for number, content in _lines(file, limits.line_bytes_max):
            try:
                form, messages = _parse(content, number, limits)
                if found.format not in (None, form):
                    raise _BadLineError(f"is written as {form.value}, but the lines before as {found.format.value}")
                if len(found.examples) == limits.records_max:
                    report(number, f"more than the {limits.records_max} records that are taken; the rest is not read")
                    break
                found.format = form
                found.examples.append(Example(number, messages))
            except _BadLineError as error:
                report(number, str(error))
    if not found.examples and not found.problem_count:
        report(0, "the file has no records")
    return found


def duplicates(examples: Sequence[Example]) -> list[tuple[int, int]]:
    """Lines that say what an earlier line says, with that line's number; white space and letter case aside."""
    first: dict[tuple[str, ...], int] = {}
    repeated = []
    for example in examples:
        seen = first.setdefault(_key(example), example.line)
        if seen != example.line:
            repeated.append((example.line, seen))
    return repeated


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pairs of (validation line, training line): the whole example again, or only all before its last answer."""

    whole: tuple[tuple[int, int], ...] = ()
    questions: tuple[tuple[int, int], ...] = ()


def overlap(training: Sequence[Example], validation: Sequence[Example]) -> Overlap:
    """Validation examples that training examples give away."""
    whole = {_key(example): example.line for example in reversed(training)}
    questions = {_key(example)[:-1]: example.line for example in reversed(training)}
    same, asked = [], []
    for example in validation:
        key = _key(example)
        if key in whole:
            same.append((example.line, whole[key]))
        elif key[:-1] in questions:
            asked.append((example.line, questions[key[:-1]]))
    return Overlap(tuple(same), tuple(asked))


def _key(example: Example) -> tuple[str, ...]:
    return tuple(f"{m.role}:{' '.join(m.text.split()).casefold()}" for m in example.messages)


def _lines(file: BinaryIO, bytes_max: int) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines without their end; ``None`` for one that is too long, of which nothing is kept. No blank ones."""
    number = 0
    while content := file.readline(bytes_max + 2):
        number += 1
        bare = content.rstrip(b"\r\n")
        if len(bare) > bytes_max:
            while content and not content.endswith(b"\n"):
                content = file.readline(_PIECE_BYTES)
            yield number, None
        elif bare.strip():
            yield number, bare


def _parse(content: bytes | None, number: int, limits: DataLimits) -> tuple[Format, tuple[Message, ...]]:
    if content is None:
        raise _BadLineError(f"longer than {limits.line_bytes_max} bytes")
    if number == 1 and content.startswith(b"\xef\xbb\xbf"):
        raise _BadLineError("begins with a byte order mark, which JSON Lines has not")
    record = _json_object(content)
    if "schemaVersion" in record:
        if record["schemaVersion"] != CONVERSATION_SCHEMA:
            raise _BadLineError(f"schemaVersion is {record['schemaVersion']!r:.60}, not {CONVERSATION_SCHEMA!r}")
        return Format.CONVERSATION, _conversation(record, blocks=True)
    if "messages" in record:
        return Format.MESSAGES, _conversation(record, blocks=False)
    if "prompt" in record or "completion" in record:
        _only(record, {"prompt", "completion"}, "the record")
        question = _text(record.get("prompt"), "prompt")
        return Format.PROMPT, (
            Message("user", question),
            Message("assistant", _text(record.get("completion"), "completion")),
        )
    raise _BadLineError("has neither messages nor prompt and completion")


def _json_object(content: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise _BadLineError("has a key twice")
        return made

    def no_constant(text: str) -> NoReturn:
        raise _BadLineError(f"holds {text}, which is not JSON")

    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadLineError(
            f"is not UTF-8: byte {error.start + 1} of the line is 0x{content[error.start]:02x}"
        ) from error
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except RecursionError as error:
        raise _BadLineError("is JSON nested too deeply") from error
    except json.JSONDecodeError as error:
        raise _BadLineError(f"is not JSON: {error.msg} at column {error.colno}") from error
    except ValueError as error:
        raise _BadLineError("is not JSON that can be read: a number has too many digits") from error
    if not isinstance(value, dict):
        raise _BadLineError(f"is a JSON {type(value).__name__}, not an object")
    return value


def _conversation(record: dict[str, Any], blocks: bool) -> tuple[Message, ...]:
    _only(record, {"system", "messages"} | ({"schemaVersion"} if blocks else set()), "the record")
    made = []
    if "system" in record:
        read = _blocks if blocks else _text
        made.append(Message("system", read(record["system"], "system")))
    messages = record.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        raise _BadLineError("messages is not a list of two or more")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise _BadLineError(f"{where} is not an object")
        _only(message, {"role", "content"}, where)
        expected = "assistant" if index % 2 else "user"
        if message.get("role") != expected:
            raise _BadLineError(f"{where} has role {message.get('role')!r:.40}, where {expected!r} is due")
        content = message.get("content")
        inner = f"{where}.content"
        made.append(Message(expected, _blocks(content, inner) if blocks else _text(content, inner)))
    if made[-1].role != "assistant":
        raise _BadLineError("the last message is not the assistant's")
    return tuple(made)


def _blocks(value: Any, where: str) -> str:
    if not isinstance(value, list) or not value:
        raise _BadLineError(f"{where} is not a list of content blocks")
    texts = []
    for index, block in enumerate(value):
        if not isinstance(block, dict) or len(block) != 1:
            raise _BadLineError(f"{where}[{index}] is not a content block")
        if "text" not in block:
            raise _BadLineError(f"{where}[{index}] is a block of {next(iter(block))!r:.40}; only text can be learned")
        texts.append(_text(block["text"], f"{where}[{index}].text"))
    return "\n".join(texts)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _BadLineError(f"{where} is {'missing' if value is None else 'not a text'}")
    if not value.strip():
        raise _BadLineError(f"{where} is empty")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise _BadLineError(f"{where} holds half of a surrogate pair, which is no character")
    return value


def _only(record: dict[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(record.keys() - known):
        raise _BadLineError(f"{where} has the unknown key {unknown[0]!r:.60}")
