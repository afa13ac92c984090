"""Files that are either wholly there or not at all, and that only their owner can read where that is asked.

POSIX promises that ``rename`` replaces a name in one step, not that the bytes behind it are on the disk; so every
write here goes to a temporary file beside the target, is flushed, renamed, and the directory is flushed too.

Not covered: file systems without working ``fsync`` (some network mounts), and protection against other processes of
the same user or of root, who can read and replace anything here.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outcrop.base.errors import UserError
from outcrop.base.faultpoints import point

PRIVATE_FILE = 0o600
PUBLIC_FILE = 0o644
PRIVATE_DIRECTORY = 0o700


def write_atomic(path: Path, data: bytes, *, private: bool = False) -> None:
    """Replace ``path`` by a file that holds ``data``: after a crash the old or the new content is there, whole.

    ``private`` makes it readable by its owner only (0600); it is so from its first byte on. The directory must exist.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            point("base.file.written")
            os.fchmod(file.fileno(), PRIVATE_FILE if private else PUBLIC_FILE)
            os.fsync(file.fileno())
        point("base.file.synced")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    point("base.file.replaced")
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Flush ``directory`` itself, so that names made, renamed or removed in it survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_directory(directory: Path) -> None:
    """Make ``directory`` and its parents; ``directory`` itself opens to its owner only (0700), new or not.

    Raises ``UserError`` where that cannot be: a file in its place, somebody else's, on a read-only disk.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(PRIVATE_DIRECTORY)
    except OSError as error:
        raise UserError(
            f"{directory} cannot be made and closed to others ({error.strerror}).",
            "Choose a writable directory with --data DIR.",
        ) from error


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` against every other process, or raise ``UserError`` at once when it is taken.

    The kernel drops the lock when its holder ends, however it ends; the file itself stays.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{path.parent} is in use by another Outcrop process.",
                "Stop that process, or give this one a directory of its own with --data DIR.",
            ) from None
        yield
    finally:
        os.close(descriptor)
