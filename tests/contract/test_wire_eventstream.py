"""Event-stream frames and errors as botocore, the unmodified client library, reads them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
import pytest
from botocore.eventstream import EventStream, EventStreamBuffer
from botocore.exceptions import EventStreamError
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore.session import get_session

from outcrop.base.errors import AuthenticationError
from outcrop.service.wire.errors import AwsError, authentication_error, no_route, not_built
from outcrop.service.wire.eventstream import encode_event
from outcrop.service.wire.generated.bedrock_runtime import (
    ContentBlockDelta,
    ContentBlockDeltaEvent,
    ConverseStreamMetadataEvent,
    ConverseStreamMetrics,
    MessageStartEvent,
    MessageStopEvent,
    TokenUsage,
)
from outcrop.service.wire.generated.operations import OPERATIONS, SERVICES
from outcrop.service.wire.model import Operation

pytestmark = pytest.mark.contract

STREAMS = [operation for operation in OPERATIONS.values() if operation.streaming and not operation.duplex]
REST = [operation for operation in OPERATIONS.values() if operation.protocol == "rest-json"]


@cache
def service_model(service: str) -> ServiceModel:
    return get_session().get_service_model(service)


def client_model(operation: Operation) -> OperationModel:
    """The operation as botocore knows it."""
    return service_model(operation.service).operation_model(operation.name)


class Raw:
    """The part of an HTTP response that botocore's event stream reads."""

    def __init__(self, frames: bytes) -> None:
        self._frames = frames

    def stream(self) -> Any:
        # one byte at a time: a frame may be cut anywhere
        return (self._frames[i : i + 1] for i in range(len(self._frames)))

    def close(self) -> None:
        """Nothing to close."""


def read(operation: Operation, frames: bytes) -> list[Any]:
    """The events that botocore makes of ``frames``."""
    model = client_model(operation)
    parser = create_parser("rest-json")
    return list(EventStream(Raw(frames), model.get_event_stream_output(), parser._event_stream_parser, operation.name))


def test_a_converse_stream_reads_as_the_events_that_were_sent() -> None:
    operation = OPERATIONS["bedrock-runtime", "ConverseStream"]
    delta = ContentBlockDeltaEvent(content_block_index=0, delta=ContentBlockDelta(text="h\u00e9 \U0001f600"))
    usage = TokenUsage(input_tokens=1, output_tokens=2, total_tokens=3)
    events = [
        ("messageStart", MessageStartEvent(role="assistant")),
        ("contentBlockDelta", delta),
        ("messageStop", MessageStopEvent(stop_reason="end_turn")),
        ("metadata", ConverseStreamMetadataEvent(usage=usage, metrics=ConverseStreamMetrics(latency_ms=5))),
    ]
    frames = b"".join(encode_event(name, msgspec.json.encode(event)) for name, event in events)
    assert read(operation, frames) == [{name: json.loads(msgspec.json.encode(event))} for name, event in events]


def test_frames_carry_the_headers_of_the_real_service_in_its_order_and_a_padding_member() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_event("messageStart", b'{"role":"assistant"}'))
    (message,) = list(buffer)
    assert list(message.headers.items()) == [
        (":event-type", "messageStart"),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ]
    assert list(json.loads(message.payload)) == ["role", "p"]


def test_a_raw_payload_part_is_not_padded() -> None:
    operation = OPERATIONS["sagemaker-runtime", "InvokeEndpointWithResponseStream"]
    frames = encode_event("PayloadPart", b"\x00raw", "application/octet-stream")
    assert read(operation, frames) == [{"PayloadPart": {"Bytes": b"\x00raw"}}]


@pytest.mark.parametrize("operation", STREAMS, ids=lambda o: f"{o.service}.{o.name}")
def test_every_stream_error_is_raised_by_botocore_under_its_member_name(operation: Operation) -> None:
    for code, member in operation.stream_errors.items():
        error = AwsError(code, "what happened", operation.service)
        with pytest.raises(EventStreamError) as caught:
            read(operation, error.frame(operation))
        assert caught.value.response["Error"] == {"Code": member, "Message": "what happened"}


def test_an_error_that_a_stream_does_not_declare_ends_it_as_an_internal_error() -> None:
    operation = OPERATIONS["bedrock-runtime", "ConverseStream"]
    with pytest.raises(EventStreamError) as caught:
        read(operation, AwsError("ResourceNotFoundException", "gone").frame(operation))
    assert caught.value.response["Error"]["Code"] == "internalServerException"


