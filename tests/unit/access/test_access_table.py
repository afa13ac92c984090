"""The table of permissions is whole and says nothing that the service models do not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader

from outcrop.base.errors import InvariantError
from outcrop.service import routing
from outcrop.service.access import table
from outcrop.service.access.members import has_member
from outcrop.service.endpoints import VENDOR, VENDOR_BELOW
from outcrop.service.operations.anthropic.parse import CountBody, DirectBody
from outcrop.service.operations.openai.parse import ChatBody
from outcrop.service.wire.built import BUILT
from outcrop.service.wire.generated.operations import OPERATIONS

VENDOR_INPUTS = {
    "anthropic:CreateMessage": DirectBody,
    "anthropic:CountTokens": CountBody,
    "openai:CreateChatCompletion": ChatBody,
}
AWS = sorted(name for name in table.load() if not name.startswith(("anthropic:", "openai:")))


def test_every_built_operation_of_every_surface_has_a_row() -> None:
    built = [f"{service}:{name}" for service, names in BUILT.items() for name in names]
    vendors = [endpoint.name for endpoint in (*VENDOR.values(), *VENDOR_BELOW.values())]
    table.require_complete([*built, *vendors])


def test_an_operation_without_a_row_starts_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    routing.Routes()
    rows = {name: row for name, row in table.load().items() if name != "bedrock-runtime:Converse"}
    monkeypatch.setattr(table, "load", lambda: rows)
    with pytest.raises(InvariantError, match=r"missing: bedrock-runtime:Converse\Z"):
        routing.Routes()


def test_an_operation_that_takes_no_signature_is_decided_by_its_handler() -> None:
    unsigned = [f"{o.service}:{o.name}" for o in OPERATIONS.values() if not o.signed]
    assert unsigned
    assert {table.load()[operation].decided for operation in unsigned} == {"handler"}


@pytest.mark.parametrize("operation", AWS)
def test_rows_name_operations_and_members_of_the_service_models(operation: str) -> None:
    service, name = operation.split(":")
    model = Loader().load_service_model(service, "service-2")
    described = model["operations"][name]
    for path in table.load()[operation].members:
        shape: dict[str, Any] = model["shapes"][described["input"]["shape"]]
        for step in path.split("."):
            assert step in shape["members"], f"{operation} has no member {path}"
            shape = model["shapes"][shape["members"][step]["shape"]]


@pytest.mark.parametrize("operation", VENDOR_INPUTS)
def test_rows_of_the_vendors_name_members_of_their_bodies(operation: str) -> None:
    row = table.load()[operation]
    assert row.members
    assert all(has_member(VENDOR_INPUTS[operation], path) for path in row.members)
    assert not has_member(VENDOR_INPUTS[operation], "model.id")
    if row.stream_action:
        assert has_member(VENDOR_INPUTS[operation], "stream")


GOOD = 'service = "kms"\noperations = ["Encrypt"]\nresource = "key:KeyId"\nsource = "s"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace('source = "s"', ""), "source"),
        (GOOD + 'colour = "red"', "colour"),
        (GOOD.replace("key:KeyId", "lock:KeyId"), "names a kind"),
        (GOOD.replace("key:KeyId", "KeyId"), "names a kind"),
        (GOOD.replace("key:KeyId", ""), "names a kind"),
        (GOOD + 'action = "encrypt"', "is an action"),
        (GOOD.replace('"kms"', '"s3"'), "prefix"),
        (GOOD.replace('["Encrypt"]', '["Encrypt", "Encrypt"]'), "has one row"),
        (GOOD + 'decided = "free"', "decided elsewhere"),
        (GOOD + 'decided = "nobody"', "decided"),
        (GOOD + "]", "can be read"),
    ],
)
def test_a_table_that_is_not_understood_is_refused(tmp_path: Path, text: str, told: str) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("[[rows]]\n" + GOOD)
    bad.write_text("[[rows]]\n" + text)
    assert table.load(good)["kms:Encrypt"].permissions[0].action == "kms:Encrypt"
    with pytest.raises(InvariantError, match=told):
        table.load(bad)
