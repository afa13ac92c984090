"""Failures on their way to the wire.

Operations raise ``AwsError`` with Bedrock's name for what is wrong and need not know which surface asked; ``to_aws``
turns it, or an error of the rooms below, into what that surface calls it. Texts follow recordings of the real
service where one exists. What is not the caller's fault is logged with the request id and answered without detail.
"""

from __future__ import annotations

import logging

from outcrop.base.errors import (
    AuthenticationError,
    DatabaseUnusable,
    EngineStopped,
    KeyRefused,
    NotKept,
    Overloaded,
    PromptTooLong,
    TemplateRefused,
    UserError,
)
from outcrop.service.wire.errors import AwsError, NoRoute, authentication_error

log = logging.getLogger("outcrop.service")

INVALID_MODEL = "The provided model identifier is invalid."
TOO_LONG = "Input is too long for requested model."
THROTTLED = "Too many requests, please wait before trying again."
UNAVAILABLE = "The service is unable to process your request at this time. Try your request again."
INTERNAL = "The system encountered an unexpected error during processing. Try your request again."


def invalid(message: str) -> AwsError:
    """The caller's request breaks a rule of the operation or of the model."""
    return AwsError("ValidationException", message)


def client_gone() -> AwsError:
    """What is recorded of a call whose client hung up before its reply; it is sent to nobody."""
    return AwsError("RequestTimeoutException", "The client went away.")


def malformed(detail: str) -> AwsError:
    """A model body that breaks the model's own schema, in the real service's words."""
    return invalid(
        f"The model returned the following errors: Malformed input request: {detail}, "
        "please reformat your input and try again."
    )


def to_aws(error: Exception, service: str, request_id: str) -> AwsError:
    """What ``service`` calls ``error`` on the wire; an empty ``service`` takes the names common to AWS."""
    if isinstance(error, AuthenticationError):
        log.info("request %s: %s %s %s", request_id, error.code, error.what, error.detail)
        # Outside AWS's own surface there is one answer to a sender who is not known, whatever the proof was.
        return authentication_error(error, service) if service else AwsError("UnrecognizedClientException", error.what)
    known = _known(error)
    if isinstance(error, DatabaseUnusable):
        log.error("request %s: %s", request_id, error)  # names files: for the operator only
    if known is None:
        log.error("request %s failed", request_id, exc_info=error)
        known = AwsError("InternalServerException", INTERNAL)
    # What reached no operation may still have named a service; its protocol is the sender's.
    return known if isinstance(known, NoRoute) else known.at(service)


def _known(error: Exception) -> AwsError | None:
    if isinstance(error, AwsError):
        return error
    if isinstance(error, PromptTooLong):
        return invalid(TOO_LONG)
    if isinstance(error, TemplateRefused):
        return invalid(f"The model's chat template refused the conversation: {error.what}")
    if isinstance(error, Overloaded):
        return AwsError("ThrottlingException", THROTTLED)
    if isinstance(error, KeyRefused):  # of a key that protects what was asked for; KMS tells its own by their names
        if error.code == "KeyUnavailableException":
            return AwsError("ServiceUnavailableException", UNAVAILABLE)
        return AwsError("AccessDeniedException", f"The KMS key that this is encrypted with cannot be used: {error}")
    if isinstance(error, EngineStopped | DatabaseUnusable):
        return AwsError("ServiceUnavailableException", UNAVAILABLE)
    if isinstance(error, NotKept):
        return invalid(str(error))
    if type(error) is UserError:  # its kinds are told apart above; ModelRefused, say, is the operator's to mend
        return invalid(str(error))
    return None


def vendor_status(error: AwsError) -> int:
    """The HTTP status outside AWS's own surface, where missing or bad credentials are 401 and not 403."""
    return 401 if error.status == 403 and error.code != "AccessDeniedException" else error.status
