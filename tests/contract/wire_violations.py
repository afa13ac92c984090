"""Valid inputs and single violations of them, made from the service models as botocore carries them.

Our generated types play no part here: what is valid and what is not is read from the models again, so that the
generator and this file check each other.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import regex
from botocore.loaders import Loader
from hypothesis import strategies as st

SCALARS = {"string", "integer", "long", "float", "double", "boolean", "blob"}
ODD_TEXTS = ["!", " ", "\u00e9", "a b!\u00e9", "\n", "\u00e9" * 12, "\u00e9" * 40, ""]
DEPTH_MAX = 5
OPTIONAL_DEPTH_MAX = 4

Steps = tuple[str, ...]


@cache
def service_model(service: str) -> dict[str, Any]:
    return Loader().load_service_model(service, "service-2")


@dataclass(frozen=True)
class Violation:
    """One broken rule: where (member names, ``[]`` for a list item, ``{}`` for a map value, ``<>`` for a map key)."""

    steps: Steps
    rule: str
    values: st.SearchStrategy[Any]
    kind: str

    @property
    def named(self) -> str:
        """The path as the error names it."""
        shown: list[str] = []
        for step in self.steps:
            if step == "[]":
                shown.append("1.member")
            elif step not in ("{}", "<>"):
                shown.append(step)
            elif step != self.steps[-1]:
                shown.append("value")
        return ".".join(shown)


class Missing:
    """Stands for a member that is left out."""


class Input:
    """The input of one operation: strategies for valid trees, violations, and the request that carries a tree."""

    def __init__(self, service: str, operation: str) -> None:
        model = service_model(service)
        self.shapes = model["shapes"]
        self.name = model["operations"][operation]["input"]["shape"]
        self.shape = self.shapes[self.name]
        self._known: dict[tuple[str, int], st.SearchStrategy[Any]] = {}

    # --- valid trees ----------------------------------------------------------------------------------------------

    def tree(self, steps: Steps = (), leaf: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
        """Valid inputs; with ``steps``, inputs that hold ``leaf`` there and nothing else that is invalid."""
        return self._value(self.name, steps, leaf, 0)

    def _value(
        self, name: str, steps: Steps, leaf: st.SearchStrategy[Any] | None, depth: int
    ) -> st.SearchStrategy[Any]:
        if leaf is not None and not steps:
            return leaf
        if leaf is None:
            if (name, depth) not in self._known:
                self._known[name, depth] = st.deferred(lambda: self._made(name, (), None, depth))
            return self._known[name, depth]
        return self._made(name, steps, leaf, depth)

    def _made(self, name: str, steps: Steps, leaf: st.SearchStrategy[Any] | None, depth: int) -> st.SearchStrategy[Any]:
        shape = self.shapes[name]
        kind = shape["type"]
        if shape.get("document"):
            return st.sampled_from([{"a": [1, None, "x"]}, "text", 5, [True], {}])
        if kind == "structure":
            return self._structure(shape, steps, leaf, depth)
        if kind == "list":
            item = shape["member"]["shape"]
            if steps:
                return self._value(item, steps[1:], leaf, depth).map(lambda value: [value])
            low = shape.get("min", 0)
            high = low if depth > DEPTH_MAX else min(shape.get("max", low + 1), low + 1)
            return st.lists(self._value(item, (), None, depth + 1), min_size=low, max_size=high)
        if kind == "map":
            key, value = shape["key"]["shape"], shape["value"]["shape"]
            if steps and steps[0] == "<>":
                return st.builds(lambda k, v: {k: v}, leaf, self._value(value, (), None, depth))
            if steps:
                return st.builds(
                    lambda k, v: {k: v}, self._value(key, (), None, depth), self._value(value, steps[1:], leaf, depth)
                )
            low = shape.get("min", 0)
            return st.dictionaries(
                self._value(key, (), None, depth),
                self._value(value, (), None, depth + 1),
                min_size=low,
                max_size=low + 1,
            )
        return scalar(json.dumps(shape, sort_keys=True, default=str))

    def _structure(
        self, shape: dict[str, Any], steps: Steps, leaf: st.SearchStrategy[Any] | None, depth: int
    ) -> st.SearchStrategy[Any]:
        members = {n: m for n, m in shape["members"].items() if not self.shapes[m["shape"]].get("eventstream")}
        if shape.get("union"):
            if steps:
                name = steps[0]
                return self._value(members[name]["shape"], steps[1:], leaf, depth).map(lambda value: {name: value})
            names = sorted(members, key=lambda name: self._height(members[name]["shape"], frozenset()))
            names = names[:1] if depth > DEPTH_MAX else names
            return st.one_of(
                st.fixed_dictionaries({name: self._value(members[name]["shape"], (), None, depth + 1)})
                for name in names
            )
        required = set(shape.get("required", ()))
        fixed = {name: self._value(members[name]["shape"], (), None, depth + 1) for name in required}
        if steps:
            fixed[steps[0]] = self._value(members[steps[0]]["shape"], steps[1:], leaf, depth)
        optional = {}
        if depth <= OPTIONAL_DEPTH_MAX and not steps:
            optional = {n: self._value(m["shape"], (), None, depth + 1) for n, m in members.items() if n not in fixed}
        drawn = st.fixed_dictionaries(fixed, optional=optional)
        return drawn.map(lambda value: {n: v for n, v in value.items() if v is not Missing})

    def _height(self, name: str, above: frozenset[str]) -> float:
        """How deep the smallest valid value of a shape is; infinite through a shape that contains itself."""
        shape = self.shapes[name]
        if name in above:
            return math.inf
        below = above | {name}
        if shape["type"] == "structure" and not shape.get("document"):
            heights = [self._height(member["shape"], below) for member in shape["members"].values()]
            if shape.get("union"):
                return 1 + min(heights)
            needed = [self._height(shape["members"][n]["shape"], below) for n in shape.get("required", ())]
            return 1 + max(needed, default=0)
        if shape["type"] == "list" and shape.get("min"):
            return 1 + self._height(shape["member"]["shape"], below)
        return 1

    # --- violations -----------------------------------------------------------------------------------------------

    def violations(self) -> list[Violation]:
        """One violation per constraint of every member that the input reaches, each structure entered once."""
        return list(self._of_structure(self.name, (), set()))

    def _of_structure(self, name: str, steps: Steps, seen: set[str]) -> Iterator[Violation]:
        if name in seen:
            return
        seen.add(name)
        shape = self.shapes[name]
        for member, reference in shape["members"].items():
            target = self.shapes[reference["shape"]]
            if target.get("eventstream"):
                continue
            here = (*steps, member)
            payload = not steps and shape.get("payload") == member
            if member in shape.get("required", ()) and not payload and reference.get("location") != "uri":
                yield Violation(here, "required", st.just(Missing), "structure")
                if not reference.get("location") and not target.get("document"):
                    # null is a document like any other
                    yield Violation(here, "not null", st.none(), "structure")
            yield from self._of_value(
                reference["shape"], here, seen, "raw" if payload else reference.get("location", "")
            )

    def _of_value(self, name: str, steps: Steps, seen: set[str], where: str) -> Iterator[Violation]:
        shape = self.shapes[name]
        kind = shape["type"]
        if shape.get("document"):
            return
        if kind in ("list", "map"):
            yield from self._of_length(shape, steps)
            if kind == "map":
                yield from self._of_value(shape["key"]["shape"], (*steps, "<>"), seen, "key")
                yield from self._of_value(shape["value"]["shape"], (*steps, "{}"), seen, where)
            else:
                yield from self._of_value(shape["member"]["shape"], (*steps, "[]"), seen, where)
        elif kind == "structure":
            if shape.get("union"):
                yield Violation(steps, "one member", st.just({}), kind)
                names = list(shape["members"])[:2]
                if len(names) == 2:
                    both = {n: self._value(shape["members"][n]["shape"], (), None, DEPTH_MAX) for n in names}
                    yield Violation(steps, "one member", st.fixed_dictionaries(both), kind)
            yield from self._of_structure(name, steps, seen)
        else:
            yield from of_scalar(shape, steps, where)
        if not where:
            wrong: list[Any] = ["text", 5, True, [], {}, 2.5]
            wrong = [value for value in wrong if not acceptable(kind, value)]
            yield Violation(steps, "type", st.sampled_from(wrong), kind)

    def _of_length(self, shape: dict[str, Any], steps: Steps) -> Iterator[Violation]:
        is_map = shape["type"] == "map"
        item = self._value(shape["value" if is_map else "member"]["shape"], (), None, DEPTH_MAX + 1)
        make = (lambda n, v: {f"k{i}": v for i in range(n)}) if is_map else (lambda n, v: [v] * n)
        if shape.get("min"):
            yield Violation(steps, "length", item.map(lambda value: make(shape["min"] - 1, value)), shape["type"])
        if "max" in shape:
            yield Violation(steps, "length", item.map(lambda value: make(shape["max"] + 1, value)), shape["type"])

    # --- requests -------------------------------------------------------------------------------------------------

    def request(self, tree: dict[str, Any]) -> tuple[dict[str, str], bytes, list[tuple[bytes, bytes]], bytes]:
        """Labels, query string, headers and body that carry ``tree``."""
        labels, query, headers, body = {}, [], [], {}
        raw = b""
        for name, value in tree.items():
            member = self.shape["members"][name]
            wire = member.get("locationName", name)
            if self.shape.get("payload") == name:
                raw = value
            elif member.get("location") == "uri":
                labels[wire] = as_text(value)
            elif member.get("location") == "querystring":
                query += [(wire, as_text(item)) for item in (value if isinstance(value, list) else [value])]
            elif member.get("location") == "header":
                headers.append((wire.lower().encode(), as_text(value).encode()))
            else:
                body[wire] = value
        raw_query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
        if "payload" not in self.shape:
            raw = json.dumps(body, default=lambda value: base64.b64encode(value).decode()).encode()
        return labels, raw_query.encode(), headers, raw

    def as_received(self, tree: dict[str, Any]) -> dict[str, Any]:
        """``tree`` as the other end can know it: an empty body is an absent one, unless it is required."""
        payload = self.shape.get("payload")
        if payload in self.shape.get("required", ()) or tree.get(payload) != b"":
            return tree
        return {name: value for name, value in tree.items() if name != payload}


def as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def acceptable(kind: str, value: Any) -> bool:
    """Whether a JSON value is of the shape's type; a text of four letters is also base64."""
    if isinstance(value, bool):
        return kind == "boolean"
    if kind in ("integer", "long"):
        return isinstance(value, int)
    if kind in ("float", "double"):
        return isinstance(value, int | float)
    wanted = {"string": str, "blob": str, "list": list, "map": dict, "structure": dict}
    return isinstance(value, wanted.get(kind, ()))


