"""Aliases: further names of keys, ``alias/…``, one table for each account.

Not covered: ``alias/aws/…`` is the service's own; only ``Lifecycle.default_key`` makes one there.
"""

from __future__ import annotations

import re

from outcrop.base.errors import KeyRefused
from outcrop.base.tables import Transaction
from outcrop.trust.keys.lifecycle import insert_alias
from outcrop.trust.keys.records import Key
from outcrop.trust.keys.refusals import no_alias
from outcrop.trust.keys.rows import KeyRows, stamp
from outcrop.trust.keys.states import KeyState, unusable

ALIASES_MAX = 50  # KMS quotas: aliases of one key
_NAME = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}", re.ASCII)
_OURS = "alias/aws/"


class Aliases:
    """The aliases of every account."""

    def __init__(self, rows: KeyRows) -> None:
        self._rows = rows

    def create(self, account: str, name: str, key: Key) -> None:
        """Give ``key``, of the same account, a further name."""
        _check_name(name)
        with self._rows.database.transaction() as transaction:
            self._require_target(transaction, account, key)
            if self._held(transaction, account, name):
                arn = self._rows.alias_arn(account, name)
                raise KeyRefused("AlreadyExistsException", f"An alias with the name {arn} already exists")
            insert_alias(transaction, account, name, key.key_id, self._rows.now())

    def update(self, account: str, name: str, key: Key) -> None:
        """Let an alias name another key of the same kind."""
        _check_name(name)
        with self._rows.database.transaction() as transaction:
            held = self._held(transaction, account, name)
            if not held:
                raise no_alias(str(self._rows.alias_arn(account, name)))
            before = self._rows.read(transaction, held)
            self._require_target(transaction, account, key)
            if (before.usage, before.spec) != (key.usage, key.spec):
                raise KeyRefused("ValidationException", f"{name} names a {before.spec} key; a {key.spec} key is none.")
            transaction.execute(
                "UPDATE kms_aliases SET key_id = :key_id, updated_at = :now WHERE account = :account AND name = :name",
                {"key_id": key.key_id, "now": stamp(self._rows.now()), "account": account, "name": name},
            )

    def delete(self, account: str, name: str) -> None:
        """Forget a name; its key stays as it is."""
        _check_name(name)
        with self._rows.database.transaction() as transaction:
            if not self._held(transaction, account, name):
                raise no_alias(str(self._rows.alias_arn(account, name)))
            transaction.execute(
                "DELETE FROM kms_aliases WHERE account = :account AND name = :name", {"account": account, "name": name}
            )

    def target(self, account: str, name: str) -> str:
        """The id of the key that an alias names, in whatever state that is."""
        for alias in self._rows.aliases(account):
            if alias.name == name:
                return alias.key_id
        raise no_alias(str(self._rows.alias_arn(account, name)))

    def _held(self, transaction: Transaction, account: str, name: str) -> str:
        rows = transaction.query(
            "SELECT key_id FROM kms_aliases WHERE account = :account AND name = :name",
            {"account": account, "name": name},
        )
        return str(rows[0]["key_id"]) if rows else ""

    def _require_target(self, transaction: Transaction, account: str, key: Key) -> None:
        held = self._rows.read(transaction, key.key_id)
        if held.account != account:
            raise KeyRefused("NotFoundException", f"{held.arn} is of another account; an alias stays in its own.")
        if held.state is KeyState.PENDING_DELETION:
            raise unusable(str(held.arn), held.state)
        count = transaction.query("SELECT count(*) AS n FROM kms_aliases WHERE key_id = :id", {"id": key.key_id})
        if count[0]["n"] >= ALIASES_MAX:
            raise KeyRefused("LimitExceededException", f"{held.arn} has {ALIASES_MAX} aliases, the most there may be.")


def _check_name(name: str) -> None:
    if not name.startswith("alias/"):
        raise KeyRefused(
            "ValidationException", 'Alias must start with the prefix "alias/". Please see the KMS API reference.'
        )
    if name.startswith(_OURS):
        raise KeyRefused("InvalidAliasNameException", f"{name} begins with {_OURS}, which is the service's own.")
    if _NAME.fullmatch(name) is None:
        raise KeyRefused(
            "InvalidAliasNameException", "An alias is alias/ and 1 to 250 letters, digits, slashes, _ and -."
        )
