"""One process for each case, several at a time: a crash, a hang or a greedy case costs itself only.

Each case runs in a fork of the process that collected them all, so imports are paid once. The child has a limit on its
address space; the parent kills it, with everything it started, when its time is over.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_LARGEST_REPLY = 1 << 20


class Finished(NamedTuple):
    """How one case ended. ``reply`` is what it wrote, empty where it did not come to that."""

    case: str
    reply: bytes
    status: int  # as waitpid gives it
    timed_out: bool
    seconds: float
    peak_bytes: int


@dataclass
class _Child:
    case: str
    pid: int
    pipe: int
    started: float
    reply: bytearray = field(default_factory=bytearray)
    timed_out: bool = False


def run_isolated(
    cases: Iterable[tuple[str, Callable[[], bytes]]],
    *,
    jobs: int,
    timeout_s: float,
    memory_bytes: int,
    starter: int | None = None,
) -> Iterator[Finished]:
    """Run each case's function in a process of its own; yields them as they end.

    Stops when the process that started this one is gone: nobody reads the results any more. ``starter`` is that
    process where it may be gone already (collecting cases takes a while).
    """
    waiting = iter(cases)
    starter = os.getppid() if starter is None else starter
    running: dict[int, _Child] = {}
    more = True
    try:
        while (more or running) and os.getppid() == starter:
            while more and len(running) < jobs:
                following = next(waiting, None)
                if following is None:
                    more = False
                    break
                child = _start(*following, memory_bytes)
                running[child.pipe] = child
            if not running:
                continue
            ready, _, _ = select.select(list(running), [], [], 0.2)
            for pipe in ready:
                child = running[pipe]
                part = os.read(pipe, 65536)
                if part and len(child.reply) < _LARGEST_REPLY:
                    child.reply += part
                elif not part:
                    del running[pipe]
                    yield _end(child)
            now = time.monotonic()
            for child in running.values():
                if not child.timed_out and now - child.started > timeout_s:
                    child.timed_out = True
                    _kill(child.pid)
    finally:
        for child in running.values():
            _kill(child.pid)
            _end(child)


def _start(case: str, work: Callable[[], bytes], memory_bytes: int) -> _Child:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return _Child(case, pid, read, time.monotonic())
    try:
        os.close(read)
        os.setpgid(0, 0)
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        reply = work()
        while reply:
            reply = reply[os.write(write, reply) :]
    finally:
        os._exit(0)  # nothing of the parent's may be flushed or torn down twice


def _kill(pid: int) -> None:
    for target in (os.killpg, os.kill):
        try:
            target(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _end(child: _Child) -> Finished:
    os.close(child.pipe)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - child.started
    return Finished(child.case, bytes(child.reply), status, child.timed_out, seconds, usage.ru_maxrss * 1024)