def full(pattern: str, text: str) -> bool:
    """Whether the model's pattern matches the whole text; POSIX classes as Java has them, ASCII only."""
    pattern = pattern.replace(r"\p{ASCII}", r"[\x00-\x7F]").replace(r"[\p{Print}]", "[ -~]").replace(r"\z", r"\Z")
    return regex.fullmatch(pattern, text, flags=regex.ASCII) is not None


@cache
def scalar(described: str) -> st.SearchStrategy[Any]:
    """Valid values of one scalar shape, given as JSON so that equal shapes share a strategy."""
    shape = json.loads(described)
    kind = shape["type"]
    if kind == "boolean":
        return st.booleans()
    if kind in ("integer", "long"):
        edge = 2**31 if kind == "integer" else 2**63
        return st.integers(int(shape.get("min", -edge)), int(shape.get("max", edge - 1)))
    if kind in ("float", "double"):
        return st.floats(shape.get("min"), shape.get("max"), allow_nan=False, allow_infinity=False)
    low, high = shape.get("min", 0), shape.get("max")
    high = low + 20 if high is None else min(high, low + 20)
    if kind == "blob":
        return st.binary(min_size=low, max_size=high)
    if "enum" in shape:
        return st.sampled_from(shape["enum"])
    if "pattern" not in shape:
        return st.text(st.characters(exclude_categories=["Cs"]), min_size=low, max_size=high)
    texts = ["a", "a1", "0", "1", "111122223333", "a.b", "a.b-c:0", "anthropic.claude-3:1", "abcdefghijkl", "DRAFT", ""]
    texts += ["arn:aws:bedrock:eu-west-1:111122223333:guardrail/a1", "arn:aws:iam::111122223333:role/a"]
    texts += ["s3://bucket-a/key", "A", "NEW_SESSION"]
    texts = [text for text in texts if low <= len(text) <= shape.get("max", 9999) and full(shape["pattern"], text)]
    if not texts:
        raise AssertionError(f"no example matches {shape['pattern']}")
    return st.sampled_from(texts)


