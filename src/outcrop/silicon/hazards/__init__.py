"""Hazards: what goes wrong with a kernel in another order than the one it ran in.

Kernels run eagerly, one instruction after the other; on the chip, engines, DMA queues and cores run side by side, and
only semaphores order them. ``find_hazards`` looks at the traces of a run for accesses that nothing orders, tensors that
take each other's bytes, waits that never end, and work that nobody uses. What counts as ordered depends on who writes
the semaphores: see ``Mode`` and decision 0007.
"""

from __future__ import annotations

from outcrop.silicon.hazards.finder import find_hazards
from outcrop.silicon.hazards.hazard import Hazard, Kind, Mode, Severity

__all__ = ["Hazard", "Kind", "Mode", "Severity", "find_hazards"]
