"""What invocation logging costs: a request's share of it, off and on, and how fast records reach a sealed bucket.

    python bench/invocation_log.py [--json]

A request pays ``Invocations.begin`` and, where its account logs, ``Recording.end``; the rest is the delivery thread's.
Everything lies in a temporary directory, with SQLite and the passphrase key store. Not covered: the share of the
processor that the thread takes from answers while it packs records, and other file systems than this one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from outcrop.base.arn import account_id
from outcrop.base.clock import SystemClock
from outcrop.base.tables import Database
from outcrop.service.accounts import Accounts, LogBucket, LoggingSettings
from outcrop.service.http import Reply
from outcrop.service.invocations import Delivery, DeliveryLimits, Invocations
from outcrop.service.objects import SealedObjects
from outcrop.trust.crypto.keystores import MemoryKeyStore
from outcrop.trust.identity import root_credential
from outcrop.trust.keys import KeyService, Vault

ACCOUNT, QUIET = account_id("111122223333"), account_id("444455556666")
RECORDS, ROUNDS = 5000, 5
REQUEST = json.dumps({"messages": [{"role": "user", "content": [{"text": "x" * 2000}]}]}).encode()
REPLY = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "y" * 1000}]}},
        "usage": {"inputTokens": 500, "outputTokens": 250, "totalTokens": 750},
    }
).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of model invocation logging.")
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    with tempfile.TemporaryDirectory() as folder:
        facts = measure(Path(folder))
    if as_json:
        print(json.dumps(facts))
        return
    print(f"a request of an account that does not log: {facts['off_us']:.1f} us; that logs: {facts['on_us']:.1f} us")
    print(f"{facts['records_per_s']:.0f} records/s of 3 kB delivered, sealed and flushed, in batches of 1000")
    print(f"load {facts['load']:.1f} on {os.cpu_count()} processors")


def measure(data: Path) -> dict[str, float]:
    """Medians of ``ROUNDS`` rounds."""
    clock, database = SystemClock(), Database(data / "outcrop.db")
    keys = KeyService(database, MemoryKeyStore(), clock, "aws", "us-east-1")
    objects = SealedObjects(keys, Vault(keys, clock), data / "objects", clock)
    accounts = Accounts(database, clock)
    objects.create_bucket("logs", ACCOUNT)
    accounts.logging.put(ACCOUNT, LoggingSettings(LogBucket("logs")))
    delivery = Delivery(objects, accounts.retention, clock, limits=DeliveryLimits(every_s=3600))
    invocations = Invocations(accounts, delivery, clock, "us-east-1")
    reply = Reply(200, [], REPLY)

    def ask(account: str) -> Callable[[], None]:
        principal = root_credential("aws", account_id(account), "AKIA", "s").principal("sigv4")

        def one() -> None:
            recording = invocations.begin("bedrock-runtime:Converse", principal, "r", None, REQUEST)
            if recording is not None:
                recording.end(reply, None)

        return one

    off_us, on_us, rates = [], [], []
    for _ in range(ROUNDS):
        off_us.append(_each_us(ask(QUIET)))
        on_us.append(_each_us(ask(ACCOUNT)))
        start_s = time.perf_counter()
        delivery.deliver()
        rates.append(RECORDS / (time.perf_counter() - start_s))
    delivery.close()
    database.close()
    return {
        "off_us": statistics.median(off_us),
        "on_us": statistics.median(on_us),
        "records_per_s": statistics.median(rates),
        "load": os.getloadavg()[0],
    }


def _each_us(act: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    for _ in range(RECORDS):
        act()
    return (time.perf_counter() - start_s) / RECORDS * 1e6


if __name__ == "__main__":
    main()
