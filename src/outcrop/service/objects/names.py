"""Names of buckets and keys of objects.

Bucket names are those of the S3 User Guide, "Bucket naming rules" (general purpose buckets), less dots, which that
guide advises against. Keys are any text of 1 to 1024 bytes of UTF-8 (S3 User Guide, "Naming Amazon S3 objects"); they
never become names of files, so nothing in them needs to be escaped.
"""

from __future__ import annotations

import re

from outcrop.base.errors import UserError

KEY_BYTES_MAX = 1024

_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)
_RESERVED = re.compile(r"xn--|sthree-|amzn-s3-demo-|.*(?:-s3alias|--ol-s3|--x-s3|--table-s3)$")


def check_bucket_name(name: str) -> None:
    """Raise ``UserError`` unless a bucket may have this name."""
    if _BUCKET.fullmatch(name) is None or _RESERVED.match(name) is not None:
        raise UserError(
            f"{name!r} is no name for a bucket.",
            "Use 3 to 63 small letters, digits and hyphens, with no hyphen at either end.",
        )


def check_key(key: str) -> bytes:
    """``key`` as its bytes, or a ``UserError``."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise UserError("The key is not text that UTF-8 can hold.") from None
    if not 1 <= len(encoded) <= KEY_BYTES_MAX:
        raise UserError(f"A key has 1 to {KEY_BYTES_MAX} bytes of UTF-8, this one {len(encoded)}.")
    return encoded


def object_arn(partition: str, bucket: str, key: str) -> str:
    """An object's ARN as S3 builds it: neither Region nor account, and the key as it is.

    Spelled here and not by ``Arn``, because a key may hold whatever an ARN's parts may not; it is never parsed back.
    """
    return f"arn:{partition}:s3:::{bucket}/{key}"
