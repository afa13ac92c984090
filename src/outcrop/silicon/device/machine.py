"""Everything that runs together: the cores of one or more logical cores, and what they share."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.record import Allocation
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.settings import Settings
from outcrop.silicon.device.storage import Storage

Outcome = TypeVar("Outcome")

SHARED_ALLOCATION = rules.rule(
    "shared-allocation",
    "The cores of a logical core allocate the same tensors in shared HBM: the same names, or the same order.",
    "AWS Neuron, Logical NeuronCore: the program on each core is the same",
    relaxable=False,
)


class Turns(Protocol):
    """Which of several cores goes on; ``None`` where there is one. See ``turns``."""

    def step(self, core: Core) -> None:
        """Called after each instruction of ``core``; may let another core go first."""

    def meet(
        self,
        core: Core,
        key: Hashable,
        members: Sequence[Core],
        what: str,
        arrival: Any,
        complete: Callable[[dict[Core, Any]], Outcome],
    ) -> Outcome:
        """Wait for all members; see ``turns.Interleaving``."""


class Machine:
    """``ranks`` logical cores of ``cores_per_rank`` physical cores each, with one HBM."""

    def __init__(self, settings: Settings, cores_per_rank: int = 1, ranks: int = 1) -> None:
        self.settings = settings
        self.cores_per_rank = cores_per_rank
        self.ranks = ranks
        self.turns: Turns | None = None
        self._allocations = itertools.count()
        self._meetings = itertools.count()
        self._shared: dict[Hashable, Storage] = {}
        self.lock = threading.RLock()
        self.cores = [Core(self, index, rank) for rank in range(ranks) for index in range(cores_per_rank)]

    def next_allocation(self) -> int:
        return next(self._allocations)

    def next_meeting(self) -> int:
        """A number for an instruction that several cores execute together; their records all have it."""
        return next(self._meetings)

    def shared_hbm(self, core: Core, key: Hashable, allocation: Allocation, make: Callable[[], Storage]) -> Storage:
        """The storage that the cores of one rank share under ``key``; the first to ask for it makes it."""
        found = self._shared.get((core.rank, key))
        if found is None:
            found = make()
            self._shared[core.rank, key] = found
            return found
        first = found.allocation
        if first.shape != allocation.shape or first.dtype is not allocation.dtype:
            refuse(
                SHARED_ALLOCATION,
                f"Core {core.index} allocates {allocation} at {allocation.source} where core {first.core} allocated "
                f"{first} at {first.source}.",
                "Tensors in shared HBM are one tensor for all cores of the logical core: allocate them with the same "
                "shape on each, in the same order, or give them names. For a core of its own use nl.private_hbm.",
            )
        return found

    def meet(
        self, core: Core, key: Hashable, members: Sequence[Core], what: str, arrival: Any,
        complete: Callable[[dict[Core, Any]], Outcome],
    ) -> Outcome:  # fmt: skip
        """Wait until every member has come with this key; what ``complete`` made of all arrivals, to each of them."""
        if self.turns is None:
            return complete({core: arrival})
        return self.turns.meet(core, key, members, what, arrival, complete)
