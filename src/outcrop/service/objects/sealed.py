"""Objects as sealed files: names, sizes and times in the database, contents in the tenant's folder.

A put writes a new file under a random name, flushes it, and only then lets the row name it; so a crash leaves the old
object or the new one, and at most a sealed file that no row names, which ``sweep`` removes. A file's name is the
object's version, drawn here: nothing of a key, a bucket's name or a request ever becomes a path.

Each file is sealed through the vault under its bucket's key, or the owner's default key, and bound to the object's ARN,
the owner and the version: a file put in another's place, under another owner or from an earlier put does not open.

Not covered: keys, sizes, times and content types lie open in the database; who can write both database and files can
bring an older object back with its row; deleted files are not overwritten, their data keys go with them. No quotas.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self

from outcrop.base.arn import AccountId, account_id
from outcrop.base.clock import Clock
from outcrop.base.errors import AlreadyExists, KeyRefused, NotFound, StillInUse, UserError
from outcrop.base.faultpoints import point
from outcrop.base.files import make_private_directory, sync_directory
from outcrop.base.tables import BrokenConstraint, Row, Value
from outcrop.service.objects.base import LIST_MAX, Bucket, ObjectInfo
from outcrop.service.objects.names import check_bucket_name, check_key, object_arn
from outcrop.trust.crypto.objects import SealedReader
from outcrop.trust.keys import KeyService, Vault

OBJECTS_FOLDER = "objects"
"""Of the data directory."""

ORPHANS_KEPT_S = 3600.0
"""A file that no row names may be a put of another process that is about to end; older ones are left from a crash."""

_BLOCK_BYTES = 1 << 20
_COLUMNS = "bucket, key, version, size_bytes, content_type, modified_at"

log = logging.getLogger("outcrop.objects")


class SealedObject:
    """An open object, see ``ObjectReader``; each read looks at the key's state first."""

    def __init__(self, info: ObjectInfo, reader: SealedReader) -> None:
        self._info = info
        self._reader = reader

    @property
    def info(self) -> ObjectInfo:
        return self._info

    def read(self, offset: int, length: int) -> bytes:
        return self._reader.read(offset, length)

    def chunks(self) -> Iterator[bytes]:
        return self._reader.chunks()

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SealedObjects:
    """``ObjectStore`` over a database, a vault and a folder. Several processes may use one folder at once."""

    def __init__(self, keys: KeyService, vault: Vault, folder: Path, clock: Clock) -> None:
        """Names go into the database that the keys are in."""
        self._database = keys.rows.database
        self._partition = keys.rows.partition
        self._keys = keys
        self._vault = vault
        self._folder = folder
        self._clock = clock

    def create_bucket(self, name: str, account: AccountId, key_id: str | None = None) -> Bucket:
        """As the port says."""
        check_bucket_name(name)
        kms_key = ""
        if key_id is not None:
            key = self._keys.find(key_id, account)  # by its ARN also another account's
            if key.account != account:
                raise KeyRefused("AccessDeniedException", f"{key.arn} is of another account than the bucket.")
            kms_key = str(self._keys.ciphers.usable(key.key_id).arn)
        bucket = Bucket(name, account_id(account), kms_key, self._clock.now())
        try:
            with self._database.transaction() as transaction:
                transaction.execute(
                    "INSERT INTO buckets (name, account, kms_key, created_at) VALUES (:name, :account, :key, :now)",
                    {"name": name, "account": account, "key": kms_key or None, "now": bucket.created_at.isoformat()},
                )
        except BrokenConstraint:
            raise AlreadyExists(f"The bucket name {name} is taken.", "Choose another one.") from None
        return bucket

    def bucket(self, name: str, account: AccountId) -> Bucket:
        """As the port says."""
        rows = self._database.query(
            "SELECT * FROM buckets WHERE name = :name AND account = :account", {"name": name, "account": account}
        )
        if not rows:
            raise NotFound(f"This account has no bucket {name}.", "`outcrop admin bucket list` shows those it has.")
        return _bucket(rows[0])

    def buckets(self, account: AccountId) -> list[Bucket]:
        """As the port says."""
        rows = self._database.query(
            "SELECT * FROM buckets WHERE account = :account ORDER BY name", {"account": account}
        )
        return [_bucket(row) for row in rows]

    def delete_bucket(self, name: str, account: AccountId) -> None:
        """As the port says."""
        self.bucket(name, account)
        try:
            with self._database.transaction() as transaction:
                transaction.execute(
                    "DELETE FROM buckets WHERE name = :name AND account = :account",
                    {"name": name, "account": account},
                )
        except BrokenConstraint:
            raise StillInUse(f"The bucket {name} is not empty.", "Delete its objects first.") from None

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | BinaryIO,
        account: AccountId,
        *,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """As the port says."""
        encoded = check_key(key)
        held = self.bucket(bucket, account)
        version = secrets.token_hex(16)
        path = self._path(account, version)
        self._make_folder(path.parent)
        size_bytes = self._seal(path, data, held, key, version)
        point("objects.put.sealed")
        info = ObjectInfo(bucket, key, size_bytes, version, content_type, self._clock.now())
        try:
            old = self._name(info, encoded, account)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        point("objects.put.named")
        if old is not None:
            self._path(account, old).unlink(missing_ok=True)
        return info

    def head(self, bucket: str, key: str, account: AccountId) -> ObjectInfo:
        """As the port says."""
        encoded = check_key(key)
        self.bucket(bucket, account)
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM objects WHERE bucket = :bucket AND key = :key",  # noqa: S608 - our own columns
            {"bucket": bucket, "key": encoded},
        )
        if not rows:
            raise NotFound(f"The bucket {bucket} has no object {key!r}.")
        return _info(rows[0])

    def get(self, bucket: str, key: str, account: AccountId) -> SealedObject:
        """As the port says."""
        while True:
            info = self.head(bucket, key, account)
            arn = object_arn(self._partition, bucket, key)
            try:
                reader = self._vault.open_object(self._path(account, info.etag), arn, account, info.etag)
            except NotFound:
                # Replaced between the row and the file: the row names another file by now, or something took the file.
                if self.head(bucket, key, account).etag == info.etag:
                    raise NotFound(f"The content of {bucket}/{key} is gone.", "Restore it from a copy.") from None
                continue
            return SealedObject(info, reader)

    def list(
        self, bucket: str, account: AccountId, prefix: str = "", after: str = "", limit: int = LIST_MAX
    ) -> list[ObjectInfo]:
        """As the port says."""
        if not 1 <= limit <= LIST_MAX:
            raise UserError(f"{limit} objects cannot be listed at once.", f"Ask for 1 to {LIST_MAX}.")
        self.bucket(bucket, account)
        first = prefix.encode()
        conditions = ""
        parameters: dict[str, Value] = {"bucket": bucket, "first": first, "after": after.encode(), "limit": limit}
        if first:  # UTF-8 has no byte 255, so the last one can be raised
            conditions = "AND key < :end"
            parameters["end"] = first[:-1] + bytes([first[-1] + 1])
        rows = self._database.query(
            f"SELECT {_COLUMNS} FROM objects WHERE bucket = :bucket AND key >= :first AND key > :after "  # noqa: S608
            f"{conditions} ORDER BY key LIMIT :limit",
            parameters,
        )
        return [_info(row) for row in rows]

    def delete(self, bucket: str, key: str, account: AccountId) -> bool:
        """As the port says."""
        encoded = check_key(key)
        self.bucket(bucket, account)
        with self._database.transaction() as transaction:
            rows = transaction.query(
                "DELETE FROM objects WHERE bucket = :bucket AND key = :key RETURNING version",
                {"bucket": bucket, "key": encoded},
            )
            point("objects.delete.begun")
        point("objects.delete.unnamed")
        for row in rows:
            self._path(account, row["version"]).unlink(missing_ok=True)
        return bool(rows)

    def sweep(self) -> int:
        """Remove files that no object names and that are older than an hour; how many. For the start of a service."""
        removed = 0
        for folder in self._folder.glob("*/*"):
            old = [path for path in folder.iterdir() if time.time() - _modified_s(path) >= ORPHANS_KEPT_S]
            named = self._versions(folder.name) if old else set()
            for path in old:
                if path.name not in named:
                    path.unlink(missing_ok=True)
                    removed += 1
        if removed:
            log.warning("%d files that no object names were removed: left from a crash", removed)
        return removed

    def _seal(self, path: Path, data: bytes | BinaryIO, bucket: Bucket, key: str, version: str) -> int:
        arn = object_arn(self._partition, bucket.name, key)
        known = len(data) if isinstance(data, bytes) else None
        size_bytes = 0
        with self._vault.writer(
            path, arn, bucket.account, version, key_id=bucket.kms_key or None, size_bytes=known
        ) as writer:
            if isinstance(data, bytes):
                writer.write(data)
                size_bytes = len(data)
            else:
                while block := data.read(_BLOCK_BYTES):
                    writer.write(block)
                    size_bytes += len(block)
        return size_bytes

    def _name(self, info: ObjectInfo, key: bytes, account: AccountId) -> str | None:
        """Let the row name the new file; the version that it named before."""
        values: dict[str, Value] = {
            "bucket": info.bucket,
            "key": key,
            "version": info.etag,
            "size": info.size_bytes,
            "type": info.content_type,
            "now": info.modified_at.isoformat(),
        }
        with self._database.transaction() as transaction:
            if not transaction.query(
                "SELECT 1 FROM buckets WHERE name = :name AND account = :account",
                {"name": info.bucket, "account": account},
            ):
                raise NotFound(f"This account has no bucket {info.bucket}.")  # deleted while the content was written
            old = transaction.query(
                "SELECT version FROM objects WHERE bucket = :bucket AND key = :key", {"bucket": info.bucket, "key": key}
            )
            transaction.execute(
                f"INSERT INTO objects ({_COLUMNS}) VALUES (:bucket, :key, :version, :size, :type, :now) "  # noqa: S608
                "ON CONFLICT (bucket, key) DO UPDATE SET "
                "version = :version, size_bytes = :size, content_type = :type, modified_at = :now",
                values,
            )
        return str(old[0]["version"]) if old else None

    def _versions(self, first: str) -> set[str]:
        """Versions that objects name and that begin with ``first``: hexadecimal digits, which all sort before g."""
        rows = self._database.query(
            "SELECT version FROM objects WHERE version >= :first AND version < :end",
            {"first": first, "end": f"{first}g"},
        )
        return {str(row["version"]) for row in rows}

    def _make_folder(self, folder: Path) -> None:
        """Make a private folder and those above it; a name that is new is flushed, or a power cut could take it."""
        for one in (self._folder, folder.parent, folder):
            if not one.is_dir():
                make_private_directory(one)
                sync_directory(one.parent)

    def _path(self, account: AccountId, version: str) -> Path:
        return self._folder / account / version[:2] / version


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # replaced meanwhile
        return time.time()


def _bucket(row: Row) -> Bucket:
    return Bucket(
        row["name"], account_id(row["account"]), row["kms_key"] or "", datetime.fromisoformat(row["created_at"])
    )


def _info(row: Row) -> ObjectInfo:
    return ObjectInfo(
        row["bucket"],
        bytes(row["key"]).decode(),
        int(row["size_bytes"]),
        row["version"],
        row["content_type"],
        datetime.fromisoformat(row["modified_at"]),
    )
