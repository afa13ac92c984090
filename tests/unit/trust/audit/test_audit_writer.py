"""The trail: durability, groups, torn ends, a full and a failing disk, clocks that step back, keys, segments."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from audit_rig import NOON, KeySealer, event, trail
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AuditUnavailable, Unsealable, UserError
from outcrop.trust.audit import State, Trail, TrailConfig, merkle
from outcrop.trust.audit.disk import Disk
from outcrop.trust.audit.segments import segments, signed_records, whole_lines
from outcrop.trust.audit.verify import verify


def names(directory: Path) -> list[str]:
    return [found.parsed()["event"]["eventName"] for _, found in signed_records(directory / "log")]


class SmallDisk(Disk):
    """A disk with ``room`` bytes, of which the reserve takes 4000."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.syncs = 0
        self.fail_sync = False

    def write(self, descriptor: int, data: bytes) -> None:
        fits = min(self.room, len(data))
        os.write(descriptor, data[:fits])
        if fits < len(data):
            raise OSError(errno.ENOSPC, "full")
        self.room -= fits

    def sync(self, descriptor: int) -> None:
        if self.fail_sync:
            raise OSError(errno.EIO, "the disk is gone")
        self.syncs += 1
        os.fsync(descriptor)

    def take_reserve(self, path: Path) -> None:
        if not path.exists():
            if self.room < 8000:
                raise OSError(errno.ENOSPC, "full")
            self.room -= 4000
            path.touch()

    def give_reserve(self, path: Path) -> None:
        self.room += 4000
        path.unlink()


def test_a_recorded_event_is_on_the_disk_under_a_head(tmp_path: Path) -> None:
    log = trail(tmp_path)
    log.append(event("CreateUser"))
    head = log.head()
    assert head is not None
    assert names(tmp_path) == ["StartLogging", "CreateUser"]
    assert verify(tmp_path).head == head
    log.close()
    assert names(tmp_path) == ["StartLogging", "CreateUser", "StopLogging"]
    with pytest.raises(AuditUnavailable, match="closed"):
        log.append(event())


def test_an_inclusion_proof_of_the_trail_leads_to_its_head(tmp_path: Path) -> None:
    with trail(tmp_path) as log:
        for number in range(20):
            log.append(event(f"Create{number}"))
        head = log.head()
        assert head is not None
        index, found = list(signed_records(log.log_directory))[7]
        proof = merkle.inclusion_proof(index, head.tree_size, log.node)
        root, leaf = bytes.fromhex(head.root), merkle.leaf_hash(found.payload)
        assert merkle.verify_inclusion(leaf, index, head.tree_size, proof, root)
        assert not merkle.verify_inclusion(leaf, index + 1, head.tree_size, proof, root)


def test_concurrent_callers_share_syncs(tmp_path: Path) -> None:
    disk = SmallDisk(10_000_000)
    log = trail(tmp_path, disk=disk)

    async def many() -> None:
        await asyncio.gather(*(log.record(event(f"Create{number}")) for number in range(500)))

    before = disk.syncs
    asyncio.run(many())
    assert disk.syncs - before < 50
    assert len(names(tmp_path)) == 501
    log.close()


