"""Accounts, access keys and the proof of who sent a request.

``Authenticator`` turns a ``SignedRequest`` into a ``Principal``; it finds secrets through ``CredentialSource``, which
``IdentityStore`` (SQLite) and ``MemoryCredentials`` (its twin for tests) both are.
"""

from outcrop.trust.identity.authenticate import MAX_SKEW_S, Authenticator
from outcrop.trust.identity.canonical import SignedRequest, SigningRules
from outcrop.trust.identity.credentials import (
    BearerType,
    Credential,
    CredentialSource,
    MemoryCredentials,
    Principal,
    Session,
    root_credential,
)
from outcrop.trust.identity.layers import requester_of
from outcrop.trust.identity.records import IssuedKey, KeyRecord
from outcrop.trust.identity.replay import ReplayCache
from outcrop.trust.identity.sessions import (
    IssuedSession,
    MemorySubjects,
    SessionKeys,
    Sessions,
    Subject,
    SubjectSource,
    packed_percent,
)
from outcrop.trust.identity.store import IdentityStore

__all__ = [
    "MAX_SKEW_S",
    "Authenticator",
    "BearerType",
    "Credential",
    "CredentialSource",
    "IdentityStore",
    "IssuedKey",
    "IssuedSession",
    "KeyRecord",
    "MemoryCredentials",
    "MemorySubjects",
    "Principal",
    "ReplayCache",
    "Session",
    "SessionKeys",
    "Sessions",
    "SignedRequest",
    "SigningRules",
    "Subject",
    "SubjectSource",
    "packed_percent",
    "requester_of",
    "root_credential",
]
