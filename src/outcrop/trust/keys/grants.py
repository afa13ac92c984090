"""Grants: permissions on one key for one principal, beside the key's policy.

A grant only ever allows, names operations from a closed list and takes effect at once, so grant tokens are accepted and
never needed. A token names its grant and proves nothing: retiring asks for permission as well.

Not covered: a grant to an account means its root and nobody else there; service principals are no grantees. A grant
names its grantee by ARN, so a user or role that is made again under an old name has the grants of the one before it
(at AWS it has not): revoke grants before the grantee is deleted.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Collection, Iterable

from outcrop.base.arn import Arn
from outcrop.base.errors import KeyRefused, UserError
from outcrop.base.faultpoints import point
from outcrop.base.tables import Transaction
from outcrop.trust.keys.records import Context, Grant, Key, KeyUsage
from outcrop.trust.keys.refusals import invalid
from outcrop.trust.keys.rows import KeyRows, encode_constraints, stamp
from outcrop.trust.keys.states import KeyState, unusable
from outcrop.trust.policy import Requester, RequesterKind

GRANTS_MAX = 50_000  # KMS quotas: grants of one key
_CONTEXT_OPERATIONS = frozenset(
    {
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "ReEncryptFrom",
        "ReEncryptTo",
    }
)
_ANY_KEY = frozenset({"CreateGrant", "RetireGrant", "DescribeKey"})
OPERATIONS = {
    KeyUsage.ENCRYPT: _CONTEXT_OPERATIONS | _ANY_KEY,
    KeyUsage.MAC: frozenset({"GenerateMac", "VerifyMac"}) | _ANY_KEY,
}
_TOKEN_MARK = b"\x01grant"
_GRANT_ID_CHARS = 64


class Grants:
    """The grants of every key."""

    def __init__(self, rows: KeyRows) -> None:
        self._rows = rows

    def create(
        self,
        key: Key,
        grantee: str,
        operations: Collection[str],
        issuer: str,
        *,
        retiring: str = "",
        name: str = "",
        subset: Context | None = None,
        equals: Context | None = None,
        within: Grant | None = None,
    ) -> Grant:
        """A new grant, or the one there is that is the same and has the same (non-empty) name.

        ``within`` is the grant that alone lets the issuer create others: the new one may not go further than it.
        """
        for principal in filter(None, (grantee, retiring)):
            _check_principal(principal)
        _check_operations(key, operations, subset, equals)
        grant = Grant(
            secrets.token_hex(_GRANT_ID_CHARS // 2),
            key.key_id,
            name,
            grantee,
            retiring,
            issuer,
            tuple(sorted(set(operations))),
            subset,
            equals,
            self._rows.now(),
        )
        if within is not None and not _narrower(grant, within):
            raise KeyRefused(
                "AccessDeniedException", "A grant made under another grant cannot allow more than that one does."
            )
        with self._rows.database.transaction() as transaction:
            held = self._rows.read(transaction, key.key_id)
            if held.state is not KeyState.ENABLED:
                raise unusable(str(held.arn), held.state)
            same = self._same(key, grant) if name else None
            if same is not None:
                return same
            count = transaction.query("SELECT count(*) AS n FROM kms_grants WHERE key_id = :id", {"id": key.key_id})
            if count[0]["n"] >= GRANTS_MAX:
                raise KeyRefused("LimitExceededException", f"{key.arn} has {GRANTS_MAX} grants, the most there may be.")
            _insert(transaction, grant)
            point("kms.grant.written")
        return grant

    def of_key(self, key_id: str) -> list[Grant]:
        """A key's grants, by id."""
        return self._rows.grants(key_id)

    def retirable(self, principal: str) -> list[Grant]:
        """The grants of any key that name ``principal`` to retire them, by id."""
        _check_principal(principal)
        return self._rows.retirable_grants(principal)

    def get(self, key_id: str, grant_id: str) -> Grant:
        """One grant of a key."""
        for grant in self._rows.grants(key_id):
            if grant.grant_id == grant_id:
                return grant
        raise KeyRefused("NotFoundException", f"Grant {grant_id} of key {key_id} does not exist")

    def of_token(self, token: str) -> Grant:
        """The grant that a token names."""
        grant_id = grant_id_of(token)
        rows = self._rows.database.query("SELECT key_id FROM kms_grants WHERE grant_id = :id", {"id": grant_id})
        if not rows:
            raise KeyRefused("NotFoundException", "The grant of this token does not exist.")
        return self.get(rows[0]["key_id"], grant_id)

    def remove(self, grant: Grant) -> None:
        """End a grant: revoked or retired, it allows nothing from here on."""
        with self._rows.database.transaction() as transaction:
            self._rows.read(transaction, grant.key_id)
            transaction.execute("DELETE FROM kms_grants WHERE grant_id = :id", {"id": grant.grant_id})
            point("kms.revoke.written")

    def allowing(self, key: Key, requester: Requester, operation: str, context: Context | None) -> Grant | None:
        """A grant under which ``requester`` may do ``operation`` with this encryption context; ``None`` for no grant.

        ``context`` is ``None`` for operations that have no encryption context: constraints do not bear on those.
        """
        for grant in self._rows.grants_to(key.key_id, requester.arn, requester.role_arn):
            if operation in grant.operations and _is(requester, grant.grantee) and _fits(grant, operation, context):
                return grant
        return None

    def may_retire(self, grant: Grant, requester: Requester) -> bool:
        """Whether ``requester`` may retire ``grant``: who was named to, a grantee allowed to, or the key's root."""
        key = self._rows.peek(grant.key_id)
        of_the_root = requester.kind is RequesterKind.ROOT and key is not None and requester.account == key.account
        return (
            of_the_root
            or (grant.retiring != "" and _is(requester, grant.retiring))
            or ("RetireGrant" in grant.operations and _is(requester, grant.grantee))
        )

    def _same(self, key: Key, grant: Grant) -> Grant | None:
        for held in self._rows.grants(key.key_id):
            if _told_by(held) == _told_by(grant):
                return held
        return None


