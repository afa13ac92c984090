"""What binds a kernel: the time it would take if one resource cost nothing, resource by resource.

Busy time alone misleads, since a busy queue may lie off the critical path. Replaying with a resource for nothing asks
directly how much the others wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TypeVar

from outcrop.silicon.profile.base import ENGINES, Bound, Profile, Row
from outcrop.silicon.profile.clock import Clock, Traces
from outcrop.silicon.profile.summary import union
from outcrop.silicon.timing.laws import Laws, Line

_NOTHING = Line(0.0, 0.0)
_FAST = 1e9  # bytes per nanosecond: as good as no time
_Part = TypeVar("_Part")


def bounds_of(traces: Traces, clock: Clock, profile: Profile) -> tuple[Bound, ...]:
    """The resources that the kernel uses, the most binding first."""
    found = []
    scale = profile.estimate.expected_ns / clock.total_ns(traces)
    for resource, (busy_ns, without) in _resources(profile).items():
        if busy_ns > 0.0 or resource == WAITING:
            found.append(Bound(resource, busy_ns, scale * clock.under(without(clock.laws)).total_ns(traces)))
    return tuple(sorted(found, key=lambda each: each.without_ns))


TRANSFERS = "dma transfers"
TRIGGERS = "dma triggers"
DMA = "dma as a whole"
WAITING = "semaphores"


def _resources(profile: Profile) -> dict[str, tuple[float, Callable[[Laws], Laws]]]:
    found: dict[str, tuple[float, Callable[[Laws], Laws]]] = {}
    for engine in ENGINES:
        own = [row for row in profile.rows if row.queue == engine and not row.is_dma]
        busy = max((_busy(core, own) for core in range(profile.cores)), default=0.0)
        found[engine] = (busy, lambda laws, engine=engine: _without_engine(laws, engine))  # type: ignore[misc]
    triggers = [row for row in profile.rows if row.is_dma]
    busiest = max(
        (
            _busy(core, [row for row in triggers if row.queue == queue])
            for core in range(profile.cores)
            for queue in {row.queue for row in triggers}
        ),
        default=0.0,
    )
    found[TRIGGERS] = (busiest, _without_triggers)
    found[TRANSFERS] = (profile.dma_busy_ns / max(1, profile.chip.dma_engines * profile.cores), _without_transfers)
    found[DMA] = (found[TRANSFERS][0], lambda laws: _without_transfers(_without_triggers(laws)))
    found[WAITING] = (0.0, _without_waiting)
    return found


def _busy(core: int, rows: Sequence[Row]) -> float:
    return union([(row.start, row.busy_until) for row in rows if row.core == core])


def _without_engine(laws: Laws, engine: str) -> Laws:
    kept = tuple(
        replace(law, latency=_NOTHING, occupancy=_NOTHING) if law.engine in (engine, "any") else law
        for law in laws.laws
    )
    # A law for any engine still holds for the others.
    general = tuple(
        replace(law, engine=other) for law in laws.laws if law.engine == "any" for other in ENGINES if other != engine
    )
    made = replace(laws, laws=general + kept, _index={})
    if engine == "tensor":
        made = replace(
            made, tensor=_zeroed(laws.tensor, ("least_columns", "passes", "columns_per_pass")), throttle=None
        )
    return made


def _zeroed(part: _Part, keep: tuple[str, ...]) -> _Part:
    times = {
        each.name: 0.0
        for each in fields(part)  # type: ignore[arg-type]
        if each.name.endswith("_ns") and not each.name.startswith(keep)
    }
    return replace(part, **times)  # type: ignore[type-var]


def _without_triggers(laws: Laws) -> Laws:
    names = [each.name for each in fields(laws.dma) if "issue" in each.name or each.name.startswith("software_")]
    return replace(laws, dma=replace(laws.dma, **{name: 0.0 for name in names if name.endswith("_ns")}))  # type: ignore[arg-type]


def _without_transfers(laws: Laws) -> Laws:
    """Nothing between the trigger and the data."""
    times = {
        each.name: 0.0
        for each in fields(laws.dma)
        if each.name.endswith(("_ns", "_share")) and not ("issue" in each.name or each.name.startswith("software_"))
    }
    rates = {each.name: _FAST for each in fields(laws.dma) if each.name.endswith("bytes_per_ns")}
    return replace(laws, dma=replace(laws.dma, **{**times, **rates}))  # type: ignore[arg-type]


def _without_waiting(laws: Laws) -> Laws:
    none = dict.fromkeys(laws.semaphore.wait_ns, 0.0) | dict.fromkeys(laws.semaphore.post_ns, 0.0)
    return replace(
        laws,
        semaphore=replace(
            laws.semaphore,
            post_ns=none,
            wait_ns=none,
            extra_ns=dict.fromkeys(laws.semaphore.extra_ns, 0.0),
        ),
    )
