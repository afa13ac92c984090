"""The block pool: which pages of the KV cache are free, and that none is ever lent twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from outcrop.base.errors import check


class BlockPool:
    """Hands out the numbers ``0 .. total - 1``.

    The block freed last is lent first, so memory that was never needed is never touched: a big pool on a small
    machine costs address space only.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = list(range(total - 1, -1, -1))

    @property
    def free(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """Lend ``count`` blocks; the caller has made sure that they are there."""
        check(count <= len(self._free), f"{count} KV blocks asked for while {len(self._free)} are free")
        return [self._free.pop() for _ in range(count)]

    def release(self, blocks: Sequence[int]) -> None:
        """Take back what ``allocate`` lent."""
        self._free.extend(reversed(blocks))

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Raise ``InvariantError`` unless every block is either free or in exactly one of ``tables``."""
        held = [block for table in tables for block in table]
        check(sorted(self._free + held) == list(range(self.total)), "each KV block is free or held by one sequence")
