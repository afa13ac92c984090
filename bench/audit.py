"""How many audit events a second become durable, beside plain appends of the same bytes with the same syncs.

    python bench/audit.py [--events 50000] [--callers 256] [--folder DIR]

Prints one JSON document. ``durable``: callers on one event loop, each waiting for its event to be on the disk under a
signed head before its next. ``plain``: the same bytes appended in as many writes, each synced, nothing else. The folder
decides which disk is measured; other load on the machine shows in both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from outcrop.base.clock import SystemClock
from outcrop.trust.audit import Happened, Identity, Trail, TrailConfig, cloudtrail_event
from outcrop.trust.audit.disk import Disk
from outcrop.trust.audit.segments import segments
from outcrop.trust.crypto import aead

TARGET_EVENTS_PER_S = 5000
ACCOUNT = "111122223333"


class CountingDisk(Disk):
    """The operating system's, with a count."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        super().sync(descriptor)


class MemorySealer:
    """Seals the trail's keys under a key that ends with the process."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def seal(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        return aead.seal(self._key, plaintext, context)

    def unseal(self, sealed: bytes, context: Mapping[str, str]) -> bytes:
        return aead.unseal(self._key, sealed, context)


def invocation(number: int) -> dict[str, object]:
    """An event as the service writes it for one invocation."""
    return cloudtrail_event(
        Happened(
            time=datetime.now(UTC),
            identity=Identity(
                "IAMUser", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/anna", "AIDAEXAMPLE", "AKIAEXAMPLE", "anna"
            ),
            source="bedrock.amazonaws.com",
            name="Converse",
            region="us-east-1",
            account=ACCOUNT,
            request_id=f"request-{number}",
            event_class="Management",
            read_only=True,
            source_ip="127.0.0.1",
            user_agent="Boto3/1.44 md/Botocore#1.44 ua/2.1 os/linux lang/python#3.11",
            parameters={"modelId": "outcrop.bundled-v1:0"},
        )
    )


async def record_all(trail: Trail, events: int, callers: int) -> list[float]:
    """Record ``events`` from ``callers`` at once; the seconds that each waited."""
    waited_s: list[float] = []

    async def caller(first: int) -> None:
        for number in range(first, events, callers):
            begin_s = time.perf_counter()
            await trail.record(invocation(number), durable=True)
            waited_s.append(time.perf_counter() - begin_s)

    await asyncio.gather(*(caller(first) for first in range(callers)))
    return waited_s


def plain(folder: Path, data: bytes, syncs: int) -> float:
    """Seconds to append ``data`` in ``syncs`` equal parts, each synced."""
    descriptor = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    step = -(-len(data) // syncs)
    begin_s = time.perf_counter()
    for start in range(0, len(data), step):
        os.write(descriptor, data[start : start + step])
        os.fdatasync(descriptor)
    took_s = time.perf_counter() - begin_s
    os.close(descriptor)
    return took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="measure this folder's disk (default: the temporary folder's)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        disk = CountingDisk()
        trail = Trail(folder / "audit", MemorySealer(), TrailConfig(ACCOUNT, "us-east-1"), SystemClock(), disk)
        disk.syncs = 0
        begin_s = time.perf_counter()
        waited_s = sorted(asyncio.run(record_all(trail, args.events, args.callers)))
        took_s = time.perf_counter() - begin_s
        syncs = disk.syncs
        trail.close()
        data = b"".join(path.read_bytes() for path in segments(folder / "audit" / "log"))
        plain_s = plain(folder, data, syncs)
    rate = args.events / took_s
    result = {
        "events": args.events,
        "callers": args.callers,
        "durable_events_per_s": round(rate),
        "target_events_per_s": TARGET_EVENTS_PER_S,
        "ratio_to_target": round(rate / TARGET_EVENTS_PER_S, 2),
        "syncs": syncs,
        "events_per_sync": round(args.events / syncs, 1),
        "bytes_per_event": round(len(data) / args.events),
        "wait_ms_median": round(waited_s[len(waited_s) // 2] * 1000, 2),
        "wait_ms_p99": round(waited_s[len(waited_s) * 99 // 100] * 1000, 2),
        "plain_appends_s": round(plain_s, 3),
        "ratio_to_plain_appends": round(plain_s / took_s, 3),
        "load_1_min": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
