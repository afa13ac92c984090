"""Checks the delivered CloudTrail files: hashes, signatures, the chain from each digest to the one before, and the log.

The AWS CLI's ``validate-logs`` checks signatures and hashes too; this also finds a newest digest that was removed and
a file that was slipped in, since the log records every digest.

Not covered: files that were delivered and are not in a digest yet; their events are in the log all the same.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outcrop.trust.audit.digests import METADATA_SUFFIX, SIGNATURE_ALGORITHM, folder_of, string_to_sign
from outcrop.trust.audit.keys import PublicKeys
from outcrop.trust.crypto.hashes import sha256_hex

Found = tuple[str, str]


def verify_digests(directory: Path, keys: PublicKeys, recorded: Mapping[str, str] | None) -> tuple[list[Found], int]:
    """What does not hold, as (place, what), and the number of digests read.

    ``recorded`` maps the keys of the digests that the log knows to their hashes; ``None`` where the log does not hold.
    """
    findings: list[Found] = []
    count = 0
    seen: dict[str, str] = {}
    for bucket in sorted(path for path in folder_of(directory).glob("*") if path.is_dir()):
        for account in sorted((bucket / "AWSLogs").glob("*")):
            digests = sorted(account.glob("CloudTrail-Digest/**/*.json.gz"))
            count += len(digests)
            findings += _check_chain(bucket, account, digests, keys, seen)
    if recorded is not None:
        for key, wanted in recorded.items():
            if key not in seen:
                findings.append((key, "the log records this digest; the file is missing"))
            elif seen[key] != wanted:
                findings.append((key, "this is not the digest that the log records"))
        findings += [(key, "the log does not know this digest") for key in seen if key not in recorded]
    return findings, count


def _check_chain(
    bucket: Path, account: Path, digests: list[Path], keys: PublicKeys, seen: dict[str, str]
) -> Iterator[Found]:
    by_fingerprint = {key.cloudtrail_fingerprint: key.verifying for key in keys.digest_keys()}
    before: tuple[str | None, str | None, str | None] = (None, None, None)
    for path in digests:
        key = str(path.relative_to(bucket))
        try:
            content = gzip.decompress(path.read_bytes())
            digest: dict[str, Any] = json.loads(content)
            metadata: dict[str, str] = json.loads(Path(f"{path}{METADATA_SUFFIX}").read_bytes())
            signature = metadata["signature"]
            public = by_fingerprint.get(digest["digestPublicKeyFingerprint"])
            signed = (
                public is not None
                and metadata["signature-algorithm"] == SIGNATURE_ALGORITHM
                and public.verify(bytes.fromhex(signature), string_to_sign(digest, content))
            )
            chained = tuple(digest[f"previousDigest{name}"] for name in ("S3Object", "HashValue", "Signature"))
            logs = [(log["s3Object"], log["hashValue"]) for log in digest["logFiles"]]
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError):
            yield key, "the digest or its signature is missing or damaged"
            continue
        seen[key] = sha256_hex(content)
        if not signed:
            yield key, "the digest's signature does not hold under a key of this log"
        if (digest["digestS3Bucket"], digest["digestS3Object"]) != (bucket.name, key):
            yield key, "the digest was moved from its place"
        if chained != before:
            yield key, f"the digest does not follow {before[0] or 'nothing, as the first one does'}"
        before = (key, seen[key], signature)
        for log_key, wanted in logs:
            yield from _check_log(bucket, log_key, wanted)


def _check_log(bucket: Path, key: str, wanted: str) -> Iterator[Found]:
    path = bucket / key
    if not path.resolve().is_relative_to(bucket.resolve()):
        yield key, "a digest names a file outside its bucket"
        return
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        yield key, "the log file is missing"
    except (OSError, EOFError, zlib.error):
        yield key, "the log file is damaged"
    else:
        if sha256_hex(content) != wanted:
            yield key, "the log file was changed"
