"""What every generator of a committed file does last: write it, or with ``--check`` say whether it is stale."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_or_check(path: Path, text: str, generator: str, arguments: Sequence[str] | None = None) -> int:
    """Write ``text`` to ``path``, or with ``--check`` compare them; the exit status for ``sys.exit``."""
    parser = argparse.ArgumentParser(prog=generator, description=f"Write {path.name}.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the file is stale")
    if not parser.parse_args(arguments).check:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return 0
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"{path} is stale. Run `make docs` and commit the result.")
    return 1
