"""The port: buckets that belong to accounts, and objects in them that are whole or not there.

Every method names the account that acts. A bucket of another account raises the ``NotFound`` that one which does not
exist raises, in the same words. Names are checked first: see ``names``. All methods may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol, Self

from outcrop.base.arn import AccountId

LIST_MAX = 1000
"""Objects in one answer of ``list``, as S3's."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket. ``kms_key`` is the ARN of the key that its objects are sealed under; empty: the owner's default."""

    name: str
    account: AccountId
    kms_key: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object without its content.

    ``etag`` changes with every put. It is random and no hash: a hash beside a sealed object would let whoever reads
    the database try out what is in it. S3 promises no more for objects under a KMS key.
    """

    bucket: str
    key: str
    size_bytes: int
    etag: str
    content_type: str
    modified_at: datetime


class ObjectReader(Protocol):
    """An open object: it stays readable as it was when somebody replaces or deletes it meanwhile."""

    @property
    def info(self) -> ObjectInfo: ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``, fewer only where the object ends."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The whole content in order."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class ObjectStore(Protocol):
    """See the module."""

    def create_bucket(self, name: str, account: AccountId, key_id: str | None = None) -> Bucket:
        """A new, empty bucket. Names are taken for all accounts, as S3's: ``AlreadyExists``.

        ``key_id`` is a KMS key's id, ARN or alias of the same account; raises ``KeyRefused`` for one that may not be
        used.
        """
        ...

    def bucket(self, name: str, account: AccountId) -> Bucket:
        """The bucket of this name that ``account`` owns, or ``NotFound``."""
        ...

    def buckets(self, account: AccountId) -> list[Bucket]:
        """Every bucket of the account, by name."""
        ...

    def delete_bucket(self, name: str, account: AccountId) -> None:
        """Delete an empty bucket; ``StillInUse`` where it is not, ``NotFound``."""
        ...

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | BinaryIO,
        account: AccountId,
        *,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Keep ``data``, bytes or a stream to its end, under ``key``: durable and whole when it returns.

        Until then, and after a crash, the object is what it was. Raises ``NotFound``, ``KeyRefused`` and ``OSError``.
        """
        ...

    def head(self, bucket: str, key: str, account: AccountId) -> ObjectInfo:
        """What is known of an object without reading it; needs no key. ``NotFound``."""
        ...

    def get(self, bucket: str, key: str, account: AccountId) -> ObjectReader:
        """Open an object; close it afterwards. ``NotFound``, ``KeyRefused``, ``Unsealable``."""
        ...

    def list(
        self, bucket: str, account: AccountId, prefix: str = "", after: str = "", limit: int = LIST_MAX
    ) -> list[ObjectInfo]:
        """Objects whose key begins with ``prefix`` and comes behind ``after``, by their keys' UTF-8, ``limit`` at most.

        ``limit`` is 1 to ``LIST_MAX``. A full answer may not be all: ask again behind its last key.
        """
        ...

    def delete(self, bucket: str, key: str, account: AccountId) -> bool:
        """Remove an object; whether there was one. ``NotFound`` for the bucket only."""
        ...
