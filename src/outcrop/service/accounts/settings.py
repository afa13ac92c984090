"""Named settings of accounts, in one table; a change by any process holds for the next request.

On SQLite a change is seen at once by every process, on PostgreSQL within half a second (``Database.version``).
"""

from __future__ import annotations

from datetime import datetime

from outcrop.base.clock import Clock
from outcrop.base.tables import Database
from outcrop.service.accounts.logging import LoggingConfigurations
from outcrop.service.accounts.retention import DataRetention
from outcrop.service.accounts.stored import Setting

KNOWN_MAX = 4096
"""Settings kept in memory; beyond it everything is read anew."""


class AccountSettings:
    """Settings by account and name. Safe in several threads."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[int, Setting | None]] = {}

    def read(self, account: str, name: str) -> Setting | None:
        """The setting, or ``None`` where the account never made it."""
        version = self._database.version()  # before the row is read: what changes meanwhile is read again
        known = self._known.get((account, name))
        if known is not None and known[0] == version:
            return known[1]
        rows = self._database.query(
            "SELECT value, updated_at FROM account_settings WHERE account = :account AND name = :name",
            {"account": account, "name": name},
        )
        found = Setting(rows[0]["value"], datetime.fromisoformat(rows[0]["updated_at"])) if rows else None
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[(account, name)] = (version, found)
        return found

    def write(self, account: str, name: str, value: str) -> Setting:
        """Make the setting; durable when it returns."""
        now = self._clock.now()
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT INTO account_settings (account, name, value, updated_at) VALUES (:account, :name, :value, :now)"
                " ON CONFLICT (account, name) DO UPDATE SET value = :value, updated_at = :now",
                {"account": account, "name": name, "value": value, "now": now.isoformat()},
            )
        return Setting(value, now)

    def delete(self, account: str, name: str) -> None:
        """As if the account had never made the setting; nothing to do where it has not."""
        with self._database.transaction() as transaction:
            transaction.execute(
                "DELETE FROM account_settings WHERE account = :account AND name = :name",
                {"account": account, "name": name},
            )


class Accounts:
    """The settings by their meaning."""

    def __init__(self, database: Database, clock: Clock) -> None:
        settings = AccountSettings(database, clock)
        self.retention = DataRetention(settings)
        self.logging = LoggingConfigurations(settings)
