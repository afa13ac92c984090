"""Failures on their way to the wire.

Operations raise ``Fault`` with Bedrock's name for what is wrong and need not know which surface asked; ``to_aws``
turns a fault, or an error of the rooms below, into what that surface calls it. Texts follow recordings of the real
service where one exists. What is not the caller's fault is logged with the request id and answered without detail.
"""

from __future__ import annotations

import logging

from outcrop.base.errors import AuthenticationError, OutcropError, Overloaded, PromptTooLong, TemplateRefused
from outcrop.service.wire.errors import AwsError, authentication_error

log = logging.getLogger("outcrop.service")

INVALID_MODEL = "The provided model identifier is invalid."
TOO_LONG = "Input is too long for requested model."
THROTTLED = "Too many requests, please wait before trying again."
INTERNAL = "The system encountered an unexpected error during processing. Try your request again."


class Fault(OutcropError):
    """A request that cannot be served as it is; ``code`` is a Bedrock exception name, ``fields`` its other members."""

    id = "OC-4001"

    def __init__(self, code: str, message: str, **fields: object) -> None:
        self.code = code
        self.message = message
        self.fields = fields
        super().__init__(message)


def invalid(message: str) -> Fault:
    """The caller's request breaks a rule of the operation or of the model."""
    return Fault("ValidationException", message)


def malformed(detail: str) -> Fault:
    """A model body that breaks the model's own schema, in the real service's words."""
    return invalid(
        f"The model returned the following errors: Malformed input request: {detail}, "
        "please reformat your input and try again."
    )


def to_aws(error: Exception, service: str, request_id: str) -> AwsError:
    """What ``service`` calls ``error`` on the wire; an empty ``service`` takes the names common to AWS."""
    if isinstance(error, AwsError):
        return error
    if isinstance(error, AuthenticationError):
        log.info("request %s: %s %s %s", request_id, error.code, error.what, error.detail)
        return authentication_error(error, service)
    fault = _fault(error)
    if fault is None:
        log.error("request %s failed", request_id, exc_info=error)
        fault = Fault("InternalServerException", INTERNAL)
    return AwsError.of(service, fault.code, fault.message, **fault.fields)


def _fault(error: Exception) -> Fault | None:
    if isinstance(error, Fault):
        return error
    if isinstance(error, PromptTooLong):
        return invalid(TOO_LONG)
    if isinstance(error, TemplateRefused):
        return invalid(f"The model's chat template refused the conversation: {error.what}")
    if isinstance(error, Overloaded):
        return Fault("ThrottlingException", THROTTLED)
    return None


def vendor_status(error: AwsError) -> int:
    """The HTTP status outside AWS's own surface, where missing or bad credentials are 401 and not 403."""
    return 401 if error.status == 403 and error.code != "AccessDeniedException" else error.status
