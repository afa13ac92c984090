"""A key and what belongs to it, as frozen records read from the tables.

Not covered: key material. It stays in the key store; the ``material`` of an HMAC key is wrapped under its master key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from outcrop.base.arn import AccountId, Arn
from outcrop.trust.crypto import sha256_hex
from outcrop.trust.keys.states import KeyState

Context = Mapping[str, str]
"""An encryption context: names and values that must be given again to decrypt, and are not stored."""


class KeyUsage(StrEnum):
    ENCRYPT = "ENCRYPT_DECRYPT"
    MAC = "GENERATE_VERIFY_MAC"


class KeySpec(StrEnum):
    SYMMETRIC = "SYMMETRIC_DEFAULT"
    HMAC_256 = "HMAC_256"


class KeyManager(StrEnum):
    """``AWS`` marks the key that the service itself made for an account; its owner can read about it, not change it."""

    CUSTOMER = "CUSTOMER"
    AWS = "AWS"


class RotationKind(StrEnum):
    AUTOMATIC = "AUTOMATIC"
    ON_DEMAND = "ON_DEMAND"


USAGES: Mapping[KeySpec, KeyUsage] = {KeySpec.SYMMETRIC: KeyUsage.ENCRYPT, KeySpec.HMAC_256: KeyUsage.MAC}


def master_name(key_id: str) -> str:
    """The name of a key's backing key in the key store."""
    return f"kms-{key_id}"


def material_id(key_id: str, version: int) -> str:
    """The public name of one version of a key's material: 64 hexadecimal digits that say nothing of it."""
    return sha256_hex(f"{key_id} {version}".encode())


@dataclass(frozen=True, slots=True)
class Key:
    """One KMS key as it stands. ``version`` is its backing key's current one; times are UTC.

    ``rotating`` is a rotation that was begun and not finished, empty otherwise. ``rotation_days`` is ``None`` while
    automatic rotation is off.
    """

    key_id: str
    arn: Arn
    account: AccountId
    manager: KeyManager
    usage: KeyUsage
    spec: KeySpec
    state: KeyState
    description: str
    policy: str = field(repr=False)
    created_at: datetime
    version: int
    rotating: str
    rotation_days: int | None
    rotation_next: datetime | None
    deletion_at: datetime | None
    deletion_days: int | None
    material: bytes | None = field(repr=False)

    @property
    def master_name(self) -> str:
        return master_name(self.key_id)


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name of a key, within one account. ``name`` begins with ``alias/``."""

    name: str
    arn: Arn
    key_id: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Rotation:
    """One version of a key's material; ``kind`` is ``None`` for the first."""

    key_id: str
    version: int
    kind: RotationKind | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """A permission on one key for one principal, beside the key's policy.

    ``grantee`` and ``retiring`` are ARNs of principals (``retiring`` may be empty). ``subset`` and ``equals`` limit it
    to requests whose encryption context holds these pairs, or is exactly these; ``None`` is no limit.
    """

    grant_id: str
    key_id: str
    name: str
    grantee: str
    retiring: str
    issuer: str
    operations: tuple[str, ...]
    subset: Context | None
    equals: Context | None
    created_at: datetime
