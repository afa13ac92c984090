"""Issuers of web identities: which issuer, for which clients, and with which keys.

The key set (JWKS) is given by an administrator and never fetched: nothing here talks to the network, so a provider
without one verifies no token. Thumbprints are kept for clients that send them and count for nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from outcrop.base.arn import AccountId, Arn
from outcrop.base.errors import AlreadyExists, NotFound, UserError
from outcrop.base.tables import Row, Transaction
from outcrop.trust.identity import entities, limits
from outcrop.trust.identity.part import Part, Reader
from outcrop.trust.identity.records import OidcProvider
from outcrop.trust.identity.tags import Tags, put_tags, remove_tags, tags_of

_URL = re.compile(r"https://([A-Za-z0-9.-]+(:[0-9]{1,5})?(/[!-~]*)?)")
_THUMBPRINT = re.compile(r"[0-9a-fA-F]{40}")


class OidcProviders(Part):
    """The OpenID Connect providers of every account."""

    def create(
        self,
        account: str,
        url: str,
        *,
        client_ids: Sequence[str] = (),
        thumbprints: Sequence[str] = (),
        tags: Tags = (),
        jwks: str = "",
    ) -> OidcProvider:
        """Register an issuer by its URL; one of each URL in an account."""
        issuer = _issuer(url)
        with self._change("oidc.create") as transaction:
            arn = str(Arn(entities.partition_of(transaction, account), "iam", "", account, f"oidc-provider/{issuer}"))
            held = transaction.query("SELECT arn FROM oidc_providers WHERE account = :account", {"account": account})
            if arn in [row["arn"] for row in held]:
                raise AlreadyExists(f"Provider with url {url} already exists.")
            entities.within(len(held) + 1, limits.OIDC_PROVIDERS, "OpenIdConnectProvidersPerAccount")
            transaction.execute(
                "INSERT INTO oidc_providers (arn, account, url, client_ids, thumbprints, jwks, created_at) "
                "VALUES (:arn, :account, :url, :clients, :thumbprints, :jwks, :now)",
                {
                    "arn": arn,
                    "account": account,
                    "url": issuer,
                    "clients": json.dumps(_clients(client_ids)),
                    "thumbprints": json.dumps(_thumbprints(thumbprints)),
                    "jwks": _checked_jwks(jwks) if jwks else "",
                    "now": self._now(),
                },
            )
            put_tags(transaction, arn, tags)
            return _provider(_find(transaction, account, arn), tags_of(transaction, arn))

    def get(self, account: str, arn: str) -> OidcProvider:
        """The provider of this ARN, or ``NotFound``."""
        return _provider(_find(self._database, account, arn), tags_of(self._database, arn))

    def all(self, account: str) -> list[OidcProvider]:
        """The providers of an account by issuer."""
        rows = self._database.query(
            "SELECT * FROM oidc_providers WHERE account = :account ORDER BY url", {"account": account}
        )
        return [_provider(row, tags_of(self._database, row["arn"])) for row in rows]

    def of_issuer(self, account: str, issuer: str) -> OidcProvider | None:
        """The provider whose issuer a token names (``iss``), in the account whose role is to be assumed."""
        rows = self._database.query(
            "SELECT * FROM oidc_providers WHERE account = :account AND url = :url",
            {"account": account, "url": issuer.removeprefix("https://")},
        )
        return _provider(rows[0], tags_of(self._database, rows[0]["arn"])) if rows else None

    def set_jwks(self, account: str, arn: str, jwks: str) -> None:
        """Give the issuer's keys, or new ones; tokens of keys that are not among them stop being accepted."""
        checked = _checked_jwks(jwks)
        with self._change("oidc.jwks") as transaction:
            _update(transaction, account, arn, "jwks", checked)

    def add_client(self, account: str, arn: str, client_id: str) -> None:
        """Accept tokens for a further client; one that is there already is no mistake."""
        with self._change("oidc.add_client") as transaction:
            clients = json.loads(_find(transaction, account, arn)["client_ids"])
            if client_id not in clients:
                _update(transaction, account, arn, "client_ids", json.dumps(_clients([*clients, client_id])))

    def remove_client(self, account: str, arn: str, client_id: str) -> None:
        """Accept tokens for a client no more; one that is not there is no mistake."""
        with self._change("oidc.remove_client") as transaction:
            clients = json.loads(_find(transaction, account, arn)["client_ids"])
            kept = [client for client in clients if client != client_id]
            _update(transaction, account, arn, "client_ids", json.dumps(kept))

    def set_thumbprints(self, account: str, arn: str, thumbprints: Sequence[str]) -> None:
        """Replace the list of thumbprints."""
        with self._change("oidc.thumbprints") as transaction:
            _update(transaction, account, arn, "thumbprints", json.dumps(_thumbprints(thumbprints)))

    def delete(self, account: str, arn: str) -> None:
        """Delete a provider; one that is not there is ``NotFound``."""
        with self._change("oidc.delete") as transaction:
            _find(transaction, account, arn)
            transaction.execute("DELETE FROM tags WHERE resource = :arn", {"arn": arn})
            transaction.execute("DELETE FROM oidc_providers WHERE arn = :arn", {"arn": arn})

    def tag(self, account: str, arn: str, tags: Tags) -> None:
        """Add or replace tags."""
        with self._change("oidc.tag") as transaction:
            put_tags(transaction, _find(transaction, account, arn)["arn"], tags)

    def untag(self, account: str, arn: str, keys: Sequence[str]) -> None:
        """Take tags away."""
        with self._change("oidc.untag") as transaction:
            remove_tags(transaction, _find(transaction, account, arn)["arn"], keys)


