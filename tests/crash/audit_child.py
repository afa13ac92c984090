"""A trail at work, to be killed at some point: it says on its standard output what has been acknowledged."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from audit_rig import ACCOUNT, NOON, event, trail
from outcrop.base.clock import FakeClock
from outcrop.trust.audit.digests import Delivery, Destination


def say(word: str) -> None:
    print(word, flush=True)


async def acknowledged(log: object, name: str, clock: FakeClock) -> None:
    await log.record(event(name, at=clock.now()))
    say(name)


def main(directory: Path) -> None:
    clock = FakeClock(NOON)
    for session in range(2):
        clock.set(NOON + timedelta(hours=2 * session))
        with trail(directory, clock, segment_bytes=4000) as log:
            delivery = Delivery(log, Destination(ACCOUNT, "us-east-1"), clock)
            for number in range(4):
                asyncio.run(acknowledged(log, f"S{session}N{number}", clock))
            delivery.deliver_digests()
            log.rotate_keys()
            clock.set(clock.now() + timedelta(hours=1))
            asyncio.run(acknowledged(log, f"S{session}Last", clock))
            delivery.deliver_digests()
        say(f"closed {session}")


main(Path(sys.argv[1]))
