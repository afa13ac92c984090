"""Users' credentials for one service: long-term API keys for Bedrock, shown once and kept as a salted HMAC.

A key is ``ABSK`` and the base64 of ``ALIAS:SECRET``; the alias (``NAME+N-at-ACCOUNT``) finds the row and the secret of
256 random bits proves the owner, so an HMAC under the row's salt needs no stretching to withstand guessing.

Not covered: credentials for other services, and the key's exact letters: a client treats it as one opaque text.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from outcrop.base.arn import AccountId
from outcrop.base.clock import Clock
from outcrop.base.errors import NotFound, UserError
from outcrop.base.tables import Database, Row, Transaction
from outcrop.trust.crypto import constant_time_equal, hmac_sha256, random_id, random_token
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.changes import Changes
from outcrop.trust.identity.credentials import Principal
from outcrop.trust.identity.part import Part
from outcrop.trust.identity.records import IssuedServiceCredential, ServiceCredential

PREFIX = "ABSK"
SERVICES = ("bedrock.amazonaws.com",)
_SALT_BYTES = 16
_NOBODY = (bytes(_SALT_BYTES), bytes(32))

_ROWS = """SELECT service_credentials.id AS credential, service, service_credentials.alias, salt, verifier, active,
    expires_at, service_credentials.created_at AS made_at, status, entities.*, partition FROM service_credentials
    JOIN entities ON entities.id = owner JOIN accounts ON accounts.account = entities.account"""


class UnsupportedService(UserError):
    """IAM makes no credentials for this service."""

    id = "OC-4320"


class ServiceCredentials(Part):
    """The service-specific credentials of every user."""

    def __init__(self, database: Database, clock: Clock, changes: Changes) -> None:
        super().__init__(database, clock)
        self._changes = changes
        self._rows: tuple[int, dict[str, Row]] | None = None

    def create(self, account: str, user: str, service: str, age_days: int | None = None) -> IssuedServiceCredential:
        """A new key for a user, which works for ``age_days`` days (1 to 36,600) or until it is deleted."""
        _supported(service)
        if age_days is not None and not 1 <= age_days <= limits.CREDENTIAL_DAYS_MAX:
            raise UserError(
                f"A credential cannot live {age_days} days.", f"Choose from 1 to {limits.CREDENTIAL_DAYS_MAX} days."
            )
        now = self._clock.now()
        expires_at = None if age_days is None else _end(now, age_days)
        with self._change("service_credential.create") as transaction:
            owner = entities.find(transaction, account, "user", user)
            held = transaction.query(
                "SELECT alias FROM service_credentials WHERE owner = :id AND service = :service",
                {"id": owner["id"], "service": service},
            )
            entities.within(len(held) + 1, limits.SERVICE_CREDENTIALS_PER_USER, "ServiceSpecificCredentialsPerUser")
            identifier = random_id("ACCA")
            salt, verifier, secret = _new_secret()
            transaction.execute(
                "INSERT INTO service_credentials "
                "(id, owner, service, alias, salt, verifier, active, created_at, expires_at) "
                "VALUES (:id, :owner, :service, :alias, :salt, :verifier, 1, :now, :expires)",
                {
                    "id": identifier,
                    "owner": owner["id"],
                    "service": service,
                    "alias": _free_alias(transaction, owner),
                    "salt": salt,
                    "verifier": verifier,
                    "now": self._now(),
                    "expires": expires_at,
                },
            )
            record = _record(_one(transaction, account, None, identifier))
        return IssuedServiceCredential(record, _key(record.alias, secret))

    def all(self, account: str, user: str | None = None, service: str | None = None) -> Sequence[ServiceCredential]:
        """The credentials of one user or of all users of an account, oldest first."""
        if service is not None:
            _supported(service)
        where, parameters = "entities.account = :account", {"account": account}
        if user is not None:
            where = "owner = :owner"
            parameters = {"owner": entities.find(self._database, account, "user", user)["id"]}
        rows = self._database.query(
            f"{_ROWS} WHERE {where} ORDER BY service_credentials.created_at, service_credentials.alias", parameters
        )
        return [_record(row) for row in rows if service in (None, row["service"])]

    def set_active(self, account: str, user: str | None, identifier: str, active: bool) -> None:
        """Enable or disable a credential; ``user`` is checked where it is given."""
        with self._change("service_credential.set_active") as transaction:
            row = _one(transaction, account, user, identifier)
            transaction.execute(
                "UPDATE service_credentials SET active = :active WHERE id = :id",
                {"active": int(active), "id": row["credential"]},
            )

    def reset(self, account: str, user: str | None, identifier: str) -> IssuedServiceCredential:
        """A new secret for a credential; the old one is worth nothing from then on, and its end stays."""
        with self._change("service_credential.reset") as transaction:
            row = _one(transaction, account, user, identifier)
            salt, verifier, secret = _new_secret()
            transaction.execute(
                "UPDATE service_credentials SET salt = :salt, verifier = :verifier WHERE id = :id",
                {"salt": salt, "verifier": verifier, "id": row["credential"]},
            )
        return IssuedServiceCredential(_record(row), _key(row["alias"], secret))

    def delete(self, account: str, user: str | None, identifier: str) -> None:
        """Delete a credential for good."""
        with self._change("service_credential.delete") as transaction:
            row = _one(transaction, account, user, identifier)
            transaction.execute("DELETE FROM service_credentials WHERE id = :id", {"id": row["credential"]})

    def lookup_api_key(self, text: str) -> Principal | None:
        """The user of the key ``text``, with the key's end; ``None`` for unknown, inactive and wrong keys alike.

        The same work whichever it is: one look-up, one HMAC, one comparison in constant time.
        """
        alias, secret = _parts(text)
        row = self._by_alias().get(alias)
        salt, verifier = _NOBODY if row is None else (bytes(row["salt"]), bytes(row["verifier"]))
        holds = constant_time_equal(hmac_sha256(salt, secret), verifier)
        if row is None or not holds or not row["active"] or row["status"] != "ACTIVE":
            return None
        ends = row["expires_at"]
        return Principal(
            AccountId(row["account"]),
            entities.arn_of(row),
            row["id"],
            row["credential"],
            "user",
            "bearer",
            token_expires_at=None if ends is None else datetime.fromisoformat(ends),
            bearer_type="LONG_TERM",
        )

    def _by_alias(self) -> dict[str, Row]:
        count = self._changes.count()
        rows = self._rows
        if rows is None or rows[0] != count:
            rows = self._rows = (count, {row["alias"]: row for row in self._database.query(_ROWS)})
        return rows[1]


def _new_secret() -> tuple[bytes, bytes, str]:
    salt, secret = secrets.token_bytes(_SALT_BYTES), random_token()
    return salt, hmac_sha256(salt, secret.encode()), secret


def _key(alias: str, secret: str) -> str:
    return PREFIX + base64.b64encode(f"{alias}:{secret}".encode()).decode()


def _parts(text: str) -> tuple[str, bytes]:
    """Alias and secret of a key; what is no key has an alias that nobody has."""
    body = text.removeprefix(PREFIX).rstrip("=")
    try:
        plain = base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        alias, _, secret = plain.partition(b":")
        return (alias.decode("ascii") if text.startswith(PREFIX) else ""), secret
    except (binascii.Error, ValueError):
        return "", b""


def _free_alias(transaction: Transaction, owner: Row) -> str:
    taken = {row["alias"] for row in transaction.query("SELECT alias FROM service_credentials")}
    number = 1
    while (alias := f"{owner['name']}+{number}-at-{owner['account']}") in taken:
        number += 1
    return alias


def _end(now: datetime, age_days: int) -> str:
    return (now + timedelta(days=age_days)).isoformat(timespec="milliseconds")


def _supported(service: str) -> None:
    if service not in SERVICES:
        raise UnsupportedService(
            f"No service {service} is supported for this operation.", f"Supported: {', '.join(SERVICES)}."
        )


def _one(transaction: Transaction, account: str, user: str | None, identifier: str) -> Row:
    rows = transaction.query(
        f"{_ROWS} WHERE service_credentials.id = :id AND entities.account = :account",
        {"id": identifier, "account": account},
    )
    if not rows or (user is not None and rows[0]["name_folded"] != user.lower()):
        raise NotFound(f"No such credential {identifier} exists")
    return rows[0]


def _record(row: Row) -> ServiceCredential:
    return ServiceCredential(
        row["credential"],
        AccountId(row["account"]),
        row["name"],
        row["service"],
        row["alias"],
        bool(row["active"]),
        row["made_at"],
        row["expires_at"],
    )
