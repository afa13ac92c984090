"""What the runner tells the process that runs a suite."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

VARIABLE = "OUTCROP_CONFORMANCE"  # names the file that the plan is in


@dataclass(frozen=True)
class Plan:
    """``done`` are cases of an earlier, interrupted run; of the others one in ``stride`` is run."""

    results: str  # the file for JSON lines
    target: str
    jobs: int
    timeout_s: float
    memory_bytes: int
    programs: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()  # of the programs, those that show what is refused
    done: tuple[str, ...] = ()
    stride: int = 1
    relaxed: tuple[str, ...] = ()  # rules that only warn
    absent: tuple[tuple[str, str, str], ...] = ()
    collect_only: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        read: dict[str, Any] = json.loads(text)
        given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in read.items()}
        return cls(**given)
