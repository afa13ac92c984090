"""Records on their way to their buckets: a bounded queue for each bucket and one thread that writes batches.

``submit`` never waits and never fails, so an answer is neither lost nor held up by its log. What cannot be written
(a key is disabled, a bucket is gone, the disk is full) waits and is tried again, each bucket by itself, so that one
tenant's key stops nobody else's log, nor its own in another bucket; once a queue's room or the room of all is full,
further records are lost. That delivery stopped, went on, and how many records were lost, is told in the operator's log
and to ``report``.

A batch is one object, put whole; bodies beside it are put before it. A kill leaves whole objects and loses what waited.

Not covered: order between batches; records of a kill, whose number nobody knows.
"""

from __future__ import annotations

import gzip
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC

from outcrop.base.arn import account_id
from outcrop.base.clock import Clock
from outcrop.base.errors import OutcropError
from outcrop.base.faultpoints import point
from outcrop.service.accounts import DataRetention
from outcrop.service.invocations.record import Invocation, Recorded, layout, record_of
from outcrop.service.objects import ObjectStore

GZIP_TYPE = "application/x-gzip"
BATCH_RECORDS_MAX = 1000
BATCH_BYTES_MAX = 8 << 20
RETRY_S_MAX = 60.0

Report = Callable[[str, str, Mapping[str, str | int]], None]
"""Told an account, what happened to its delivery and the facts: see ``STOPPED``, ``RESUMED``, ``LOST``."""
STOPPED, RESUMED, LOST = "InvocationLogStopped", "InvocationLogResumed", "InvocationLogRecordsLost"

log = logging.getLogger("outcrop.service")


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """How long records wait and how much memory they may take while they do."""

    every_s: float = 5.0
    queue_bytes_max: int = 32 << 20
    bytes_max: int = 128 << 20


_Target = tuple[str, str]
"""An account and the bucket that it had its log written into when the call began."""


@dataclass(slots=True)
class _Waiting:
    """What waits for one bucket."""

    calls: deque[Invocation] = field(default_factory=deque)
    size_bytes: int = 0
    lost: int = 0
    stopped: str = ""
    failures: int = 0
    retry_at_s: float = 0.0


