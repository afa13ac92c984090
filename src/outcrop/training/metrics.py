"""Metrics of a run as JSON lines, one object for each event, appended and flushed at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from outcrop.base.files import write_atomic


class MetricsFile:
    """Appends events to one file. A resumed run drops what it will write again."""

    def __init__(self, path: Path, resume_step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= resume_step]
        write_atomic(path, "".join(kept).encode())
        self._path = path

    def write(self, event: str, step: int, values: Mapping[str, float]) -> None:
        line = {"event": event, "step": step} | {name: round(value, 6) for name, value in values.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _lines(path: Path) -> list[str]:
    """Whole lines only: a process killed while writing may have left half of one."""
    if not path.is_file():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
