"""Policy variables: ``${key}``, ``${key, 'default'}`` and the escapes ``${*}``, ``${?}``, ``${$}``.

Source: IAM User Guide, "IAM policy elements: Variables and tags". Values come from the request's context and are
literal text, never wildcards. A key with several values cannot be a variable: it counts as absent here, as AWS
documents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from outcrop.trust.policy.patterns import Part, Parts, join, parse

Context = Mapping[str, str | tuple[str, ...]]
"""A request's condition keys in lower case; a tuple holds the values of a key that may have several."""

_VARIABLE = re.compile(r"(?P<key>[^\s:*?$'\",{}]+:[^:*?$'\",{}][^*?$'\",{}]*)(?:, ?'(?P<default>[^']*)')?")


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable; ``key`` is in lower case, ``spelled`` as written."""

    key: str
    spelled: str
    default: str | None


Template = tuple[Part | Variable, ...]


def read(text: str, wild: bool, variables: bool) -> Template:
    """``text`` as literal text, wildcards (where ``wild``) and variables (where ``variables``).

    Raises ``ValueError`` with the reason when a variable is not well formed.
    """
    found: list[Part | Variable] = []
    position = 0
    while variables and (start := text.find("${", position)) >= 0:
        found += _literal(text[position:start], wild)
        end = _end(text, start)
        found.append(_variable(text[start + 2 : end]))
        position = end + 1
    found += _literal(text[position:], wild)
    return tuple(found)


def keys_of(template: Template) -> tuple[tuple[str, str], ...]:
    """The keys (lower case, as written) without which ``template`` has no value."""
    return tuple((part.key, part.spelled) for part in template if isinstance(part, Variable) and part.default is None)


def is_fixed(template: Template) -> bool:
    """Whether ``template`` reads the same for every request."""
    return not any(isinstance(part, Variable) for part in template)


def resolve(template: Template, context: Context) -> Parts | None:
    """``template`` with its variables' values, or ``None`` when one has neither a value nor a default."""
    parts: list[Part] = []
    for part in template:
        if not isinstance(part, Variable):
            parts.append(part)
            continue
        value = context.get(part.key)
        text = value if isinstance(value, str) else part.default
        if text is None:
            return None
        parts.append(text)
    return join(parts)


def _literal(text: str, wild: bool) -> Parts:
    return parse(text) if wild else join((text,))


def _end(text: str, start: int) -> int:
    """Where the variable that begins at ``start`` closes: a brace inside the quotes of a default does not count."""
    quoted = False
    for position in range(start + 2, len(text)):
        if text[position] == "'":
            quoted = not quoted
        elif text[position] == "}" and not quoted:
            return position
    raise ValueError("a variable is not closed: it reads ${key} or ${key, 'default'}")


def _variable(inner: str) -> Part | Variable:
    if inner in ("*", "?", "$"):
        return inner
    match = _VARIABLE.fullmatch(inner)
    if match is None:
        raise ValueError(
            f"'${{{inner[:80]}}}' is not a variable: it reads ${{prefix:key}}, ${{prefix:key, 'default'}}, "
            "${*}, ${?} or ${$}"
        )
    return Variable(match["key"].lower(), match["key"], match["default"])
