"""Invocation logs read back from a bucket, for the account that owns it: files in the order of their hours, records in
the order in which they were written, bodies from beside them where they were too large."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from outcrop.base.arn import AccountId
from outcrop.base.errors import UserError
from outcrop.service.invocations.record import layout
from outcrop.service.objects import ObjectInfo, ObjectStore
from outcrop.service.objects.base import LIST_MAX
from outcrop.service.wire.redact import Json

UNPACKED_BYTES_MAX = 256 << 20
"""A log file or body that unpacks to more is refused: neither is ever made that large here."""


def log_files(
    objects: ObjectStore, bucket: str, account: AccountId, region: str, prefix: str | None = None
) -> Iterator[ObjectInfo]:
    """Every file of records below ``prefix``, oldest hour first."""
    root = layout(prefix, account, region) + "/"
    after = ""
    while True:
        page = objects.list(bucket, account, root, after)
        for info in page:
            if "/data/" not in info.key.removeprefix(root) and info.key.endswith(".json.gz"):
                yield info
        if len(page) < LIST_MAX:
            return
        after = page[-1].key


def records_in(objects: ObjectStore, file: ObjectInfo, account: AccountId, *, bodies: bool = False) -> Iterator[Json]:
    """The records of one file; with ``bodies`` those that lie beside it are put in their place."""
    for line in unpacked(objects, file.bucket, file.key, account).splitlines():
        record: Json = msgspec.json.decode(line)
        if bodies and isinstance(record, dict):
            _fill(objects, file.bucket, account, record)
        yield record


def unpacked(objects: ObjectStore, bucket: str, key: str, account: AccountId) -> bytes:
    """The content of a gzipped object; ``UserError`` where it is none or too large."""
    unpack = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    size = 0
    with objects.get(bucket, key, account) as reader:
        try:
            for chunk in reader.chunks():
                parts.append(unpack.decompress(chunk, UNPACKED_BYTES_MAX - size + 1))
                size += len(parts[-1])
                if size > UNPACKED_BYTES_MAX:
                    raise UserError(f"{bucket}/{key} unpacks to more than {UNPACKED_BYTES_MAX} bytes.")
        except zlib.error:
            raise UserError(f"{bucket}/{key} is not a gzip file.") from None
    return b"".join(parts)


def _fill(objects: ObjectStore, bucket: str, account: AccountId, record: dict[str, Json]) -> None:
    for side in ("input", "output"):
        part = record.get(side)
        path = part.get(f"{side}BodyS3Path") if isinstance(part, dict) else None
        if isinstance(part, dict) and isinstance(path, str) and path.startswith(f"s3://{bucket}/"):
            key = path.removeprefix(f"s3://{bucket}/")
            part[f"{side}BodyJson"] = msgspec.json.decode(unpacked(objects, bucket, key, account))
