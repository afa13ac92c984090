"""Who a request comes from, and the port through which the verifier finds a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from outcrop.base.arn import AccountId, Arn

PrincipalKind = Literal["root", "user", "role", "anonymous"]
"""``role`` is a session of a role; ``anonymous`` sent an operation that takes no signature."""

Proof = Literal["sigv4", "sigv4-query", "bearer", "none"]


@dataclass(frozen=True, slots=True)
class Session:
    """What a temporary credential says of itself, read from its sealed token.

    ``role_arn`` is empty for GetSessionToken's sessions, which stand for the user (or root) that asked. ``policies``
    are the session policies' texts, ``policy_arns`` those named; both empty means that none were passed.
    """

    role_arn: str
    name: str
    issued_at: datetime
    expires_at: datetime
    policies: tuple[str, ...] = ()
    policy_arns: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: tuple[str, ...] = ()
    source_identity: str = ""
    federated_provider: str = ""
    chained: bool = False


@dataclass(frozen=True, slots=True)
class Principal:
    """An established sender: what it is, and how this one request proved it.

    ``arn`` of a session is ``arn:aws:sts::ID:assumed-role/ROLE/NAME``, and ``user_id`` ``ROLEID:NAME``.
    """

    account: AccountId
    arn: Arn
    user_id: str
    access_key_id: str
    kind: PrincipalKind
    auth: Proof
    session: Session | None = None
    token_expires_at: datetime | None = None
    """When the proof itself ends, where it does: a session's end, a short-term API key's end."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An active access key with its secret and its owner. Its ``repr`` leaves the secret out."""

    access_key_id: str
    secret: str
    account: AccountId
    arn: Arn
    user_id: str
    kind: PrincipalKind

    def __repr__(self) -> str:
        return f"Credential(access_key_id={self.access_key_id!r}, arn={str(self.arn)!r})"

    def principal(self, auth: Proof) -> Principal:
        """This key's owner, as proven by ``auth``."""
        return Principal(self.account, self.arn, self.user_id, self.access_key_id, self.kind, auth)


class CredentialSource(Protocol):
    """Where the verifier looks keys up."""

    def lookup(self, access_key_id: str) -> Credential | None:
        """The active key of this id; ``None`` for unknown and disabled ones, in the same time."""
        ...


class MemoryCredentials:
    """Keys held in memory: the twin of ``IdentityStore`` for tests and benchmarks."""

    def __init__(self, *credentials: Credential) -> None:
        self._by_id = {credential.access_key_id: credential for credential in credentials}

    def lookup(self, access_key_id: str) -> Credential | None:
        return self._by_id.get(access_key_id)


def root_credential(partition: str, account: AccountId, access_key_id: str, secret: str) -> Credential:
    """A key of the account's root, whose user id is the account id (as GetCallerIdentity shows it)."""
    arn = Arn(partition, "iam", "", account, "root")
    return Credential(access_key_id, secret, account, arn, account, "root")
