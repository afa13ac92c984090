"""Trials in several processes, or one after the other in this one.

Processes are spawned, not forked, and each opens the task for itself from plain values: chips, kernels and modules of
users are never sent. A variant whose process dies (the system ran out of memory, say) counts as one that does not run,
and another process takes its place. At the limit of time, processes are ended in the midst of their trials; a trial in
this process is always finished.

Not covered: a kernel that never ends, when there is no limit.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Protocol, Self

from outcrop.silicon.kernels.search import Variant
from outcrop.silicon.kernels.trial import Opened, Task, Trial, opened


class Workers(Protocol):
    """Something that tries variants: trials come as they are made, and fewer than asked for when time is up."""

    def trials(self, variants: Sequence[Variant], deadline: float) -> Iterator[Trial]: ...


class Here:
    """Trials in this process."""

    def __init__(self, task: Opened) -> None:
        self.task = task

    def trials(self, variants: Sequence[Variant], deadline: float) -> Iterator[Trial]:
        for variant in variants:
            if time.monotonic() >= deadline:
                return
            yield self.task.trial(variant)


class Processes:
    """Trials in processes of their own, which are started with the first and ended with the block."""

    def __init__(self, task: Task, names: Sequence[str], count: int) -> None:
        self.task = task
        self.names = tuple(names)  # of the choices
        self.count = count
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[tuple[Connection, BaseProcess]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection, process in self._idle:
            _end(connection, process)
        self._idle.clear()

    def trials(self, variants: Sequence[Variant], deadline: float) -> Iterator[Trial]:
        left = list(reversed(variants))
        running: dict[Connection, tuple[BaseProcess, Variant]] = {}
        try:
            while left or running:
                while left and len(running) < self.count and time.monotonic() < deadline:
                    connection, process = self._idle.pop() if self._idle else self._start()
                    variant = left.pop()
                    running[connection] = process, variant
                    with suppress(BrokenPipeError):  # a process that has died is seen below
                        connection.send(variant)
                patience = deadline - time.monotonic()
                if patience <= 0:
                    return
                for ready in wait(list(running), None if patience == float("inf") else patience):
                    assert isinstance(ready, Connection)
                    process, variant = running.pop(ready)
                    try:
                        trial: Trial = ready.recv()
                    except (EOFError, OSError):
                        _end(ready, process)
                        trial = self._died(variant, process.exitcode)
                    else:
                        self._idle.append((ready, process))
                    yield trial
        finally:
            for connection, (process, _) in running.items():
                _end(connection, process)

    def _start(self) -> tuple[Connection, BaseProcess]:
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self.task), daemon=True)
        process.start()
        theirs.close()  # so that its end is seen here
        return mine, process

    def _died(self, variant: Variant, code: int | None) -> Trial:
        values = dict(zip(self.names, variant, strict=True))
        return Trial(values, refused="died", why=f"The process of this trial ended with {code}.")


def _serve(connection: Connection, task: Task) -> None:
    """A process: answer variants with trials until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's interrupt is for the process that asked
    with opened(task) as here:
        while True:
            try:
                variant = connection.recv()
            except EOFError:
                return
            connection.send(here.trial(variant))


def _end(connection: Connection, process: BaseProcess) -> None:
    connection.close()
    process.terminate()
    process.join()
