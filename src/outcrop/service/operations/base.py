"""What every operation is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outcrop.base.clock import Clock
from outcrop.service.access.denials import Denials
from outcrop.service.accounts import Accounts
from outcrop.service.admission import Gate, Visit
from outcrop.service.hosting import ModelHost
from outcrop.service.http import Reply
from outcrop.service.invocations import Invocations
from outcrop.service.objects import ObjectStore
from outcrop.service.trusted import Trust
from outcrop.service.wire.model import Shape
from outcrop.trust.audit.keeper import AuditKeeper
from outcrop.trust.identity import Principal
from outcrop.trust.policy import ContextValue


@dataclass(frozen=True, slots=True)
class Context:
    """The service as an operation sees it: models at work, the trust rooms, the trail, the gate, kept denials, time."""

    host: ModelHost
    clock: Clock
    trust: Trust
    audit: AuditKeeper
    gate: Gate
    denials: Denials
    accounts: Accounts
    objects: ObjectStore
    invocations: Invocations


@dataclass(frozen=True, slots=True)
class Caller:
    """One request as an operation sees it: who asks, under which id, since when (monotonic seconds).

    ``visit`` is its way through the gate; ``keys`` are the condition keys that hold for the request, for decisions that
    the operation makes itself.
    """

    principal: Principal
    request_id: str
    started_s: float
    visit: Visit
    keys: Mapping[str, ContextValue] = field(default_factory=dict)

    def latency_ms(self, clock: Clock) -> int:
        """Milliseconds since the request came in."""
        return round((clock.monotonic_s() - self.started_s) * 1000)


Handler = Callable[[Context, Caller, Any], Awaitable[Shape | Reply]]
"""An operation: typed input in; a typed output to be encoded by the surface's rules, or a finished reply."""
