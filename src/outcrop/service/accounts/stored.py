"""How the meanings of settings reach the table: the port that ``AccountSettings`` is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is stored: its value, JSON or a word, and when it was made."""

    value: str
    updated_at: datetime


class StoredSettings(Protocol):
    """Settings by account and name."""

    def read(self, account: str, name: str) -> Setting | None: ...

    def write(self, account: str, name: str, value: str) -> Setting: ...

    def delete(self, account: str, name: str) -> None: ...
