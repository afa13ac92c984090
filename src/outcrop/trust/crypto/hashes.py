"""SHA-256, HMAC-SHA-256 and the Signature Version 4 key chain.

Source of the key chain: AWS IAM User Guide, "Create a signed AWS API request", step "Derive a signing key".
"""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

EMPTY_SHA256_HEX = hashlib.sha256(b"").hexdigest()

# One entry per (secret, day, region, service): a day's keys of a deployment with some thousand active users.
SIGNING_KEYS_MAX = 4096


def sha256(data: bytes) -> bytes:
    """SHA-256 of ``data``, 32 bytes."""
    return hashlib.sha256(data).digest()


def sha256_hex(data: bytes) -> str:
    """SHA-256 of ``data``, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256 of ``data`` under ``key``, 32 bytes."""
    return hmac.digest(key, data, "sha256")


def hmac_sha256_hex(key: bytes, data: bytes) -> str:
    """HMAC-SHA-256 of ``data`` under ``key``, 64 lower-case hexadecimal digits."""
    return hmac.digest(key, data, "sha256").hex()


def constant_time_equal(left: bytes, right: bytes) -> bool:
    """Whether both are equal, in a time that depends on their lengths only."""
    return hmac.compare_digest(left, right)


@lru_cache(maxsize=SIGNING_KEYS_MAX)
def sigv4_signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key that signs for ``secret`` on ``date`` (YYYYMMDD) in one region and service, 32 bytes.

    Cached, since it is the same for all requests of a user's day. The cache holds secrets of this process's memory;
    it authenticates nobody by itself, so a deleted key's entry is harmless.
    """
    key = hmac_sha256(b"AWS4" + secret.encode(), date.encode())
    for part in (region, service, "aws4_request"):
        key = hmac_sha256(key, part.encode())
    return key
