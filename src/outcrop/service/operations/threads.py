"""Threads for operations that read and write the database, the key store and the log: those of IAM, KMS and CloudTrail.

They have a pool of their own. Were they in the event loop's, a database that another process holds locked would take
its few threads from invocations, which decode large bodies and long prompts there.

Not covered: fairness between accounts in this pool; and what waits for a thread when its client goes away is done all
the same where it changes something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS_MAX = 16

_pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="outcrop-control")


async def in_control_thread(work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
    """What ``work`` gives, in one of the pool's threads."""
    return await asyncio.get_running_loop().run_in_executor(_pool, lambda: work(*args, **more))
