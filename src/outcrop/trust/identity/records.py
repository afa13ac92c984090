"""What the identity store gives back: frozen records, with times as ISO 8601 texts in UTC, and no secrets.

``IssuedKey`` and ``IssuedServiceCredential`` alone hold a secret, at the one time it is shown; neither's ``repr`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from outcrop.base.arn import AccountId, Arn

EntityKind = Literal["root", "user", "group", "role", "policy"]
AccountStatus = Literal["ACTIVE", "SUSPENDED"]
ControlKind = Literal["SERVICE_CONTROL_POLICY", "RESOURCE_CONTROL_POLICY"]


@dataclass(frozen=True, slots=True)
class Account:
    """``parent`` is the organisation's root, a unit, or empty for an account outside the organisation."""

    account: AccountId
    partition: str
    name: str
    status: AccountStatus
    parent: str
    alias: str | None
    created_at: str


@dataclass(frozen=True, slots=True)
class Organisation:
    id: str
    root: str
    management_account: AccountId
    created_at: str


@dataclass(frozen=True, slots=True)
class OrganisationalUnit:
    id: str
    parent: str
    name: str


@dataclass(frozen=True, slots=True)
class ControlPolicy:
    """A service or resource control policy; ``targets`` are the root, units and accounts that it is attached to."""

    id: str
    kind: ControlKind
    name: str
    description: str
    document: str
    targets: tuple[str, ...]
    aws_managed: bool = False


@dataclass(frozen=True, slots=True)
class Entity:
    """What users, groups, roles and managed policies have in common. ``id`` is unique for ever, the name is not."""

    id: str
    account: AccountId
    arn: Arn
    kind: EntityKind
    name: str
    path: str
    created_at: str


@dataclass(frozen=True, slots=True)
class User(Entity):
    boundary: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group(Entity):
    pass


@dataclass(frozen=True, slots=True)
class Role(Entity):
    """``revoked_before``: sessions issued before that time are worth nothing."""

    trust_policy: str = ""
    description: str = ""
    max_session_s: int = 3600
    boundary: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    revoked_before: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    version_id: str
    """``v1``, ``v2``...: a number is never used twice for one policy."""
    document: str
    is_default: bool
    created_at: str


@dataclass(frozen=True, slots=True)
class ManagedPolicy(Entity):
    description: str = ""
    default_version: str = "v1"
    updated_at: str = ""
    attachments: int = 0
    boundary_uses: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    aws_managed: bool = False


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What may be shown of an access key; ``user_name`` is empty for the root's."""

    access_key_id: str
    account: AccountId
    arn: Arn
    active: bool
    created_at: str
    user_name: str = ""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key just made, with the secret that is never shown again. Its ``repr`` leaves the secret out."""

    record: KeyRecord
    secret_access_key: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.record!r})"

    @property
    def access_key_id(self) -> str:
        """The key's id."""
        return self.record.access_key_id


@dataclass(frozen=True, slots=True)
class ServiceCredential:
    """What may be shown of a user's credential for one service, such as a long-term Bedrock API key."""

    id: str
    account: AccountId
    user_name: str
    service: str
    alias: str
    active: bool
    created_at: str
    expires_at: str | None


@dataclass(frozen=True, slots=True)
class IssuedServiceCredential:
    """A credential just made or reset, with the key that is never shown again. Its ``repr`` leaves the key out."""

    record: ServiceCredential
    api_key: str

    def __repr__(self) -> str:
        return f"IssuedServiceCredential({self.record!r})"


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An issuer of web identities. ``jwks`` is its key set as JSON, given offline; empty until then."""

    arn: Arn
    account: AccountId
    url: str
    """The issuer without ``https://``, as condition keys and ARNs have it."""
    client_ids: tuple[str, ...]
    thumbprints: tuple[str, ...]
    jwks: str
    created_at: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LastUse:
    used_at: str
    service: str
    region: str
