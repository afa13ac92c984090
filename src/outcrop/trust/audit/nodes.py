"""The tree's complete nodes on disk: one file for each level, 32 bytes for each node, in order.

They are derived from the log and only make proofs and a quick start possible: they are not synced, may be deleted,
and are made again from the records. Nothing here is trusted: the writer compares the root they give with the last
signed head, and ``verify`` does not read them for its own roots.

Not covered: one process at a time writes; the trail's lock sees to that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from outcrop.base.errors import check
from outcrop.base.files import make_private_directory
from outcrop.trust.audit.merkle import HASH_BYTES, Frontier, root


class NodeFiles:
    """The files of one tree, in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: dict[int, int] = {}
        make_private_directory(directory)

    def node(self, level: int, index: int) -> bytes:
        """A stored node; ``LookupError`` where the files do not hold it."""
        try:
            found = os.pread(self._file(level), HASH_BYTES, index * HASH_BYTES)
        except FileNotFoundError:
            found = b""
        if len(found) != HASH_BYTES:
            raise LookupError(f"The tree's node {index} of level {level} is not stored.")
        return found

    def size(self) -> int:
        """The number of leaves stored."""
        try:
            return os.fstat(self._file(0)).st_size // HASH_BYTES
        except FileNotFoundError:
            return 0

    def write(self, first: int, made: Iterable[list[tuple[int, bytes]]]) -> None:
        """Store what ``Frontier.append`` gave for the leaves from ``first`` on."""
        levels: dict[int, list[bytes]] = {}
        for nodes in made:
            for level, value in nodes:
                levels.setdefault(level, []).append(value)
        for level, values in levels.items():
            data = b"".join(values)
            written = os.pwrite(self._file(level, make=True), data, (first >> level) * HASH_BYTES)
            if written != len(data):
                raise OSError(f"Only {written} of {len(data)} bytes of the tree's level {level} were written.")

    def truncate(self, size: int) -> None:
        """Forget every node that is not complete within the first ``size`` leaves."""
        for path in self._directory.glob("level-*"):
            level = int(path.name.removeprefix("level-"))
            os.ftruncate(self._file(level), min(path.stat().st_size, (size >> level) * HASH_BYTES))

    def matches(self, size: int, expected: bytes) -> bool:
        """Whether these files give ``expected`` as the root at ``size``. Reads O(log n) nodes."""
        try:
            return root(size, self.node) == expected
        except LookupError:
            return False

    def rebuild(self, leaves: Iterable[bytes]) -> Frontier:
        """Write all files anew from the leaves' hashes; the state of the tree over them."""
        self.truncate(0)
        frontier, batch, first = Frontier(), [], 0
        for leaf in leaves:
            batch.append(frontier.append(leaf))
            if len(batch) == 4096:
                self.write(first, batch)
                first, batch = first + len(batch), []
        self.write(first, batch)
        check(self.size() == frontier.size, "every leaf's hash is stored")
        return frontier

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _file(self, level: int, *, make: bool = False) -> int:
        descriptor = self._open.get(level)
        if descriptor is None:
            flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0)
            descriptor = self._open[level] = os.open(self._directory / f"level-{level:02}", flags, 0o600)
        return descriptor
