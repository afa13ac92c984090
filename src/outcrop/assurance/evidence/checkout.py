"""The source checkout that evidence is about: its tests, its commit, and what runs them.

Not covered: a checkout whose ``.git`` was made up. A commit id is a name; whoever wants to be sure fetches that commit.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.base.errors import NotFound
from outcrop.trust.crypto.hashes import sha256_hex
from outcrop.trust.crypto.module import loaded_module

LOCK_FILE = "requirements-dev.lock"
HERE = Path(__file__)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A directory that holds this package's source, its tests and its project file."""

    root: Path

    @classmethod
    def of_this_package(cls) -> Checkout:
        """The checkout that the running package lies in; ``NotFound`` where it was installed without its tests."""
        root = HERE.resolve().parents[4]
        if not (root / "src" / "outcrop").is_dir() or not (root / "tests").is_dir():
            raise NotFound(
                "Evidence comes from the tests, and this package was installed without them.",
                "Clone the repository, run `make test` there once, then .venv/bin/outcrop evidence run.",
            )
        return cls(root)

    def facts(self) -> dict[str, Any]:
        """Commit, whether files differ from it, and the digest of the lock that the packages were installed from."""
        lock = self.root / LOCK_FILE
        status = self._git("status", "--porcelain")
        return {
            "commit": self._git("rev-parse", "HEAD") or "unknown",
            "dirty": None if status is None else bool(status),
            "lock": {LOCK_FILE: sha256_hex(lock.read_bytes())} if lock.is_file() else {},
        }

    def _git(self, *arguments: str) -> str | None:
        # safe.directory: a checkout of somebody else's (a CI's mount) is only read here.
        command = ["git", "-c", "safe.directory=*", "-C", str(self.root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None


def machine_facts() -> dict[str, Any]:
    """What ran the tests: system, processors, load, Python and the cryptographic module; no name and no address."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "cryptographic_module": str(loaded_module()),
    }


def packages() -> dict[str, str]:
    """Every installed package with its version, by name."""
    found = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))
