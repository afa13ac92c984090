"""Policies compiled once: from a checked document to statements that test a request without reading text again.

Which statements speak of an action is found out once for each action and policy, so that a decision looks only at
those. Not covered: combining policies, which is ``decide``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from outcrop.trust.policy import document as source
from outcrop.trust.policy import principals, variables
from outcrop.trust.policy.base import Effect, MatchedStatement, PolicyRole, Request
from outcrop.trust.policy.conditions import Condition, compile_condition
from outcrop.trust.policy.patterns import ARN_COMPONENTS, Test, Wild, components, like, like_resource, parse, shortest
from outcrop.trust.policy.principals import Principals, Reach, Standing
from outcrop.trust.policy.variables import Context, Template, Variable

PARTITIONS = frozenset({"aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"})
"""Source: the AWS SDK's partitions file."""

ResourceTest = Callable[[str, Context], bool]

MAX_REMEMBERED_ACTIONS = 1024

_NONE, _DIRECT = Reach.NONE, Reach.DIRECT

_like_resolved = lru_cache(maxsize=4096)(like_resource)
"""For patterns that come out of variables: few users make most requests. None is longer than a resource's name."""


@dataclass(slots=True)
class Query:
    """One request made ready for statements; ``missing`` gathers keys that were asked for and absent."""

    action: str
    resource: str
    standing: Standing
    context: Context
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: Request, has_boundary: bool) -> Query:
        standing = Standing.of(request.requester, has_boundary)
        return cls(request.action.lower(), request.resource, standing, _context(request))


