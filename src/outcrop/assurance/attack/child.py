"""A private deployment that may be broken: a service of our own in a temporary directory, its limits ours to set.

Needs Linux (``/proc``, ``prlimit``). Not covered: a disk that is really full (a file-size limit stands in for it:
writes fail with EFBIG in place of ENOSPC), and what a service manager does with a process that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from outcrop.assurance.attack.client import Client
from outcrop.assurance.attack.signatures import Keys
from outcrop.base.errors import UserError

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
COMMAND = (sys.executable, "-m", "outcrop.cli.main")
NO_LIMIT = resource.RLIM_INFINITY


@dataclass(frozen=True, slots=True)
class Child:
    """A running private deployment. ``keys`` are its root's."""

    client: Client
    region: str
    keys: Keys
    data: Path
    directory: Path
    """Where it runs and writes its output: ``data`` lies below."""
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def stderr(self) -> Path:
        return self.directory / "stderr"

    def limit(self, what: int, soft: int) -> None:
        """Set a soft limit of the running process; ``NO_LIMIT`` puts it back to the hard one."""
        hard = resource.prlimit(self.process.pid, what)[1]
        wanted = hard if soft == NO_LIMIT else soft
        resource.prlimit(self.process.pid, what, (wanted, hard))

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """End it with ``signum``; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@contextlib.contextmanager
def private_deployment(command: Sequence[str] = COMMAND) -> Iterator[Child]:
    """Start ``outcrop up`` on a directory of its own, and remove both at the end."""
    if not sys.platform.startswith("linux"):
        raise UserError("A private deployment can be broken on Linux only.", "Leave these families out with --only.")
    with tempfile.TemporaryDirectory(prefix="outcrop-attack-") as name:
        directory = Path(name)
        data = directory / "data"
        arguments = [*command, "up", "--data", str(data), "--port", "0", "--https-port", "0", "--json", "--verbose"]
        with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
            process = subprocess.Popen(  # noqa: S603 - our own program
                arguments, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        try:
            report = _report(process, directory)
            keys = Keys(str(report["access_key_id"]), str(report["secret_access_key"]))
            # What it says once at its start holds the root key, on purpose: not a leak that a scan should find.
            (directory / "stdout").write_bytes(b"")
            yield Child(Client(str(report["endpoint"])), str(report["region"]), keys, data, directory, process)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _report(process: subprocess.Popen[bytes], directory: Path) -> dict[str, object]:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        text = (directory / "stdout").read_text("utf-8", "replace")
        if text.endswith("\n"):
            found: dict[str, object] = json.loads(text)
            return found
        time.sleep(0.1)
    why = (directory / "stderr").read_text("utf-8", "replace").strip().splitlines()[-3:]
    raise UserError(f"The private deployment did not start: {' '.join(why) or 'it said nothing'}.")
