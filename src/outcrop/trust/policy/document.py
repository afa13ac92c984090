"""A policy's text read strictly: JSON, elements, and which of them each role allows or requires.

Source: IAM User Guide, "Grammar of the IAM JSON policy language"; AWS Organizations User Guide, "SCP syntax" (full
language since September 2025) and "RCP syntax". Nothing is repaired or ignored: what is not understood is refused with
its place and the reason. Not covered: quotas (the caller compares ``size`` with the entity's limit), and whether
services, actions and condition keys exist.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from outcrop.base.errors import PolicyRefused
from outcrop.trust.policy.base import Effect, PolicyRole

MAX_CHARACTERS = 131_072
"""The longest text taken in at all: the bound of IAM's own API. Entities have smaller quotas."""

LATEST = "2012-10-17"
_VERSIONS = ("2008-10-17", LATEST)
_OF_RESOURCES = frozenset({PolicyRole.RESOURCE, PolicyRole.TRUST, PolicyRole.RCP})
_OF_ORGANISATIONS = frozenset({PolicyRole.SCP, PolicyRole.RCP})
_ACTION = re.compile(r"\*|(?:\*|[a-z0-9-]+):[a-z0-9*?_.-]+", re.ASCII | re.IGNORECASE)
_SID = re.compile(r"[A-Za-z0-9]*", re.ASCII)
_KEY = re.compile(r"[^\s:*?${}\x00-\x1f\ud800-\udfff]+:[^*?${}\x00-\x1f\ud800-\udfff]+")
_MAX_KEY = 512
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: JSON can spell it, UTF-8 cannot."""
_ELEMENTS = frozenset(
    "Sid Effect Principal NotPrincipal Action NotAction Resource NotResource Condition".split()  # noqa: SIM905
)

Json = str | int | Decimal | bool | list["Json"] | dict[str, "Json"] | None


@dataclass(frozen=True, slots=True)
class Listed:
    """The values of ``Action`` or ``Resource``, or of their ``Not`` form."""

    values: tuple[str, ...]
    negated: bool
    path: str


@dataclass(frozen=True, slots=True)
class Named:
    """A ``Principal`` or ``NotPrincipal`` as written, with lists for values."""

    value: str | Mapping[str, tuple[str, ...]]
    negated: bool
    path: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One key of one operator of a ``Condition``."""

    operator: str
    key: str
    values: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True)
