"""The index behind LookupEvents: management events of the last 90 days, by account, in the database.

It is made from the log's signed records and holds no event itself, only where each one lies; what a caller reads comes
from the log. It follows the log by position and can be dropped at any time: the next ``catch_up`` makes it again.
Source: AWS CloudTrail API reference, "LookupEvents".

Not covered: data events, as at AWS; more than one attribute in a query, as at AWS. A result may lag the log by the time
between two calls of ``catch_up``.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from outcrop.base.clock import Clock
from outcrop.base.errors import AuditBroken, UserError, check
from outcrop.base.tables import Database, Row, Transaction, Value
from outcrop.trust.audit.segments import Line, read_line, signed_records
from outcrop.trust.crypto.hashes import constant_time_equal, hmac_sha256

KEPT = timedelta(days=90)
RESULTS_MAX = 50
RECORDS_PER_ROUND = 2000
GENTLE_RECORDS = 16
GENTLE_PAUSE_S = 0.01
"""Small steps, since requests wait behind each (bench/gateway.py: p99 28 ms with whole rounds, 2 without an index)."""

ATTRIBUTES: Mapping[str, str] = {
    "EventId": "event_id",
    "EventName": "name",
    "ReadOnly": "read_only",
    "Username": "username",
    "EventSource": "source",
    "AccessKeyId": "access_key_id",
}
"""LookupAttribute keys that are columns; ResourceType and ResourceName are looked up among the resources."""
RESOURCE_ATTRIBUTES: Mapping[str, str] = {"ResourceType": "type", "ResourceName": "name"}


class BadToken(UserError):
    """A page token that was not given out for this query."""


@dataclass(frozen=True, slots=True)
class Query:
    """One lookup: of one account, at most one attribute, within a time range (both ends included)."""

    account: str
    attribute: tuple[str, str] | None = None
    begin: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """One event as LookupEvents tells it; ``record`` is the CloudTrail JSON."""

    event_id: str
    name: str
    source: str
    read_only: str
    username: str
    access_key_id: str
    happened_at: datetime
    resources: tuple[tuple[str, str], ...]
    record: str


class EventIndex:
    """The index of one log. ``token_key`` (32 bytes, the deployment's own) keeps page tokens to their query."""

    def __init__(self, database: Database, log_directory: Path, log: str, token_key: bytes, clock: Clock) -> None:
        check(len(token_key) >= 16, "page tokens are bound with a key of at least 128 bits")
        self._database = database
        self._directory = log_directory
        self._log = log
        self._token_key = token_key
        self._clock = clock
        self._last: tuple[int, Line] | None = None  # the record taken in last, from which the log is read on

    def catch_up(self, size: int, *, gently: bool = False) -> int:
        """Take in the records from where the index stands up to ``size``, the tree size of a head; how many.

        ``gently`` goes in small steps with pauses, so that requests served meanwhile do not wait for the interpreter;
        where much is outstanding it goes at full speed all the same.
        """
        taken = 0
        while True:
            position = self._position()
            if position >= size:
                return taken
            small = gently and size - position <= RECORDS_PER_ROUND
            count = min(GENTLE_RECORDS if small else RECORDS_PER_ROUND, size - position)
            records = list(islice(signed_records(self._directory, position, self._last), count))
            if not records:
                return taken
            with self._database.transaction() as transaction:
                if self._position(transaction) != position:
                    continue  # another process was faster
                self._take(transaction, records)
                self._advance(transaction, records[-1][0] + 1)
            self._last = records[-1]
            taken += len(records)
            if small:
                time.sleep(GENTLE_PAUSE_S)

    def lookup(self, query: Query, count: int = RESULTS_MAX, token: str | None = None) -> tuple[list[FoundEvent], str]:
        """At most ``count`` events, newest first, and the token of the next page (empty on the last).

        Raises ``BadToken`` for a token of another query, and ``UserError`` for an attribute that does not exist.
        """
        check(1 <= count <= RESULTS_MAX, "a page has 1 to 50 events")
        conditions = ["account = :account", "happened_at >= :begin"]
        oldest = self._clock.now() - KEPT
        parameters: dict[str, Value] = {"account": query.account, "count": count + 1}
        parameters["begin"] = _stamp(max(query.begin or oldest, oldest))
        if query.end is not None:
            conditions.append("happened_at <= :end")
            parameters["end"] = _stamp(query.end)
        if query.attribute is not None:
            conditions.append(_condition(query.attribute[0]))
            parameters["value"] = query.attribute[1]
        if token:
            conditions.append("(happened_at < :at OR (happened_at = :at AND position < :position))")
            parameters["at"], parameters["position"] = self._read_token(query, token)
        rows = self._database.query(
            f"SELECT * FROM audit_events WHERE {' AND '.join(conditions)} "  # noqa: S608 - constants of this module
            "ORDER BY happened_at DESC, position DESC LIMIT :count",
            parameters,
        )
        more = len(rows) > count
        found = [self._found(row) for row in rows[:count]]
        last = rows[count - 1] if more else None
        return found, self._token(query, last["happened_at"], last["position"]) if last else ""

    def _position(self, transaction: Transaction | None = None) -> int:
        ask = self._database.query if transaction is None else transaction.query
        rows = ask("SELECT position FROM audit_index WHERE log = :log", {"log": self._log})
        return int(rows[0]["position"]) if rows else 0

    def _advance(self, transaction: Transaction, position: int) -> None:
        if position and not transaction.query("SELECT 1 FROM audit_index WHERE log = :log", {"log": self._log}):
            # Another log was indexed here before: its positions lead nowhere in this one.
            transaction.execute("DELETE FROM audit_index")
        transaction.execute(
            "INSERT INTO audit_index (log, position) VALUES (:log, :position) "
            "ON CONFLICT (log) DO UPDATE SET position = excluded.position",
            {"log": self._log, "position": position},
        )
        oldest = {"oldest": _stamp(self._clock.now() - KEPT)}
        transaction.execute(
            "DELETE FROM audit_resources WHERE position IN "
            "(SELECT position FROM audit_events WHERE happened_at < :oldest)",
            oldest,
        )
        transaction.execute("DELETE FROM audit_events WHERE happened_at < :oldest", oldest)

    def _take(self, transaction: Transaction, records: Sequence[tuple[int, Line]]) -> None:
        if records[0][0] == 0:
            transaction.execute("DELETE FROM audit_resources")
            transaction.execute("DELETE FROM audit_events")
        events: list[dict[str, Value]] = []
        resources: list[dict[str, Value]] = []
        for position, line in records:
            event = line.parsed()["event"]
            if not event.get("managementEvent"):
                continue
            events.append(_row(position, line, event))
            resources += [
                {"position": position, "type": str(one.get("type", "")), "name": name}
                for one in event.get("resources") or ()
                for name in _names(str(one.get("ARN", "")))
            ]
        if events:
            columns = list(events[0])
            transaction.execute(
                f"INSERT INTO audit_events ({', '.join(columns)}) "  # noqa: S608 - names of _row
                f"VALUES ({', '.join(':' + column for column in columns)})",
                events,
            )
        if resources:
            transaction.execute(
                "INSERT INTO audit_resources (position, type, name) VALUES (:position, :type, :name)", resources
            )

    def _found(self, row: Row) -> FoundEvent:
        line = read_line(self._directory / row["segment"], row["line_offset"])
        found = line.parsed()
        event = found.get("event")
        if (
            found.get("index") != row["position"]
            or not isinstance(event, dict)
            or event.get("recipientAccountId") != row["account"]
        ):
            raise AuditBroken(
                f"The index of events does not lead to record {row['position']} of the log.",
                "Delete the rows of audit_index, audit_events and audit_resources; they are made again from the log.",
            )
        resources = {(str(one.get("type", "")), str(one.get("ARN", ""))) for one in event.get("resources") or ()}
        return FoundEvent(
            row["event_id"],
            row["name"],
            row["source"],
            row["read_only"],
            row["username"],
            row["access_key_id"],
            datetime.fromisoformat(row["happened_at"]).replace(tzinfo=UTC),
            tuple(sorted(resources)),
            json.dumps(event, separators=(",", ":")),
        )

    def _token(self, query: Query, at: str, position: int) -> str:
        body = json.dumps([at, position]).encode()
        return base64.urlsafe_b64encode(self._tag(query, body) + body).decode()

    def _read_token(self, query: Query, token: str) -> tuple[str, int]:
        try:
            data = base64.urlsafe_b64decode(token)
        except ValueError:
            data = b""
        if not constant_time_equal(data[:16], self._tag(query, data[16:])):
            raise BadToken("The page token was not given out for this lookup.", "Begin again without a token.")
        at, position = json.loads(data[16:])
        return str(at), int(position)

    def _tag(self, query: Query, body: bytes) -> bytes:
        times = [moment.isoformat() if moment else None for moment in (query.begin, query.end)]
        facts = json.dumps([self._log, query.account, query.attribute, times]).encode()
        return hmac_sha256(self._token_key, len(facts).to_bytes(4, "big") + facts + body)[:16]


def _row(position: int, line: Line, event: Mapping[str, Any]) -> dict[str, Value]:
    identity = event.get("userIdentity") or {}
    return {
        "position": position,
        "account": str(event.get("recipientAccountId", "")),
        "happened_at": str(event.get("eventTime", "")).removesuffix("Z"),
        "event_id": str(event.get("eventID", "")),
        "name": str(event.get("eventName", "")),
        "source": str(event.get("eventSource", "")),
        "read_only": "true" if event.get("readOnly") else "false",
        "username": _username(identity),
        "access_key_id": str(identity.get("accessKeyId", "")),
        "segment": line.segment.name,
        "line_offset": line.offset,
    }


def _username(identity: Mapping[str, Any]) -> str:
    """A user's name, ``root``, or a session's name, as LookupEvents has them."""
    if identity.get("type") == "Root":
        return "root"
    if identity.get("type") == "AssumedRole":
        return str(identity.get("arn", "")).rpartition("/")[2]
    return str(identity.get("userName") or identity.get("invokedBy") or "")


def _names(arn: str) -> set[str]:
    """What a resource may be looked up by: its ARN, and the name at the ARN's end."""
    return {arn, arn.rpartition("/")[2] if "/" in arn else arn.rpartition(":")[2]} - {""}


def _condition(attribute: str) -> str:
    if attribute in ATTRIBUTES:
        return f"{ATTRIBUTES[attribute]} = :value"
    if attribute in RESOURCE_ATTRIBUTES:
        column = RESOURCE_ATTRIBUTES[attribute]
        return f"position IN (SELECT position FROM audit_resources WHERE {column} = :value)"  # noqa: S608
    known = ", ".join([*ATTRIBUTES, *RESOURCE_ATTRIBUTES])
    raise UserError(f"{attribute!r} is not an attribute of events.", f"Use one of {known}.")


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
