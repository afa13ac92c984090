"""What a key service refuses, under the exception names of the KMS API.

The texts follow the real service's where they are known. Not covered: which of two failures is told when a request has
both; the real service's order is not written down anywhere.
"""

from __future__ import annotations

from outcrop.base.errors import KeyRefused


def no_key(named: str) -> KeyRefused:
    """No key of one's own account has this id or ARN."""
    return KeyRefused("NotFoundException", f"Key '{named}' does not exist")


def no_alias(arn: str) -> KeyRefused:
    """No alias of one's own account has this name."""
    return KeyRefused("NotFoundException", f"Alias {arn} is not found.")


def foreign_key(arn: str) -> KeyRefused:
    """Whether another account has this key is not told."""
    return KeyRefused(
        "AccessDeniedException",
        f"The request is not authorized on resource {arn}: "
        "it does not exist, or no resource-based policy allows the action.",
    )


def ciphertext_of_nobody() -> KeyRefused:
    """A ciphertext names a key that is not there, or not for the caller: one answer for both."""
    return KeyRefused(
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
        "or you are not allowed to access.",
    )


def invalid_ciphertext() -> KeyRefused:
    """A ciphertext does not open: changed, cut, or another encryption context. It is not told which."""
    return KeyRefused("InvalidCiphertextException", "")


def disabled(arn: str) -> KeyRefused:
    return KeyRefused("DisabledException", f"{arn} is disabled.")


def wrong_state(arn: str, what: str) -> KeyRefused:
    """The key is in a state from which this cannot be done."""
    return KeyRefused("KMSInvalidStateException", f"{arn} {what}.")


def unsupported(what: str, remedy: str = "") -> KeyRefused:
    return KeyRefused("UnsupportedOperationException", what, remedy)


def invalid(what: str) -> KeyRefused:
    return KeyRefused("ValidationException", what)