def test_an_event_nobody_waits_for_is_written_within_its_time(tmp_path: Path) -> None:
    log = trail(tmp_path)
    asyncio.run(log.record(event("InvokeModel"), durable=False))
    deadline = time.monotonic() + 5
    while "InvokeModel" not in names(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert "InvokeModel" in names(tmp_path)
    asyncio.run(log.record(event("InvokeModelLast"), durable=False))
    log.close()
    assert names(tmp_path)[-2:] == ["InvokeModelLast", "StopLogging"]


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    with trail(tmp_path), pytest.raises(UserError, match="in use"):
        trail(tmp_path)


def test_another_key_store_does_not_open_it(tmp_path: Path) -> None:
    trail(tmp_path).close()
    with pytest.raises(Unsealable):
        Trail(tmp_path, KeySealer(bytes(32)), TrailConfig("111122223333", "us-east-1"))


def test_a_torn_end_of_any_length_is_cut_recorded_and_kept_aside(tmp_path: Path) -> None:
    """Every length that a crash in the middle of the last commit can leave."""
    whole = tmp_path / "whole"
    log = trail(whole)
    log.append(event("Acknowledged"))
    before = segments(whole / "log")[0].stat().st_size
    log.append(event("Torn"))
    data = segments(whole / "log")[0].read_bytes()
    log.close()
    shutil.rmtree(whole / "tree")  # the tree of a crash there is behind as well
    (whole / "heads.jsonl").unlink()
    for end in range(before, len(data), 23):
        copy = tmp_path / f"torn-{end}"
        shutil.copytree(whole, copy)
        segments(copy / "log")[0].write_bytes(data[:end])
        assert verify(copy).unsigned_bytes == end - before
        trail(copy).close()
        report = verify(copy)
        assert report.findings == []
        repair = ["RepairAuditLog"] if end > before else []
        assert names(copy) == ["StartLogging", "Acknowledged", *repair, "StartLogging", "StopLogging"]
        tails = list((copy / "tails").glob("*"))
        assert [tail.read_bytes() for tail in tails] == ([data[before:end]] if end > before else [])


def test_a_lost_tree_is_made_again(tmp_path: Path) -> None:
    with trail(tmp_path) as log:
        for number in range(9):
            log.append(event(f"Create{number}"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "tree").iterdir()}
    shutil.rmtree(tmp_path / "tree")
    with trail(tmp_path):
        after = {path.name: path.read_bytes() for path in (tmp_path / "tree").iterdir()}
    assert all(after[name].startswith(content) for name, content in before.items())
    assert verify(tmp_path).holds


def test_a_damaged_tree_is_made_again(tmp_path: Path) -> None:
    with trail(tmp_path) as log:
        for number in range(9):
            log.append(event(f"Create{number}"))
    level = tmp_path / "tree" / "level-03"
    level.write_bytes(bytes(32))
    trail(tmp_path).close()
    assert level.read_bytes()[:32] != bytes(32)
    assert verify(tmp_path).holds


def test_a_full_disk_stops_what_changes_something_and_tells_the_truth(tmp_path: Path) -> None:
    disk = SmallDisk(9_500)
    log = trail(tmp_path, disk=disk)
    log.admit(mutating=True)
    done = []
    while log.state is State.OPEN:
        log.append(event(f"Create{len(done)}"))
        done.append(f"Create{len(done)}")
    # The call that found the disk full had been done: its record is in the reserve, and acknowledged.
    assert log.state is State.FULL
    assert names(tmp_path) == ["StartLogging", *done[:-1], "AuditDiskFull", done[-1]]
    with pytest.raises(AuditUnavailable, match="full"):
        log.admit(mutating=True)
    log.admit(mutating=False)
    log.append(event("Refused", error_code="ServiceUnavailable"))
    assert names(tmp_path)[-1] == "Refused"
    acknowledged = names(tmp_path)
    refused = None
    for number in range(20):
        try:
            log.append(event(f"More{number}"))
            acknowledged.append(f"More{number}")
        except AuditUnavailable as error:
            refused = error
            break
    assert refused is not None
    assert log.state is State.EXHAUSTED
    assert names(tmp_path) == acknowledged
    with pytest.raises(AuditUnavailable):
        log.admit(mutating=False)
    with pytest.raises(AuditUnavailable):
        log.append(event("Nothing"))
    assert verify(tmp_path).holds
    disk.room += 100_000
    deadline = time.monotonic() + 10
    while log.state is not State.OPEN and time.monotonic() < deadline:
        time.sleep(0.02)
    log.admit(mutating=True)
    log.append(event("Again"))
    assert names(tmp_path) == [*acknowledged, "AuditDiskHasRoom", "Again"]
    log.close()
    assert verify(tmp_path).holds


def test_where_reads_stop_too_a_full_disk_refuses_them(tmp_path: Path) -> None:
    log = trail(tmp_path, disk=SmallDisk(9_500), reads_when_full=False)
    while log.state is State.OPEN:
        log.append(event())
    with pytest.raises(AuditUnavailable):
        log.admit(mutating=False)
    log.close()


def test_what_nobody_waited_for_is_kept_until_there_is_room(tmp_path: Path) -> None:
    disk = SmallDisk(9_500)
    log = trail(tmp_path, disk=disk)

    async def fill() -> int:
        count = 0
        while log.state is not State.EXHAUSTED:
            try:
                await log.record(event(f"Invoke{count}"), durable=False)
            except AuditUnavailable:
                break
            count += 1
            await asyncio.sleep(0.01)
        return count

    accepted = asyncio.run(fill())
    assert len([name for name in names(tmp_path) if name.startswith("Invoke")]) < accepted
    disk.room += 1_000_000
    deadline = time.monotonic() + 10
    while log.state is not State.OPEN and time.monotonic() < deadline:
        time.sleep(0.02)
    log.close()
    assert [name for name in names(tmp_path) if name.startswith("Invoke")] == [f"Invoke{n}" for n in range(accepted)]
    assert verify(tmp_path).holds


def test_a_closing_trail_on_a_full_disk_ends(tmp_path: Path) -> None:
    log = trail(tmp_path, disk=SmallDisk(9_500))

    async def fill() -> None:
        while log.state is not State.EXHAUSTED:
            try:
                await log.record(event(), durable=False)
            except AuditUnavailable:
                return
            await asyncio.sleep(0.005)

    asyncio.run(fill())
    log.close()
    assert log.state is State.CLOSED


def test_a_failed_sync_is_final(tmp_path: Path) -> None:
    disk = SmallDisk(1_000_000)
    log = trail(tmp_path, disk=disk)
    disk.fail_sync = True
    with pytest.raises(AuditUnavailable, match="failed"):
        log.append(event("Lost"))
    disk.fail_sync = False
    with pytest.raises(AuditUnavailable, match="failed"):
        log.append(event("After"))
    with pytest.raises(AuditUnavailable):
        log.admit(mutating=False)
    log.close()


def test_a_full_disk_at_the_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(AuditUnavailable, match="cannot be written"):
        trail(tmp_path, disk=SmallDisk(100))


def test_a_clock_that_steps_back_is_recorded(tmp_path: Path) -> None:
    clock = FakeClock(NOON)
    log = trail(tmp_path, clock)
    log.append(event("Before"))
    clock.set(NOON - timedelta(days=1))
    log.append(event("After", at=clock.now()))
    log.close()
    assert names(tmp_path)[:4] == ["StartLogging", "Before", "ClockSteppedBack", "After"]
    assert verify(tmp_path).holds


def test_a_clock_that_trembles_is_not(tmp_path: Path) -> None:
    clock = FakeClock(NOON)
    log = trail(tmp_path, clock)
    clock.set(NOON - timedelta(milliseconds=300))
    log.append(event("After"))
    log.close()
    assert "ClockSteppedBack" not in names(tmp_path)
    assert verify(tmp_path).holds


def test_keys_rotate_and_the_old_private_half_is_gone(tmp_path: Path) -> None:
    log = trail(tmp_path)
    first = log.public_keys.log
    second = log.rotate_keys()
    log.append(event("After"))
    log.close()
    assert second != first
    assert {path.stem for path in tmp_path.glob("*.sealed")} == {second}
    report = verify(tmp_path, log=first)
    assert report.findings == []
    assert report.head is not None
    assert report.head.key == second
    with trail(tmp_path) as again:
        assert again.public_keys.log == first
        again.rotate_keys()
        again.append(event("Third"))
    assert verify(tmp_path).holds


def test_segments_follow_each_other(tmp_path: Path) -> None:
    with trail(tmp_path, segment_bytes=3000) as log:
        for number in range(30):
            log.append(event(f"Create{number}"))
    assert len(segments(tmp_path / "log")) > 5
    assert names(tmp_path) == ["StartLogging", *(f"Create{number}" for number in range(30)), "StopLogging"]
    assert [index for index, _ in signed_records(tmp_path / "log", 17)] == list(range(17, 32))
    trail(tmp_path).close()
    assert verify(tmp_path).holds


def test_what_is_too_large_or_cannot_be_written_is_left_out_with_its_size(tmp_path: Path) -> None:
    with trail(tmp_path) as log:
        log.append(event(parameters={"name": "a" * 20_000}, response={"name": "b"}, user_agent="c" * 5000))
    found = json.loads(
        next(one for one in whole_lines(segments(tmp_path / "log")[0]) if b"iam." in one.payload).payload
    )
    assert found["event"]["requestParameters"] == {
        "omitted": True,
        "originalSize": 20_011,
        "reason": "more than 16384 bytes",
    }
    assert found["event"]["responseElements"] == {"name": "b"}
    assert len(found["event"]["userAgent"]) == 1024
