"""The port's twin for tests and embedding: everything in memory, nothing sealed, gone with the process."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import BinaryIO, Self

from outcrop.base.arn import AccountId
from outcrop.base.clock import Clock
from outcrop.base.errors import AlreadyExists, NotFound, StillInUse, UserError
from outcrop.service.objects.base import LIST_MAX, Bucket, ObjectInfo
from outcrop.service.objects.names import check_bucket_name, check_key


class MemoryObject:
    """An open object, see ``ObjectReader``."""

    def __init__(self, info: ObjectInfo, content: bytes) -> None:
        self._info = info
        self._content = content

    @property
    def info(self) -> ObjectInfo:
        return self._info

    def read(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def chunks(self) -> Iterator[bytes]:
        yield self._content

    def close(self) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return


class MemoryObjects:
    """``ObjectStore`` in dictionaries. ``key_id`` of a bucket is taken as it is: there are no keys here."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._objects: dict[str, dict[bytes, MemoryObject]] = {}

    def create_bucket(self, name: str, account: AccountId, key_id: str | None = None) -> Bucket:
        check_bucket_name(name)
        with self._lock:
            if name in self._buckets:
                raise AlreadyExists(f"The bucket name {name} is taken.", "Choose another one.")
            bucket = self._buckets[name] = Bucket(name, account, key_id or "", self._clock.now())
            self._objects[name] = {}
        return bucket

    def bucket(self, name: str, account: AccountId) -> Bucket:
        bucket = self._buckets.get(name)
        if bucket is None or bucket.account != account:
            raise NotFound(f"This account has no bucket {name}.", "`outcrop admin bucket list` shows those it has.")
        return bucket

    def buckets(self, account: AccountId) -> list[Bucket]:
        return sorted((one for one in self._buckets.values() if one.account == account), key=lambda one: one.name)

    def delete_bucket(self, name: str, account: AccountId) -> None:
        self.bucket(name, account)
        with self._lock:
            if self._objects[name]:
                raise StillInUse(f"The bucket {name} is not empty.", "Delete its objects first.")
            del self._buckets[name], self._objects[name]

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | BinaryIO,
        account: AccountId,
        *,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        encoded = check_key(key)
        self.bucket(bucket, account)
        content = data if isinstance(data, bytes) else data.read()
        info = ObjectInfo(bucket, key, len(content), secrets.token_hex(16), content_type, self._clock.now())
        with self._lock:
            self._objects[bucket][encoded] = MemoryObject(info, content)
        return info

    def head(self, bucket: str, key: str, account: AccountId) -> ObjectInfo:
        return self.get(bucket, key, account).info

    def get(self, bucket: str, key: str, account: AccountId) -> MemoryObject:
        encoded = check_key(key)
        self.bucket(bucket, account)
        found = self._objects[bucket].get(encoded)
        if found is None:
            raise NotFound(f"The bucket {bucket} has no object {key!r}.")
        return found

    def list(
        self, bucket: str, account: AccountId, prefix: str = "", after: str = "", limit: int = LIST_MAX
    ) -> list[ObjectInfo]:
        if not 1 <= limit <= LIST_MAX:
            raise UserError(f"{limit} objects cannot be listed at once.", f"Ask for 1 to {LIST_MAX}.")
        self.bucket(bucket, account)
        first, behind = prefix.encode(), after.encode()
        with self._lock:
            keys = sorted(key for key in self._objects[bucket] if key.startswith(first) and key > behind)
            return [self._objects[bucket][key].info for key in keys[:limit]]

    def delete(self, bucket: str, key: str, account: AccountId) -> bool:
        encoded = check_key(key)
        self.bucket(bucket, account)
        with self._lock:
            return self._objects[bucket].pop(encoded, None) is not None