def new_token(grant: Grant) -> str:
    """A token that names ``grant``; another one each time, all of them good."""
    return base64.b64encode(_TOKEN_MARK + grant.grant_id.encode() + secrets.token_bytes(16)).decode()


def grant_id_of(token: str) -> str:
    """The grant id in a token."""
    try:
        raw = base64.b64decode(token, validate=True)
        grant_id = raw[len(_TOKEN_MARK) : len(_TOKEN_MARK) + _GRANT_ID_CHARS].decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise KeyRefused("InvalidGrantTokenException", "This is not a grant token.") from None
    if not raw.startswith(_TOKEN_MARK) or len(raw) != len(_TOKEN_MARK) + _GRANT_ID_CHARS + 16:
        raise KeyRefused("InvalidGrantTokenException", "This is not a grant token.")
    return grant_id


def check_tokens(tokens: Iterable[str]) -> None:
    """Refuse what is no grant token. The grants count without them, so nothing else is done."""
    for token in tokens:
        grant_id_of(token)


def _is(requester: Requester, principal: str) -> bool:
    return principal in (requester.arn, requester.role_arn)


def _fits(grant: Grant, operation: str, context: Context | None) -> bool:
    if operation not in _CONTEXT_OPERATIONS:
        return True
    given = context or {}
    if grant.equals is not None and dict(given) != dict(grant.equals):
        return False
    return grant.subset is None or all(given.get(name) == value for name, value in grant.subset.items())


def _narrower(child: Grant, parent: Grant) -> bool:
    if not set(child.operations) <= set(parent.operations):
        return False
    promised = child.equals if child.equals is not None else child.subset
    if parent.equals is not None:
        return child.equals is not None and dict(child.equals) == dict(parent.equals)
    if parent.subset is not None:
        return promised is not None and all(promised.get(name) == value for name, value in parent.subset.items())
    return True


def _told_by(grant: Grant) -> tuple[str, ...]:
    constraints = encode_constraints(grant.subset, grant.equals)
    return (grant.name, grant.grantee, grant.retiring, " ".join(grant.operations), constraints)


def _insert(transaction: Transaction, grant: Grant) -> None:
    transaction.execute(
        "INSERT INTO kms_grants VALUES (:id, :key_id, :name, :grantee, :retiring, :issuer, :operations, :constraints,"
        " :now)",
        {
            "id": grant.grant_id,
            "key_id": grant.key_id,
            "name": grant.name,
            "grantee": grant.grantee,
            "retiring": grant.retiring,
            "issuer": grant.issuer,
            "operations": " ".join(grant.operations),
            "constraints": encode_constraints(grant.subset, grant.equals),
            "now": stamp(grant.created_at),
        },
    )


def _check_operations(key: Key, operations: Collection[str], subset: Context | None, equals: Context | None) -> None:
    strange = sorted(set(operations) - OPERATIONS[key.usage])
    if not operations or strange:
        raise invalid(f"A grant on {key.arn} needs operations of its kind of key; these are not: {', '.join(strange)}.")
    if (subset is not None or equals is not None) and not _CONTEXT_OPERATIONS & set(operations):
        raise invalid("Constraints on the encryption context need an operation that has one.")


def _check_principal(text: str) -> None:
    try:
        arn = Arn.parse(text)
    except UserError:
        arn = None
    if arn is None or arn.service not in ("iam", "sts") or not arn.account.isdecimal() or "*" in text:
        raise KeyRefused("InvalidArnException", f"{text!r} is not the ARN of a user, a role, a session or a root.")
