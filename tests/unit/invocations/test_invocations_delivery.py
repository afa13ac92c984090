"""Delivery: whole batches, and what happens to records while they cannot be written."""

from __future__ import annotations

import gzip
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from objects_rig import ACCOUNT, OTHER, START, ObjectsRig, objects_rig
from outcrop.base.arn import AccountId
from outcrop.base.errors import UserError
from outcrop.service.accounts import LogBucket, LoggingSettings, RetentionMode
from outcrop.service.invocations import Delivery, DeliveryLimits, Invocation, delivery, log_files, read, records_in

NEVER_S = 3600.0
SIZE = Invocation("", "", "", "", "", "", START, LoggingSettings(LogBucket("b")), b"").size_bytes


class Told:
    """Collects what delivery reports."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, dict[str, str | int]]] = []

    def __call__(self, account: str, what: str, facts: dict[str, str | int]) -> None:
        self.events.append((account, what, dict(facts)))

    def names(self, account: str = ACCOUNT) -> list[str]:
        return [what for whose, what, _ in self.events if whose == account]


class Bench:
    """Delivery over a rig, moved by hand."""

    def __init__(self, rig: ObjectsRig) -> None:
        self.rig = rig
        self.told = Told()
        self.deliveries: list[Delivery] = []

    def delivery(self, **limits: float) -> Delivery:
        made = Delivery(
            self.rig.objects,
            self.rig.accounts.retention,
            self.rig.clock,
            self.told,
            DeliveryLimits(**{"every_s": NEVER_S, **limits}),
        )
        self.deliveries.append(made)
        return made

    def records(self, bucket: str = "logs", account: AccountId = ACCOUNT) -> list[str]:
        files = log_files(self.rig.objects, bucket, account, "us-east-1")
        return [record["requestId"] for file in files for record in records_in(self.rig.objects, file, account)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with objects_rig(tmp_path / "data") as rig:
        rig.objects.create_bucket("logs", ACCOUNT)
        made = Bench(rig)
        yield made
        for one in made.deliveries:
            one.close()


def call(name: str, account: AccountId = ACCOUNT, bucket: str = "logs", request: bytes = b'{"a":1}') -> Invocation:
    settings = LoggingSettings(LogBucket(bucket))
    return Invocation(account, "arn", "us-east-1", name, "Converse", "m", START, settings, request)


def test_records_are_written_in_one_batch_in_order(bench: Bench):
    one = bench.delivery()
    for number in range(5):
        one.submit(call(f"r{number}"))
    assert bench.records() == []
    one.deliver()
    assert bench.records() == [f"r{number}" for number in range(5)]
    found = bench.rig.objects.list("logs", ACCOUNT)
    assert len(found) == 1
    assert found[0].key.startswith(
        f"AWSLogs/{ACCOUNT}/BedrockModelInvocationLogs/us-east-1/2026/11/22/12/20261122T120000"
    )
    assert found[0].key.endswith(".json.gz")
    assert one.waiting(ACCOUNT) == 0
    assert bench.told.events == []


def test_the_thread_delivers_by_itself(bench: Bench):
    one = bench.delivery(every_s=0.01)
    one.submit(call("r"))
    deadline = time.monotonic() + 10
    while bench.records() != ["r"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_hours_prefixes_and_buckets_have_objects_of_their_own(bench: Bench):
    bench.rig.objects.create_bucket("more", ACCOUNT)
    one = bench.delivery()
    one.submit(call("a"))
    one.submit(replace(call("b"), at=START.replace(hour=13)))
    one.submit(call("c", bucket="more"))
    one.submit(replace(call("d"), settings=LoggingSettings(LogBucket("logs", "p"))))
    one.deliver()
    keys = [info.key for info in bench.rig.objects.list("logs", ACCOUNT)]
    assert [key.partition("us-east-1/")[2][:13] for key in keys] == ["2026/11/22/12", "2026/11/22/13", "2026/11/22/12"]
    assert [key.startswith("p/AWSLogs/") for key in keys] == [False, False, True]
    assert bench.records("more") == ["c"]


def test_large_bodies_lie_beside_and_are_put_back_when_read(bench: Bench):
    body = json.dumps({"text": "x" * 200_000}).encode()
    one = bench.delivery()
    one.submit(call("r", request=body))
    one.deliver()
    keys = [info.key for info in bench.rig.objects.list("logs", ACCOUNT)]
    assert [key.rpartition("/")[2] for key in keys if "/data/" in key] == ["r_input.json.gz"]
    (file,) = log_files(bench.rig.objects, "logs", ACCOUNT, "us-east-1")
    (plain,) = records_in(bench.rig.objects, file, ACCOUNT)
    assert "inputBodyJson" not in plain["input"]
    (filled,) = records_in(bench.rig.objects, file, ACCOUNT, bodies=True)
    assert filled["input"]["inputBodyJson"] == json.loads(body)


def test_a_disabled_key_stops_delivery_which_is_said_and_goes_on_without_loss(
    bench: Bench, caplog: pytest.LogCaptureFixture
):
    key = bench.rig.key()
    bench.rig.objects.create_bucket("keyed", ACCOUNT, key.key_id)
    one = bench.delivery()
    one.submit(call("first", bucket="keyed"))
    one.deliver()
    bench.rig.keys.lifecycle.disable(key.key_id)
    for number in range(3):
        one.submit(call(f"r{number}", bucket="keyed"))
        one.deliver()
    assert one.waiting(ACCOUNT) == 3
    assert bench.told.names() == [delivery.STOPPED]
    assert bench.told.events[0][2] == {
        "bucketName": "keyed",
        "reason": f"{key.arn} is disabled.",
        "recordsWaiting": 1,
    }
    bench.rig.keys.lifecycle.enable(key.key_id)
    one.deliver()
    assert sorted(bench.records("keyed")) == ["first", "r0", "r1", "r2"]
    assert bench.told.names() == [delivery.STOPPED, delivery.RESUMED]
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


def test_a_stopped_log_is_tried_again_after_a_pause_that_grows(bench: Bench):
    one = bench.delivery(every_s=NEVER_S)
    one.submit(call("r", bucket="gone"))
    one.deliver(now=False)
    bench.rig.objects.create_bucket("gone", ACCOUNT)
    one.deliver(now=False)
    assert bench.records("gone") == []  # not due yet: the clock stands still
    one.deliver()
    assert bench.records("gone") == ["r"]


def test_one_tenants_trouble_stops_nobody_else(bench: Bench):
    bench.rig.objects.create_bucket("others", OTHER)
    one = bench.delivery(queue_bytes_max=10 * SIZE, bytes_max=12 * SIZE)
    for number in range(10):
        one.submit(call(f"stuck{number}", bucket="gone", request=b""))
    one.deliver()
    for number in range(5):
        one.submit(call(f"r{number}", OTHER, "others", request=b""))
    one.deliver()
    assert bench.records("others", OTHER) == [f"r{number}" for number in range(5)]
    assert bench.told.names(OTHER) == []
    assert (delivery.LOST, {"bucketName": "gone", "records": 3}) in [
        (what, facts) for _, what, facts in bench.told.events
    ]


def test_a_bucket_that_is_gone_does_not_hold_up_the_one_configured_after_it(bench: Bench):
    one = bench.delivery()
    one.submit(call("stuck", bucket="gone"))
    one.submit(call("r0"))
    one.deliver()
    one.submit(call("r1"))
    one.deliver()
    assert sorted(bench.records()) == ["r0", "r1"]
    assert one.waiting(ACCOUNT) == 1
    assert bench.told.names() == [delivery.STOPPED]


def test_an_error_that_nobody_foresaw_loses_no_record_and_quotes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    put = bench.rig.objects.put

    def failing(*given: object, **more: object) -> None:
        raise ValueError("SECRET")

    monkeypatch.setattr(bench.rig.objects, "put", failing)
    one = bench.delivery()
    one.submit(call("r"))
    one.deliver()
    assert bench.told.events[0][2]["reason"] == "ValueError"
    assert "SECRET" not in caplog.text
    monkeypatch.setattr(bench.rig.objects, "put", put)
    one.deliver()
    assert bench.records() == ["r"]


def test_what_does_not_fit_is_lost_counted_and_said_once(bench: Bench, caplog: pytest.LogCaptureFixture):
    one = bench.delivery(queue_bytes_max=3 * SIZE)
    for number in range(8):
        one.submit(call(f"r{number}", request=b""))
    one.deliver()
    assert bench.records() == ["r0", "r1", "r2"]
    assert bench.told.events == [(ACCOUNT, delivery.LOST, {"bucketName": "logs", "records": 5})]
    assert "5 invocation records" in caplog.text
    one.deliver()
    assert len(bench.told.events) == 1
    one.submit(call("later", request=b""))
    one.deliver()
    assert "later" in bench.records()


def test_another_accounts_bucket_is_never_written(bench: Bench):
    bench.rig.objects.create_bucket("others", OTHER)
    one = bench.delivery()
    one.submit(call("r", bucket="others"))
    one.deliver()
    assert bench.rig.objects.list("others", OTHER) == []
    assert bench.told.names() == [delivery.STOPPED]


def test_closing_writes_what_waits_and_says_what_cannot_be(bench: Bench):
    one = bench.delivery()
    one.submit(call("r"))
    one.submit(call("lost", bucket="gone"))
    one.close()
    assert bench.records() == ["r"]
    assert bench.told.names() == [delivery.STOPPED, delivery.LOST]
    one.submit(call("late"))
    assert bench.records() == ["r"]


def test_what_waits_is_dropped_when_the_account_keeps_nothing(bench: Bench):
    one = bench.delivery()
    one.submit(call("a"))
    bench.rig.accounts.retention.set(ACCOUNT, RetentionMode.NONE)
    one.deliver()
    one.submit(call("b"))
    assert one.forget(ACCOUNT) == 1
    assert one.forget(ACCOUNT) == 0
    bench.rig.accounts.retention.set(ACCOUNT, RetentionMode.INHERIT)
    one.deliver()
    assert bench.rig.objects.list("logs", ACCOUNT) == []
    one.submit(call("c"))
    one.deliver()
    assert bench.records() == ["c"]


def test_dropping_what_was_stuck_is_not_told_as_delivery(bench: Bench):
    one = bench.delivery()
    one.submit(call("r", bucket="gone"))
    one.deliver()
    bench.rig.accounts.retention.set(ACCOUNT, RetentionMode.NONE)
    one.deliver()
    assert one.waiting(ACCOUNT) == 0
    assert bench.told.names() == [delivery.STOPPED]


def test_a_full_disk_keeps_records_and_leaves_no_half_object(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    put = bench.rig.objects.put

    def full(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench.rig.objects, "put", full)
    one = bench.delivery()
    one.submit(call("r"))
    one.deliver()
    assert one.waiting(ACCOUNT) == 1
    assert bench.rig.files() == []
    monkeypatch.setattr(bench.rig.objects, "put", put)
    one.deliver()
    assert bench.records() == ["r"]


def test_a_call_that_cannot_be_told_is_counted_and_stops_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    record_of = delivery.record_of

    def failing(one: Invocation) -> object:
        if one.request_id == "bad":
            raise ValueError("SECRET")
        return record_of(one)

    monkeypatch.setattr(delivery, "record_of", failing)
    one = bench.delivery()
    for name in ("a", "bad", "b"):
        one.submit(call(name))
    one.deliver()
    assert bench.records() == ["a", "b"]
    assert bench.told.events == [(ACCOUNT, delivery.LOST, {"bucketName": "logs", "records": 1})]


def test_a_gzip_bomb_in_a_log_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(read, "UNPACKED_BYTES_MAX", 1000)
    for content, text in ((gzip.compress(b"x" * 5000), "unpacks to more"), (b"plain", "not a gzip file")):
        bench.rig.objects.put("logs", "k", content, ACCOUNT)
        with pytest.raises(UserError, match=text):
            read.unpacked(bench.rig.objects, "logs", "k", ACCOUNT)
