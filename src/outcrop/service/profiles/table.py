"""The table of profiles as records: which checks there are, and what each profile makes of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from outcrop.base.errors import check
from outcrop.service.settings import PROFILES, Profile

Level = Literal["required", "advised"]


@dataclass(frozen=True, slots=True)
class Row:
    """One check; ``levels`` has an entry for each profile that looks at it."""

    id: str
    title: str
    why: str
    levels: dict[Profile, Level]


@cache
def rows() -> tuple[Row, ...]:
    """All checks in their order."""
    document = tomllib.loads(files(__package__).joinpath("profiles.toml").read_text("utf-8"))
    return tuple(_row(entry) for entry in document["check"])


def _row(entry: dict[str, str]) -> Row:
    levels: dict[Profile, Level] = {}
    for profile in PROFILES:
        level = entry.get(profile)
        if level is not None:
            check(level in ("required", "advised"), f"{entry['id']}: a level is required or advised")
            levels[profile] = "required" if level == "required" else "advised"
    check(entry.keys() <= {"id", "title", "why", *PROFILES}, f"{entry['id']}: every key of a check is known")
    return Row(entry["id"], entry["title"], entry["why"], levels)


def asks(profile: Profile, check_id: str) -> bool:
    """Whether ``profile`` requires ``check_id``: for what the service then does by itself."""
    found = [row.levels.get(profile) for row in rows() if row.id == check_id]
    check(len(found) == 1, f"{check_id} is a check of the table")
    return found[0] == "required"
