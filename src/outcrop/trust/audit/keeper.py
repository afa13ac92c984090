"""What a running service does for its trail beside writing it: the index follows the log, files and
digests are due, events of the operator's commands are taken in.

One thread, looking every second. Nothing depends on it for truth: what it is late with it makes up for from the log.

Not covered: alarms. What goes wrong here is logged, tried again, and told by ``last_error`` (GetTrailStatus).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from outcrop.base.clock import Clock
from outcrop.base.errors import OutcropError
from outcrop.trust.audit.digests import Delivery
from outcrop.trust.audit.index import EventIndex
from outcrop.trust.audit.spool import Spool
from outcrop.trust.audit.writer import Trail

log = logging.getLogger("outcrop.audit")

LOOK_EVERY_S = 1.0
DELIVER_EVERY_S = 300.0
"""CloudTrail delivers log files some five minutes after the calls."""


class AuditKeeper:
    """A trail with its index and delivery, kept up to date until closed."""

    def __init__(self, trail: Trail, index: EventIndex, delivery: Delivery, clock: Clock) -> None:
        self.trail = trail
        self.index = index
        self.delivery = delivery
        self.last_error = ""
        self.last_delivery_at: datetime | None = None
        self.last_digest_at: datetime | None = None
        self.since = clock.now()
        self._clock = clock
        self._delivered_s = clock.monotonic_s()
        self._end = threading.Event()
        self._working = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="outcrop-audit-keeper", daemon=True)
        self._thread.start()

    def follow(self) -> None:
        """Bring the index up to the trail's newest head."""
        head = self.trail.head()
        if head is not None:
            self.index.catch_up(head.tree_size)

    def _follow_gently(self) -> None:
        head = self.trail.head()
        if head is not None:
            self.index.catch_up(head.tree_size, gently=True)

    def take_in(self) -> None:
        """Record what commands of the operator left."""
        Spool(self.trail.directory).drain(self.trail)

    def deliver(self) -> None:
        """Deliver log files now, and digests where one is due."""
        with self._working:
            self.delivery.deliver_logs()
            self.last_delivery_at = self._clock.now()
            if self.delivery.digest_due():
                self.delivery.deliver_digests()
                self.last_digest_at = self._clock.now()

    def close(self) -> None:
        """Deliver what is outstanding and close the trail."""
        self._end.set()
        self._thread.join()
        self._try(self.take_in)
        self._try(self.follow)
        self._try(self.deliver)
        self.trail.close()

    def _run(self) -> None:
        while not self._end.wait(LOOK_EVERY_S):
            self._try(self.take_in)
            self._try(self._follow_gently)
            now_s = self._clock.monotonic_s()
            if now_s - self._delivered_s >= DELIVER_EVERY_S:
                self._delivered_s = now_s
                self._try(self.deliver)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OutcropError, OSError) as error:
            self.last_error = str(error)
            log.error("the audit trail's upkeep is behind: %s", error)
        else:
            self.last_error = ""