class Delivery:
    """See the module. ``close`` writes what waits, once, and says what is lost."""

    def __init__(
        self,
        objects: ObjectStore,
        retention: DataRetention,
        clock: Clock,
        report: Report = lambda account, what, facts: None,
        limits: DeliveryLimits | None = None,
    ) -> None:
        self._objects = objects
        self._retention = retention
        self._clock = clock
        self._report = report
        self._limits = limits or DeliveryLimits()
        self._queues: dict[_Target, _Waiting] = {}
        self._size_bytes = 0
        self._lock = threading.Lock()
        self._working = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outcrop-invocation-log", daemon=True)
        self._thread.start()

    def submit(self, call: Invocation) -> None:
        """Have ``call`` logged soon; lost, and counted, where there is no room."""
        size = call.size_bytes
        with self._lock:
            waiting = self._queues.setdefault(_target(call), _Waiting())
            fits = waiting.size_bytes + size <= self._limits.queue_bytes_max and not self._end.is_set()
            if not fits or not self._make_room(size, waiting):
                waiting.lost += 1
                return
            waiting.calls.append(call)
            waiting.size_bytes += size
            self._size_bytes += size

    def _make_room(self, size: int, wanted_by: _Waiting) -> bool:
        """Whether ``size`` bytes fit in all; those whose delivery has stopped give way to those where it goes on."""
        while self._size_bytes + size > self._limits.bytes_max:
            stopped = [one for one in self._queues.values() if one.stopped and one.calls]
            if wanted_by.stopped or not stopped:
                return False
            largest = max(stopped, key=lambda one: one.size_bytes)
            dropped = largest.calls.popleft().size_bytes
            largest.size_bytes -= dropped
            self._size_bytes -= dropped
            largest.lost += 1
        return True

    def forget(self, account: str) -> int:
        """Drop what waits of an account that keeps nothing any more; how many records."""
        count = 0
        with self._working, self._lock:
            for waiting in self._of(account):
                count += len(waiting.calls)
                self._size_bytes -= waiting.size_bytes
                waiting.calls.clear()
                waiting.size_bytes = 0
        return count

    def waiting(self, account: str) -> int:
        """How many records of an account are not written yet."""
        with self._lock:
            return sum(len(waiting.calls) for waiting in self._of(account))

    def deliver(self, *, now: bool = True) -> None:
        """Write what waits; with ``now`` also where the next try is not due. Returns when it has tried."""
        with self._working:
            with self._lock:
                targets = list(self._queues)
            for target in targets:
                with self._lock:
                    due = now or self._clock.monotonic_s() >= self._queues[target].retry_at_s
                if due:
                    self._deliver_to(target)
                self._tell_lost(target)
            with self._lock:
                for target in targets:
                    waiting = self._queues[target]
                    if not (waiting.calls or waiting.stopped or waiting.lost):
                        del self._queues[target]

    def close(self) -> None:
        """Take nothing more, try once to write what waits, and say what remains: it is lost with this process."""
        self._end.set()
        self._thread.join()
        self.deliver()
        with self._working:
            for target, waiting in list(self._queues.items()):
                with self._lock:
                    waiting.lost += len(waiting.calls)
                    waiting.calls.clear()
                self._tell_lost(target)

    def _of(self, account: str) -> list[_Waiting]:
        return [waiting for (owner, _), waiting in self._queues.items() if owner == account]

    def _run(self) -> None:
        while not self._end.wait(self._limits.every_s):
            try:
                self.deliver(now=False)
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever it is; no content is told
                log.error("invocation logs could not be delivered: %s", type(error).__name__)

    def _deliver_to(self, target: _Target) -> None:
        account, _ = target
        while batch := self._take(target):
            try:
                if not self._retention.keeps(account):
                    log.info("%d invocation records of account %s were dropped: it keeps nothing", len(batch), account)
                    continue
                self._write(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, the batch must not be lost unsaid
                self._put_back(target, batch)
                self._stop(target, error)
                return
            self._resume(target)

    def _take(self, target: _Target) -> list[Invocation]:
        """The next calls that go into one object: of one prefix and hour."""
        with self._lock:
            waiting = self._queues[target]
            batch: list[Invocation] = []
            size = 0
            while waiting.calls and len(batch) < BATCH_RECORDS_MAX and size < BATCH_BYTES_MAX:
                if batch and _folder(waiting.calls[0]) != _folder(batch[0]):
                    break
                call = waiting.calls.popleft()
                batch.append(call)
                size += call.size_bytes
            waiting.size_bytes -= size
            self._size_bytes -= size
        return batch

    def _put_back(self, target: _Target, batch: list[Invocation]) -> None:
        size = sum(call.size_bytes for call in batch)
        with self._lock:
            waiting = self._queues[target]
            waiting.calls.extendleft(reversed(batch))
            waiting.size_bytes += size
            self._size_bytes += size

    def _write(self, batch: list[Invocation]) -> None:
        first = batch[0]
        owner, bucket = account_id(first.account), first.settings.bucket.name
        lines: list[bytes] = []
        for call in batch:
            recorded = self._recorded(call)
            if recorded is None:
                continue
            for key, body in recorded.bodies.items():
                self._objects.put(bucket, key, body, owner, content_type=GZIP_TYPE)
            lines.append(recorded.line)
        if not lines:
            return
        point("invocations.batch.made")
        written = self._clock.now().astimezone(UTC)
        name = f"{written:%Y%m%dT%H%M%S}{written.microsecond // 1000:03d}Z_{secrets.token_hex(8)}.json.gz"
        key = f"{_folder(first)}/{name}"
        self._objects.put(bucket, key, gzip.compress(b"".join(lines), mtime=0), owner, content_type=GZIP_TYPE)
        point("invocations.batch.written")

    def _recorded(self, call: Invocation) -> Recorded | None:
        try:
            return record_of(call)
        except Exception as error:  # noqa: BLE001 - one call that cannot be told must not stop the others
            log.error("request %s could not be recorded: %s", call.request_id, type(error).__name__)
            with self._lock:
                self._queues[_target(call)].lost += 1
            return None

    def _stop(self, target: _Target, error: Exception) -> None:
        account, bucket = target
        # The text of an error that nobody foresaw may quote what was said.
        reason = str(error) if isinstance(error, OutcropError | OSError) else type(error).__name__
        with self._lock:
            waiting = self._queues[target]
            new, waiting.stopped = waiting.stopped != reason, reason
            waiting.failures += 1
            pause_s = min(self._limits.every_s * 2 ** min(waiting.failures, 16), RETRY_S_MAX)
            waiting.retry_at_s = self._clock.monotonic_s() + pause_s
            count = len(waiting.calls)
        if new:
            log.error("the invocation log of account %s is not delivered to %s: %s", account, bucket, reason)
            self._report(account, STOPPED, {"bucketName": bucket, "reason": reason, "recordsWaiting": count})

    def _resume(self, target: _Target) -> None:
        account, bucket = target
        with self._lock:
            waiting = self._queues[target]
            was, waiting.stopped, waiting.failures, waiting.retry_at_s = waiting.stopped, "", 0, 0.0
        if was:
            log.warning("the invocation log of account %s is delivered to %s again", account, bucket)
            self._report(account, RESUMED, {"bucketName": bucket})

    def _tell_lost(self, target: _Target) -> None:
        account, bucket = target
        with self._lock:
            waiting = self._queues[target]
            lost, waiting.lost = waiting.lost, 0
        if lost:
            log.error("%d invocation records of account %s for %s are lost", lost, account, bucket)
            self._report(account, LOST, {"bucketName": bucket, "records": lost})


def _target(call: Invocation) -> _Target:
    return call.account, call.settings.bucket.name


def _folder(call: Invocation) -> str:
    """Where a call's record belongs in its bucket."""
    return layout(call.settings.bucket.prefix, call.account, call.region, call.at)