class Source:
    """One statement as written, its shape checked; ``label`` is its Sid, or its place."""

    label: str
    sid: str
    effect: Effect
    principals: Named | None
    actions: Listed
    resources: Listed | None
    conditions: tuple[Compared, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A whole policy as written."""

    text: str
    version: str
    policy_id: str
    statements: tuple[Source, ...]

    @property
    def has_variables(self) -> bool:
        return self.version == LATEST


def size(document: str | bytes | Mapping[str, object]) -> int:
    """The number of characters that count against IAM's size quotas: all but white space."""
    return sum(not character.isspace() for character in text_of(document))


def text_of(document: str | bytes | Mapping[str, object]) -> str:
    """The policy's text; a mapping is written as JSON."""
    if isinstance(document, bytes):
        try:
            return document.decode("utf-8")
        except UnicodeDecodeError:
            raise refuse("", "the text is not UTF-8") from None
    if isinstance(document, str):
        return document
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise refuse("", f"it cannot be written as JSON ({error})") from None


def refuse(path: str, reason: str) -> PolicyRefused:
    """The error for what stands at ``path``."""
    said = f"The policy is refused{f' at {path}' if path else ''}: {reason}."
    return PolicyRefused(said.encode("utf-8", "backslashreplace").decode())  # half of a surrogate pair cannot be sent


def parse(document: str | bytes | Mapping[str, object], role: PolicyRole) -> Document:
    """``document`` read as a policy of ``role``; raises ``PolicyRefused`` with the place and the reason."""
    text = text_of(document)
    top = _object(_load(text), "", ("Version", "Id", "Statement"))
    version = top.get("Version", _VERSIONS[0])
    if version not in _VERSIONS:
        raise refuse("Version", f"{str(version)[:40]!r} is neither {_VERSIONS[0]} nor {LATEST}")
    if role in _OF_ORGANISATIONS and version != LATEST:
        raise refuse("Version", f"a {role} must say {LATEST}")
    if "Id" in top and role not in (PolicyRole.RESOURCE, PolicyRole.TRUST):
        raise refuse("Id", f"a {role} has no Id")
    policy_id = _string(top.get("Id", ""), "Id")
    if "Statement" not in top:
        raise refuse("", "there is no Statement")
    listed = top["Statement"]
    entries = listed if isinstance(listed, list) else [listed]
    if not entries:
        raise refuse("Statement", "it is empty")
    statements = tuple(_statement(entry, f"Statement[{index}]", role) for index, entry in enumerate(entries))
    twice = _repeated(statement.sid for statement in statements if statement.sid)
    if twice is not None:
        raise refuse("Statement", f"the Sid {twice[:80]!r} occurs twice")
    return Document(text, str(version), policy_id, statements)


def _load(text: str) -> Json:
    if len(text) > MAX_CHARACTERS:
        raise refuse("", f"it has {len(text)} characters, more than {MAX_CHARACTERS}")
    try:
        text.encode("utf-8")
        loaded: Json = json.loads(
            text, object_pairs_hook=_pairs, parse_constant=_constant, parse_float=Decimal, parse_int=Decimal
        )
    except RecursionError:
        raise refuse("", "it is nested too deeply") from None
    except ValueError as error:
        raise refuse("", f"it is not JSON ({error})") from None
    return loaded


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    twice = _repeated(name for name, _ in pairs)
    if twice is not None:
        raise refuse("", f"{twice[:80]!r} stands twice in one object")
    return dict(pairs)


def _repeated(names: Iterable[str]) -> str | None:
    """The first of ``names`` that occurred before."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _constant(name: str) -> Json:
    raise ValueError(f"{name} is not a JSON value")


def _statement(entry: Json, path: str, role: PolicyRole) -> Source:
    source = _object(entry, path, _ELEMENTS)
    sid = _sid(source.get("Sid", ""), f"{path}.Sid", role)
    effect = source.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise refuse(f"{path}.Effect", "it must be Allow or Deny")
    statement = Source(
        sid or path,
        sid,
        Effect(str(effect)),
        _principals(source, path, role),
        _actions(source, path, role),
        _resources(source, path, role),
        tuple(_conditions(source.get("Condition", {}), f"{path}.Condition")),
    )
    if statement.principals is not None and statement.principals.negated and statement.effect is Effect.ALLOW:
        raise refuse(f"{path}.NotPrincipal", "it stands only in Deny statements")
    if role is PolicyRole.RCP:
        _check_rcp(statement, path)
    return statement


def _sid(value: Json, path: str, role: PolicyRole) -> str:
    sid = _string(value, path)
    if role not in (PolicyRole.RESOURCE, PolicyRole.TRUST) and _SID.fullmatch(sid) is None:
        raise refuse(path, "only letters and digits are allowed")
    return sid


def _principals(source: dict[str, Json], path: str, role: PolicyRole) -> Named | None:
    element = _either(source, path, "Principal", "NotPrincipal", role in _OF_RESOURCES)
    if element is None:
        return None
    path = f"{path}.{element}"
    if role not in _OF_RESOURCES:
        raise refuse(path, f"a {role} names no principals: they are those it is attached to")
    value = source[element]
    negated = element == "NotPrincipal"
    if isinstance(value, str):
        return Named(value, negated, path)
    if not isinstance(value, dict) or not value:
        raise refuse(path, 'it must be "*" or an object such as {"AWS": "123456789012"}')
    return Named({kind: _strings(names, f"{path}.{kind}") for kind, names in value.items()}, negated, path)


def _actions(source: dict[str, Json], path: str, role: PolicyRole) -> Listed:
    element = str(_either(source, path, "Action", "NotAction", True))
    values = _strings(source[element], f"{path}.{element}")
    for value in values:
        if _ACTION.fullmatch(value) is None:
            raise refuse(f"{path}.{element}", f"{value[:80]!r} is not an action: write service:Name or *")
        if role is PolicyRole.TRUST and not value.lower().startswith("sts:"):
            raise refuse(f"{path}.{element}", f"{value[:80]!r} is not an STS action, and a {role} holds no other")
    if element == "NotAction" and role in (PolicyRole.TRUST, PolicyRole.RCP):
        raise refuse(f"{path}.{element}", f"a {role} takes Action only")
    return Listed(values, element == "NotAction", f"{path}.{element}")


def _resources(source: dict[str, Json], path: str, role: PolicyRole) -> Listed | None:
    element = _either(source, path, "Resource", "NotResource", role is not PolicyRole.TRUST)
    if element is None:
        return None
    if role is PolicyRole.TRUST:
        raise refuse(f"{path}.{element}", f"a {role} names no resource: it is the role")
    return Listed(_strings(source[element], f"{path}.{element}"), element == "NotResource", f"{path}.{element}")


def _conditions(value: Json, path: str) -> Iterator[Compared]:
    seen: set[tuple[str, str]] = set()
    for name, keys in _object(value, path, None).items():
        by_key = _object(keys, f"{path}.{name[:80]}", None)
        if not by_key:
            raise refuse(f"{path}.{name[:80]}", "it names no condition key")
        for key, values in by_key.items():
            place = f"{path}.{name[:80]}.{key[:80]}"
            if len(key) > _MAX_KEY or _KEY.fullmatch(key) is None:
                raise refuse(place, "a condition key reads prefix:name")
            if (name.lower(), key.lower()) in seen:
                raise refuse(place, "the same key stands here twice")
            seen.add((name.lower(), key.lower()))
            yield Compared(name, key, _scalars(values, place), place)


def _check_rcp(statement: Source, path: str) -> None:
    """An RCP only denies, everyone; the one Allow is the managed policy that lets everything through."""
    everyone = statement.principals is not None and statement.principals.value in ("*", {"AWS": ("*",)})
    if not everyone or (statement.principals is not None and statement.principals.negated):
        raise refuse(f"{path}.Principal", f'a {PolicyRole.RCP} has the Principal "*" and narrows it by conditions')
    passes_all = (
        statement.actions.values == ("*",)
        and statement.resources is not None
        and statement.resources.values == ("*",)
        and not statement.resources.negated
        and not statement.conditions
    )
    if statement.effect is Effect.ALLOW and not passes_all:
        raise refuse(
            f"{path}.Effect", f"a {PolicyRole.RCP} denies; it may only allow everything, as the managed one does"
        )


def _object(value: Json, path: str, allowed: tuple[str, ...] | frozenset[str] | None) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise refuse(path, "a JSON object belongs here")
    for name in value:
        if allowed is not None and name not in allowed:
            raise refuse(path, f"{name[:80]!r} is not an element")
    return value


def _either(source: dict[str, Json], path: str, plain: str, negated: str, required: bool) -> str | None:
    found = [element for element in (plain, negated) if element in source]
    if len(found) > 1 or (required and not found):
        raise refuse(path, f"exactly one of {plain} and {negated} must be there")
    return found[0] if found else None


def _string(value: Json, path: str) -> str:
    if not isinstance(value, str) or _HALF.search(value):
        raise refuse(path, "a text belongs here")
    return value


def _strings(value: Json, path: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise refuse(path, "it is empty")
    return tuple(_string(entry, path) for entry in listed)


def _scalars(value: Json, path: str) -> tuple[str, ...]:
    """Condition values: texts, and numbers and truth values without quotation marks."""
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise refuse(path, "it is empty")
    return tuple(str(entry).lower() if isinstance(entry, bool) else _scalar(entry, path) for entry in listed)


def _scalar(value: Json, path: str) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, str):
        return _string(value, path)
    raise refuse(path, "texts, numbers and true or false belong here")
