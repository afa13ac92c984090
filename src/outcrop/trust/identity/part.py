"""What every part of the identity store stands on: one database, one clock, and changes that are whole or absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from outcrop.base.clock import Clock
from outcrop.base.faultpoints import point
from outcrop.base.tables import Database, Parameters, Row, Transaction


class Reader(Protocol):
    """Where rows are read: the database, or a transaction that has written some of them."""

    def query(self, sql: str, parameters: Parameters | None = None) -> list[Row]: ...


class Part:
    """A part of the store over the whole store's database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @contextmanager
    def _change(self, name: str) -> Iterator[Transaction]:
        """One transaction called ``name``, seen by every cache of identities once it is committed."""
        with self._database.transaction() as transaction:
            yield transaction
            transaction.execute("UPDATE identity_changes SET count = count + 1")
            point(f"identity.{name}.written")
        point(f"identity.{name}.committed")

    def _now(self) -> str:
        return self._clock.now().isoformat(timespec="milliseconds")
