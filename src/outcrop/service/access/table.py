"""``operations.toml`` as checked records: which permissions each operation takes.

``load`` refuses what it does not understand, and ``require_complete`` a service with an operation that no row speaks
for: a mistake in the table stops the server at its start and is never a permission. Not covered: whether a row says
what AWS says; its ``source`` names where that can be read.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from outcrop.base.errors import InvariantError, check

TABLE = Path(__file__).parent / "operations.toml"

PREFIXES: Mapping[str, str] = {
    "anthropic": "bedrock",
    "bedrock": "bedrock",
    "bedrock-runtime": "bedrock",
    "cloudtrail": "cloudtrail",
    "iam": "iam",
    "kms": "kms",
    "openai": "bedrock",
    "sagemaker-runtime": "sagemaker",
    "sts": "sts",
}
"""Services and the prefix of their IAM actions."""

KINDS = frozenset(
    {
        "alias",
        "ciphertext",
        "endpoint",
        "group",
        "guardrail",
        "key",
        "model",
        "new-group",
        "new-policy",
        "new-provider",
        "new-role",
        "new-user",
        "policy",
        "principal",
        "profile",
        "provider",
        "renamed-group",
        "renamed-user",
        "role",
        "trail",
        "user",
    }
)

Decided = Literal["stage", "free", "handler"]
_ACTION = re.compile(r"[a-z-]+:[A-Z][A-Za-z]+")
_ARN = re.compile(r"\{([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Target:
    """What a permission is asked on: ``kind`` and the ``member`` that names it, or a ``template`` of an ARN."""

    kind: str
    member: str = ""
    template: str = ""

    @property
    def members(self) -> tuple[str, ...]:
        """Every member of the input that it needs."""
        if self.kind == "template":
            return tuple(n for n in _ARN.findall(self.template) if n not in ("partition", "region", "account"))
        return (self.member,) if self.member else ()


@dataclass(frozen=True, slots=True)
class Permission:
    """One action on one kind of resource; ``when`` is the member without which it is not needed."""

    action: str
    target: Target
    when: str = ""
    map_key: tuple[str, str] = ("", "")
    """A prefix of condition keys and the member with a map whose entries they are; empty where there is none."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one operation takes."""

    operation: str
    decided: Decided
    permissions: tuple[Permission, ...] = ()
    stream_action: str = ""
    keys: tuple[tuple[str, str], ...] = ()
    tags: str = ""
    tag_keys: str = ""
    guardrail: tuple[str, str] = ("", "")

    @property
    def members(self) -> frozenset[str]:
        """Every member of the input that the row names, dots included."""
        named = {member for _, member in self.keys} | {self.tags, self.tag_keys, *self.guardrail}
        for permission in self.permissions:
            named |= {*permission.target.members, permission.when, permission.map_key[1]}
        return frozenset(named - {"", "."})


class _Also(msgspec.Struct, forbid_unknown_fields=True):
    action: str
    resource: str
    when: str = ""
    map_key: tuple[str, str] = ("", "")


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    service: str
    operations: Annotated[list[str], Meta(min_length=1)]
    source: Annotated[str, Meta(min_length=1)]
    action: str = ""
    stream_action: str = ""
    resource: str = ""
    keys: dict[str, str] = {}
    map_key: tuple[str, str] = ("", "")
    tags: str = ""
    tag_keys: str = ""
    guardrail: tuple[str, str] = ("", "")
    also: list[_Also] = []
    decided: Decided = "stage"


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[_Row]


@cache
def load(path: Path = TABLE) -> Mapping[str, Row]:
    """Rows by ``service:Operation``; ``InvariantError`` for a table that says something unknown or something twice."""
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _Table).rows
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
        raise InvariantError(f"Broken invariant: {path.name} can be read: {error}") from error
    table: dict[str, Row] = {}
    for row in found:
        check(row.service in PREFIXES, f"the service {row.service} of {path.name} has a prefix")
        for name in row.operations:
            operation = f"{row.service}:{name}"
            check(operation not in table, f"{operation} has one row")
            table[operation] = _row(operation, row, row.action or f"{PREFIXES[row.service]}:{name}")
    return table


def require_complete(operations: Iterable[str]) -> None:
    """Raise ``InvariantError`` unless every operation, ``service:Operation``, has a row."""
    table = load()
    missing = sorted(operation for operation in operations if operation not in table)
    if missing:
        raise InvariantError(
            f"Broken invariant: every operation has a row in access/{TABLE.name}; missing: {', '.join(missing)}"
        )


def _row(operation: str, row: _Row, action: str) -> Row:
    if row.decided != "stage":
        check(not row.resource and not row.also and not row.keys, f"{operation} is decided elsewhere or takes keys")
        return Row(operation, row.decided)
    permissions = [Permission(action, _target(operation, row.resource), "", row.map_key)]
    permissions += [Permission(a.action, _target(operation, a.resource), a.when, a.map_key) for a in row.also]
    for name in (*(permission.action for permission in permissions), row.stream_action or action):
        check(_ACTION.fullmatch(name) is not None, f"{name!r} of {operation} is an action")
    return Row(
        operation,
        row.decided,
        tuple(permissions),
        row.stream_action,
        tuple(row.keys.items()),
        row.tags,
        row.tag_keys,
        row.guardrail,
    )


def _target(operation: str, text: str) -> Target:
    if text == "*":
        return Target("*")
    if text.startswith("arn:"):
        return Target("template", template=text)
    kind, colon, member = text.partition(":")
    check(bool(colon) and bool(member) and kind in KINDS, f"{text!r} of {operation} names a kind and a member")
    return Target(kind, member)
