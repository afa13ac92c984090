"""Bytes by offset, wherever they lie: the port through which a room reads what another room unseals for it.

The model half reads weights through ``ByteSource`` and writes them through ``SealedFiles``, so no key, cipher or
principal ever enters it: the service hands it both. ``FileSource`` is a plain file.

Not covered: what was read lies in this process's memory as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class ByteSource(Protocol):
    """Something of a known size that is read at any offset, from any thread."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``, fewer only where the source ends."""
        ...

    def close(self) -> None:
        """Let go of it; nothing is read afterwards."""
        ...


class ByteSink(Protocol):
    """Something that bytes are appended to."""

    def write(self, data: bytes, /) -> object: ...


class SealedFiles(Protocol):
    """Keeps files in a form that only it can read.

    ``labels`` say what a file is (whose, of what, which version); the same ones must be given to open it, so files
    that were exchanged or are older than their record do not open.
    """

    def create(self, path: Path, labels: Mapping[str, str], size_bytes: int) -> AbstractContextManager[ByteSink]:
        """Write ``path``, about ``size_bytes`` long: whole and flushed once the block ends well, else not at all."""
        ...

    def open(self, path: Path, labels: Mapping[str, str]) -> ByteSource:
        """What ``create`` wrote. Raises a ``UserError`` where it is damaged, exchanged, or its key is not there."""
        ...


class FileSource:
    """A plain file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0 and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        os.close(self._descriptor)
