"""Temporary credentials that no table holds: the session token is the session, sealed.

A token is base64url, without padding, of::

    1 byte   format version, 1
    4 bytes  which sealing key made it
    n bytes  a sealed message (``trust.crypto.aead``) of the deflated record

The record says who the session is and what limits it. The secret access key is derived from the sealing key and the
record's random id, so it is stored nowhere and every node that has the sealing key can verify. Two keys are live at a
time: ``current`` seals, ``previous`` still opens; keep it for ``DURATION_MAX_S`` after a rotation.

A session ends at its own time, when its role's sessions issued before some moment are revoked, and when the role or
user behind it is gone: the subject's unique id must be the present one, so a role made again under an old name inherits
none. Opened tokens are remembered (``OPENED_MAX`` of them, least recently used first out); what can change is asked
from ``SubjectSource`` at every request.

Not covered: ending one session alone, and changes to the session itself (its tags and policies are those of its
issue). Whoever holds a sealing key can make any session: it belongs in the key store. The process's memory holds the
secrets of remembered sessions. The token's length tells how well its content compresses, which its owner knows anyway.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

import msgspec

from outcrop.base.arn import AccountId, Arn
from outcrop.base.clock import Clock
from outcrop.base.errors import AuthenticationError, Unsealable, UserError, check
from outcrop.trust.crypto import aead
from outcrop.trust.crypto.kdf import derive
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.identity import refusals
from outcrop.trust.identity.credentials import Credential, CredentialSource, PrincipalKind, Session

ACCESS_KEY_PREFIX = "ASIA"
DURATION_MAX_S = 129_600  # 36 hours: GetSessionToken's longest, the longest of all
PACKED_BYTES_MAX = 2048  # session policies, policy ARNs and tags, deflated
TOKEN_LENGTH_MAX = 5120  # characters; the largest content allowed makes about 4,700
OPENED_MAX = 4096

_VERSION = b"\x01"
_KEY_ID_BYTES = 4
_CONTEXT = {"use": "session token", "version": "1"}
_RECORD_BYTES_MAX = 262_144  # after inflation; 50 tags of the longest allowed, all transitive, are 103,000
_DICTIONARY = (
    b'"StringEquals":{"aws:PrincipalTag/"Condition":{"arn:aws:iam::aws:policy/arn:aws-us-gov:iam::'
    b'"NotAction":"Deny","bedrock:InvokeModel","bedrock:Converse","arn:aws:bedrock:*::foundation-model/'
    b'{"Version":"2012-10-17","Statement":[{"Sid":"","Effect":"Allow","Action":["bedrock:*"],"Resource":"*"}]}'
    b"rolearn:aws:iam::role/arn:aws:sts::assumed-role/"
)
"""Texts that most records share. Part of the format: changing it makes the tokens of before unreadable."""


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The two live sealing keys, 32 bytes each; ``previous`` opens what was sealed before the last rotation."""

    current: Secret
    previous: Secret | None = None

    @classmethod
    def generate(cls) -> SessionKeys:
        """A new random key: for tests, and for a deployment whose sessions may end with its process."""
        return cls(Secret(secrets.token_bytes(32)))

    def rotated(self, new: Secret) -> SessionKeys:
        """``new`` as the current key, and the one that was as the previous; what was previous opens nothing more."""
        return SessionKeys(new, self.current)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a session stands for, as it is now: its unique id, and since when its sessions count."""

    subject_id: str
    revoked_before: datetime | None = None
    """Sessions issued before this moment have ended."""


class SubjectSource(Protocol):
    """Where the verifier asks what is behind a session; at every request, so an answer must not take long."""

    def session_subject(self, arn: str) -> Subject | None:
        """The role, user or root of this ``iam`` ARN as it is now; ``None`` when there is none (any more)."""
        ...


class MemorySubjects:
    """Roles and users held in memory: the twin of ``IdentityStore`` for tests and benchmarks."""

    def __init__(self, subjects: Mapping[str, Subject] | None = None) -> None:
        self.subjects = dict(subjects or {})

    def session_subject(self, arn: str) -> Subject | None:
        return self.subjects.get(arn)


@dataclass(frozen=True, slots=True)
class IssuedSession:
    """New temporary credentials. Its ``repr`` shows neither the secret nor the token."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: datetime


