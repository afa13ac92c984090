"""What a review found that one may do to the others: a database that is held locked keeps nobody from invoking."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from outcrop.base import tables
from outcrop.base.errors import DatabaseUnusable
from outcrop.base.tables import Database
from outcrop.service.pipeline import LARGE_BODY_BYTES
from serving import TINY_MODEL_ID, running_service
from signing import Response, connection, read_responses, signed_message


def test_who_waits_for_a_writer_waits_so_long_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "BUSY_TIMEOUT_S", 0.05)
    database, begun, end = Database(tmp_path / "a.db"), threading.Event(), threading.Event()

    def hold() -> None:
        with database.transaction():
            begun.set()
            end.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert begun.wait(30)
        with pytest.raises(DatabaseUnusable, match="writing for too long"), database.transaction():
            pass
    finally:
        end.set()
        holder.join()
    with database.transaction():  # the twin: there is a turn again
        pass
    database.close()


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """The database of a service with its write lock in another program's hands."""
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_locked_database_keeps_nobody_from_invoking(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answered: list[Response | None] = []

        def change(number: int) -> None:
            body = f"Action=CreateUser&Version=2010-05-08&UserName=user{number}".encode()
            with connection(service) as sock:
                sock.sendall(signed_message(service, "POST", "/", body, headers=form, signing_name="iam"))
                answered.extend(read_responses(sock, 1))

        changes = [threading.Thread(target=change, args=(number,)) for number in range(40)]
        with locked(service.data / "outcrop.db"):
            for thread in changes:
                thread.start()
            ask = {"messages": [{"role": "user", "content": [{"text": "x" * LARGE_BODY_BYTES}]}]}
            path = f"/model/{quote(TINY_MODEL_ID, safe='')}/converse"
            with connection(service) as sock:
                sock.settimeout(8)  # changes wait for ten seconds and more
                sock.sendall(signed_message(service, "POST", path, json.dumps(ask).encode()))
                (answer,) = read_responses(sock, 1)
        assert answer is not None
        assert (answer.status, answer.error_type) == (400, "ValidationException")  # too long for the model
        for thread in changes:
            thread.join()
        assert len(answered) == 40