def of_scalar(shape: dict[str, Any], steps: Steps, where: str) -> Iterator[Violation]:
    """Violations of a scalar's own constraints; ``where`` tells what cannot be carried at all."""
    kind = shape["type"]
    low, high = shape.get("min"), shape.get("max")
    if kind in ("string", "blob") and "enum" not in shape:
        unit: Any = "a" if kind == "string" else b"a"
        if low:
            yield Violation(steps, "length", st.just(unit * (int(low) - 1)), kind)
        if high is not None:
            # astral characters count once each, and two UTF-16 units would make a wrong answer here
            long_unit: Any = "\U0001f600" if kind == "string" and not where and "pattern" not in shape else unit
            yield Violation(steps, "length", st.just(long_unit * (int(high) + 1)), kind)
    if kind in ("integer", "long", "float", "double"):
        below = [] if low is None else [low - 1, low - 1000]
        above = [] if high is None else [high + 1, high + 1000]
        for beyond in (below, above):
            if beyond:
                yield Violation(steps, "range", st.sampled_from(beyond), kind)
        if kind == "integer":
            yield Violation(steps, "range", st.sampled_from([2**31, -(2**31) - 1, 10**30]), kind)
    if "enum" in shape:
        unknown = st.text("abcXYZ_ -", min_size=1, max_size=12).filter(lambda text: text not in shape["enum"])
        yield Violation(steps, "enum", unknown, kind)
    elif "pattern" in shape:
        fits = [text for text in ODD_TEXTS if (low or 0) <= len(text) <= (high if high is not None else 9999)]
        broken = [text for text in fits if not full(shape["pattern"], text)]
        if broken:
            yield Violation(steps, "pattern", st.sampled_from(broken), kind)
