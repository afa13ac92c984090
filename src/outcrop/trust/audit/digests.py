"""The trail as CloudTrail delivers it: gzipped log files for each account, and hourly digests chained by signatures.

Files lie under ``delivered/BUCKET/`` with the keys they would have in an S3 bucket; an object's metadata, where the
digest's own signature belongs, is in ``KEY.metadata.json`` beside it. Source: AWS CloudTrail User Guide, "CloudTrail
log file examples" and "CloudTrail digest file structure". The AWS CLI's ``validate-logs`` code reads them.

Each digest's hash is also recorded in the log, so a digest that is removed or signed anew is found there.

Differences: a fingerprint is the first half of the key's SHA-256, CloudTrail's is an MD5; after a pause one digest
covers more than an hour. Not covered: delivery to another machine (copy the folder), and deleting old files.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from outcrop.base.clock import Clock
from outcrop.base.faultpoints import point
from outcrop.base.files import make_private_directory, write_atomic
from outcrop.trust.audit.event import iso_time, service_event
from outcrop.trust.audit.segments import Line, signed_records
from outcrop.trust.audit.writer import Trail
from outcrop.trust.crypto.hashes import sha256_hex

TRAIL_NAME = "outcrop"
FOLDER, STATE_FILE = "delivered", "delivery.json"
METADATA_SUFFIX = ".metadata.json"
DIGEST_EVERY = timedelta(hours=1)
EVENTS_PER_ROUND = 10_000
SIGNATURE_ALGORITHM = "SHA256withRSA"
DELIVERED = "DeliverDigest"
"""The name of the event that records a digest in the log."""

Plain = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where files are delivered: the deployment's account (the trail is its), region, partition and bucket name."""

    account: str
    region: str
    partition: str = "aws"

    @property
    def bucket(self) -> str:
        return f"outcrop-audit-{self.account}"

    @property
    def trail_arn(self) -> str:
        return f"arn:{self.partition}:cloudtrail:{self.region}:{self.account}:trail/{TRAIL_NAME}"

    def log_key(self, account: str, moment: datetime, unique: str) -> str:
        stamp = f"{moment:%Y%m%dT%H%MZ}"
        return (
            f"AWSLogs/{account}/CloudTrail/{self.region}/{moment:%Y/%m/%d}/"
            f"{account}_CloudTrail_{self.region}_{stamp}_{unique}.json.gz"
        )

    def digest_key(self, account: str, end: datetime) -> str:
        return (
            f"AWSLogs/{account}/CloudTrail-Digest/{self.region}/{end:%Y/%m/%d}/"
            f"{account}_CloudTrail-Digest_{self.region}_{TRAIL_NAME}_{self.region}_{end:%Y%m%dT%H%M%SZ}.json.gz"
        )


@dataclass(frozen=True, slots=True)
class AccountState:
    """How far one account's digests are: the log files not yet in one, the last digest, and when one begun ends."""

    logs: tuple[Plain, ...] = ()
    end: str = ""
    key: str | None = None
    hash: str | None = None
    signature: str | None = None
    begun: str = ""


