"""What an operator may set, as one frozen record: the single source of the command line's defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from outcrop.inference.base import EngineConfig
from outcrop.service.admission.base import GateConfig


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one client may cost. Times in seconds, sizes in bytes."""

    max_body_bytes: int = 25_000_000
    """The Bedrock API reference's limit on an InvokeModel body; the same for every operation here."""
    large_body_bytes: int = 262_144
    """Above this the head of a request must pass before more of its body is taken, and the body counts below."""
    large_bodies_bytes: int = 500_000_000
    """All large bodies together that may be in memory; one that would exceed it is refused."""
    body_grace_s: float = 20.0
    """A body may take this long, plus one second for each ``body_min_bytes_per_s`` received."""
    body_min_bytes_per_s: float = 16_384.0
    max_clock_skew_s: int = 300


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """One service on one machine. Port 0 takes a free one; ``http_port`` ``None`` offers TLS only."""

    data: Path
    host: str = "127.0.0.1"
    http_port: int | None = 8080
    https_port: int = 8443
    names: tuple[str, ...] = ()
    """Host names, besides the loopback ones, that requests may be sent to and that the TLS certificate carries."""
    new_profile: bool = False
    """The operator named the profile at this start: one other than that held to so far is meant."""
    limits: Limits = field(default_factory=Limits)
    engine: EngineConfig = field(default_factory=EngineConfig)
    gate: GateConfig = field(default_factory=GateConfig)
