"""Whether anything about identities has changed, cheaply enough to ask at every request."""

from __future__ import annotations

from outcrop.base.tables import Database


class Changes:
    """Counts the committed changes to identities by any process.

    ``Database.version`` moves with every commit, most of which are not about identities (audit, limits); only when it
    has moved is the count read, so that caches of identities outlive those. On PostgreSQL it may be as old as
    ``Database.version`` may be.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: tuple[int, int] = (-1, -1)

    def count(self) -> int:
        """A number that is another one after every change to identities."""
        version = self._database.version()
        seen = self._seen
        if seen[0] != version:
            # The version was read before the count: what changes in between is seen with the next version.
            seen = (version, int(self._database.query("SELECT count FROM identity_changes")[0]["count"]))
            self._seen = seen
        return seen[1]
