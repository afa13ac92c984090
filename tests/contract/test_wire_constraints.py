"""One violation per constraint in the service models is refused by name; valid inputs survive a round trip."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from wire_synthetic import comparable, tree
from wire_violations import Input, Violation

from outcrop.service.wire.built import BUILT
from outcrop.service.wire.codec import decode_input
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.generated.operations import OPERATIONS

pytestmark = pytest.mark.contract

REST = [
    (service, name)
    for service, names in BUILT.items()
    for name in names
    if OPERATIONS[service, name].protocol == "rest-json"
]
CHUNK = 20
QUICK = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@cache
def operation_input(service: str, name: str) -> Input:
    return Input(service, name)


@cache
def violations(service: str, name: str) -> list[Violation]:
    return operation_input(service, name).violations()


def decoded(service: str, name: str, value: dict[str, Any]) -> Any:
    return decode_input(OPERATIONS[service, name], *operation_input(service, name).request(value))


def refused(service: str, name: str, violation: Violation, value: dict[str, Any]) -> None:
    try:
        decoded(service, name, value)
    except AwsError as refusal:
        error = refusal
    else:
        pytest.fail(f"{violation.rule} at {violation.named} was accepted")
    assert error.status == 400
    validation = "ValidationError" if service == "sagemaker-runtime" else "ValidationException"
    assert error.code == ("SerializationException" if violation.rule == "type" else validation)
    assert f"'{violation.named}'" in error.message
    json.dumps(error.message).encode("ascii")


def chunks() -> list[Any]:
    return [
        pytest.param(service, name, start, id=f"{name}-{start}")
        for service, name in REST
        for start in range(0, len(violations(service, name)), CHUNK)
    ]


@pytest.mark.parametrize(("service", "name", "start"), chunks())
@settings(QUICK, max_examples=2)
@given(data=st.data())
def test_each_constraint_of_the_model_is_enforced_and_named(
    service: str, name: str, start: int, data: st.DataObject
) -> None:
    for violation in violations(service, name)[start : start + CHUNK]:
        value = data.draw(operation_input(service, name).tree(violation.steps, violation.values))
        refused(service, name, violation, value)


@pytest.mark.parametrize(("service", "name"), REST, ids=lambda value: value)
@QUICK
@given(data=st.data())
def test_valid_inputs_survive_a_round_trip(service: str, name: str, data: st.DataObject) -> None:
    value = data.draw(operation_input(service, name).tree())
    received = operation_input(service, name).as_received(value)
    assert tree(decoded(service, name, value)) == comparable(received)


def test_the_models_are_searched_thoroughly() -> None:
    rules = {violation.rule for service, name in REST for violation in violations(service, name)}
    assert rules == {"enum", "length", "not null", "one member", "pattern", "range", "required", "type"}
    assert len(violations("bedrock-runtime", "Converse")) > 300
