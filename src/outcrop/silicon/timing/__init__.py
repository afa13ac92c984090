"""The clock: a kernel's trace replayed against engines, queues, semaphores and the tensor engine's throttle.

What an instruction waits for follows from the bytes it touches (``dependence``).
"""

from __future__ import annotations
