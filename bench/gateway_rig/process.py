"""Server processes pinned to one core, and what they cost: processor time and memory, read from the kernel."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent


class BenchFailed(Exception):
    """The measurement cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The two cores of a measurement: one for the server under test, one for its client and what is behind it."""

    server: int
    client: int

    @classmethod
    def choose(cls) -> Cores:
        """The last two cores that this process may use: the first takes most of a machine's interrupts."""
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise BenchFailed("This bench needs two cores: one for the server, one for its client.")
        return cls(usable[-1], usable[-2])


@dataclass(frozen=True, slots=True)
class Server:
    """A server process of ours or of the peer."""

    pid: int
    host: str
    port: int
    facts: Mapping[str, Any]

    def cpu_s(self) -> float:
        """Processor seconds used so far by the process, all its threads, and its children (template renderers)."""
        # CPUCLOCK_SCHED of another process: what clock_getcpuclockid(3) computes on Linux.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in (self.pid, *_children(self.pid)))

    def rss_bytes(self) -> int:
        """Resident memory of the process and its children; pages that they share count more than once."""
        return sum(_rss_bytes(pid) for pid in (self.pid, *_children(self.pid)))


@contextlib.contextmanager
def running(module: str, core: int, *arguments: str, start_s: float = 60.0) -> Iterator[Server]:
    """``python -m module`` on ``core``; it prints one JSON line when it is ready and ends with its standard input."""
    command = [sys.executable, "-m", module, *arguments]
    with pinned(core):
        process = subprocess.Popen(command, cwd=BENCH, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise BenchFailed(f"{module} did not start (exit status {process.wait(start_s)}).")
        facts = json.loads(line)
        yield Server(process.pid, "127.0.0.1", facts["port"], facts)
    finally:
        process.stdin.close()
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process, and make it end if it does not."""
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process, and the children it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _children(pid: int) -> Sequence[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def _rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise BenchFailed(f"/proc/{pid}/status has no VmRSS: this bench needs Linux.")
