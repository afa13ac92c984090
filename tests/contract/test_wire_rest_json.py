"""The rest-json protocol: our own cases, read and written by us, and against botocore as the other end."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from wire_synthetic import Synthetic, comparable, from_json, load

from outcrop.service.wire.errors import AwsError

pytestmark = pytest.mark.contract

DATA = load("rest_json_cases.json")
CASES = {case["title"]: case for case in DATA["cases"]}


@cache
def service(title: str) -> Synthetic:
    """The made-up service of one case, its only operation being ``Op``."""
    case = CASES[title]
    sides = {"Input": (case["in"], case.get("payload_in")), "Output": (case["out"], case.get("payload_out"))}
    shapes = deepcopy(DATA["shapes"])
    for name, (members, payload) in sides.items():
        for member, reference in members.items():
            if reference.get("location") == "uri":
                reference.setdefault("locationName", member)
        shapes[name] = {"type": "structure", "members": members} | ({"payload": payload} if payload else {})
    shapes["Input"]["required"] = case.get("required", [])
    http = {"method": case["operation"]["method"], "requestUri": case["operation"]["uri"]}
    if "responseCode" in case["operation"]:
        http["responseCode"] = case["operation"]["responseCode"]
    return Synthetic({"Op": {"http": http, "input": {"shape": "Input"}, "output": {"shape": "Output"}}}, shapes)


def cases(kind: str) -> list[Any]:
    return [
        pytest.param(case["title"], entry, id=f"{case['title']}-{number}".replace(" ", "-"))
        for case in DATA["cases"]
        for number, entry in enumerate(case[kind])
    ]


def wire(http: dict[str, Any]) -> tuple[str, str, str, dict[str, str], bytes]:
    body = bytes.fromhex(http["hex"]) if "hex" in http else http.get("body", "").encode()
    return http.get("method", "POST"), http["path"], http.get("query", ""), http.get("headers", {}), body


@pytest.mark.parametrize(("title", "entry"), cases("requests"))
def test_a_request_means_what_the_case_says(title: str, entry: dict[str, Any]) -> None:
    assert service(title).decode(*wire(entry["http"])) == ("Op", comparable(from_json(entry["value"])))


@pytest.mark.parametrize(
    ("title", "entry"), [case for case in cases("requests") if not case.values[1].get("not_by_botocore")]
)
def test_what_botocore_sends_means_its_parameters(title: str, entry: dict[str, Any]) -> None:
    params = from_json(entry.get("params", entry["value"]))
    name, value = service(title).decode(*service(title).client_request("Op", params))
    assert (name, value) == ("Op", comparable(from_json(entry["value"])))


@pytest.mark.parametrize(("title", "entry"), cases("responses"))
def test_a_response_is_written_as_the_case_says(title: str, entry: dict[str, Any]) -> None:
    status, headers, body = service(title).encode("Op", from_json(entry["value"]))
    expected = entry["http"]
    assert status == expected["status"]
    assert headers == expected.get("headers", {"content-type": "application/json"})
    if "text" in expected:
        assert body == expected["text"].encode()
    else:
        assert json.loads(body) == expected["body"]


@pytest.mark.parametrize(
    ("title", "entry"),
    [case for case in cases("responses") if CASES[case.values[0]].get("parsed_by_botocore", True)],
)
def test_what_we_send_botocore_reads(title: str, entry: dict[str, Any]) -> None:
    parsed = service(title).client_parse("Op", *service(title).encode("Op", from_json(entry["value"])))
    assert comparable(parsed) == comparable(from_json(entry.get("parsed", entry["value"])))


@pytest.mark.parametrize(
    "entry", [pytest.param(entry, id=entry["title"].replace(" ", "-")) for entry in DATA["refused"]]
)
def test_a_bad_request_is_refused_with_a_typed_error(entry: dict[str, Any]) -> None:
    with pytest.raises(AwsError) as caught:
        service(entry["case"]).decode(*wire(entry["http"]))
    assert caught.value.code == entry["code"]
    assert 400 <= caught.value.status < 500
    assert entry["names"] in caught.value.message


def test_an_absent_idempotency_token_is_filled_by_the_client_and_known_to_the_table() -> None:
    made_up = service("an idempotency token comes from the client")
    _, value = made_up.decode(*made_up.client_request("Op", {"name": "n"}))
    assert len(value["token"]) == 36
    assert made_up.operations["Op"].token == "token"
