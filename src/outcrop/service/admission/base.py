"""The records of admission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Quota:
    """What one account may use of one model; ``None`` is no limit. ``weight`` is its share where others wait too."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    weight: float = 1.0


class QuotaSource(Protocol):
    """Where quotas are looked up; asked with every request."""

    def quota(self, account: str, model_id: str) -> Quota: ...


@dataclass(frozen=True, slots=True)
class GateConfig:
    """``slots_per_model`` requests of one model are in the engine at once; the rest wait their turn, not for long."""

    slots_per_model: int = 64
    queue_max: int = 1024
    wait_max_s: float = 30.0
