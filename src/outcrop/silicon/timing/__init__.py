"""The clock: a kernel's trace replayed against engines, queues, semaphores, DMA and the tensor engine's activity limit.

Start reading at ``predict`` (what a user asks), then ``replay`` (the event simulation), ``program`` (what it needs of a
trace: waits from ``dependence``, queues and costs) and ``laws`` with its data (what instructions cost, and whence we
know). ``profile_json``, ``profile_replay`` and ``calibrate`` are about real device profiles.

What is not modelled is listed in ``docs/reference/accuracy.md``.
"""

from __future__ import annotations