def _find(reader: Reader, account: str, arn: str) -> Row:
    rows = reader.query(
        "SELECT * FROM oidc_providers WHERE arn = :arn AND account = :account", {"arn": arn, "account": account}
    )
    if not rows:
        raise NotFound(f"OpenIDConnect Provider not found for arn {arn}")
    return rows[0]


def _update(transaction: Transaction, account: str, arn: str, column: str, value: str) -> None:
    _find(transaction, account, arn)
    transaction.execute(
        f"UPDATE oidc_providers SET {column} = :value WHERE arn = :arn",  # noqa: S608 - a name of ours
        {"value": value, "arn": arn},
    )


def _provider(row: Row, tags: dict[str, str]) -> OidcProvider:
    return OidcProvider(
        Arn.parse(row["arn"]),
        AccountId(row["account"]),
        row["url"],
        tuple(json.loads(row["client_ids"])),
        tuple(json.loads(row["thumbprints"])),
        row["jwks"],
        row["created_at"],
        tags,
    )


def _issuer(url: str) -> str:
    match = _URL.fullmatch(url)
    if match is None or len(url) > 255 or "?" in url or "#" in url:
        raise UserError(
            f"Invalid Open ID Connect Provider URL: {url}", "Give the issuer as https://HOST/PATH, without a query."
        )
    return match[1].rstrip("/") if match[1].endswith("/") and match[1].count("/") == 1 else match[1]


def _clients(client_ids: Sequence[str]) -> list[str]:
    found = list(dict.fromkeys(client_ids))
    entities.within(len(found), limits.CLIENT_IDS_PER_PROVIDER, "ClientIdsPerOpenIdConnectProvider")
    if not all(1 <= len(client) <= 255 for client in found):
        raise UserError("A client id has 1 to 255 characters.")
    return found


def _thumbprints(thumbprints: Sequence[str]) -> list[str]:
    entities.within(len(thumbprints), limits.THUMBPRINTS_PER_PROVIDER, "ThumbprintsPerOpenIdConnectProvider")
    if not all(_THUMBPRINT.fullmatch(thumbprint) for thumbprint in thumbprints):
        raise UserError("A thumbprint has 40 hexadecimal digits.")
    return [thumbprint.lower() for thumbprint in thumbprints]


def _checked_jwks(text: str) -> str:
    """A key set with public keys only: a private or shared one must not be handed to those who verify."""
    if len(text.encode()) > limits.JWKS_BYTES_MAX:
        raise UserError(f"The key set is larger than {limits.JWKS_BYTES_MAX} bytes.")
    try:
        keys = json.loads(text)["keys"]
        kinds = {key["kty"] for key in keys}
        private = any({"d", "k", "p", "q"} & key.keys() for key in keys)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError("The key set is no JWKS.", 'It reads {"keys": [{"kty": …}, …]}.') from None
    if not kinds or private or not kinds <= {"RSA", "EC", "OKP"}:
        raise UserError("The key set must hold public keys, and at least one.", "Give the issuer's published JWKS.")
    return text
