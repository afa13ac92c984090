"""The trust rooms as one service uses them: put together here, reached by operations as ``context.trust``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from outcrop.base.clock import Clock
from outcrop.trust.identity import IdentityStore

IDENTITY_FILE = "identity.db"


@dataclass(frozen=True, slots=True)
class Trust:
    """Who may do what, with which keys, and the record of it."""

    identity: IdentityStore

    @classmethod
    def open(cls, data: Path, clock: Clock) -> Trust:
        """The trust rooms of the data directory ``data``."""
        return cls(IdentityStore(data / IDENTITY_FILE, clock))

    def close(self) -> None:
        self.identity.close()
