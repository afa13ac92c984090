"""Errors of the database go into logs whole: a review found the values of rows in them."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from outcrop.base.tables import BrokenConstraint, Database

CANARY = "canary-55d1"


def test_the_values_of_a_broken_row_stay_out_of_the_trace(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.db")
    row = {"account": CANARY, "model": CANARY}
    with pytest.raises(BrokenConstraint) as caught, database.transaction() as transaction:
        transaction.execute("INSERT INTO quotas VALUES (:account, :model, 1, 1, 1, 1.0)", [row, row])
    database.close()
    trace = "".join(traceback.format_exception(caught.value))
    assert "INSERT INTO quotas" in trace  # the twin: what was done is there
    assert CANARY not in trace
