"""What of an input may be written down."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from msgspec import Meta

from outcrop.service.wire.generated import bedrock_runtime, sagemaker_runtime
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.model import Shape
from outcrop.service.wire.redact import MASK, TEXT_CHARS_MAX, redacted, request_parameters, sensitive_members

SECRET = "canary-5d1f"
Password = Annotated[str, Meta(min_length=1, extra={"sensitive": True})]


class Leaf(Shape, frozen=True, kw_only=True):
    name: str | None = None
    password: Password | None = None


class Tree(Shape, frozen=True, kw_only=True, rename="pascal"):
    user_name: str | None = None
    password: Password | None = None
    codes: list[Password] | None = None
    table: dict[str, Password] | None = None
    keyed: dict[Password, str] | None = None
    leaf: Leaf | None = None
    leaves: list[Leaf] | None = None
    hidden_leaf: Annotated[Leaf, Meta(extra={"sensitive": True})] | None = None
    blob: bytes | None = None
    document: Any = None
    count: int | None = None
    flag: bool | None = None
    when: datetime | None = None


def test_sensitive_members_are_masked_wherever_they_stand() -> None:
    value = Tree(
        user_name="a",
        password=SECRET,
        codes=[SECRET],
        table={"k": SECRET},
        keyed={SECRET: "v"},
        leaf=Leaf(name="n", password=SECRET),
        leaves=[Leaf(password=SECRET)],
        hidden_leaf=Leaf(name=SECRET),
    )
    shown = redacted(value)
    assert SECRET not in repr(shown)
    assert shown == {
        "userName": "a",
        "password": MASK,
        "codes": [MASK],
        "table": {"k": MASK},
        "keyed": MASK,
        "leaf": {"name": "n", "password": MASK},
        "leaves": [{"password": MASK}],
        "hiddenLeaf": MASK,
    }


def test_what_is_not_sensitive_is_kept_as_json_data() -> None:
    when = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    value = Tree(count=0, flag=False, when=when, document={"a": [1, {"b": "c"}, None]}, leaf=Leaf())
    assert redacted(value) == {
        "count": 0,
        "flag": False,
        "when": "2024-01-02T03:04:05Z",
        "document": {"a": [1, {"b": "c"}]},
        "leaf": {},
    }


@pytest.mark.parametrize(("chars", "kept"), [(TEXT_CHARS_MAX, True), (TEXT_CHARS_MAX + 1, False)])
def test_blobs_and_long_texts_are_left_out(chars: int, kept: bool) -> None:
    value = Tree(user_name="x" * chars, blob=SECRET.encode(), document={"d": SECRET.encode(), "t": "x" * chars})
    assert redacted(value) == ({"userName": "x" * chars, "document": {"t": "x" * chars}} if kept else {"document": {}})


def test_the_mask_of_a_structure_lists_its_members() -> None:
    assert sensitive_members(Tree) == {"password", "hidden_leaf"}
    assert sensitive_members(bedrock_runtime.InvokeModelRequest) == {"body", "request_metadata"}


def test_services_that_carry_content_show_their_identifiers_only() -> None:
    message = bedrock_runtime.Message(role="user", content=[bedrock_runtime.ContentBlock(text=SECRET)])
    converse = bedrock_runtime.ConverseRequest(
        model_id="m", messages=[message], additional_model_request_fields={"x": SECRET}
    )
    assert request_parameters(OPERATIONS["bedrock-runtime", "Converse"], converse) == {"modelId": "m"}
    invoke = sagemaker_runtime.InvokeEndpointInput(
        endpoint_name="e", body=SECRET.encode(), custom_attributes=SECRET, content_type="text/plain"
    )
    shown = request_parameters(OPERATIONS["sagemaker-runtime", "InvokeEndpoint"], invoke)
    assert shown == {"endpointName": "e", "contentType": "text/plain"}