def parsed_error(operation: Operation, error: AwsError) -> dict[str, Any]:
    status, headers, body = error.at(operation.service).render(request_id="r-1")
    assert status == error.at(operation.service).status
    model = client_model(operation)
    response = {
        "status_code": status,
        "headers": {name.decode(): value.decode() for name, value in headers},
        "body": body,
    }
    parsed: dict[str, Any] = create_parser(operation.protocol).parse(response, model.output_shape)
    return parsed


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: f"{o.service}.{o.name}")
def test_every_declared_error_reads_as_its_code_and_message(operation: Operation) -> None:
    for name in operation.errors:
        shape = SERVICES[operation.service].errors[name]
        error = AwsError(name, "what <happened>", operation.service)
        assert error.status == shape.status
        parsed = parsed_error(operation, error)
        assert parsed["Error"]["Code"] == shape.code
        assert parsed["Error"]["Message"] == "what <happened>"


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda o: f"{o.service}.{o.name}")
def test_an_operation_that_is_not_built_says_so(operation: Operation) -> None:
    error = not_built(operation)
    parsed = parsed_error(operation, error)
    assert error.status == 501
    assert parsed["Error"]["Code"] == ("NotImplemented" if operation.protocol == "query" else "NotImplementedException")
    for said in (operation.name, operation.service, "docs/reference/coverage.md"):
        assert said in parsed["Error"]["Message"]


def test_modelled_members_of_an_error_reach_the_client() -> None:
    operation = OPERATIONS["bedrock-runtime", "Converse"]
    fields = {"originalStatusCode": 500, "resourceName": "m"}
    status, headers, body = AwsError("ModelErrorException", "broke", "bedrock-runtime", fields).render()
    assert (status, json.loads(body)) == (424, {"message": "broke", **fields})
    assert (b"x-amzn-errortype", b"ModelErrorException") in headers
    assert operation.errors


@pytest.mark.parametrize(
    ("code", "rest", "query"),
    [
        ("UnrecognizedClientException", ("UnrecognizedClientException", 403), ("InvalidClientTokenId", 403)),
        ("InvalidSignatureException", ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403)),
        ("SignatureDoesNotMatch", ("InvalidSignatureException", 403), ("SignatureDoesNotMatch", 403)),
        (
            "MissingAuthenticationTokenException",
            ("MissingAuthenticationTokenException", 403),
            ("MissingAuthenticationToken", 403),
        ),
        ("IncompleteSignatureException", ("IncompleteSignatureException", 403), ("IncompleteSignature", 400)),
        ("ExpiredTokenException", ("ExpiredTokenException", 403), ("ExpiredToken", 403)),
        ("RequestExpired", ("InvalidSignatureException", 403), ("RequestExpired", 400)),
        ("AccessDeniedException", ("AccessDeniedException", 403), ("AccessDenied", 403)),
        ("NeverHeardOf", ("UnrecognizedClientException", 403), ("InvalidClientTokenId", 403)),
    ],
)
def test_authentication_failures_have_the_names_of_the_protocol(
    code: str, rest: tuple[str, int], query: tuple[str, int]
) -> None:
    for operation, expected in (
        (OPERATIONS["bedrock", "ListFoundationModels"], rest),
        (OPERATIONS["sts", "GetCallerIdentity"], query),
    ):
        error = authentication_error(AuthenticationError(code, "refused"), operation.service)
        assert (error.code, error.status) == expected
        assert parsed_error(operation, error)["Error"] == {
            **({"Type": "Sender"} if operation.protocol == "query" else {}),
            "Code": expected[0],
            "Message": "refused",
        }


def test_bedrocks_names_stand_for_sagemakers_own() -> None:
    for code, expected in (
        ("ValidationException", ("ValidationError", 400)),
        ("ModelErrorException", ("ModelError", 424)),
        ("InternalServerException", ("InternalFailure", 500)),
        ("ServiceUnavailableException", ("ServiceUnavailable", 503)),
        ("ModelNotReadyException", ("ModelNotReadyException", 429)),
        ("AccessDeniedException", ("AccessDeniedException", 403)),
        ("ThrottlingException", ("ThrottlingException", 429)),
    ):
        error = AwsError(code, "x").at("sagemaker-runtime")
        assert (error.code, error.status) == expected
        members = json.loads(error.render()[2])
        declared = expected[0] in SERVICES["sagemaker-runtime"].errors
        assert members == ({"Message": "x"} if declared else {"message": "x"})


def test_an_unknown_path_is_a_404_whose_text_stays_short_and_printable() -> None:
    error = no_route("GET", b"/\xff\r\n" + b"a" * 5000)
    status, headers, body = error.render()
    assert (status, error.code) == (404, "UnknownOperationException")
    assert len(body) < 600
    assert "\n" not in json.loads(body)["message"]
    assert all(b"\n" not in value for _, value in headers)


def test_a_message_with_a_lone_surrogate_can_still_be_told() -> None:
    assert AwsError("ValidationException", "\ud800").render()[0] == 400
    assert AwsError("ValidationException", "\ud800").at("sts").render()[0] == 400
