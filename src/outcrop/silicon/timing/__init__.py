"""The clock: a kernel's trace replayed against engines, queues, semaphores and the tensor engine's throttle.

``predict(traces, chip)`` gives a timeline and a bracket of microseconds. Start reading at ``replay``; what an instruction
costs is data (``laws``), what it waits for follows from the bytes it touches (``dependence``).
"""

from __future__ import annotations
