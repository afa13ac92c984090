"""What a kernel call takes where the caller does not say: the target, the strictness, the seed; and who watches.

A kernel that is called as the vendor's documents call it has no place for such options; ``activate`` and the pytest
plugin set them here for a block.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.silicon import chip
from outcrop.silicon.chip import Chip

if TYPE_CHECKING:
    from outcrop.silicon.nki.run import Run


@dataclass(frozen=True)
class Options:
    """``target`` is a chip, its name or the path of a chip file; ``None`` asks the vendor's environment variable."""

    target: Chip | str | None = None
    relaxed: bool | Collection[str] = False
    timing_only: bool = False
    seed: int = 0
    watchers: tuple[list[Run], ...] = field(default=(), repr=False)


class _Current(threading.local):
    options = Options()


_current = _Current()


def current_options() -> Options:
    return _current.options


@contextmanager
def defaults(
    target: Chip | str | None = None,
    relaxed: bool | Collection[str] | None = None,
    timing_only: bool | None = None,
    seed: int | None = None,
) -> Iterator[Options]:
    """Within the block and in this thread, kernel calls take these options unless they have their own."""
    before = _current.options
    chosen = None if target is None else find_target(target)  # an unknown one is told here, not at the first launch
    given = {"target": chosen, "relaxed": relaxed, "timing_only": timing_only, "seed": seed}
    _current.options = replace(before, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    try:
        yield _current.options
    finally:
        _current.options = before


@contextmanager
def recording() -> Iterator[list[Run]]:
    """Collects the ``Run`` of every kernel that this thread runs within the block."""
    runs: list[Run] = []
    before = _current.options
    _current.options = replace(before, watchers=(*before.watchers, runs))
    try:
        yield runs
    finally:
        _current.options = before


def find_target(target: Chip | str | None) -> Chip:
    """The chip to run on; a name without a folder or ``.toml`` is one that comes with Outcrop."""
    if isinstance(target, Chip):
        return target
    if target is None:
        return _named(chip.default_target())
    if target not in chip.names() and (target.endswith(".toml") or Path(target).is_file()):
        return chip.load_file(target)
    return _named(target)


@lru_cache(maxsize=16)
def _named(name: str) -> Chip:
    return chip.load(name)  # reading a file takes tens of milliseconds
