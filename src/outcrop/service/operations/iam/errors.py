"""What IAM calls the refusals of the identity store.

The store's texts are IAM's own where they are known; the remedy that some carry is for a person and goes along.
"""

from __future__ import annotations

from outcrop.base.errors import AlreadyExists, NotFound, QuotaReached, StillInUse, UserError
from outcrop.service.wire.errors import AwsError
from outcrop.trust.identity.service_credentials import UnsupportedService
from outcrop.trust.policy import PolicyRefused

SERVICE = "iam"

_CODES: tuple[tuple[type[UserError], str], ...] = (
    (PolicyRefused, "MalformedPolicyDocumentException"),
    (UnsupportedService, "ServiceNotSupportedException"),
    (NotFound, "NoSuchEntityException"),
    (AlreadyExists, "EntityAlreadyExistsException"),
    (StillInUse, "DeleteConflictException"),
    (QuotaReached, "LimitExceededException"),
)


def told(error: UserError) -> AwsError | None:
    """The store's refusal under IAM's name; ``None`` for an error that is of another room."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return AwsError(code, str(error), SERVICE)
    return AwsError("InvalidInputException", str(error), SERVICE) if type(error) is UserError else None


def invalid_input(message: str) -> AwsError:
    """A member's value is of its form and does not make sense here."""
    return AwsError("InvalidInputException", message, SERVICE)


def validation(message: str) -> AwsError:
    """The request breaks a rule of the operation."""
    return AwsError("ValidationException", message, SERVICE)


def no_such_entity(message: str) -> AwsError:
    """What is named is not there."""
    return AwsError("NoSuchEntityException", message, SERVICE)
