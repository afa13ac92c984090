"""The trail: one thread takes events from a bounded queue and commits them in groups, each with one sync to the disk.

A commit is: the records' lines and a signed head over them, written, synced; then the tree's nodes; then whoever waits
is told. A caller that waits for durability starts a commit at once, and what arrives while the disk works forms the
next group; events that nobody waits for gather for 5 ms or until there are 128.

When the disk is full, what can change something is refused (``admit``) before it is done; the records of what was done
already, and of the refusals, go into a reserve kept for them. When that is used up too, nothing is admitted at all.
Records that nobody waited for stay in memory meanwhile and are written first when there is room again, which the
trail looks for every second. A failed sync is final until the next start: what the disk holds then is not known.

Not covered: several processes writing one trail (a lock keeps the second out); a kill or power cut may lose events that
nobody waited for, at most 5 ms and one commit's time of them; what happens to a reply after its event is on the disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from outcrop.base.clock import Clock, SystemClock
from outcrop.base.errors import AuditUnavailable
from outcrop.base.faultpoints import point
from outcrop.base.files import exclusive_lock, make_private_directory, sync_directory
from outcrop.trust.audit import heads, recovery
from outcrop.trust.audit.disk import FULL, Disk
from outcrop.trust.audit.event import iso_time, service_event
from outcrop.trust.audit.heads import TreeHead
from outcrop.trust.audit.keys import FILE as KEYS_FILE
from outcrop.trust.audit.keys import AuditKeys, PublicKeys
from outcrop.trust.audit.merkle import Frontier, leaf_hash
from outcrop.trust.audit.nodes import NodeFiles
from outcrop.trust.audit.segments import line, record, segment_name, segments
from outcrop.trust.audit.states import State, TrailConfig, unavailable
from outcrop.trust.audit.waiting import Entry, LoopTold, tell
from outcrop.trust.crypto.sealer import Sealer

log = logging.getLogger("outcrop.audit")

T = TypeVar("T")

GROUP_WAIT_S = 0.005
GROUP_EVENTS = 128
COMMIT_EVENTS_MAX = 1024
QUEUE_EVENTS_MAX = 8192
HEAD_KEPT_EVERY_S = 60.0
ROOM_SOUGHT_EVERY_S = 1.0
CLOCK_SLACK_S = 1.0
"""A clock that steps back by less is taken as standing still; by more, it is recorded."""

LOG_FOLDER, TREE_FOLDER, RESERVE_FILE, LOCK_FILE = "log", "tree", "reserve", "trail.lock"


class Trail:
    """One audit trail, open for writing. Safe to use from any thread and event loop."""

    def __init__(
        self, directory: Path, sealer: Sealer, config: TrailConfig, clock: Clock | None = None, disk: Disk | None = None
    ) -> None:
        """Open the trail in ``directory`` or begin one, and record that.

        Raises ``AuditBroken`` where the log is not what was signed, ``UserError`` where another process has it open,
        ``AuditUnavailable`` where it cannot be written.
        """
        self.directory = directory
        self._config = config
        self._clock = clock or SystemClock()
        self._disk = disk or Disk()
        self._sealer = sealer
        self._held = ExitStack()
        self._state = State.OPEN
        self._head_kept_s = float("-inf")
        self._sought_s = float("-inf")
        self._unstored: list[tuple[int, list[list[tuple[int, bytes]]]]] = []
        self._queue: deque[Entry] = deque()
        self._wake = threading.Condition()
        self._committing = threading.RLock()
        self._idle = False
        self._closing = False
        make_private_directory(directory)
        make_private_directory(self.log_directory)
        self._held.enter_context(exclusive_lock(directory / LOCK_FILE))
        try:
            self._open()
        except BaseException:
            self._held.close()
            raise

    # What _open establishes.
    _keys: AuditKeys
    _tree: NodeFiles
    _frontier: Frontier
    _head: TreeHead | None
    _last: datetime
    _descriptor: int
    _segment_bytes: int
    _thread: threading.Thread

    @property
    def log_directory(self) -> Path:
        return self.directory / LOG_FOLDER

    @property
    def state(self) -> State:
        return self._state

    @property
    def public_keys(self) -> PublicKeys:
        return self._keys.public

    def head(self) -> TreeHead | None:
        """The newest signed head; everything acknowledged is under it."""
        return self._head

    def node(self, level: int, index: int) -> bytes:
        """A stored node of the tree, for proofs."""
        return self._tree.node(level, index)

    def admit(self, mutating: bool) -> None:
        """Raise ``AuditUnavailable`` unless what is about to be done could be recorded; ask before doing it."""
        state = self._state
        if state is State.OPEN or (state is State.FULL and not mutating and self._config.reads_when_full):
            return
        raise unavailable(state)

    async def record(self, event: Mapping[str, object], *, durable: bool = True) -> None:
        """Take ``event`` into the log; with ``durable``, return when it is on the disk under a signed head.

        Raises ``AuditUnavailable`` where it was not recorded: then its call must not be answered as done.
        """
        if not durable:
            self.submit(event)
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle(error: AuditUnavailable | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self._put(Entry(msgspec.json.encode(event), LoopTold(loop, settle)))
        # Shielded from nothing: a caller that is cancelled stops waiting, the event is written all the same.
        await future

    def submit(self, event: Mapping[str, object]) -> None:
        """Take ``event`` in without waiting for the disk; raises ``AuditUnavailable`` where it cannot be queued."""
        self._put(Entry(msgspec.json.encode(event)))

    def append(self, event: Mapping[str, object]) -> None:
        """The same for a caller without an event loop; always durable."""
        done = threading.Event()
        outcome: list[AuditUnavailable | None] = []

        def told(error: AuditUnavailable | None) -> None:
            outcome.append(error)
            done.set()

        self._put(Entry(msgspec.json.encode(event), told))
        done.wait()
        if outcome[0] is not None:
            raise outcome[0]

    def rotate_keys(self) -> str:
        """Sign with fresh keys from here on, vouched for by the old ones; the new head key's id."""
        with self._committing:
            if self._state is not State.OPEN:
                raise unavailable(self._state)
            entry = self._own("RotateAuditKeys", {"oldKeyId": self.public_keys.newest("head").id})
            if (error := self._commit_or_explain([entry])) is not None:
                raise error
            self._keep_head()
            assert self._head is not None
            self._keys = self._keys.rotate(self._sealer, self._head.tree_size, self._now()[0])
            return self.public_keys.newest("head").id

    def sign_digest(self, make: Callable[[str], tuple[bytes, T]]) -> tuple[str, T]:
        """The hex signature of a digest, and the digest: ``make`` is given the key's fingerprint, and returns the
        string to sign with what it belongs to."""
        with self._committing:
            message, digest = make(self.public_keys.newest("digest").cloudtrail_fingerprint)
            return self._keys.sign_digest(message), digest

    def close(self) -> None:
        """Write what is queued, record the end, and let go of the directory. Not an error when already closed."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        self._thread.join()
        with self._committing:
            if self._state is State.OPEN:
                try:
                    self._commit([self._own("StopLogging", {})])
                    self._keep_head()
                except OSError as error:
                    log.error("the end of the audit trail could not be recorded: %s", error)
            self._state = State.CLOSED
        os.close(self._descriptor)
        self._tree.close()
        self._held.close()

    def __enter__(self) -> Trail:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> None:
        new = not segments(self.log_directory) and not (self.directory / KEYS_FILE).exists()
        at = iso_time(self._clock.now(), "microseconds")
        self._keys = (
            AuditKeys.create(self.directory, self._sealer, at) if new else AuditKeys.load(self.directory, self._sealer)
        )
        self._tree = NodeFiles(self.directory / TREE_FOLDER)
        found = recovery.recover(self.log_directory, self._tree, self.public_keys, self.directory)
        self._frontier, self._head = found.frontier, found.head
        self._last = datetime.fromisoformat(found.head.at) if found.head else self._clock.now()
        self._descriptor = os.open(found.segment, os.O_WRONLY | os.O_CLOEXEC)
        self._segment_bytes = os.lseek(self._descriptor, 0, os.SEEK_END)
        first = [self._own("StartLogging", {})]
        if found.cut_bytes:
            facts = {"removedBytes": found.cut_bytes, "removedWholeRecords": found.cut_records}
            first.insert(0, self._own("RepairAuditLog", facts))
        try:
            self._disk.take_reserve(self.directory / RESERVE_FILE)
            self._commit(first)
        except OSError as error:
            os.close(self._descriptor)
            raise AuditUnavailable(
                f"The audit trail in {self.directory} cannot be written: {error.strerror}.",
                "Make room on its disk, or mend it; nothing is served that cannot be recorded.",
            ) from error
        self._thread = threading.Thread(target=self._run, name="outcrop-audit", daemon=True)
        self._thread.start()

    def _put(self, entry: Entry) -> None:
        with self._wake:
            if self._state in (State.FAILED, State.CLOSED, State.EXHAUSTED) or self._closing:
                raise unavailable(State.CLOSED if self._closing else self._state)
            if len(self._queue) >= QUEUE_EVENTS_MAX and entry.told is None:
                # What somebody waits for was done already, and those are as few as requests under way.
                raise AuditUnavailable("The audit trail's queue is full.", "Try again in a moment.")
            self._queue.append(entry)
            if self._idle and (entry.told is not None or len(self._queue) in (1, GROUP_EVENTS)):
                self._wake.notify()

    def _run(self) -> None:
        while True:
            batch = self._gather()
            if batch is None:
                return
            with self._committing:
                if self._state in (State.FULL, State.EXHAUSTED):
                    self._seek_room()
                if batch:
                    self._commit_or_explain(batch)

    def _gather(self) -> list[Entry] | None:
        """The next group; empty when it is time to look for room; ``None`` at the end."""
        with self._wake:
            while True:
                blocked = self._state in (State.FAILED, State.EXHAUSTED)
                if self._closing and (blocked or not self._queue):
                    if self._queue:
                        log.critical("%d events could not be recorded before the end", len(self._queue))
                    return None
                if self._queue and not blocked:
                    wait_s = self._queue[0].queued_s + GROUP_WAIT_S - time.monotonic()
                    ripe = self._closing or wait_s <= 0 or len(self._queue) >= GROUP_EVENTS
                    if ripe or any(entry.told for entry in self._queue):
                        count = min(len(self._queue), COMMIT_EVENTS_MAX)
                        return [self._queue.popleft() for _ in range(count)]
                    timeout: float | None = wait_s
                else:
                    timeout = ROOM_SOUGHT_EVERY_S if self._state in (State.FULL, State.EXHAUSTED) else None
                self._idle = True
                woken = self._wake.wait(timeout)
                self._idle = False
                if not woken and (blocked or not self._queue):
                    return []

    def _commit_or_explain(self, batch: list[Entry]) -> AuditUnavailable | None:
        """Commit ``batch`` and tell those who wait for it; the error, where it is not on the disk."""
        error: AuditUnavailable | None = None
        try:
            if self._state is State.FAILED:
                error = self._refuse_queued()
            elif self._state is State.EXHAUSTED:
                error = self._put_back(batch)
            else:
                self._commit(batch)
        except OSError as problem:
            error = self._no_room(batch) if problem.errno in FULL else self._fail(problem)
        tell(batch, error)
        if time.monotonic() - self._head_kept_s > HEAD_KEPT_EVERY_S and self._state is State.OPEN:
            self._keep_head()
        return error

    def _no_room(self, batch: list[Entry]) -> AuditUnavailable | None:
        """The disk is full: write the batch into the reserve, or say that it could not be written."""
        if self._state is State.OPEN:
            self._state = State.FULL
            log.error("the audit trail's disk is full: operations that change something are refused")
            self._disk.give_reserve(self.directory / RESERVE_FILE)
            try:
                self._commit([self._own("AuditDiskFull", {}), *batch])
            except OSError as problem:
                if problem.errno not in FULL:
                    return self._fail(problem)
            else:
                return None
        self._state = State.EXHAUSTED
        log.error("the audit trail's reserve is used up: every operation is refused")
        return self._put_back(batch)

    def _put_back(self, batch: list[Entry]) -> AuditUnavailable:
        """Keep what nobody waits for, to be written when there is room; the others are told that it was not."""
        with self._wake:
            self._queue.extendleft(reversed([entry for entry in batch if entry.told is None]))
        return self._refuse_queued()

    def _refuse_queued(self) -> AuditUnavailable:
        """Tell everyone who waits that this trail takes nothing."""
        error = unavailable(self._state)
        with self._wake:
            waiting = [entry for entry in self._queue if entry.told is not None]
            self._queue = deque(entry for entry in self._queue if entry.told is None)
        tell(waiting, error)
        return error

    def _seek_room(self) -> None:
        now_s = time.monotonic()
        if now_s - self._sought_s < ROOM_SOUGHT_EVERY_S / 2:
            return
        self._sought_s = now_s
        try:
            self._disk.take_reserve(self.directory / RESERVE_FILE)
            self._commit([self._own("AuditDiskHasRoom", {})])
        except OSError as problem:
            if problem.errno not in FULL:
                self._fail(problem)
            return
        self._state = State.OPEN
        log.warning("the audit trail's disk has room again")

    def _fail(self, problem: OSError) -> AuditUnavailable:
        self._state = State.FAILED
        log.critical("the audit trail's disk failed, nothing is served any more: %s", problem)
        return self._refuse_queued()

    def _commit(self, batch: list[Entry]) -> None:
        """Make ``batch`` durable under a new head, or raise ``OSError`` with the log as it was before."""
        point("audit.append.begin")
        at, stepped = self._now()
        if stepped is not None:
            batch = [self._own("ClockSteppedBack", {"lastTime": stepped, "time": at}), *batch]
        frontier, first = self._frontier.copy(), self._frontier.size
        lines, made = [], []
        for entry in batch:
            payload = record(frontier.size, at, entry.event)
            made.append(frontier.append(leaf_hash(payload)))
            lines.append(line("R", payload))
        head = self._keys.sign_head(frontier.size, frontier.root(), at)
        lines.append(line("H", head.encode()))
        self._store(b"".join(lines))
        self._frontier, self._head, self._last = frontier, head, datetime.fromisoformat(at)
        point("audit.append.synced")
        self._unstored.append((first, made))
        self._store_nodes()
        point("audit.append.counted")
        if self._segment_bytes >= self._config.segment_bytes:
            self._next_segment()

    def _store(self, data: bytes) -> None:
        """Append ``data`` to the segment and sync; on failure the segment is as it was, or the trail has failed."""
        try:
            self._disk.write(self._descriptor, data)
            point("audit.append.written")
        except OSError as problem:
            try:
                os.ftruncate(self._descriptor, self._segment_bytes)
                os.lseek(self._descriptor, self._segment_bytes, os.SEEK_SET)
            except OSError:
                raise OSError(-1, f"the log could not be cut back after: {problem}") from problem
            raise
        try:
            self._disk.sync(self._descriptor)
        except OSError as problem:
            # Whatever its number: after a failed sync nobody knows what the disk holds.
            raise OSError(-1, f"the log could not be synced: {problem}") from problem
        self._segment_bytes += len(data)

    def _store_nodes(self) -> None:
        """Write the tree's nodes. They are derived, so that they cannot be written now does not undo the commit."""
        try:
            while self._unstored:
                self._tree.write(*self._unstored[0])
                self._unstored.pop(0)
        except OSError as problem:
            log.warning("the audit tree's files are behind: %s", problem)

    def _next_segment(self) -> None:
        self._keep_head()
        path = self.log_directory / segment_name(self._frontier.size)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            log.warning("the audit log's next file cannot be made yet: %s", problem)
            return
        point("audit.rotate.made")
        sync_directory(self.log_directory)
        os.close(self._descriptor)
        self._descriptor, self._segment_bytes = descriptor, 0

    def _keep_head(self) -> None:
        """Keep the newest head beside the log. It is in the log as well, so failing to is no loss of truth."""
        self._head_kept_s = time.monotonic()
        if self._head is None:
            return
        try:
            with (self.directory / heads.FILE).open("ab") as file:
                file.write(self._head.encode() + b"\n")
        except OSError as problem:
            log.warning("a head of the audit log was not kept: %s", problem)

    def _now(self) -> tuple[str, str | None]:
        """The time of the next records, and the last one's where the clock has stepped back behind it."""
        now, stepped = self._clock.now(), None
        behind_s = (self._last - now).total_seconds()
        if 0 < behind_s <= CLOCK_SLACK_S:
            now = self._last
        elif behind_s > CLOCK_SLACK_S:
            stepped = iso_time(self._last, "microseconds")
        return iso_time(now, "microseconds"), stepped

    def _own(self, name: str, facts: Mapping[str, str | int]) -> Entry:
        """An event of the trail's own."""
        event = service_event(name, facts, self._clock.now(), self._config.account, self._config.region)
        return Entry(msgspec.json.encode(event))
