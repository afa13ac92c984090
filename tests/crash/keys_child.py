"""The life of two keys, step by step, for a process that is killed at one of its fault points.

Each finished step is appended to a journal, flushed to the disk: what it says was done must be found afterwards.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from outcrop.base.clock import FakeClock
from outcrop.base.tables import Database
from outcrop.trust.crypto.keystores.passphrase import PassphraseKeyStore
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys import KeyService
from outcrop.trust.policy import Requester, RequesterKind

ACCOUNT = "111122223333"
START = datetime(2026, 11, 22, tzinfo=UTC)
ROOT = Requester(RequesterKind.ROOT, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root")
SCRYPT_N = 2**14  # the least there is: these tests are about crashes


def open_keys(directory: Path, clock: FakeClock) -> KeyService:
    """The deployment in ``directory``, as a process that starts opens it."""
    store = PassphraseKeyStore(directory / "keystore.json", Secret("a passphrase for tests"), scrypt_n=SCRYPT_N)
    return KeyService(Database(directory / "outcrop.db"), store, clock, "aws", "us-east-1")


def other_policy(keys: KeyService) -> str:
    """A policy that is not the first one."""
    document = json.loads(keys.policies.initial(ACCOUNT))
    document["Statement"][0]["Sid"] = "Changed"
    return json.dumps(document)


def main(directory: Path) -> None:
    clock = FakeClock(START)
    keys = open_keys(directory, clock)
    journal = (directory / "journal").open("a", encoding="utf-8")

    def done(step: str, key_id: str, **facts: str) -> None:
        journal.write(json.dumps({"step": step, "key": key_id, **facts}) + "\n")
        journal.flush()
        os.fsync(journal.fileno())

    def encrypt(key_id: str, text: str) -> None:
        blob = keys.ciphers.encrypt(key_id, Secret(text), {"for": key_id})
        done("encrypted", key_id, text=text, blob=base64.b64encode(blob).decode())

    kept = keys.lifecycle.create(ACCOUNT, keys.policies.initial(ACCOUNT)).key_id
    done("created", kept)
    encrypt(kept, "first")
    keys.lifecycle.rotate(kept)
    done("rotated", kept)
    encrypt(kept, "second")
    keys.policies.put(keys.find(kept, ACCOUNT), other_policy(keys), ROOT)
    done("policy", kept)
    grant = keys.grants.create(keys.find(kept, ACCOUNT), ROOT.arn, ["Decrypt"], ROOT.arn)
    done("granted", kept, grant=grant.grant_id)
    keys.grants.remove(grant)
    done("revoked", kept)
    keys.lifecycle.disable(kept)
    done("disabled", kept)
    keys.lifecycle.enable(kept)
    done("enabled", kept)
    keys.lifecycle.schedule_deletion(kept, 7)
    done("scheduled", kept)
    keys.lifecycle.cancel_deletion(kept)
    done("cancelled", kept)
    gone = keys.default_key(ACCOUNT).key_id  # made once, whatever happens
    done("created", gone)
    doomed = keys.lifecycle.create(ACCOUNT, keys.policies.initial(ACCOUNT)).key_id
    done("created", doomed)
    encrypt(doomed, "to be erased")
    keys.lifecycle.schedule_deletion(doomed, 7)
    done("scheduled", doomed)
    clock.set(START + timedelta(days=7))
    done("due", doomed)
    keys.reap(clock.now())
    done("erased", doomed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
