"""Conditions: every operator of the IAM policy language, compiled to a test over a request's context.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators" and "Single-valued vs. multivalued context
keys". Where that leaves a case open, the reading is the one that permits less:

* A key that has several values, tested without ``ForAllValues:`` or ``ForAnyValue:`` (AWS: a set operator is required):
  in an Allow every value must pass, in a Deny one is enough.
* A negated comparison that cannot be made, because the request's value is not of the operator's type: an Allow does
  not apply, a Deny does. A positive comparison does not match.

A variable without a value is equal to nothing and like nothing, so negated comparisons with it hold (IAM User Guide,
"Variables and tags", "Policy variables with no value").

Not covered: which keys a service knows and which type each has. An unknown key is simply absent.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

from outcrop.trust.policy.base import Effect
from outcrop.trust.policy.patterns import ARN_COMPONENTS, Parts, Test, Wild, components, like, like_arn, shortest
from outcrop.trust.policy.variables import Context, Template, Variable, is_fixed, keys_of, read, resolve

T = TypeVar("T")

AnyOf = Callable[[str, Context], bool | None]
"""Whether a request's value matches one of the policy's; ``None`` when that cannot be told."""
Build = Callable[[Sequence[Template]], AnyOf]

_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_EPOCH = re.compile(r"-?[0-9]{5,18}(\.[0-9]{1,9})?", re.ASCII)
_INSTANT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?(?:Z|([+-])(\d\d):(\d\d)))?)?)?", re.ASCII
)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Operator:
    """One comparison; ``wild`` and ``variables`` say what its values may contain."""

    name: str
    build: Build
    negated: bool = False
    wild: bool = False
    variables: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """One compiled condition, and the keys (lower case, as written) that it looks at."""

    test: Callable[[Context], bool]
    keys: tuple[tuple[str, str], ...]


def compile_condition(name: str, key: str, values: Sequence[str], effect: Effect, variables: bool) -> Condition:
    """The condition ``{name: {key: values}}`` of a statement with ``effect``.

    ``variables`` says whether the policy's version knows them. Raises ``ValueError`` with the reason.
    """
    quantifier, base, if_exists = _split(name)
    low = key.lower()
    if base.lower() == "null":
        if quantifier or if_exists:
            raise ValueError("Null takes no ForAllValues:, ForAnyValue: or IfExists")
        wanted = frozenset(truth(value) for value in values)
        return Condition(lambda context: (low not in context) in wanted, ((low, key),))
    chosen = OPERATORS.get(base.lower())
    if chosen is None:
        raise ValueError(f"{name[:80]!r} is not a condition operator")
    templates = [read(value, chosen.wild, variables and chosen.variables) for value in values]
    any_of = chosen.build(templates)
    negated = chosen.negated
    untold = effect is Effect.DENY
    if_absent = if_exists or quantifier == "ForAllValues:" or (negated and quantifier != "ForAnyValue:")
    every = quantifier == "ForAllValues:" or (not quantifier and effect is Effect.ALLOW)

    def passes(value: str, context: Context) -> bool:
        found = any_of(value, context)
        if found is None:
            return negated and untold
        return found is not negated

    def test(context: Context) -> bool:
        value = context.get(low)
        if value is None:
            return if_absent
        if isinstance(value, str):
            return passes(value, context)
        if every:
            return all(passes(item, context) for item in value)
        return any(passes(item, context) for item in value)

    return Condition(test, ((low, key), *(pair for template in templates for pair in keys_of(template))))


def _split(name: str) -> tuple[str, str, bool]:
    """An operator's name as set operator, comparison and whether it ends in ``IfExists``; case does not matter."""
    quantifier, base = "", name
    for prefix in ("ForAllValues:", "ForAnyValue:"):
        if name.lower().startswith(prefix.lower()):
            quantifier, base = prefix, name[len(prefix) :]
    if_exists = base.lower().endswith("ifexists")
    return quantifier, base[: -len("IfExists")] if if_exists else base, if_exists


def _matching(make: Callable[[Parts], Test], fold: Callable[[str], str] = str) -> Build:
    """Values that are texts: those without variables become tests now, the others when a request is there."""
    ready = lru_cache(maxsize=1024)(make)

    def build(templates: Sequence[Template]) -> AnyOf:
        fixed = tuple(make(resolve(template, {}) or ()) for template in templates if is_fixed(template))
        moving = tuple(template for template in templates if not is_fixed(template))

        def any_of(value: str, context: Context) -> bool | None:
            value = fold(value)
            for test in fixed:
                if test(value):
                    return True
            for template in moving:
                parts = resolve(template, context)
                if parts is not None and shortest(parts) <= len(value) and ready(parts)(value):
                    return True
            return False

        return any_of

    return build


def _comparing(convert: Callable[[str], T], compare: Callable[[T, T], bool]) -> Build:
    """Values of a type: those of the policy are converted now, the request's when it is there."""

    def build(templates: Sequence[Template]) -> AnyOf:
        bounds = tuple(convert(_text(resolve(template, {}) or ())) for template in templates)

        def any_of(value: str, context: Context) -> bool | None:
            try:
                seen = convert(value)
            except ValueError:
                return None
            for bound in bounds:  # noqa: SIM110 (any() over a generator takes twice as long)
                if compare(seen, bound):
                    return True
            return False

        return any_of

    return build


