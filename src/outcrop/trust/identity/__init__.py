"""Accounts, access keys and the proof of who sent a request.

``Authenticator`` turns a ``SignedRequest`` into a ``Principal``; it finds secrets through ``CredentialSource``, which
``IdentityStore`` (SQLite) and ``MemoryCredentials`` (its twin for tests) both are.
"""

from outcrop.trust.identity.authenticate import MAX_SKEW_S, Authenticator
from outcrop.trust.identity.canonical import SignedRequest, SigningRules
from outcrop.trust.identity.credentials import (
    Credential,
    CredentialSource,
    MemoryCredentials,
    Principal,
    root_credential,
)
from outcrop.trust.identity.store import IdentityStore, IssuedKey, KeyRecord

__all__ = [
    "MAX_SKEW_S",
    "Authenticator",
    "Credential",
    "CredentialSource",
    "IdentityStore",
    "IssuedKey",
    "KeyRecord",
    "MemoryCredentials",
    "Principal",
    "SignedRequest",
    "SigningRules",
    "root_credential",
]
