"""What falls due in a running service: keys are destroyed when their waiting time is over, and rotated every year.

One thread that looks once a minute. Several services over one database may run one each: what is due is done once.

Not covered: alarms. What goes wrong is logged and tried again at the next look; until then a key that is due for its
end is refused for every use as before.
"""

from __future__ import annotations

import logging
import threading

from outcrop.base.clock import Clock
from outcrop.base.errors import OutcropError
from outcrop.trust.keys.service import KeyService

log = logging.getLogger("outcrop.trust")

LOOK_EVERY_S = 60.0


class KeyReaper:
    """Calls ``KeyService.reap`` until closed."""

    def __init__(self, keys: KeyService, clock: Clock, *, every_s: float = LOOK_EVERY_S) -> None:
        """Starts looking at once. ``every_s`` is real time, whatever ``clock`` tells."""
        self._keys = keys
        self._clock = clock
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outcrop-key-reaper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking; what is under way is finished first."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._look()
            if self._end.wait(self._every_s):
                return

    def _look(self) -> None:
        try:
            for done in self._keys.reap(self._clock.now()):
                log.info("key %s was %s", done.arn, done.action)
        except OutcropError as error:
            log.error("keys that are due wait for the next look: %s", error)
