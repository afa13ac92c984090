"""When access keys and roles were last used, gathered in memory and written now and then.

A write for every request would cost each a disk flush. Not covered: uses between the last ``flush`` and a crash.
"""

from __future__ import annotations

import logging
import threading

from outcrop.base.clock import Clock
from outcrop.base.errors import OutcropError
from outcrop.base.tables import Database
from outcrop.trust.identity.credentials import Principal
from outcrop.trust.identity.records import LastUse

log = logging.getLogger("outcrop.trust")

WRITE_EVERY_S = 60.0


class LastUses:
    """The last use of each key and role, as this process and all others have written them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._fresh: dict[str, LastUse] = {}

    def note(self, identifier: str, service: str, region: str) -> None:
        """Remember that a key or role was used just now. Cheap; nothing is written."""
        self._fresh[identifier] = LastUse(self._clock.now().isoformat(timespec="seconds"), service, region)

    def note_request(self, principal: Principal, service: str, region: str) -> None:
        """Remember what a request was proven with: the long-term key or API key, or the role behind a session.

        A session that stands for a user counts for nothing: its own key ends with it.
        """
        session = principal.session
        if session is not None:
            if session.role_arn:
                self.note(principal.user_id.partition(":")[0], service, region)
        elif principal.access_key_id:
            self.note(principal.access_key_id, service, region)

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
                    for identifier, use in list(fresh.items())  # a note under way may still go to the old ones
                ],
            )


class UseWriter:
    """A thread that writes the last uses every minute, and once more when it is closed."""

    def __init__(self, uses: LastUses, *, every_s: float = WRITE_EVERY_S) -> None:
        """``every_s`` is real time."""
        self._uses = uses
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outcrop-last-uses", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left and stop."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._end.wait(self._every_s)
            try:
                self._uses.flush()
            except OutcropError as error:
                log.warning("last uses of keys and roles were not written: %s", error)
