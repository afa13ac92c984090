"""Where evaluators are known to read AWS's rules differently, as rewrites that take the feature out of a case.

Each rewrite says our reading in words that every evaluator understands alike: a variable that has no value, say, is
replaced by what we take it to mean, so our own decision stays. An evaluator that then agrees had read that feature
differently, and nothing else. ``False`` from a rewrite means that the case does not have the feature. Not covered:
which reading is right; that is argued in docs/reference/policy-evaluation.md.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from outcrop.trust.policy import Requester, RequesterKind
from outcrop.trust.policy.patterns import like_resource, parse
from outcrop.trust.policy.principals import Standing, read
from policy_cases import Case, Document

NEVER = {"StringEquals": {"aws:UserAgent": "there is no such agent"}}
NOWHERE = "arn:aws:s3:::nowhere/at/all"
_WHOLE = re.compile(r"\$\{([^,}]+:[^,}]+)(?:, ?'[^']*')?\}")
_VARIABLE = re.compile(r"\$\{([^,}]+:[^,}]+)\}")

Statement = dict[str, Any]


def rewritten(case: Case, names: Iterable[str]) -> Case | None:
    """``case`` without the features of the classes ``names``; ``None`` when it has none of them."""
    made = copy.deepcopy(case)
    changed = [CLASSES[name](made) for name in names]
    return made if any(changed) else None


def _documents(case: Case) -> Iterator[Document]:
    single = [case["boundary"], case["session"], case["resource_policy"]]
    levels = [document for level in [*case["scps"], *case["rcps"]] for document in level]
    yield from (each for each in [*case["identity"], *single, *levels] if each is not None)


def _statements(case: Case) -> Iterator[Statement]:
    for document in _documents(case):
        yield from document["Statement"]


def _listed(value: Any) -> list[str]:
    return list(value) if isinstance(value, list) else [value]


def _conditions(statement: Statement) -> list[tuple[str, str, list[str]]]:
    found = statement.get("Condition", {})
    return [(operator, key, _listed(values)) for operator, keys in found.items() for key, values in keys.items()]


def _drop(statement: Statement, operator: str, key: str) -> None:
    del statement["Condition"][operator][key]
    if not statement["Condition"][operator]:
        del statement["Condition"][operator]
    if not statement["Condition"]:
        del statement["Condition"]


def _never(statement: Statement) -> None:
    statement["Condition"] = copy.deepcopy(NEVER)


def _value(case: Case, key: str) -> str | list[str] | None:
    """The context's value of ``key``, spelled in any case."""
    known = {name.lower(): value for name, value in case["context"].items()}
    value: str | list[str] | None = known.get(key.lower())
    return None if value == [] else value


def _unresolved(case: Case, text: str) -> bool:
    return any(not isinstance(_value(case, key), str) for key in _VARIABLE.findall(text))


def _old_version(case: Case) -> bool:
    changed = False
    for document in _documents(case):
        if document["Version"] == "2008-10-17" and "${" in str(document):
            for statement in document["Statement"]:
                changed |= _without_variables(case, statement)
    return changed


def _without_variables(case: Case, statement: Statement) -> bool:
    """Variables are literal text here: what holds one matches no resource, and only a value that is the same text."""
    changed = False
    for element in ("Resource", "NotResource"):
        values = _listed(statement.get(element, []))
        if any("${" in value for value in values):
            statement[element] = [NOWHERE if "${" in value else value for value in values]
            changed = True
    for operator, key, values in _conditions(statement):
        if not any("${" in value for value in values):
            continue
        changed = True
        if _value(case, key) in values and "Not" in operator:
            _never(statement)
            break
        if _value(case, key) in values:
            _drop(statement, operator, key)
        else:
            kept = [re.sub(r"\$\{[^}]*\}", "no-such-text", value) for value in values]
            statement["Condition"][operator][key] = kept
    return changed


def _resource_type(case: Case) -> bool:
    changed = False
    for statement in _statements(case):
        for element in ("Resource", "NotResource"):
            values = _listed(statement.get(element, []))
            new = [_plain(value, case["resource"]) for value in values]
            if new != values:
                statement[element] = new
                changed = True
    return changed


def _plain(value: str, resource: str) -> str:
    pieces = value.split(":", 5)
    if len(pieces) < 6 or pieces[5] == "*" or pieces[2] == "s3":
        return value
    kind = re.split(r"[/:]", pieces[5].replace("${aws:", "${aws-"))[0]
    if not any(mark in kind for mark in ("*", "?", "${")):
        return value
    matches = "${" not in kind and like_resource(parse(value))(resource)
    return resource if matches else NOWHERE


def _several_values(case: Case) -> bool:
    changed = False
    for statement in _statements(case):
        for operator, key, values in _conditions(statement):
            if operator.startswith("For") or operator == "Null" or not isinstance(_value(case, key), list):
                continue
            prefix = "ForAllValues:" if statement["Effect"] == "Allow" else "ForAnyValue:"
            _drop(statement, operator, key)
            statement.setdefault("Condition", {}).setdefault(prefix + operator, {})[key] = values
            changed = True
    return changed


def _no_values(case: Case) -> bool:
    empty = [key for key, value in case["context"].items() if value == []]
    for key in empty:
        del case["context"][key]
    return bool(empty)