class Sessions:
    """Issues and verifies temporary credentials; any thread may use it."""

    def __init__(self, keys: SessionKeys, subjects: SubjectSource, clock: Clock) -> None:
        self._subjects = subjects
        self._clock = clock
        self.use(keys)

    def use(self, keys: SessionKeys) -> None:
        """Seal and open with ``keys`` from now on; tokens of keys that are not among them stop working at once."""
        current = _Key(keys.current)
        rings = [current] if keys.previous is None else [current, _Key(keys.previous)]
        ring = {key.key_id: key for key in rings}
        self._current = current
        self._open = lru_cache(maxsize=OPENED_MAX)(lambda token: _open(ring, token))

    def issue(
        self,
        *,
        account: AccountId,
        arn: Arn,
        user_id: str,
        kind: PrincipalKind,
        session: Session,
        length_min: int = 0,
    ) -> IssuedSession:
        """Credentials for ``session`` of the principal given; times are kept to the second, rounded down.

        The token has at least ``length_min`` characters (up to 4,096). ``UserError`` for a session that does not fit.
        """
        if packed_percent(session) > 100:
            raise UserError(
                f"The session's policies and tags take {packed_percent(session)}% of the space there is.",
                "Pass a smaller policy, or fewer or shorter tags.",
            )
        lives_s = (session.expires_at - session.issued_at).total_seconds()
        check(0 < lives_s <= DURATION_MAX_S, "a session lives at most 36 hours")
        check(session.subject_id != "", "a session has a subject")
        record = _Record.of(account, arn, user_id, kind, session)
        plain = msgspec.msgpack.encode(record)
        check(len(plain) <= _RECORD_BYTES_MAX, "a session's tags and policies are within the limits of STS")
        plaintext = _deflate(plain)
        head = len(_VERSION) + _KEY_ID_BYTES + aead.OVERHEAD_BYTES
        plaintext = plaintext.ljust(-(-length_min * 3 // 4) - head, b"\0")
        key = self._current
        token = _encode(_VERSION + key.key_id + aead.seal(key.sealing, plaintext, _CONTEXT))
        if len(token) > TOKEN_LENGTH_MAX:
            raise UserError("The session's names are too long for a session token.", "Use a shorter role path.")
        identifier, secret = key.credentials(record.token_id)
        return IssuedSession(identifier, secret, token, _time(record.expires_s))

    def open(self, access_key_id: str, token: str) -> Credential:
        """The credentials of a session that lives, or an ``AuthenticationError``; proves nothing of who sent them."""
        credential = self._open(token)
        session = credential.session
        check(session is not None, "an opened token holds a session")
        assert session is not None
        if credential.access_key_id != access_key_id:
            raise refusals.unrecognized(f"the session token is not that of access key {access_key_id}")
        if self._clock.now() >= session.expires_at:
            raise refusals.expired_session(f"session {credential.arn} ended at {session.expires_at.isoformat()}")
        behind = session.role_arn or str(credential.arn)
        subject = self._subjects.session_subject(behind)
        if subject is None or subject.subject_id != session.subject_id:
            raise refusals.unrecognized(f"{behind} of id {session.subject_id}, behind the session, is gone")
        if subject.revoked_before is not None and session.issued_at < subject.revoked_before:
            raise refusals.expired_session(f"the sessions of {behind} from before {subject.revoked_before} are revoked")
        return credential


def packed_percent(session: Session) -> int:
    """How much of the space for session policies and tags ``session`` takes, in percent, rounded up."""
    content = (session.policies, session.policy_arns, dict(session.tags))
    size = len(_deflate(msgspec.msgpack.encode(content))) if any(content) else 0
    return -(-size * 100 // PACKED_BYTES_MAX)


def find_credential(
    access_key_id: str, token: str | None, credentials: CredentialSource, sessions: Sessions | None
) -> Credential | None:
    """The credential that a claim names: a session's by its ``token``, else a long-term one; ``None`` if unknown.

    ``AuthenticationError`` where key and token do not belong together, and for a session that has ended.
    """
    if access_key_id.startswith(ACCESS_KEY_PREFIX) != (token is not None):
        what = "came without its session token" if token is None else "is long-term and came with a session token"
        raise refusals.unrecognized(f"access key {access_key_id} {what}")
    if token is None:
        return credentials.lookup(access_key_id)
    return None if sessions is None else sessions.open(access_key_id, token)


class _Key:
    """What one sealing key is used for, each use under a key of its own."""

    def __init__(self, key: Secret) -> None:
        check(len(key) == 32, "a session sealing key has 32 bytes")
        self.key_id = derive(key, "session key id", size_bytes=_KEY_ID_BYTES)
        self.sealing = Secret(derive(key, "session tokens"))
        self._secrets = Secret(derive(key, "session secret keys"))

    def credentials(self, token_id: bytes) -> tuple[str, str]:
        """The access key id and the secret access key of the token with this random id."""
        made = derive(self._secrets, "session secret key", salt=token_id, size_bytes=40)
        return ACCESS_KEY_PREFIX + base64.b32encode(made[:10]).decode(), base64.b64encode(made[10:]).decode()


class _Record(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a token says, in the order of its format. Texts, so that this form outlives the classes it is made from."""

    token_id: bytes
    account: str
    kind: PrincipalKind
    arn: str
    user_id: str
    issued_s: int
    expires_s: int
    role_arn: str
    subject_id: str
    name: str
    policies: tuple[str, ...]
    policy_arns: tuple[str, ...]
    tags: dict[str, str]
    transitive: tuple[str, ...]
    source_identity: str
    federated_provider: str
    chained: bool
    mfa: bool | None

    @classmethod
    def of(cls, account: AccountId, arn: Arn, user_id: str, kind: PrincipalKind, session: Session) -> _Record:
        return cls(
            secrets.token_bytes(16),
            account,
            kind,
            str(arn),
            user_id,
            int(session.issued_at.timestamp()),
            int(session.expires_at.timestamp()),
            session.role_arn,
            session.subject_id,
            session.name,
            session.policies,
            session.policy_arns,
            dict(session.tags),
            session.transitive_tag_keys,
            session.source_identity,
            session.federated_provider,
            session.chained,
            session.mfa,
        )

    def session(self) -> Session:
        return Session(
            role_arn=self.role_arn,
            name=self.name,
            issued_at=_time(self.issued_s),
            expires_at=_time(self.expires_s),
            policies=self.policies,
            policy_arns=self.policy_arns,
            tags=self.tags,
            transitive_tag_keys=self.transitive,
            source_identity=self.source_identity,
            federated_provider=self.federated_provider,
            chained=self.chained,
            subject_id=self.subject_id,
            mfa=self.mfa,
        )


_RECORDS = msgspec.msgpack.Decoder(_Record)


def _open(ring: Mapping[bytes, _Key], token: str) -> Credential:
    """The credentials that ``token`` seals, whatever the time is; failures are not remembered."""
    sealed = _decode(token)
    start = len(_VERSION) + _KEY_ID_BYTES
    key = ring.get(sealed[len(_VERSION) : start])
    if sealed[: len(_VERSION)] != _VERSION or key is None:
        raise _not_ours("it has another format, or was made under a sealing key that is not live")
    try:
        plaintext = aead.unseal(key.sealing, sealed[start:], _CONTEXT)
    except Unsealable:
        raise _not_ours("it does not open") from None
    # From here on nothing can fail but by our own fault: nobody else could have sealed it.
    record = _RECORDS.decode(_inflate(plaintext))
    access_key_id, secret = key.credentials(record.token_id)
    return Credential(
        access_key_id,
        secret,
        AccountId(record.account),
        Arn.parse(record.arn),
        record.user_id,
        record.kind,
        record.session(),
    )


def _encode(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _decode(token: str) -> bytes:
    """The bytes of a token; each token has one spelling, so unused bits of its last character are a refusal too."""
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        sealed = b""
    if len(token) > TOKEN_LENGTH_MAX or _encode(sealed) != token:
        raise _not_ours("it is no base64url of ours")
    return sealed


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_DICTIONARY)
    return packer.compress(data) + packer.flush()


def _inflate(data: bytes) -> bytes:
    """What was deflated; padding after its end is left out."""
    unpacker = zlib.decompressobj(-15, zdict=_DICTIONARY)
    plain = unpacker.decompress(data, _RECORD_BYTES_MAX)
    check(unpacker.eof, "a session record ends within its bound")
    return plain


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _not_ours(detail: str) -> AuthenticationError:
    return refusals.unrecognized(f"the session token was not made here: {detail}")