class Delivery:
    """Delivers one trail. Its own state is written last, so a crash delivers the same files again, byte for byte."""

    def __init__(self, trail: Trail, destination: Destination, clock: Clock) -> None:
        self._trail = trail
        self.destination = destination
        self._clock = clock
        self._folder = trail.directory / FOLDER / destination.bucket
        self._state_file = trail.directory / STATE_FILE
        make_private_directory(self._folder)
        self._position, self._accounts = self._load()
        for account in [account for account, state in self._accounts.items() if state.begun]:
            self._digest(account)  # a crash was in its way: the same again, with the same end

    def deliver_logs(self) -> int:
        """Write log files for every event under a signed head that is not delivered yet; the number of events."""
        head = self._trail.head()
        delivered = 0
        while head is not None and self._position < head.tree_size:
            count = min(EVENTS_PER_ROUND, head.tree_size - self._position)
            self._deliver(islice(signed_records(self._trail.log_directory, self._position), count))
            delivered += count
        return delivered

    def deliver_digests(self) -> list[str]:
        """Deliver what is outstanding, then one digest for each account; the digests' keys."""
        self.deliver_logs()
        made = []
        for account in sorted(self._accounts):
            made.append(self._digest(account))
        return made

    def digest_due(self) -> bool:
        """Whether some account's last digest is an hour old, or it has none."""
        now = self._clock.now()
        return any(
            not state.end or now - datetime.fromisoformat(state.end) >= DIGEST_EVERY
            for state in self._accounts.values()
        )

    def _event(self, facts: dict[str, str]) -> dict[str, object]:
        destination = self.destination
        return service_event(DELIVERED, facts, self._clock.now(), destination.account, destination.region)

    def _deliver(self, records: Iterable[tuple[int, Line]]) -> None:
        by_account: dict[str, list[tuple[int, Plain]]] = {}
        last = None
        for index, line in records:
            last = line.parsed()
            event = last["event"]
            account = str(event.get("recipientAccountId") or self.destination.account)
            by_account.setdefault(account, []).append((index, event))
            self._position = index + 1
        assert last is not None
        moment = datetime.fromisoformat(last["at"])
        for account, events in by_account.items():
            content = json.dumps({"Records": [event for _, event in events]}, separators=(",", ":")).encode()
            unique = sha256_hex(f"{self._trail.public_keys.log} {events[0][0]} {events[-1][0]}".encode())[:16].upper()
            key = self.destination.log_key(account, moment, unique)
            self._write(key, gzip.compress(content, mtime=0))
            times = sorted(str(event["eventTime"]) for _, event in events)
            entry = {
                "s3Bucket": self.destination.bucket,
                "s3Object": key,
                "hashValue": sha256_hex(content),
                "hashAlgorithm": "SHA-256",
                "newestEventTime": times[-1],
                "oldestEventTime": times[0],
            }
            state = self._accounts.get(account, AccountState())
            self._accounts[account] = replace(state, logs=(*state.logs, entry))
        point("audit.deliver.written")
        self._save()

    def _digest(self, account: str) -> str:
        """Write one account's next digest and record it; its key."""
        state = self._accounts[account]
        end = datetime.fromisoformat(state.begun) if state.begun else self._clock.now().replace(microsecond=0)
        start = datetime.fromisoformat(state.end) if state.end else end - DIGEST_EVERY
        end = max(end, start + timedelta(seconds=1))  # also where the clock has stepped back
        state = self._accounts[account] = replace(state, begun=iso_time(end))
        self._save()
        bucket, key = self.destination.bucket, self.destination.digest_key(account, end)
        times = [log[name] for log in state.logs for name in ("newestEventTime", "oldestEventTime")]

        def make(fingerprint: str) -> tuple[bytes, bytes]:
            digest = {
                "awsAccountId": account,
                "digestStartTime": iso_time(start),
                "digestEndTime": iso_time(end),
                "digestS3Bucket": bucket,
                "digestS3Object": key,
                "digestPublicKeyFingerprint": fingerprint,
                "digestSignatureAlgorithm": SIGNATURE_ALGORITHM,
                "newestEventTime": max(times, default=None),
                "oldestEventTime": min(times, default=None),
                "previousDigestS3Bucket": bucket if state.key else None,
                "previousDigestS3Object": state.key,
                "previousDigestHashValue": state.hash,
                "previousDigestHashAlgorithm": "SHA-256" if state.key else None,
                "previousDigestSignature": state.signature,
                "logFiles": list(state.logs),
            }
            content = json.dumps(digest, separators=(",", ":")).encode()
            return string_to_sign(digest, content), content

        signature, content = self._trail.sign_digest(make)
        metadata = {"signature": signature, "signature-algorithm": SIGNATURE_ALGORITHM}
        self._write(key + METADATA_SUFFIX, json.dumps(metadata).encode())
        self._write(key, gzip.compress(content, mtime=0))
        point("audit.digest.written")
        self._trail.append(self._event({"accountId": account, "s3Object": key, "sha256": sha256_hex(content)}))
        point("audit.digest.recorded")
        self._accounts[account] = AccountState((), iso_time(end), key, sha256_hex(content), signature)
        self._save()
        return key

    def _write(self, key: str, data: bytes) -> None:
        path = self._folder / key
        make_private_directory(path.parent)
        write_atomic(path, data, private=True)

    def _load(self) -> tuple[int, dict[str, AccountState]]:
        try:
            found = json.loads(self._state_file.read_bytes())
        except FileNotFoundError:
            return 0, {}
        accounts = {
            account: AccountState(**{**state, "logs": tuple(state["logs"])})
            for account, state in found["accounts"].items()
        }
        return found["position"], accounts

    def _save(self) -> None:
        accounts = {
            account: {name: getattr(state, name) for name in ("logs", "end", "key", "hash", "signature", "begun")}
            for account, state in self._accounts.items()
        }
        text = json.dumps({"position": self._position, "accounts": accounts}, indent=1)
        write_atomic(self._state_file, text.encode(), private=True)


def string_to_sign(digest: Plain, content: bytes) -> bytes:
    """What a digest's signature is over; ``content`` is the digest's own JSON."""
    place = f"{digest['digestS3Bucket']}/{digest['digestS3Object']}"
    previous = digest["previousDigestSignature"]
    parts = (digest["digestEndTime"], place, sha256_hex(content), "null" if previous is None else previous)
    return "\n".join(parts).encode()


def folder_of(directory: Path) -> Path:
    """Where a trail's delivered files lie, one folder for each bucket."""
    return directory / FOLDER
