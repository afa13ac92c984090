"""When access keys and roles were last used, gathered in memory and written now and then.

A write for every request would cost each a disk flush. Not covered: uses between the last ``flush`` and a crash.
"""

from __future__ import annotations

from outcrop.base.clock import Clock
from outcrop.base.tables import Database
from outcrop.trust.identity.records import LastUse


class LastUses:
    """The last use of each key and role, as this process and all others have written them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._fresh: dict[str, LastUse] = {}

    def note(self, identifier: str, service: str, region: str) -> None:
        """Remember that a key or role was used just now. Cheap; nothing is written."""
        self._fresh[identifier] = LastUse(self._clock.now().isoformat(timespec="seconds"), service, region)

    def get(self, identifier: str) -> LastUse | None:
        """The last use known here, or ``None``."""
        fresh = self._fresh.get(identifier)
        if fresh is not None:
            return fresh
        rows = self._database.query("SELECT * FROM last_uses WHERE id = :id", {"id": identifier})
        return LastUse(rows[0]["used_at"], rows[0]["service"], rows[0]["region"]) if rows else None

    def flush(self) -> None:
        """Write what was gathered, in one transaction; to be called every minute or so, and at the end."""
        fresh, self._fresh = self._fresh, {}
        if not fresh:
            return
        with self._database.transaction() as transaction:
            transaction.execute(
                "INSERT INTO last_uses (id, used_at, service, region) VALUES (:id, :at, :service, :region) "
                "ON CONFLICT (id) DO UPDATE SET used_at = excluded.used_at, service = excluded.service, "
                "region = excluded.region",
                [
                    {"id": identifier, "at": use.used_at, "service": use.service, "region": use.region}
                    for identifier, use in fresh.items()
                ],
            )