@dataclass(frozen=True, slots=True)
class Statement:
    """One compiled statement."""

    record: MatchedStatement
    effect: Effect
    acts: Test
    """Whether it speaks of an action, written in lower case."""
    principals: Principals | None
    covers: ResourceTest | None
    conditions: tuple[Condition, ...]
    resource_keys: tuple[tuple[str, str], ...]
    condition_keys: tuple[tuple[str, str], ...]

    def reach(self, query: Query) -> Reach:
        """How the statement, which speaks of the action, reaches the sender; ``NONE`` when it does not apply."""
        reach = _DIRECT if self.principals is None else self.principals.reach(query.standing)
        if not reach:
            return reach
        context = query.context
        for key, spelled in self.resource_keys:
            if key not in context:
                query.missing.setdefault(key, spelled)
        if self.covers is not None and not self.covers(query.resource, context):
            return _NONE
        for key, spelled in self.condition_keys:
            if key not in context:
                query.missing.setdefault(key, spelled)
        for condition in self.conditions:
            if not condition.test(context):
                return _NONE
        return reach


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A policy that was understood: its text as given, its normal form, and its compiled statements.

    ``normal`` is the same for documents that differ only in spacing, in the order of keys and list entries, and in
    whether a single value stands in a list.
    """

    name: str
    role: PolicyRole
    text: str = field(repr=False)
    normal: str = field(repr=False)
    statements: tuple[Statement, ...] = field(repr=False)
    _by_action: dict[str, tuple[Statement, ...]] = field(repr=False, default_factory=dict)

    def speaking_of(self, action: str) -> tuple[Statement, ...]:
        """The statements whose ``Action`` or ``NotAction`` takes in ``action``, which is in lower case."""
        found = self._by_action.get(action)
        if found is None:
            found = tuple(statement for statement in self.statements if statement.acts(action))
            if len(self._by_action) < MAX_REMEMBERED_ACTIONS:
                self._by_action[action] = found
        return found


def compile_policy(
    document: str | bytes | Mapping[str, object], role: PolicyRole, name: str, partition: str = "aws"
) -> Policy:
    """``document`` checked and compiled for use as ``role``.

    ``partition`` is the deployment's own, where it is none of AWS's. Raises ``PolicyRefused`` with place and reason.
    """
    parsed = source.parse(document, role)
    partitions = PARTITIONS | {partition}
    statements = tuple(_statement(each, role, name, parsed.has_variables, partitions) for each in parsed.statements)
    return Policy(name, role, parsed.text, _normal(parsed), statements)


def _statement(
    each: source.Source, role: PolicyRole, name: str, has_variables: bool, partitions: frozenset[str]
) -> Statement:
    named = None
    if each.principals is not None:
        try:
            named = principals.read(each.principals.value, each.principals.negated, partitions)
        except ValueError as error:
            raise source.refuse(each.principals.path, str(error)) from None
    covers: ResourceTest | None = None
    resource_keys: tuple[tuple[str, str], ...] = ()
    if each.resources is not None:
        templates = [
            _resource(value, each.resources.path, has_variables, partitions) for value in each.resources.values
        ]
        covers = _covers(templates, each.resources.negated)
        resource_keys = tuple(pair for template in templates for pair in variables.keys_of(template))
    conditions = []
    for compared in each.conditions:
        try:
            condition = compile_condition(compared.operator, compared.key, compared.values, each.effect, has_variables)
        except ValueError as error:
            raise source.refuse(compared.path, str(error)) from None
        conditions.append(condition)
    return Statement(
        MatchedStatement(name, role, each.label, each.effect),
        each.effect,
        _acts(each.actions),
        named,
        covers,
        tuple(conditions),
        resource_keys,
        tuple(pair for condition in conditions for pair in condition.keys),
    )


def _acts(actions: source.Listed) -> Test:
    """Whether a lower-case action is among ``actions``."""
    patterns = [parse(value.lower()) for value in actions.values]
    literal = frozenset(value.lower() for value in actions.values if "*" not in value and "?" not in value)
    tests = [like(parts) for parts in patterns if any(isinstance(part, Wild) for part in parts)]
    negated = actions.negated

    def acts(action: str) -> bool:
        if action in literal:
            return not negated
        for test in tests:
            if test(action):
                return not negated
        return negated

    return acts if tests or negated else literal.__contains__


def _resource(text: str, path: str, has_variables: bool, partitions: frozenset[str]) -> Template:
    try:
        template = variables.read(text, True, has_variables)
        if template != (Wild.ANY,):
            _check_arn(template, text, partitions)
    except ValueError as error:
        raise source.refuse(path, str(error)) from None
    return template


def _check_arn(template: Template, text: str, partitions: frozenset[str]) -> None:
    """Raise ``ValueError`` unless ``template`` can be an ARN: six components, or a ``*`` that covers the rest."""
    shown = repr(text[:80])
    pieces = components(template)
    if pieces[0] != ("arn",):
        raise ValueError(f"{shown} is neither * nor an ARN")
    for index, piece in enumerate(pieces[1 : ARN_COMPONENTS - 1], 1):
        if any(isinstance(part, Variable) for part in piece):
            raise ValueError(f"{shown} has a variable before its fifth colon")
        if any(isinstance(part, Wild) for part in piece):
            if piece[-1] is Wild.ANY:
                return
            continue
        value = str(piece[0]) if piece else ""
        if index == 1 and value not in partitions:
            raise ValueError(f"{shown} is in an unknown partition")
        if index == 2 and not value:
            raise ValueError(f"{shown} names no service")
        if index == 4 and value not in ("", "aws") and not (len(value) == 12 and value.isdecimal()):
            raise ValueError(f"{shown} has no account id of twelve digits")
    if len(pieces) < ARN_COMPONENTS or not pieces[-1]:
        raise ValueError(f"{shown} is not a whole ARN: arn:partition:service:region:account:resource")


def _covers(templates: list[Template], negated: bool) -> ResourceTest | None:
    """Whether a resource is covered by the element; ``None`` where it is every resource.

    A value whose variable has none matches no resource, in ``NotResource`` too (IAM User Guide, "Policy variables with
    no value").
    """
    if not negated and (Wild.ANY,) in templates:
        return None
    fixed = [like_resource(variables.resolve(each, {}) or ()) for each in templates if variables.is_fixed(each)]
    moving = [each for each in templates if not variables.is_fixed(each)]

    def covers(resource: str, context: Context) -> bool:
        for test in fixed:
            if test(resource):
                return not negated
        for template in moving:
            parts = variables.resolve(template, context)
            if parts is not None and shortest(parts) <= len(resource) and _like_resolved(parts)(resource):
                return not negated
        return negated

    return covers


def _context(request: Request) -> Context:
    """The request's context by lower-case key.

    A key with no values, or with an empty text as its only one of possibly several, is absent: AWS calls both a null
    data set. Keys that differ only in case (tags may) become one key with the values of all.
    """
    known: dict[str, str | tuple[str, ...]] = {}
    for key, given in request.context.items():
        low = key.lower()
        if type(given) is str and low not in known:  # most keys, and this is where a decision spends its time
            known[low] = given
            continue
        value = given if isinstance(given, str) else tuple(given)
        if value in ((), ("",)):
            continue
        if low in known:
            value = (*_values(known[low]), *_values(value))
        known[low] = value
    return known


def _values(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _normal(parsed: source.Document) -> str:
    statements = []
    for each in parsed.statements:
        written: dict[str, object] = {"Effect": each.effect.value, "Sid": each.sid}
        named, resources, actions = each.principals, each.resources, each.actions
        written["NotAction" if actions.negated else "Action"] = _set(actions.values)
        if resources is not None:
            written["NotResource" if resources.negated else "Resource"] = _set(resources.values)
        if named is not None:
            value = named.value
            listed = value if isinstance(value, str) else {kind: _set(names) for kind, names in value.items()}
            written["NotPrincipal" if named.negated else "Principal"] = listed
        conditions: dict[str, dict[str, list[str]]] = {}
        for compared in each.conditions:
            conditions.setdefault(compared.operator, {})[compared.key] = _set(compared.values)
        if conditions:
            written["Condition"] = conditions
        statements.append({name: value for name, value in written.items() if value != ""})
    whole = {"Version": parsed.version, "Statement": statements}
    if parsed.policy_id:
        whole["Id"] = parsed.policy_id
    return json.dumps(whole, sort_keys=True, separators=(",", ":"))


def _set(values: tuple[str, ...]) -> list[str]:
    return sorted(set(values))
