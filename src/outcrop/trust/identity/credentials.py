"""Who a request comes from, and the ports through which the verifier finds a secret.

Not covered: what a principal may do. Nothing here is a permission.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from outcrop.base.arn import AccountId, Arn
from outcrop.trust.crypto import sha256_hex

PrincipalKind = Literal["root", "user", "role", "anonymous"]
"""``role`` is a session of a role; ``anonymous`` sent an operation that takes no signature."""

Proof = Literal["sigv4", "sigv4-query", "bearer", "none"]

BearerType = Literal["SHORT_TERM", "LONG_TERM"]
"""The values of the condition key ``bedrock:BearerTokenType``: a presigned request; a service-specific credential."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a temporary credential says of itself, read from its sealed token.

    ``role_arn`` is empty for GetSessionToken's sessions, which stand for the user (or root) that asked. ``policies``
    are the session policies' texts, ``policy_arns`` those named; both empty means that none were passed.
    ``subject_id`` is the unique id of the role, or of the user or root, at the time of issue. ``mfa``
    says whether a multi-factor device was used (``aws:MultiFactorAuthPresent``); ``None`` leaves the key absent, as it
    is for long-term credentials.
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
    subject_id: str = ""
    mfa: bool | None = None


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
    """When the proof itself ends, where it does: a session's end, an API key's end."""
    bearer_type: BearerType | None = None
    """Which kind of API key the request came with, if any."""

    @property
    def token_issued_at(self) -> datetime | None:
        """When the temporary credentials were issued (``aws:TokenIssueTime``); ``None`` for long-term ones."""
        return None if self.session is None else self.session.issued_at


@dataclass(frozen=True, slots=True)
class Credential:
    """An active access key with its secret and its owner, and its session if it is temporary.

    Its ``repr`` leaves the secret out.
    """

    access_key_id: str
    secret: str
    account: AccountId
    arn: Arn
    user_id: str
    kind: PrincipalKind
    session: Session | None = None

    def __repr__(self) -> str:
        return f"Credential(access_key_id={self.access_key_id!r}, arn={str(self.arn)!r})"

    def principal(
        self, auth: Proof, expires_at: datetime | None = None, bearer_type: BearerType | None = None
    ) -> Principal:
        """This key's owner, as proven by ``auth``; the proof ends with the session, or at ``expires_at`` before it."""
        of_session = None if self.session is None else self.session.expires_at
        ends = [end for end in (expires_at, of_session) if end is not None]
        return Principal(
            self.account,
            self.arn,
            self.user_id,
            self.access_key_id,
            self.kind,
            auth,
            self.session,
            min(ends, default=None),
            bearer_type,
        )


class CredentialSource(Protocol):
    """Where the verifier looks long-term keys up."""

    def lookup(self, access_key_id: str) -> Credential | None:
        """The active key of this id; ``None`` for unknown and disabled ones, in the same time."""
        ...

    def lookup_api_key(self, text: str) -> Principal | None:
        """The user of the long-term API key ``text``, as proven by it (``LONG_TERM``); ``None`` where there is none.

        What is compared is a hash, in constant time; unknown, disabled and wrong keys cost the same work.
        """
        ...


class MemoryCredentials:
    """Keys held in memory: the twin of ``IdentityStore`` for tests and benchmarks."""

    def __init__(self, *credentials: Credential, api_keys: Mapping[str, Principal] | None = None) -> None:
        """``api_keys`` are the owners of long-term API keys by the key's whole text."""
        self._by_id = {credential.access_key_id: credential for credential in credentials}
        self._api_keys = {sha256_hex(text.encode()): owner for text, owner in (api_keys or {}).items()}

    def lookup(self, access_key_id: str) -> Credential | None:
        return self._by_id.get(access_key_id)

    def lookup_api_key(self, text: str) -> Principal | None:
        # The dictionary compares hashes of 256-bit secrets: what its timing tells of a hash helps nobody to the key.
        return self._api_keys.get(sha256_hex(text.encode()))


def root_credential(partition: str, account: AccountId, access_key_id: str, secret: str) -> Credential:
    """A key of the account's root, whose user id is the account id (as GetCallerIdentity shows it)."""
    arn = Arn(partition, "iam", "", account, "root")
    return Credential(access_key_id, secret, account, arn, account, "root")
