"""The few things that the audit writer asks of a disk, as a port, so that a test can hand it a full or failing one.

Not covered: a disk that lies about what it has flushed.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from outcrop.base.faultpoints import point

RESERVE_BYTES = 4 << 20
"""Kept free for what has to be said once the disk is full: some two thousand records."""
RESUME_FREE_BYTES = 4 * RESERVE_BYTES

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Disk:
    """The operating system's."""

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of ``data``, or raise ``OSError`` with part of it written."""
        # Two writes, so that a test can stop between them; one write may be torn anywhere as well.
        middle = len(data) // 2
        for part in (memoryview(data)[:middle], memoryview(data)[middle:]):
            done = 0
            while done < len(part):
                done += os.write(descriptor, part[done:])
            point("audit.append.writing")

    def sync(self, descriptor: int) -> None:
        """Return when everything written is on the disk, the file's new length included."""
        os.fdatasync(descriptor)

    def take_reserve(self, path: Path) -> None:
        """Occupy ``RESERVE_BYTES`` at ``path``; ``OSError`` when there is no room for that and some more."""
        if path.exists() and path.stat().st_size == RESERVE_BYTES:
            return
        state = os.statvfs(path.parent)
        if state.f_bavail * state.f_frsize < RESUME_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)

    def give_reserve(self, path: Path) -> None:
        """Free the reserve for what must still be written."""
        path.unlink(missing_ok=True)
