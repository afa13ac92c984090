"""One tree for every error Outcrop raises on purpose.

    OutcropError
    ├── UserError               bad input or state that the caller can mend
    │   ├── ModelRefused        a model directory that cannot be taken in, and why
    │   ├── TemplateRefused     a chat template that fails, loops or grows past its limits
    │   ├── TrainingDataRefused examples to tune on that cannot be learned from, line by line
    │   ├── NotFound            a name that stands for nothing here
    │   ├── AlreadyExists       a name that is taken
    │   ├── DatabaseUnusable    the database cannot be read or written now
    │   ├── StillInUse          a thing that others depend on, and so cannot go yet
    │   ├── QuotaReached        one more than there may be
    │   ├── PromptTooLong       more tokens than the model's context window holds
    │   ├── Overloaded          a bounded queue is full; try again later
    │   ├── EngineStopped       the engine was closed or failed for good
    │   ├── AuthenticationError a request whose sender could not be established
    │   ├── Unsealable          sealed bytes that do not open under this key and context
    │   ├── KeyStoreUnavailable a key store that cannot be opened, reached or used as asked
    │   ├── KeyRefused          a KMS key that does not do what was asked: its state, a name or a limit is against it
    │   ├── PolicyRefused       a policy document that is malformed, too large or not understood
    │   ├── AuditUnavailable    the audit trail cannot take a record, so nothing is done that would need one
    │   ├── NotKept             an account that keeps nothing of its requests, and was asked to
    │   └── AuditBroken         the audit trail does not hold: changed, cut short, or not this deployment's
    └── InvariantError          a broken promise of our own code: a bug, never the caller's fault

Each message says what happened, to which thing, and what would make it right. ``id`` is stable: scripts and
``outcrop explain ID`` rely on it. What the AWS wire calls an exception lives in ``service.wire.errors``.
"""

from __future__ import annotations


class OutcropError(Exception):
    """Root of the tree."""

    id = "OC-0000"


class UserError(OutcropError):
    """Something was asked that cannot be done as asked; the message says what would make it right."""

    id = "OC-1000"

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what} {remedy}".rstrip())


class ModelRefused(UserError):
    """A model directory was not taken in: a file is missing, unsafe, damaged or of an unknown kind."""

    id = "OC-2100"


class TemplateRefused(UserError):
    """A chat template failed, ran too long or produced too much text."""

    id = "OC-2200"


class TrainingDataRefused(UserError):
    """Examples to tune on cannot be learned from: the message names the first lines and what is wrong with them."""

    id = "OC-2300"


class DatabaseUnusable(UserError):
    """The database cannot be read or written now: a full disk, a lock held too long, a server that is away."""

    id = "OC-1503"


class NotFound(UserError):
    """Nothing is known under this name."""

    id = "OC-1404"


class AlreadyExists(UserError):
    """The name is taken already."""

    id = "OC-1409"


class StillInUse(UserError):
    """Other things depend on it: it cannot be deleted before them."""

    id = "OC-1410"


class QuotaReached(UserError):
    """There are as many as there may be already, or it is larger than it may be."""

    id = "OC-1429"


class PromptTooLong(UserError):
    """The prompt has more tokens than the model's context window holds."""

    id = "OC-3100"


class Overloaded(UserError):
    """The engine's bounded queue is full: nothing was started, and the same request may succeed later."""

    id = "OC-3200"


class EngineStopped(UserError):
    """The engine was closed, or failed for good: the request was not finished, and this engine takes no more."""

    id = "OC-3300"


class AuthenticationError(UserError):
    """The sender of a request could not be established.

    ``code`` is the AWS exception name that a caller sees; ``detail`` is for the operator's log only.
    """

    id = "OC-4100"

    def __init__(self, code: str, message: str, detail: str = "") -> None:
        self.code = code
        self.detail = detail
        super().__init__(message)


class Unsealable(UserError):
    """Sealed bytes do not open: another key, another context, or changed bytes.

    The text is the same whichever it was, so that it tells nothing to someone who tries.
    """

    id = "OC-4200"

    def __init__(self) -> None:
        super().__init__(
            "The sealed data does not open under this key and context.",
            "Restore the file from a copy, and the key store that was in use when it was sealed.",
        )


class KeyStoreUnavailable(UserError):
    """The key store cannot be opened, reached or used as asked: no data key is made or unwrapped meanwhile."""

    id = "OC-4210"


class KeyRefused(UserError):
    """A KMS key does not do what was asked: its state, a name, a ciphertext or a limit stands against it.

    ``code`` is the exception's name in the KMS API.
    """

    id = "OC-4220"

    def __init__(self, code: str, what: str, remedy: str = "") -> None:
        self.code = code
        super().__init__(what, remedy)


class PolicyRefused(UserError):
    """A policy document is malformed, too large, or says something that is not understood here."""

    id = "OC-4300"


class AuditUnavailable(UserError):
    """The audit trail cannot take a record now: what cannot be recorded is not done, or not acknowledged."""

    id = "OC-4400"


class AuditBroken(UserError):
    """The audit trail does not hold: it was changed, cut short or mixed with another; the message names the place."""

    id = "OC-4410"


class NotKept(UserError):
    """The account's data retention mode forbids to keep anything of its requests, which this would."""

    id = "OC-4500"


class InvariantError(OutcropError):
    """A promise of Outcrop's own code does not hold: please report it with the text that follows."""

    id = "OC-9000"


def check(condition: bool, invariant: str) -> None:
    """Raise ``InvariantError`` naming ``invariant`` unless it holds; unlike ``assert`` it survives ``python -O``."""
    if not condition:
        raise InvariantError(f"Broken invariant: {invariant}.")
