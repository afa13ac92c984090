"""Records on their way to their buckets: a bounded queue for each account and one thread that writes batches.

``submit`` never waits and never fails, so an answer is neither lost nor held up by its log. What cannot be written
(a key is disabled, a bucket is gone, the disk is full) waits and is tried again, each account by itself, so that one
tenant's key stops nobody else's log; once an account's room or the room of all is full, further records are lost. That
delivery stopped, went on, and how many records were lost, is told in the operator's log and to ``report``.

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

from outcrop.base.arn import AccountId
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
    account_bytes_max: int = 32 << 20
    bytes_max: int = 128 << 20


@dataclass(slots=True)
class _Waiting:
    """What waits of one account."""

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
        self._accounts: dict[str, _Waiting] = {}
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
            waiting = self._accounts.setdefault(call.account, _Waiting())
            fits = waiting.size_bytes + size <= self._limits.account_bytes_max and not self._end.is_set()
            if not fits or not self._make_room(size, waiting):
                waiting.lost += 1
                return
            waiting.calls.append(call)
            waiting.size_bytes += size
            self._size_bytes += size

    def _make_room(self, size: int, wanted_by: _Waiting) -> bool:
        """Whether ``size`` bytes fit in all; those whose delivery has stopped give way to those where it goes on."""
        while self._size_bytes + size > self._limits.bytes_max:
            stopped = [one for one in self._accounts.values() if one.stopped and one.calls]
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
        with self._working, self._lock:
            waiting = self._accounts.get(account, _Waiting())
            count = len(waiting.calls)
            self._size_bytes -= waiting.size_bytes
            waiting.calls.clear()
            waiting.size_bytes = 0
        return count

    def waiting(self, account: str) -> int:
        """How many records of an account are not written yet."""
        with self._lock:
            return len(self._accounts[account].calls) if account in self._accounts else 0

    def deliver(self, *, now: bool = True) -> None:
        """Write what waits; with ``now`` also of accounts whose next try is not due. Returns when it has tried."""
        with self._working:
            with self._lock:
                accounts = list(self._accounts)
            for account in accounts:
                with self._lock:
                    due = now or self._clock.monotonic_s() >= self._accounts[account].retry_at_s
                if due:
                    self._deliver_account(account)
                self._tell_lost(account)
            with self._lock:
                idle = [name for name, one in self._accounts.items() if not one.calls and not one.stopped]
                for name in idle:
                    if not self._accounts[name].lost:
                        del self._accounts[name]

    def close(self) -> None:
        """Take nothing more, try once to write what waits, and say what remains: it is lost with this process."""
        self._end.set()
        self._thread.join()
        self.deliver()
        with self._working:
            for account, waiting in list(self._accounts.items()):
                with self._lock:
                    waiting.lost += len(waiting.calls)
                    waiting.calls.clear()
                self._tell_lost(account)

    def _run(self) -> None:
        while not self._end.wait(self._limits.every_s):
            try:
                self.deliver(now=False)
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever it is; no content is told
                log.error("invocation logs could not be delivered: %s", type(error).__name__)

    def _deliver_account(self, account: str) -> None:
        while batch := self._take(account):
            try:
                if not self._retention.keeps(account):
                    log.info("%d invocation records of account %s were dropped: it keeps nothing", len(batch), account)
                    self._resume(account, told=False)
                    continue
                self._write(batch)
            except (OutcropError, OSError) as error:
                self._put_back(account, batch)
                self._stop(account, batch[0], error)
                return
            self._resume(account)

    def _take(self, account: str) -> list[Invocation]:
        """The next calls that go into one object: of one bucket, prefix and hour."""
        with self._lock:
            waiting = self._accounts[account]
            batch: list[Invocation] = []
            size = 0
            while waiting.calls and len(batch) < BATCH_RECORDS_MAX and size < BATCH_BYTES_MAX:
                if batch and _place(waiting.calls[0]) != _place(batch[0]):
                    break
                call = waiting.calls.popleft()
                batch.append(call)
                size += call.size_bytes
            waiting.size_bytes -= size
            self._size_bytes -= size
        return batch

    def _put_back(self, account: str, batch: list[Invocation]) -> None:
        size = sum(call.size_bytes for call in batch)
        with self._lock:
            waiting = self._accounts[account]
            waiting.calls.extendleft(reversed(batch))
            waiting.size_bytes += size
            self._size_bytes += size

    def _write(self, batch: list[Invocation]) -> None:
        first = batch[0]
        owner, bucket = AccountId(first.account), first.settings.bucket.name
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
        key = f"{_place(first)[1]}/{name}"
        self._objects.put(bucket, key, gzip.compress(b"".join(lines), mtime=0), owner, content_type=GZIP_TYPE)
        point("invocations.batch.written")

    def _recorded(self, call: Invocation) -> Recorded | None:
        try:
            return record_of(call)
        except Exception as error:  # noqa: BLE001 - one call that cannot be told must not stop the others
            log.error("request %s could not be recorded: %s", call.request_id, type(error).__name__)
            with self._lock:
                self._accounts[call.account].lost += 1
            return None

    def _stop(self, account: str, call: Invocation, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        with self._lock:
            waiting = self._accounts[account]
            new, waiting.stopped = waiting.stopped != reason, reason
            waiting.failures += 1
            pause_s = min(self._limits.every_s * 2 ** min(waiting.failures, 16), RETRY_S_MAX)
            waiting.retry_at_s = self._clock.monotonic_s() + pause_s
            count = len(waiting.calls)
        if new:
            log.error("the invocation log of account %s is not delivered: %s", account, reason)
            bucket = call.settings.bucket.name
            self._report(account, STOPPED, {"bucketName": bucket, "reason": reason, "recordsWaiting": count})

    def _resume(self, account: str, *, told: bool = True) -> None:
        with self._lock:
            waiting = self._accounts[account]
            was, waiting.stopped, waiting.failures, waiting.retry_at_s = waiting.stopped, "", 0, 0.0
        if was and told:
            log.warning("the invocation log of account %s is delivered again", account)
            self._report(account, RESUMED, {})

    def _tell_lost(self, account: str) -> None:
        with self._lock:
            waiting = self._accounts[account]
            lost, waiting.lost = waiting.lost, 0
        if lost:
            log.error("%d invocation records of account %s are lost", lost, account)
            self._report(account, LOST, {"records": lost})


def _place(call: Invocation) -> tuple[str, str]:
    """The bucket and the folder that a call's record belongs into."""
    bucket = call.settings.bucket
    return bucket.name, layout(bucket.prefix, call.account, call.region, call.at)
