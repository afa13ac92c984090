"""Sealed objects: files of any size, encrypted in chunks, authenticated, readable at any offset.

A sealed object is a header and chunks::

    8 bytes  b"OUTCROP" and the format version, 1
    4 bytes  length of the whole header, big endian
    1 byte   binary logarithm of the chunk size, 16 to 20
    7 bytes  nonce prefix, random
    32 bytes salt, random
    2 bytes  length of the master key's name; the name, UTF-8
    2 bytes  length of the wrapped data key; the wrapped data key
    32 bytes commitment: HMAC-SHA-256 over all of the above and the context
    chunks   ciphertext of the chunk size (the last: 1 byte to that; none only when the object is empty), 16-byte tag

Each object has a data key of its own, wrapped by a key store under the same context. HKDF-SHA-256 makes two keys from
it and the salt: one for the chunks, one for the commitment. A chunk is AES-256-GCM with the nonce prefix ‖ chunk
number (4 bytes) ‖ 1 for the last chunk and 0 for others: the STREAM construction (Hoang, Reyhanitabar, Rogaway,
Vizár, "Online authenticated-encryption and its nonce-reuse misuse-resistance", CRYPTO 2015), whose nonces are the
deterministic kind of NIST SP 800-38D 8.2.1. The commitment is the associated data of every chunk.

So refused are: a changed byte anywhere, a truncation (also at the edge of a chunk), an appended, repeated, missing or
moved chunk, another object's header, chunks or whole file, and an older version where the context names the newer one.
The context should name the object's ARN, its account and its version; it is not stored.

Opening reads and authenticates the header and the last chunk, so ``size`` is true. A chunk that is never read is never
checked: ``SealedReader.verify`` reads all.

Not covered: the size and the times of reads show. Which version is the newest is for a signed list of versions to say.
Deleting a file frees its blocks without overwriting them; its data key is what to destroy. Keys and chunks stay in
this process's memory until Python lets go of them.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outcrop.base.errors import NotFound, Unsealable, UserError, check
from outcrop.base.files import PRIVATE_FILE, sync_directory
from outcrop.trust.crypto.hashes import constant_time_equal, hmac_sha256
from outcrop.trust.crypto.kdf import KEY_BYTES, SALT_BYTES, derive, encode_context
from outcrop.trust.crypto.keystores.base import DataKey, KeyStore, Unwrap
from outcrop.trust.crypto.secret import Secret

MAGIC = b"OUTCROP\x01"
CHUNK_BITS_MIN, CHUNK_BITS_MAX = 16, 20
CHUNKS_MAX = 2**32
TAG_BYTES = 16
NONCE_PREFIX_BYTES = 7
COMMITMENT_BYTES = 32
HEADER_BYTES_MAX = 1 << 14
_FIXED_BYTES = len(MAGIC) + 4 + 1 + NONCE_PREFIX_BYTES + SALT_BYTES


def chunk_bits_for(size_bytes: int | None) -> int:
    """The chunk size for an object, as a binary logarithm: 64 KiB to 16 MiB in all, 256 KiB to 1 GiB, else 1 MiB.

    Small chunks make short random reads cheap, large ones long reads; ``None`` (not known yet) takes the middle.
    """
    if size_bytes is None:
        return 18
    if size_bytes <= 16 << 20:
        return 16
    return 18 if size_bytes <= 1 << 30 else 20


class SealedWriter:
    """Writes one sealed object: ``write`` any number of times, then ``finish``. Memory: two chunks.

    The bytes go to a temporary file beside ``path``, 0600, that ``finish`` flushes and renames: until then, and after
    a crash, ``path`` is as it was. As a context manager it finishes when the block ends well and aborts otherwise.
    """

    def __init__(
        self, path: Path, data_key: DataKey, context: Mapping[str, str], *, size_bytes: int | None = None
    ) -> None:
        """``size_bytes`` (a hint) chooses the chunk size. ``data_key`` must be fresh: one object for each key."""
        check(len(data_key.plaintext) == KEY_BYTES, "a data key has 32 bytes")
        bits = chunk_bits_for(size_bytes)
        self._path = path
        self._chunk_bytes = 1 << bits
        self._prefix = secrets.token_bytes(NONCE_PREFIX_BYTES)
        salt = secrets.token_bytes(SALT_BYTES)
        head = _encode_head(bits, self._prefix, salt, data_key.name, data_key.wrapped)
        chunk_key, self._commitment = _keys(data_key.plaintext, salt, head, context)
        self._cipher = AESGCM(chunk_key)
        self._pending = bytearray()
        self._chunks = 0
        descriptor, self._temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.fchmod(descriptor, PRIVATE_FILE)
        self._file: BinaryIO | None = os.fdopen(descriptor, "wb", buffering=0)
        try:
            _write_all(self._file, head + self._commitment)
        except BaseException:
            self.abort()
            raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append ``data``. A chunk is encrypted when a byte after it is there, since the last one is marked."""
        with memoryview(data).cast("B") as view:
            taken = 0
            if self._pending:
                taken = min(self._chunk_bytes - len(self._pending), len(view))
                self._pending += view[:taken]
                if len(self._pending) == self._chunk_bytes and taken < len(view):
                    self._put(self._pending, last=False)
                    self._pending.clear()
            while len(view) - taken > self._chunk_bytes:
                self._put(view[taken : taken + self._chunk_bytes], last=False)
                taken += self._chunk_bytes
            self._pending += view[taken:]

    def finish(self) -> None:
        """Write the last chunk, flush, and put the object in its place in one step."""
        file = self._open_file()
        try:
            self._put(self._pending, last=True)
            os.fsync(file.fileno())
            file.close()
            os.replace(self._temporary, self._path)
        except BaseException:
            self.abort()
            raise
        self._file = None
        self._pending.clear()
        sync_directory(self._path.parent)

    def abort(self) -> None:
        """Leave nothing behind; harmless after ``finish``."""
        if self._file is not None:
            self._file.close()
            self._file = None
            Path(self._temporary).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abort()

    def _put(self, plaintext: bytearray | memoryview, *, last: bool) -> None:
        check(self._chunks < CHUNKS_MAX, "an object has at most 2^32 chunks")
        nonce = _nonce(self._prefix, self._chunks, last=last)
        _write_all(self._open_file(), self._cipher.encrypt(nonce, plaintext, self._commitment))
        self._chunks += 1

    def _open_file(self) -> BinaryIO:
        check(self._file is not None, "a finished or aborted object is not written to")
        assert self._file is not None
        return self._file


