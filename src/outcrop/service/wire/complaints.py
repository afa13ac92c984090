"""What msgspec says of bad input, told as the AWS services tell it.

A broken constraint is a ``ValidationException`` in the form "1 validation error detected: Value at
'inferenceConfig.temperature' failed to satisfy constraint: Member must have value less than or equal to 1". A value of
the wrong kind, or a body that is not JSON, is a ``SerializationException``. Decoding stops at the first error, so the
count is always 1. Values are never repeated: they may be sensitive.
"""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec

from outcrop.service.wire.base import BadValue, is_structure, members_of, split
from outcrop.service.wire.errors import AwsError, serialization, validation
from outcrop.service.wire.model import ONE_MEMBER, Operation

_WHERE = re.compile(r"(?P<what>.*) - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`\Z", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_LENGTH = re.compile(r"Expected `(?:str|bytes|array|object)` of length (<=|>=) (\d+)")
_RANGE = re.compile(r"Expected `(?:int|float)` (<=|>=) (\S+)")
_KIND = re.compile(r"Expected `([^`]+)`, got `(\w+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")

_DIRECTION = {"<=": "less than or equal to", ">=": "greater than or equal to"}
_SEEN = {"array": "START_ARRAY", "bool": "BOOLEAN_VALUE", "object": "START_OBJECT", "str": "STRING_VALUE"}
_WANTED = {
    "array": "List",
    "bool": "Boolean",
    "bytes": "Blob",
    "datetime": "Timestamp",
    "float": "Float",
    "int": "Integer",
    "object": "Structure",
    "str": "String",
}
_PATTERN_WRAP = re.compile(r"(?:\(\?a\))?\\A\(\?:(.*)\)\\Z\Z", re.DOTALL)


def explain(operation: Operation, root: Any, error: msgspec.ValidationError) -> AwsError:
    """The error that the client sees for ``error``, raised while reading a value of type ``root``."""
    text = str(error)
    found = _WHERE.fullmatch(text)
    what, path, is_key = (found["what"], found["path"], bool(found["key"])) if found else (text, "", False)
    missing = _MISSING.fullmatch(what)
    if missing is not None:
        return constraint_broken(operation, f"{path}.{missing[1]}", "Member must not be null")
    rule = _rule(what, root, path, is_key)
    if rule is not None:
        return constraint_broken(operation, path, f"Map keys must satisfy constraint: [{rule}]" if is_key else rule)
    return unreadable(operation, path, _mismatch(what))


def constraint_broken(operation: Operation, path: str, rule: str) -> AwsError:
    """A value breaks a rule of its shape; ``path`` is msgspec's, ``rule`` is AWS's text."""
    if path.endswith("[...]"):
        path, rule = path[:-5], f"Map value must satisfy constraint: [{rule}]"
    message = f"1 validation error detected: Value at '{aws_path(path)}' failed to satisfy constraint: {rule}"
    return validation(operation, message)


def unreadable(operation: Operation, path: str, text: str) -> AwsError:
    """A value cannot be read as what its shape says."""
    where = aws_path(path.removesuffix("[...]"))
    return serialization(operation, f"{text} at '{where}'" if where else f"{text} in the request body")


def bad_value(operation: Operation, error: BadValue) -> AwsError:
    """The error that the client sees for a ``BadValue``."""
    if error.constraint:
        return constraint_broken(operation, error.path, pattern_shown(error.text))
    return unreadable(operation, error.path, error.text)


def aws_path(path: str) -> str:
    """msgspec's ``.messages[0].content`` as AWS writes it, ``messages.1.member.content``."""
    steps = []
    for step in _STEP.finditer(path):
        if step["name"] is not None:
            steps.append(step["name"])
        else:
            steps.append("value" if step["index"] == "..." else f"{int(step['index']) + 1}.member")
    return ".".join(steps)


def pattern_shown(text: str) -> str:
    """``text`` with the anchors that the generator put around a model's pattern taken off."""
    head, separator, pattern = text.partition(": ")
    wrapped = _PATTERN_WRAP.fullmatch(pattern)
    return f"{head}{separator}{wrapped[1]}" if wrapped else text


def _rule(what: str, root: Any, path: str, is_key: bool) -> str | None:
    """The broken constraint in AWS's words, ``None`` where the value is of the wrong kind altogether."""
    if found := _LENGTH.fullmatch(what):
        return f"Member must have length {_DIRECTION[found[1]]} {found[2]}"
    if found := _RANGE.fullmatch(what):
        return f"Member must have value {_DIRECTION[found[1]]} {found[2].removesuffix('.0')}"
    if what.startswith("Expected `str` matching regex "):
        kind, meta = _at(root, path, is_key)
        return pattern_shown(f"Member must satisfy regular expression pattern: {meta.pattern}")
    if what.startswith("Invalid enum value "):
        kind, _ = _at(root, path, is_key)
        return f"Member must satisfy enum value set: [{', '.join(map(str, get_args(kind)))}]"
    if what == ONE_MEMBER:
        kind, _ = _at(root, path, is_key)
        return f"Member must have exactly one of: [{', '.join(member.wire for member in members_of(kind))}]"
    if what.endswith(", got `null`"):
        return "Member must not be null"
    return None


def _mismatch(what: str) -> str:
    """AWS's words for a value of the wrong kind."""
    if found := _KIND.fullmatch(what):
        wanted = next((name for part, name in _WANTED.items() if part == found[1].split(" | ")[0]), "the member's type")
        return f"{_SEEN.get(found[2], 'NUMBER_VALUE')} can not be converted to {wanted}"
    return what.replace("`", "")


def _at(root: Any, path: str, is_key: bool) -> tuple[Any, msgspec.Meta]:
    """The bare type and constraints that stand at ``path`` below ``root``."""
    kind, meta = split(root)
    for step in _STEP.finditer(path):
        if is_structure(kind):
            annotation = next(m.annotation for m in members_of(kind) if m.wire == step["name"])
        else:
            annotation = get_args(kind)[-1]
        kind, meta = split(annotation)
    return split(get_args(kind)[0]) if is_key else (kind, meta)