def _text(parts: Parts) -> str:
    return "".join(part for part in parts if isinstance(part, str))


def _folded(parts: Parts) -> Test:
    return _text(parts).casefold().__eq__


@lru_cache(maxsize=1024)
def number(text: str) -> Decimal:
    """An integer or decimal number; ``ValueError`` for anything else."""
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is not a number")
    return Decimal(text)


@lru_cache(maxsize=1024)
def instant(text: str) -> Decimal:
    """A moment in seconds since 1970, from W3C's profile of ISO 8601 or from such seconds; four digits are a year."""
    if _EPOCH.fullmatch(text):
        return Decimal(text)
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is not a date: write 2026-11-22T10:00:00Z or seconds since 1970")
    year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    days = date(int(year), int(month or 1), int(day or 1)).toordinal() - _EPOCH_DAY
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 60 or int(zone_hour or 0) > 23 or int(zone_minute or 0) > 59:
        raise ValueError(f"{text[:80]!r} is not a time of day")
    offset = (int(zone_hour or 0) * 60 + int(zone_minute or 0)) * (-1 if sign == "-" else 1)
    return Decimal(days * 86_400 + hours * 3600 + (minutes - offset) * 60 + seconds) + Decimal(f"0{fraction or ''}")


def truth(text: str) -> bool:
    """``true`` or ``false``, in any case."""
    low = text.lower()
    if low not in ("true", "false"):
        raise ValueError(f"{text[:80]!r} is neither true nor false")
    return low == "true"


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text[:80]!r} is not base64") from None


@lru_cache(maxsize=1024)
def _address(text: str) -> tuple[int, int, int]:
    """An address or a range as IP version, first address and mask.

    A request's IPv4 address that came over an IPv6 socket is that IPv4 address.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not an IP address or a range such as 203.0.113.0/24") from None
    first, mask = int(network.network_address), int(network.netmask)
    if network.version == 6 and first >> 32 == 0xFFFF and mask >> 32 == (1 << 96) - 1:
        return 4, first & 0xFFFF_FFFF, mask & 0xFFFF_FFFF
    return network.version, first, mask


def _within(seen: tuple[int, int, int], bound: tuple[int, int, int]) -> bool:
    version, first, mask = bound
    return seen[0] == version and seen[1] & mask == first and seen[2] & mask == mask


_like_arns = _matching(like_arn)


def _arns(templates: Sequence[Template]) -> AnyOf:
    for template in templates:
        begin = template[0] if template else ""
        if template == (Wild.ANY,) or isinstance(begin, Variable):
            continue
        if not isinstance(begin, str) or not begin.startswith("arn:"):
            raise ValueError("a value is not an ARN: it begins with arn: or a variable, or is *")
        if is_fixed(template) and len(components(template)) < ARN_COMPONENTS:
            raise ValueError(f"an ARN that begins {begin[:80]!r} has fewer than six parts and would match nothing")
    return _like_arns(templates)


def _table() -> dict[str, Operator]:
    text = [
        Operator("StringEquals", _matching(like), variables=True),
        Operator("StringNotEquals", _matching(like), negated=True, variables=True),
        Operator("StringEqualsIgnoreCase", _matching(_folded, str.casefold), variables=True),
        Operator("StringNotEqualsIgnoreCase", _matching(_folded, str.casefold), negated=True, variables=True),
        Operator("StringLike", _matching(like), wild=True, variables=True),
        Operator("StringNotLike", _matching(like), negated=True, wild=True, variables=True),
        Operator("ArnEquals", _arns, wild=True, variables=True),
        Operator("ArnLike", _arns, wild=True, variables=True),
        Operator("ArnNotEquals", _arns, negated=True, wild=True, variables=True),
        Operator("ArnNotLike", _arns, negated=True, wild=True, variables=True),
    ]
    compared: list[tuple[str, Callable[[Decimal, Decimal], bool]]] = [
        ("Equals", operator.eq),
        ("LessThan", operator.lt),
        ("LessThanEquals", operator.le),
        ("GreaterThan", operator.gt),
        ("GreaterThanEquals", operator.ge),
    ]
    typed = [
        Operator("Bool", _comparing(truth, operator.eq)),
        Operator("BinaryEquals", _comparing(_bytes, operator.eq)),
        Operator("IpAddress", _comparing(_address, _within)),
        Operator("NotIpAddress", _comparing(_address, _within), negated=True),
        Operator("NumericNotEquals", _comparing(number, operator.eq), negated=True),
        Operator("DateNotEquals", _comparing(instant, operator.eq), negated=True),
    ]
    for name, compare in compared:
        typed += [Operator(f"Numeric{name}", _comparing(number, compare))]
        typed += [Operator(f"Date{name}", _comparing(instant, compare))]
    return {each.name.lower(): each for each in text + typed}


OPERATORS = _table()
