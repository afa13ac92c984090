"""Events of programs beside the service: left in a folder, from where the one writer of the trail takes them in.

A command of the operator changes the data directory while the service has the trail open, or while nothing runs at all.
It first leaves an event here, durably; without it, it does not act. The service takes events in within a second, or at
its next start. A crash between taking in and removing records an event twice, under one event id.

Not covered: whoever may write the data directory can remove an event before it is taken in, as they could the change.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from outcrop.base.errors import AuditUnavailable
from outcrop.base.faultpoints import point
from outcrop.base.files import make_private_directory, sync_directory, write_atomic
from outcrop.trust.audit.writer import Trail

SPOOL_FOLDER = "spool"
EVENT_BYTES_MAX = 65_536


class Spool:
    """The folder ``DIR/audit/spool``."""

    def __init__(self, audit_directory: Path) -> None:
        self.directory = audit_directory / SPOOL_FOLDER

    def put(self, event: Mapping[str, object]) -> None:
        """Leave ``event``, durably; ``AuditUnavailable`` where that cannot be."""
        try:
            make_private_directory(self.directory.parent)
            make_private_directory(self.directory)
            name = f"{time.time_ns():020}-{secrets.token_hex(4)}.json"  # names sort by time; the event has its own
            write_atomic(self.directory / name, json.dumps(event).encode(), private=True)
        except OSError as error:
            raise AuditUnavailable(
                f"What is asked for cannot be recorded in {self.directory} ({error.strerror}), so it is not done.",
                "Make room on the disk.",
            ) from error

    def waiting(self) -> list[Path]:
        """The events that were not taken in yet, oldest first."""
        return sorted(self.directory.glob("*.json"))

    def drain(self, trail: Trail) -> int:
        """Take every event into ``trail``; how many there were. What is no event stays, and is told by ``waiting``."""
        taken = 0
        for path in self.waiting():
            data = path.read_bytes()
            try:
                event = json.loads(data)
            except ValueError:
                continue
            if not isinstance(event, dict) or len(data) > EVENT_BYTES_MAX:
                continue
            trail.append(event)
            point("audit.spool.recorded")
            path.unlink()
            taken += 1
        if taken:
            sync_directory(self.directory)
        return taken
