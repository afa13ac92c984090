"""Objects put, replaced and deleted, and a log delivered, by a process that is killed at one of its fault points.

Each step that ended is in a journal: what it says was done must be found afterwards.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from keys_child import START, open_keys

from outcrop.base.arn import AccountId
from outcrop.base.clock import FakeClock
from outcrop.service.accounts import Accounts, LogBucket, LoggingSettings
from outcrop.service.invocations import Delivery, DeliveryLimits, Invocation
from outcrop.service.objects import SealedObjects
from outcrop.service.objects.sealed import OBJECTS_FOLDER
from outcrop.trust.keys import Vault

OWNER = AccountId("111122223333")
BUCKET = "things"
OLD, NEW = b"old" * 40_000, b"new" * 50_000


def open_objects(directory: Path) -> tuple[SealedObjects, Accounts]:
    """The objects in ``directory``, as a process that starts opens them."""
    clock = FakeClock(START)
    keys = open_keys(directory, clock)
    objects = SealedObjects(keys, Vault(keys, clock), directory / OBJECTS_FOLDER, clock)
    return objects, Accounts(keys.rows.database, clock)


def main(directory: Path) -> None:
    objects, accounts = open_objects(directory)
    journal = (directory / "journal").open("a", encoding="utf-8")

    def done(step: str) -> None:
        journal.write(json.dumps(step) + "\n")
        journal.flush()
        os.fsync(journal.fileno())

    objects.create_bucket(BUCKET, OWNER)
    objects.put(BUCKET, "k", OLD, OWNER)
    done("old")
    objects.put(BUCKET, "k", NEW, OWNER)
    done("new")
    delivery = Delivery(objects, accounts.retention, FakeClock(START), limits=DeliveryLimits(every_s=3600))
    settings = LoggingSettings(LogBucket(BUCKET))
    for number in range(3):
        body = json.dumps({"text": f"canary-{number} " + "x" * 120_000}).encode()
        delivery.submit(Invocation(OWNER, "arn", "us-east-1", f"r{number}", "Converse", "m", START, settings, body))
    delivery.deliver()
    done("delivered")
    objects.delete(BUCKET, "k", OWNER)
    done("deleted")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
