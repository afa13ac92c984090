"""Errors as the AWS wire spells them: code, status, body, for rest-json, json-1.1 and the query protocol.

    OutcropError
    └── AwsError       any error that a client is told about
        └── NoRoute    no operation answers this method and path

Codes and statuses come from the service models; those that no model declares (signature failures, unknown operations)
are in ``COMMON``, from the AWS "Common errors" reference pages. The code travels in the header ``x-amzn-errortype``
(json-1.1: also in the body, as ``__type``), the text in the body, as SDKs expect. A stream tells an error as its last
frame. Not covered: localised messages, and error shapes of rest-xml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from xml.sax.saxutils import escape

import msgspec

from outcrop.base.errors import AuthenticationError, InvariantError, OutcropError
from outcrop.service.wire.eventstream import encode_exception
from outcrop.service.wire.generated.operations import SERVICES
from outcrop.service.wire.model import ErrorShape, Operation

COVERAGE_PAGE = "docs/reference/coverage.md"

Headers = list[tuple[bytes, bytes]]

JSON_RPC_TYPE = b"application/x-amz-json-1.1"

COMMON: Mapping[str, ErrorShape] = {
    shape.code: shape
    for shape in (
        ErrorShape("AccessDeniedException", 403),
        ErrorShape("ExpiredTokenException", 403),
        ErrorShape("IncompleteSignatureException", 403),
        ErrorShape("InternalFailure", 500, fault=True),
        ErrorShape("InternalServerException", 500, fault=True),
        ErrorShape("InvalidSignatureException", 403),
        ErrorShape("MissingAuthenticationTokenException", 403),
        ErrorShape("NotImplementedException", 501, fault=True),
        ErrorShape("RequestEntityTooLargeException", 413),
        ErrorShape("RequestTimeoutException", 408),
        ErrorShape("SerializationException", 400),
        ErrorShape("ServiceUnavailableException", 503, fault=True),
        ErrorShape("ThrottlingException", 429),
        ErrorShape("UnknownOperationException", 404),
        ErrorShape("UnrecognizedClientException", 403),
        ErrorShape("ValidationException", 400),
    )
}

# The query protocol has names and statuses of its own for the same failures; known here under both names.
_QUERY: Mapping[str, ErrorShape] = {
    "AccessDeniedException": ErrorShape("AccessDenied", 403),
    "ExpiredTokenException": ErrorShape("ExpiredToken", 403),
    "IncompleteSignatureException": ErrorShape("IncompleteSignature", 400),
    "InternalServerException": ErrorShape("InternalFailure", 500, fault=True),
    "InvalidSignatureException": ErrorShape("SignatureDoesNotMatch", 403),
    "MissingAuthenticationTokenException": ErrorShape("MissingAuthenticationToken", 403),
    "NotImplementedException": ErrorShape("NotImplemented", 501, fault=True),
    "RequestExpired": ErrorShape("RequestExpired", 400),
    "SerializationException": ErrorShape("MalformedInput", 400),
    "ServiceUnavailableException": ErrorShape("ServiceUnavailable", 503, fault=True),
    "ThrottlingException": ErrorShape("Throttling", 400),
    "UnknownOperationException": ErrorShape("InvalidAction", 400),
    "UnrecognizedClientException": ErrorShape("InvalidClientTokenId", 403),
    "ValidationException": ErrorShape("ValidationError", 400),
}

# Services of the json protocol answer 400 where the others say 403, 404 or 429 (KMS API Reference, "Common Errors").
JSON: Mapping[str, ErrorShape] = {
    code: replace(shape, status=400) if shape.status in (403, 404, 429) else shape for code, shape in COMMON.items()
}

QUERY: Mapping[str, ErrorShape] = {**_QUERY, **{shape.code: shape for shape in _QUERY.values()}}
_PROTOCOL_ERRORS: Mapping[str, Mapping[str, ErrorShape]] = {"json": JSON, "query": QUERY}
_REST_NAMES = {shape.code: name for name, shape in _QUERY.items()}

# Services that declare the same failure under a name of their own.
RENAMED: Mapping[str, Mapping[str, str]] = {
    "cloudtrail": {"InternalServerException": "InternalFailure"},
    "iam": {
        "InternalServerException": "ServiceFailureException",
        "ResourceNotFoundException": "NoSuchEntityException",
    },
    "kms": {
        "InternalServerException": "KMSInternalException",
        "ResourceNotFoundException": "NotFoundException",
    },
    "sagemaker-runtime": {
        "InternalServerException": "InternalFailure",
        "ModelErrorException": "ModelError",
        "ModelStreamErrorException": "ModelStreamError",
        "ResourceNotFoundException": "ValidationError",
        "ServiceUnavailableException": "ServiceUnavailable",
        "ValidationException": "ValidationError",
    },
}

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class AwsError(OutcropError):
    """An error that goes out on the wire: ``code`` and ``status`` are what the client of that service expects.

    Bedrock's names stand for every service's own: ``ValidationException`` of ``sagemaker-runtime`` goes out as
    ``ValidationError``. Without a service, the name is Bedrock's; ``at`` gives the error to the service that was
    asked. ``fields`` are further members of the body by their wire names. A code that nobody declares is a bug.
    ``status`` is for the rare reply whose status is not the code's own.
    """

    id = "OC-4000"

    def __init__(
        self,
        code: str,
        message: str,
        service: str = "",
        fields: Mapping[str, object] | None = None,
        status: int | None = None,
    ) -> None:
        self.name = code
        self.shape = shape_of(service, code)
        self.code = self.shape.code
        self.status = status or self.shape.status
        self.message = message
        self.service = service
        self.fields = fields or {}
        super().__init__(f"{self.code}: {message}")

    def at(self, service: str) -> AwsError:
        """The same error as ``service`` tells it."""
        if service == self.service:
            return self
        status = None if self.status == self.shape.status else self.status
        return type(self)(self.name, self.message, service, self.fields, status)

    @property
    def protocol(self) -> str:
        """The protocol that the erring service speaks; rest-json where no service is known."""
        return SERVICES[self.service].protocol if self.service in SERVICES else "rest-json"

    def render(self, protocol: str | None = None, request_id: str = "") -> tuple[int, Headers, bytes]:
        """Status, headers and body; ``request_id`` goes into the body where the protocol puts it there."""
        if (protocol or self.protocol) == "query":
            return self.status, [(b"content-type", b"text/xml")], self._xml(request_id)
        json_rpc = (protocol or self.protocol) == "json"
        content_type = JSON_RPC_TYPE if json_rpc else b"application/json"
        headers = [(b"content-type", content_type), (b"x-amzn-errortype", self.code.encode("ascii"))]
        return self.status, headers, self.json({"__type": self.code} if json_rpc else {})

    def json(self, head: Mapping[str, str] = MappingProxyType({})) -> bytes:
        """The error's members as JSON after those of ``head``, the message spelt as the service spells it."""
        return msgspec.json.encode({**head, self.shape.message: _encodable(self.message), **self.fields})

    def frame(self, operation: Operation) -> bytes:
        """The error as the last frame of ``operation``'s event stream.

        A code that the stream does not declare goes out as its internal error, which every stream has.
        """
        declared = operation.stream_errors
        if self.code in declared:
            return encode_exception(declared[self.code], self.json())
        fallback = next(member for code, member in declared.items() if code.startswith("Internal"))
        return encode_exception(fallback, msgspec.json.encode({self.shape.message: _encodable(self.message)}))

    def _xml(self, request_id: str) -> bytes:
        namespace = SERVICES[self.service].xml_namespace if self.service in SERVICES else ""
        sender = "Receiver" if self.shape.fault else "Sender"
        return (
            f'<ErrorResponse xmlns="{namespace}"><Error><Type>{sender}</Type><Code>{self.code}</Code>'
            f"<Message>{xml_text(self.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        ).encode()


class NoRoute(AwsError):
    """No operation answers this method and path."""

    id = "OC-4404"


def shape_of(service: str, code: str) -> ErrorShape:
    """The error shape that ``service`` uses for ``code``: its own, its protocol's, AWS's in common, Bedrock's.

    ``code`` is the shape's name in the model or its code on the wire, ``NoSuchEntityException`` or ``NoSuchEntity``.
    """
    known = SERVICES.get(service)
    if known is not None:
        code = RENAMED.get(service, {}).get(code, code)
        tables = [_by_name_and_code(service), _PROTOCOL_ERRORS.get(known.protocol, COMMON)]
    else:
        tables = []
    for table in (*tables, COMMON, *map(_by_name_and_code, SERVICES)):
        if code in table:
            return table[code]
    raise InvariantError(f"Broken invariant: an error named {code!r} is declared by a service or common to AWS.")


@cache
def _by_name_and_code(service: str) -> Mapping[str, ErrorShape]:
    """What one service declares; where a code of one shape is the name of another, the name counts."""
    errors = SERVICES[service].errors
    return {**{shape.code: shape for shape in errors.values()}, **errors}


def no_route(method: str, path: bytes, service: str = "") -> NoRoute:
    """Nothing answers here; the path is shown shortened and in ASCII."""
    shown = path[:200].decode("latin-1").encode("unicode_escape").decode("ascii")
    message = f"No operation answers {method} {shown}. The operations of this service are listed in {COVERAGE_PAGE}."
    return NoRoute("UnknownOperationException", message, service)


def not_built(operation: Operation) -> AwsError:
    """501: the operation exists in AWS and is not built here yet."""
    message = (
        f"{operation.name} of {operation.service} is not built in this release of Outcrop. "
        f"{COVERAGE_PAGE} lists the operations that are."
    )
    return AwsError("NotImplementedException", message, operation.service)


def authentication_error(error: AuthenticationError, service: str) -> AwsError:
    """An authentication failure under the name and status that the service's protocol gives it.

    A code that only the query protocol has (``RequestExpired``) is an invalid signature for rest-json services, and a
    code unknown here is an unrecognised client: whatever trust reports, the sender is refused with a typed error.
    """
    code = _REST_NAMES.get(error.code, error.code)
    if service in SERVICES and SERVICES[service].protocol == "query":
        # by the query protocol's own code, since a service may declare the other name for something else
        return AwsError(QUERY.get(code, QUERY["UnrecognizedClientException"]).code, error.what, service)
    if code == "RequestExpired":
        code = "InvalidSignatureException"
    return AwsError(code if code in COMMON else "UnrecognizedClientException", error.what, service)


def validation(operation: Operation, message: str) -> AwsError:
    """400: the input breaks a rule of its shape."""
    return AwsError("ValidationException", message, operation.service)


def serialization(operation: Operation, message: str) -> AwsError:
    """400: the input could not be read at all."""
    return AwsError("SerializationException", message, operation.service)


def xml_text(text: str) -> str:
    """``text`` as XML character data; characters that XML 1.0 cannot carry become U+FFFD."""
    return escape(_NOT_XML.sub("\ufffd", text))


def _encodable(text: str) -> str:
    """``text`` with lone surrogates replaced, so that it can be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
