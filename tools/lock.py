"""`make lock`: resolve what pyproject.toml asks for into locks with hashes. `--check` says whether they are stale.

Three locks, each complete in itself and all agreeing on versions:

    requirements.lock       what the service runs on (extras ``models`` and ``service``)
    requirements-demo.lock  the same, plus the builder and the clients of `make demo`
    requirements-dev.lock   the same, plus test and lint tools

PyTorch is in none of them: which build is right depends on the machine (see tools/torch_choice.py). Its pure-Python
dependencies are, so that a CPU build installs with ``--no-deps``. A version already locked is kept; to move them,
run ``python tools/lock.py --upgrade``. The locks name no index: pip uses whichever the machine is set up with.

The check is a comparison of digests and needs no network; it cannot see that a newer version exists.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIGEST_LINE = "# inputs-sha256: "

# What the wheels of PyTorch 2.11-2.13 declare for every platform (METADATA, Requires-Dist without CUDA and Triton).
TORCH_REQUIRES = (
    "filelock",
    "fsspec>=0.8.5",
    "jinja2",
    "networkx>=2.5.1",
    "setuptools>=77.0.3",
    "sympy>=1.13.3",
    "typing-extensions>=4.10.0",
)


@dataclass(frozen=True)
class Lock:
    """One lock file and what goes into it."""

    path: str
    groups: tuple[str, ...] = ()
    constrained_by: str | None = None


# In the order they are resolved: the widest first, and the others are held to its versions.
LOCKS = (
    Lock("requirements-dev.lock", groups=("dev",)),
    Lock("requirements-demo.lock", groups=("demo",), constrained_by="requirements-dev.lock"),
    Lock("requirements.lock", constrained_by="requirements-dev.lock"),
)


def inputs_digest(pyproject: Path) -> str:
    """SHA-256 of everything in ``pyproject.toml`` and here that decides what the locks hold."""
    document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = document["project"]
    inputs = {
        "requires-python": project["requires-python"],
        "dependencies": project.get("dependencies", []),
        "optional-dependencies": project.get("optional-dependencies", {}),
        "dependency-groups": document.get("dependency-groups", {}),
        "torch-requires": TORCH_REQUIRES,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def stale_locks(root: Path = ROOT) -> list[str]:
    """Names of the locks that were not made from the present inputs, or are missing."""
    wanted = DIGEST_LINE + inputs_digest(root / "pyproject.toml")
    return [lock.path for lock in LOCKS if not _has_line(root / lock.path, wanted)]


def write_lock(lock: Lock, upgrade: bool) -> None:
    """Resolve ``lock`` for CPython 3.11 and later on every platform, wheels only, and write it with its digest."""
    target = ROOT / lock.path
    with tempfile.TemporaryDirectory() as scratch:
        excluded = Path(scratch) / "excluded.in"
        excluded.write_text("torch\n", encoding="utf-8")
        torch_requires = Path(scratch) / "torch-requires.in"
        torch_requires.write_text("\n".join(TORCH_REQUIRES) + "\n", encoding="utf-8")
        fresh = Path(scratch) / "fresh.lock"
        if target.exists() and not upgrade:
            fresh.write_bytes(target.read_bytes())  # uv keeps the versions it finds in its output file
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", str(torch_requires)]
        command += ["--extra", "service", "--excludes", str(excluded), "--universal", "--python-version", "3.11"]
        command += ["--only-binary", ":all:", "--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        command += [argument for group in lock.groups for argument in ("--group", group)]
        if lock.constrained_by:
            command += ["--constraints", lock.constrained_by]
        command += ["--system-certs", "--output-file", str(fresh)]  # as pip does: the machine says whom it trusts
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            sys.exit(f"lock: uv could not resolve {lock.path} (exit code {code}); what it said stands above")
        header = f"# Made by `make lock` from pyproject.toml; do not edit.\n{DIGEST_LINE}"
        digest = inputs_digest(ROOT / "pyproject.toml")
        target.write_text(f"{header}{digest}\n{fresh.read_text(encoding='utf-8')}", encoding="utf-8")


def _has_line(path: Path, line: str) -> bool:
    return path.exists() and line in path.read_text(encoding="utf-8").splitlines()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a lock is stale")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions the ranges allow")
    options = parser.parse_args(arguments)
    if options.check:
        stale = stale_locks()
        if stale:
            print(f"Stale: {', '.join(stale)}. Run `make lock` and commit the result.")
        return 1 if stale else 0
    for lock in LOCKS:
        write_lock(lock, options.upgrade)
        print(f"Wrote {lock.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
