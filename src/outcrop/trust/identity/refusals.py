"""Every way to refuse a request's sender, by the exception name that AWS services use on the wire.

The texts are AWS's where the real service's text is known; SDKs and people search for them. None tells a caller more
than AWS does: ``detail`` is for the operator's log and never leaves the machine.
"""

from __future__ import annotations

from outcrop.base.errors import AuthenticationError
from outcrop.trust.crypto import random_secret_key

# Stands in for the secret of a key that does not exist, so that refusing it costs the same work. New in each process.
DUMMY_SECRET = random_secret_key()


def missing() -> AuthenticationError:
    """Nothing in the request says who sent it."""
    return AuthenticationError("MissingAuthenticationTokenException", "Missing Authentication Token")


def incomplete(message: str) -> AuthenticationError:
    """The signature's parts are absent, doubled or malformed."""
    return AuthenticationError("IncompleteSignatureException", message)


def invalid(message: str, detail: str = "") -> AuthenticationError:
    """The signature is well formed and does not hold for this request, here and now."""
    return AuthenticationError("InvalidSignatureException", message, detail)


def mismatch(detail: str) -> AuthenticationError:
    """The signature is not the one that the sender's secret makes over this request."""
    return invalid(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details.",
        detail,
    )


def unrecognized(detail: str) -> AuthenticationError:
    """The access key is unknown or disabled."""
    return AuthenticationError(
        "UnrecognizedClientException", "The security token included in the request is invalid.", detail
    )


def expired_session(detail: str) -> AuthenticationError:
    """The session that the temporary credentials belong to has ended: clients then fetch new ones."""
    return AuthenticationError("ExpiredTokenException", "The security token included in the request is expired", detail)


def replayed(detail: str) -> AuthenticationError:
    """The same signature came before, at a deployment that lets none be used twice."""
    return invalid("The signature of this request was used before. Sign the request again.", detail)


def busy(detail: str) -> AuthenticationError:
    """No room is left to remember signatures, so that a replay could not be told from a first use."""
    return AuthenticationError("ThrottlingException", "Rate exceeded", detail)


def denied(message: str, detail: str = "") -> AuthenticationError:
    """The kind of proof, or the host it was sent to, is not accepted."""
    return AuthenticationError("AccessDeniedException", message, detail)