def _variable_in_negation(case: Case) -> bool:
    changed = False
    for statement in _statements(case):
        for operator, key, values in _conditions(statement):
            if "Not" not in operator or not any(_unresolved(case, value) for value in values):
                continue
            if _value(case, key) is None and operator.startswith("ForAny"):
                continue
            changed = True
            kept = [value for value in values if not _unresolved(case, value)]
            if kept:
                statement["Condition"][operator][key] = kept
            else:
                _drop(statement, operator, key)
    return changed


def _any_value_if_exists(case: Case) -> bool:
    changed = False
    for statement in _statements(case):
        for operator, key, _ in _conditions(statement):
            if operator.startswith("ForAny") and operator.endswith("IfExists") and _value(case, key) is None:
                _drop(statement, operator, key)
                changed = True
    return changed


def _variable_in_not_resource(case: Case) -> bool:
    changed = False
    for statement in _statements(case):
        values = _listed(statement.get("NotResource", []))
        if not any(_unresolved(case, value) for value in values):
            continue
        changed = True
        statement["NotResource"] = [NOWHERE if _unresolved(case, value) else value for value in values]
    return changed


def _not_principal(case: Case) -> bool:
    changed = False
    who = dict(case["requester"])
    standing = Standing.of(Requester(RequesterKind(who.pop("kind")), **who), case["boundary"] is not None)
    for statement in _statements(case):
        named = statement.get("NotPrincipal")
        if named is None:
            continue
        changed = True
        element = {kind: _listed(names) for kind, names in named.items()}
        del statement["NotPrincipal"]
        statement["Principal"] = "*"
        if not read(element, True, frozenset({"aws"})).reach(standing):
            _never(statement)
    return changed


def _short_arn(case: Case) -> bool:
    changed = False
    for document in (each for level in case["rcps"] for each in level):
        for statement in document["Statement"]:
            for element in ("Resource", "NotResource"):
                values = _listed(statement.get(element, []))
                new = [value + ":*" * (5 - value.count(":")) if value.startswith("arn:") else value for value in values]
                if new != values:
                    statement[element] = new
                    changed = True
    return changed


def _whole_range(case: Case) -> bool:
    changed = False
    for statement in _statements(case):
        for operator, key, values in _conditions(statement):
            if "0.0.0.0/0" in values:
                kept = [value for value in values if value != "0.0.0.0/0"]
                statement["Condition"][operator][key] = [*kept, "0.0.0.0/1", "128.0.0.0/1"]
                changed = True
    return changed


def _single_address(case: Case) -> bool:
    changed = False
    for statement in _statements(case):
        for operator, key, values in _conditions(statement):
            if "IpAddress" in operator:
                new = [value if "/" in value else f"{value}/{128 if ':' in value else 32}" for value in values]
                changed |= new != values
                statement["Condition"][operator][key] = new
    return changed


def _escape(case: Case) -> bool:
    """``${*}`` in comparisons without wildcards: the text ``*``, which stands for itself there."""
    changed = False
    for document in (each for each in _documents(case) if each["Version"] == "2012-10-17"):
        for statement in document["Statement"]:
            for operator, key, values in _conditions(statement):
                if "Equals" in operator and "${*}" in str(values):
                    statement["Condition"][operator][key] = [value.replace("${*}", "*") for value in values]
                    changed = True
    return changed


def _empty_value(case: Case) -> bool:
    def filled(text: str) -> str:
        return _WHOLE.sub(lambda match: "" if _value(case, match[1]) == "" else match[0], text)

    changed = False
    for document in (each for each in _documents(case) if each["Version"] == "2012-10-17"):
        for statement in document["Statement"]:
            for element in ("Resource", "NotResource"):
                values = _listed(statement.get(element, []))
                if (new := [filled(value) for value in values]) != values:
                    statement[element] = new
                    changed = True
            for operator, key, values in _conditions(statement):
                if (new := [filled(value) for value in values]) != values:
                    statement["Condition"][operator][key] = new
                    changed = True
    return changed


def _past_the_session(case: Case) -> bool:
    """Let the session policy allow everything: no change for whom the resource's policy names directly."""
    if case["session"] is None or case["resource_policy"] is None:
        return False
    case["session"]["Statement"].append({"Effect": "Allow", "Action": "*", "Resource": "*"})
    return True


CLASSES: dict[str, Callable[[Case], bool]] = {
    "a variable in a policy of version 2008-10-17": _old_version,
    "several values without a set operator": _several_values,
    "a key with an empty set of values": _no_values,
    "a variable without a value in a negated comparison": _variable_in_negation,
    "ForAnyValue with IfExists on an absent key": _any_value_if_exists,
    "a variable without a value in NotResource": _variable_in_not_resource,
    "a wildcard in the resource type of an ARN": _resource_type,
    "NotPrincipal": _not_principal,
    "a short ARN in a resource control policy": _short_arn,
    "an escape in a comparison without wildcards": _escape,
    "the address range 0.0.0.0/0": _whole_range,
    "a single address against one of the other IP version": _single_address,
    "a variable whose value is an empty text": _empty_value,
    "a direct grant by the resource's policy to a session with a session policy": _past_the_session,
}
