"""Everything that runs together: the cores of one or more logical cores, and what they share."""

from __future__ import annotations

import itertools
import threading
from typing import Protocol

from outcrop.silicon.device.core import Core
from outcrop.silicon.device.settings import Settings


class Turns(Protocol):
    """Which of several cores goes on; ``None`` where there is one. See ``turns``."""

    def step(self, core: Core) -> None:
        """Called after each instruction of ``core``; may let another core go first."""


class Machine:
    """``ranks`` logical cores of ``cores_per_rank`` physical cores each, with one HBM."""

    def __init__(self, settings: Settings, cores_per_rank: int = 1, ranks: int = 1) -> None:
        self.settings = settings
        self.cores_per_rank = cores_per_rank
        self.ranks = ranks
        self.turns: Turns | None = None
        self._allocations = itertools.count()
        self.lock = threading.RLock()
        self.cores = [Core(self, index, rank) for rank in range(ranks) for index in range(cores_per_rank)]

    def next_allocation(self) -> int:
        return next(self._allocations)
