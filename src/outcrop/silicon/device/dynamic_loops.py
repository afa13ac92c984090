"""Dynamic loops while they run eagerly: which run of a loop's body the core is in.

A dynamic loop is one hardware loop whose body the sequencers execute again and again. Here each run of the body gets
a number of its own, which every instruction inside records (``Instruction.loop``); inner loops number theirs, and the
outer number comes back after them.

Not covered: leaving a ``while reg:`` with ``break`` leaves its number in force until the next such test of an outer
loop (the hardware loop has no ``break`` either).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from outcrop.silicon.device import rules
from outcrop.silicon.device.refusal import refuse

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

NO_REORDER_LOOP = rules.rule(
    "no-reorder-loop", "A dynamic loop does not run inside a no_reorder block.", rules.NKI_LANGUAGE
)


class DynamicLoops:
    """The loops and no_reorder blocks of one core that are running now."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._runs = itertools.count()
        self._regions = itertools.count()
        self.outside: dict[int, int] = {}  # by run of a body: the run of the outer loop's body around it, -1 for none
        self._whiles: list[tuple[tuple[int, int], int]] = []  # where each `while reg:` is, and the number outside it

    def enter(self, what: str) -> int:
        """Check that a loop may start here; returns the number to restore after it."""
        if self._core.region != -1:
            refuse(
                NO_REORDER_LOOP,
                f"{what} runs inside a no_reorder block.",
                "Put the no_reorder block inside the loop's body, or loop with range().",
            )
        return self._core.loop

    def next_run(self, before: int) -> None:
        """A run of a loop's body begins; ``before`` is what ``enter`` gave."""
        self._core.loop = next(self._runs)
        self.outside[self._core.loop] = before

    def leave(self, before: int) -> None:
        """The loop has ended."""
        self._core.loop = before

    @contextmanager
    def no_reorder(self) -> Iterator[None]:
        """Number a block whose instructions keep their order."""
        core = self._core
        before, core.region = core.region, next(self._regions)
        try:
            yield
        finally:
            core.region = before

    def test(self, place: tuple[int, int], holds: bool | None) -> bool:
        """One test of a ``while reg:`` at ``place``; ``holds`` is ``None`` for a value that is not known: one run."""
        depth = next((at for at, (seen, _) in enumerate(self._whiles) if seen == place), None)
        if depth is None:
            self._whiles.append((place, self.enter("`while reg:`")))
            depth = len(self._whiles) - 1
            goes_on = True if holds is None else holds
        else:
            goes_on = bool(holds)
        if goes_on:
            del self._whiles[depth + 1 :]
            self.next_run(self._whiles[depth][1])
        else:
            self.leave(self._whiles[depth][1])
            del self._whiles[depth:]
        return goes_on


def loops_of(core: Core) -> DynamicLoops:
    """The one of a core."""
    made = core.state.get("loops")
    if made is None:
        made = core.state["loops"] = DynamicLoops(core)
    return cast("DynamicLoops", made)
