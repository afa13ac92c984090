"""Unguessable names and secrets, from the operating system's random source.

The prefixes of unique ids are those of the IAM user guide, "IAM identifiers", section "Understanding unique ID
prefixes". The ids of users, roles, groups and policies there are 21 characters long, access key ids 20.
"""

from __future__ import annotations

import base64
import secrets
from typing import Literal, TypeAlias

PrincipalKind: TypeAlias = Literal["user", "role", "group", "instance-profile", "policy", "policy-version"]

PREFIXES: dict[PrincipalKind, str] = {
    "user": "AIDA",
    "role": "AROA",
    "group": "AGPA",
    "instance-profile": "AIPA",
    "policy": "ANPA",
    "policy-version": "ANVA",
}
LONG_TERM_KEY_PREFIX = "AKIA"
TEMPORARY_KEY_PREFIX = "ASIA"
SERVICE_CREDENTIAL_PREFIX = "ACCA"  # credentials of one service, such as long-term API keys


def random_token(size_bytes: int = 32) -> str:
    """A URL-safe text of ``size_bytes`` random bytes (4 characters for every 3 bytes)."""
    return secrets.token_urlsafe(size_bytes)


def random_access_key_id() -> str:
    """A long-term access key id as AWS forms them: ``AKIA`` and 16 base32 characters, 80 random bits."""
    return random_id(LONG_TERM_KEY_PREFIX, 16)


def random_temporary_key_id() -> str:
    """A temporary access key id as AWS forms them: ``ASIA`` and 16 base32 characters, 80 random bits."""
    return random_id(TEMPORARY_KEY_PREFIX, 16)


def random_service_credential_id() -> str:
    """The id of a service-specific credential: ``ACCA`` and 17 base32 characters, 85 random bits."""
    return random_id(SERVICE_CREDENTIAL_PREFIX)


def random_unique_id(kind: PrincipalKind) -> str:
    """The unique id of a new user, role, group, ...: its prefix and 17 base32 characters, 85 random bits."""
    return random_id(PREFIXES[kind])


def random_secret_key() -> str:
    """A secret access key as AWS forms them: 40 base64 characters, 240 random bits."""
    return base64.b64encode(secrets.token_bytes(30)).decode()


def random_id(prefix: str, characters: int = 17) -> str:
    """An id as AWS forms them: ``prefix`` and ``characters`` random base32 characters of 5 bits each."""
    return prefix + base64.b32encode(secrets.token_bytes(characters)).decode()[:characters]


def random_lower_id(prefix: str, characters: int) -> str:
    """The same in lower case, as the ids of organisations, units and control policies are."""
    return prefix + random_id("", characters).lower()
