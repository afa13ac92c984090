"""The index behind LookupEvents: what it finds, for whom, in which order, and that it can be made again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from audit_rig import ACCOUNT, NOON, OTHER, event, trail
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuditBroken, UserError
from outcrop.base.tables import Database
from outcrop.trust.audit import Identity, Resource, Trail
from outcrop.trust.audit.index import BadToken, EventIndex, Query
from outcrop.trust.audit.segments import segments

ROLE = f"arn:aws:iam::{ACCOUNT}:role/Trainer"


class Rig:
    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock(NOON)
        self.log: Trail = trail(directory / "audit", self.clock)
        self.database = Database(directory / "outcrop.db")
        self.index = self.opened()

    def opened(self) -> EventIndex:
        return EventIndex(self.database, self.log.log_directory, self.log.public_keys.log, bytes(range(32)), self.clock)

    def put(self, name: str, account: str = ACCOUNT, **members: object) -> None:
        self.log.append(event(name, account, at=self.clock.now(), **members))

    def names(self, query: Query | None = None) -> list[str]:
        head = self.log.head()
        assert head is not None
        self.index.catch_up(head.tree_size)
        found, token = self.index.lookup(query or Query(ACCOUNT))
        assert token == ""
        return [one.name for one in found]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.log.close()
    made.database.close()


def test_an_account_finds_its_own_management_events_newest_first(rig: Rig) -> None:
    rig.put("CreateUser")
    rig.put("CreateOther", OTHER)
    rig.put("InvokeModel", event_class="Data")
    rig.clock.set(NOON + timedelta(minutes=1))
    rig.put("DeleteUser")
    assert rig.names() == ["DeleteUser", "CreateUser", "StartLogging"]
    assert rig.names(Query(OTHER)) == ["CreateOther"]
    assert rig.names(Query("999999999999")) == []


def test_what_is_found_is_the_record_of_the_log(rig: Rig) -> None:
    rig.put("CreateRole", resources=(Resource(ROLE, "AWS::IAM::Role", ACCOUNT),))
    rig.names()
    found = rig.index.lookup(Query(ACCOUNT))[0][0]
    record = json.loads(found.record)
    assert (record["eventName"], record["eventID"]) == ("CreateRole", found.event_id)
    assert found.resources == (("AWS::IAM::Role", ROLE),)
    assert found.happened_at == NOON
    assert found.username == "root"


def test_each_attribute_finds_its_event_and_no_other(rig: Rig) -> None:
    session = Identity(
        "AssumedRole", ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/Trainer/anna", access_key_id="ASIA1"
    )
    rig.put("CreateUser")
    rig.put(
        "GetRole",
        identity=session,
        read_only=True,
        source="sts.amazonaws.com",
        resources=(Resource(ROLE, "AWS::IAM::Role"),),
    )
    rig.names()
    found = next(one for one in rig.index.lookup(Query(ACCOUNT))[0] if one.name == "GetRole")
    wanted = {
        "EventId": found.event_id,
        "EventName": "GetRole",
        "ReadOnly": "true",
        "Username": "anna",
        "EventSource": "sts.amazonaws.com",
        "AccessKeyId": "ASIA1",
        "ResourceType": "AWS::IAM::Role",
        "ResourceName": ROLE,
    }
    for attribute, value in wanted.items():
        assert rig.names(Query(ACCOUNT, (attribute, value))) == ["GetRole"], attribute
        assert rig.names(Query(ACCOUNT, (attribute, value + "x"))) == [], attribute
        assert rig.names(Query(OTHER, (attribute, value))) == [], attribute
    assert rig.names(Query(ACCOUNT, ("ResourceName", "Trainer"))) == ["GetRole"]
    with pytest.raises(UserError, match="not an attribute"):
        rig.names(Query(ACCOUNT, ("Password", "a")))


def test_a_value_is_a_value_and_no_sql(rig: Rig) -> None:
    rig.put("CreateUser")
    assert rig.names(Query(ACCOUNT, ("EventName", "' OR 1=1 --"))) == []


def test_times_bound_the_result_with_both_ends(rig: Rig) -> None:
    for minute in range(4):
        rig.clock.set(NOON + timedelta(minutes=minute))
        rig.put(f"Create{minute}")
    one, two = NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)
    assert rig.names(Query(ACCOUNT, begin=one, end=two)) == ["Create2", "Create1"]


def test_pages_hold_every_event_once(rig: Rig) -> None:
    for number in range(23):
        rig.put(f"Create{number}")
    rig.names()
    found: list[str] = []
    token: str = ""
    while True:
        page, token = rig.index.lookup(Query(ACCOUNT), 5, token or None)
        found += [one.name for one in page]
        if not token:
            break
        rig.put("Later")  # what comes meanwhile does not shift the pages
        assert rig.log.head() is not None
        rig.index.catch_up(rig.log.head().tree_size)
    assert [name for name in found if name != "Later"] == [*(f"Create{n}" for n in range(22, -1, -1)), "StartLogging"]


def test_a_token_is_of_its_query_only(rig: Rig) -> None:
    for number in range(3):
        rig.put(f"Create{number}")
        rig.put(f"Other{number}", OTHER)
    rig.names()
    _, token = rig.index.lookup(Query(ACCOUNT), 1)
    assert rig.index.lookup(Query(ACCOUNT), 1, token)[0][0].name == "Create1"
    for query in (Query(OTHER), Query(ACCOUNT, ("EventName", "Create1")), Query(ACCOUNT, begin=NOON)):
        with pytest.raises(BadToken):
            rig.index.lookup(query, 1, token)
    for bad in ("A", "!!!", token[:-4], token[::-1], ""[:0] or "AAAA"):
        with pytest.raises(BadToken):
            rig.index.lookup(Query(ACCOUNT), 1, bad)


def test_the_index_is_made_again_from_the_log(rig: Rig) -> None:
    rig.put("CreateUser")
    before = rig.names()
    with rig.database.transaction() as transaction:
        for table in ("audit_events", "audit_resources", "audit_index"):
            transaction.execute(f"DELETE FROM {table}")
    assert rig.names() == before


def test_a_new_log_starts_a_new_index(rig: Rig, tmp_path: Path) -> None:
    rig.put("Old")
    assert "Old" in rig.names()
    rig.log.close()
    rig.log = trail(tmp_path / "second", rig.clock)
    rig.index = rig.opened()
    rig.put("New")
    assert rig.names() == ["New", "StartLogging"]


def test_an_event_of_ninety_one_days_ago_is_not_found(rig: Rig) -> None:
    rig.put("Old")
    rig.names()
    rig.clock.set(NOON + timedelta(days=91))
    rig.put("New")
    assert rig.names() == ["New"]
    assert [row["name"] for row in rig.database.query("SELECT name FROM audit_events")] == ["New"]


def test_an_index_that_leads_elsewhere_is_told(rig: Rig) -> None:
    rig.put("CreateUser")
    rig.put("Foreign", OTHER)
    rig.names()
    with rig.database.transaction() as transaction:
        transaction.execute("UPDATE audit_events SET account = :mine WHERE name = 'Foreign'", {"mine": ACCOUNT})
    with pytest.raises(AuditBroken, match="does not lead"):
        rig.index.lookup(Query(ACCOUNT))


def test_the_index_follows_across_segments_and_takes_no_unsigned_record(rig: Rig) -> None:
    async def many() -> None:
        await asyncio.gather(*(rig.log.record(event(f"Create{number}")) for number in range(300)))

    asyncio.run(many())
    head = rig.log.head()
    assert head is not None
    with segments(rig.log.log_directory)[-1].open("ab") as file:
        from outcrop.trust.audit.segments import line, record

        file.write(line("R", record(head.tree_size, head.at, b'{"managementEvent":true,"eventName":"Forged"}')))
    assert rig.index.catch_up(head.tree_size + 1) == head.tree_size
    assert rig.names(Query(ACCOUNT, ("EventName", "Forged"))) == []