class SealedReader:
    """Reads one sealed object at any offset. Memory: the bytes asked for and one chunk. Safe in several threads.

    ``size`` is the plaintext's length in bytes; ``key_name`` the master key's name.
    """

    def __init__(self, file: BinaryIO, unwrap: Unwrap, context: Mapping[str, str]) -> None:
        """``file`` is an open, unbuffered or buffered binary file with a descriptor; it is closed with the reader.

        Raises ``Unsealable`` (whatever does not match) and what ``unwrap`` raises.
        """
        self._file = file
        head, commitment = self._read_header()
        bits, self._prefix, salt, self.key_name, wrapped = _decode_head(head)
        data_key = unwrap(self.key_name, wrapped, context)
        if len(data_key) != KEY_BYTES:
            raise Unsealable
        chunk_key, self._commitment = _keys(data_key, salt, head, context)
        if not constant_time_equal(self._commitment, commitment):
            raise Unsealable
        self._cipher = AESGCM(chunk_key)
        self._chunk_bytes = 1 << bits
        self._begin = len(head) + COMMITMENT_BYTES
        body_bytes = os.fstat(file.fileno()).st_size - self._begin
        self._chunks = -(-body_bytes // (self._chunk_bytes + TAG_BYTES))
        if not 1 <= self._chunks <= CHUNKS_MAX:
            raise Unsealable
        self.size = body_bytes - self._chunks * TAG_BYTES
        last_bytes = self.size - (self._chunks - 1) * self._chunk_bytes
        if last_bytes < (0 if self._chunks == 1 else 1):
            raise Unsealable
        self._chunk(self._chunks - 1)

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``, fewer where the object ends. Raises ``Unsealable``."""
        check(offset >= 0 and length >= 0, "offset and length are not negative")
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        first, last = offset // self._chunk_bytes, (end - 1) // self._chunk_bytes
        start = offset - first * self._chunk_bytes
        if first == last:
            return self._chunk(first)[start : end - first * self._chunk_bytes]
        parts = [self._chunk(first)[start:]]
        parts += (self._chunk(index) for index in range(first + 1, last))
        parts.append(self._chunk(last)[: end - last * self._chunk_bytes])
        return b"".join(parts)

    def readinto(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Fill ``buffer`` from ``offset``; the number of bytes, fewer where the object ends. Raises ``Unsealable``.

        For large reads: memory that the caller keeps is filled a chunk at a time. After an error it holds some of them.
        """
        check(offset >= 0, "offset is not negative")
        with memoryview(buffer).cast("B") as view:
            wanted = max(0, min(len(view), self.size - offset))
            done = 0
            while done < wanted:
                index, start = divmod(offset + done, self._chunk_bytes)
                part = memoryview(self._chunk(index))[start : start + wanted - done]
                view[done : done + len(part)] = part
                done += len(part)
            return wanted

    def chunks(self) -> Iterator[bytes]:
        """The whole plaintext in order, a chunk at a time. Raises ``Unsealable`` at the first that is not sound."""
        for index in range(self._chunks):
            yield self._chunk(index)

    def verify(self) -> None:
        """Read and authenticate every chunk; raises ``Unsealable``."""
        for _ in self.chunks():
            pass

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_header(self) -> tuple[bytes, bytes]:
        fixed = os.pread(self._file.fileno(), len(MAGIC) + 4, 0)
        total = int.from_bytes(fixed[len(MAGIC) :], "big")
        if fixed[: len(MAGIC)] != MAGIC or not _FIXED_BYTES + COMMITMENT_BYTES <= total <= HEADER_BYTES_MAX:
            raise Unsealable
        header = os.pread(self._file.fileno(), total, 0)
        if len(header) != total:
            raise Unsealable
        return header[:-COMMITMENT_BYTES], header[-COMMITMENT_BYTES:]

    def _chunk(self, index: int) -> bytes:
        last = index == self._chunks - 1
        stride = self._chunk_bytes + TAG_BYTES
        place = self._begin + index * stride
        wanted = self._begin + self.size + self._chunks * TAG_BYTES - place if last else stride
        sealed = os.pread(self._file.fileno(), wanted, place)
        if len(sealed) != wanted:  # cut while it was open
            raise Unsealable
        try:
            return self._cipher.decrypt(_nonce(self._prefix, index, last=last), sealed, self._commitment)
        except InvalidTag:
            raise Unsealable from None


def seal_file(source: Path, target: Path, keys: KeyStore, name: str, context: Mapping[str, str]) -> None:
    """Seal the file ``source`` into ``target`` under a fresh data key of the master key ``name``."""
    with source.open("rb", buffering=0) as plain:
        size = os.fstat(plain.fileno()).st_size
        with SealedWriter(target, keys.generate_data_key(name, context), context, size_bytes=size) as writer:
            while block := plain.read(1 << 20):
                writer.write(block)


def open_sealed(path: Path, unwrap: Unwrap, context: Mapping[str, str]) -> SealedReader:
    """Open the sealed object at ``path``; ``unwrap`` is a key store's or its cache's. ``NotFound``, ``Unsealable``."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise NotFound(f"There is no {path}.") from None
    try:
        return SealedReader(file, unwrap, context)
    except BaseException:
        file.close()
        raise


def unseal_file(source: Path, target: Path, unwrap: Unwrap, context: Mapping[str, str]) -> None:
    """Write the plaintext of ``source`` to ``target``, whole and verified or not at all; 0600."""
    with open_sealed(source, unwrap, context) as reader:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as plain:
                for chunk in reader.chunks():
                    _write_all(plain, chunk)
                os.fsync(plain.fileno())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    sync_directory(target.parent)


def _keys(data_key: Secret, salt: bytes, head: bytes, context: Mapping[str, str]) -> tuple[bytes, bytes]:
    """The chunks' key and the commitment to the data key, the header and the context."""
    both = derive(data_key, "object v1", salt=salt, size_bytes=2 * KEY_BYTES)
    commitment = hmac_sha256(both[KEY_BYTES:], len(head).to_bytes(8, "big") + head + encode_context(context))
    return both[:KEY_BYTES], commitment


def _nonce(prefix: bytes, index: int, *, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def _encode_head(bits: int, prefix: bytes, salt: bytes, name: str, wrapped: bytes) -> bytes:
    name_bytes = name.encode()
    total = _FIXED_BYTES + 2 + len(name_bytes) + 2 + len(wrapped) + COMMITMENT_BYTES
    if total > HEADER_BYTES_MAX:
        raise UserError(f"A wrapped data key of {len(wrapped)} bytes does not fit into an object's header.")
    return b"".join(
        (
            MAGIC,
            total.to_bytes(4, "big"),
            bytes((bits,)),
            prefix,
            salt,
            len(name_bytes).to_bytes(2, "big"),
            name_bytes,
            len(wrapped).to_bytes(2, "big"),
            wrapped,
        )
    )


def _decode_head(head: bytes) -> tuple[int, bytes, bytes, str, bytes]:
    """Chunk bits, nonce prefix, salt, name and wrapped key of a header without its commitment; ``Unsealable``."""
    at = len(MAGIC) + 4
    bits, prefix = head[at], head[at + 1 : at + 1 + NONCE_PREFIX_BYTES]
    salt = head[at + 1 + NONCE_PREFIX_BYTES : _FIXED_BYTES]
    name, rest = _take(head[_FIXED_BYTES:])
    wrapped, rest = _take(rest)
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise Unsealable from None
    if rest or not CHUNK_BITS_MIN <= bits <= CHUNK_BITS_MAX:
        raise Unsealable
    return bits, prefix, salt, text, wrapped


def _take(data: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(data[:2], "big")
    if len(data) < 2 + length:
        raise Unsealable
    return data[2 : 2 + length], data[2 + length :]


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
