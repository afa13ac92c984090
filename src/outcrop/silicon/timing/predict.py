"""How long a kernel takes: an expected value, a bracket, and the error that such predictions had against hardware.

The expected value is that of our scheduler's order, averaged over where the kernel may start in the grid of the tensor
engine's activity limit. The bracket holds both orders, the kernel's own and the scheduler's, and every start.

Not covered: see "Not modelled" in ``docs/reference/accuracy.md``.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Protocol

from outcrop.silicon import chip as chips
from outcrop.silicon.chip import Chip
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.settings import limits_of
from outcrop.silicon.timing.laws import Laws, load
from outcrop.silicon.timing.program import Program, prepare
from outcrop.silicon.timing.replay import collector_paused, replay_program
from outcrop.silicon.timing.timeline import QUEUES, Timeline

_BOUND_SHARE = 0.6  # of the body that a resource must be busy to be what binds
_PHASES_MATTER_WINDOWS = 60  # a longer kernel sees so many windows that the first does not matter
_OLDER_LANGUAGE = "legacy program"  # in a core's state after a kernel of the older language


class Ran(Protocol):
    """What is needed of an executed kernel."""

    @property
    def name(self) -> str: ...
    @property
    def machine(self) -> Machine: ...


@dataclass(frozen=True)
class Validation:
    """How far predictions of one class of kernels were off against hardware: mean absolute relative error."""

    chip: str
    kind: str
    error: float
    samples: int
    source: str


@dataclass(frozen=True)
class Prediction:
    """Times in nanoseconds, with the launch. ``kind`` is what binds: ``memory``, ``compute`` or ``latency``."""

    kernel: str
    chip: str
    calibrated: bool
    note: str
    expected_ns: float
    low_ns: float
    high_ns: float
    kind: str
    validation: Validation | None
    listed: Timeline
    program: Timeline

    def __str__(self) -> str:
        text = (
            f"{self.kernel} on {self.chip}: {self.expected_ns / 1e3:.1f} us expected, "
            f"between {self.low_ns / 1e3:.1f} and {self.high_ns / 1e3:.1f} us, {self.kind}-bound"
        )
        if self.validation is not None:
            found = self.validation
            text += f"; such predictions were {found.error:.0%} off on average ({found.samples} kernels)"
        else:
            text += "; no hardware measurement of this class of kernel on this chip is known to us"
        return text + ("" if self.calibrated else ". The laws of this chip are not calibrated on profiles of it")


def predict(
    run: Ran | Sequence[Sequence[Instruction]],
    chip: Chip | str | None = None,
    *,
    laws: Laws | None = None,
    older: bool | None = None,
) -> Prediction:
    """Predict an executed kernel, or the traces of its cores, on a chip (the run's own if not given).

    ``older`` tells that the compiler is that of the older kernel language, which merges loop iterations; without it,
    a run of that language is taken so, and any other is not.
    """
    name, traces, own, was_older = _opened(run)
    target = chips.load(chip) if isinstance(chip, str) else chip or own or chips.load()
    found = laws or load(target.name)
    limits, engines = limits_of(target), target.core.dma.engines.int_in("count")
    with collector_paused():
        prepared = prepare(traces, found, older=was_older if older is None else older)
        program = replay_program(prepared, limits, engines, "program")
        listed = [replay_program(prepared, limits, engines, "listed", phase) for phase in _phases(found, program)]
    totals = [each.total_ns for each in listed]
    kind = kind_of(prepared, listed[0])
    return Prediction(
        kernel=name,
        chip=found.chip,
        calibrated=found.calibrated,
        note=found.note,
        expected_ns=sum(totals) / len(totals),
        low_ns=min(*totals, program.total_ns),
        high_ns=max(*totals, program.total_ns),
        kind=kind,
        validation=validations().get((found.chip, kind)),
        listed=listed[0],
        program=program,
    )


def _opened(
    run: Ran | Sequence[Sequence[Instruction]],
) -> tuple[str, Sequence[Sequence[Instruction]], Chip | None, bool]:
    """Name, traces, chip, and whether it is in the older language."""
    if isinstance(run, Sequence):
        return "kernel", run, None, False
    cores = run.machine.cores
    older = any(_OLDER_LANGUAGE in core.state for core in cores)
    return run.name, [core.trace for core in cores], run.machine.settings.target, older


def _phases(laws: Laws, program: Timeline) -> list[float]:
    throttle = laws.throttle
    if throttle is None or program.body_ns > _PHASES_MATTER_WINDOWS * throttle.window_ns:
        return [0.0]
    if not program.busy_ns("tensor"):
        return [0.0]
    return [throttle.window_ns * (at + 0.5) / throttle.phases for at in range(throttle.phases)]


def kind_of(program: Program, timeline: Timeline) -> str:
    """What binds: transfers, an engine, or neither, which leaves the time between dependent instructions."""
    body = max(timeline.body_ns, 1.0)
    if timeline.dma_busy_ns / (timeline.dma_engines * body) >= _BOUND_SHARE:
        return "memory"
    starts = [start for start, end in pairwise(program.bounds) if start < end]
    alike = Counter(program.instructions[start].core for start in starts)  # ranks' cores have the same number
    busiest = max((timeline.busy_ns(each, core) / alike[core] for each in QUEUES[:4] for core in alike), default=0.0)
    return "compute" if busiest / body >= _BOUND_SHARE else "latency"


@lru_cache(maxsize=1)
def validations() -> Mapping[tuple[str, str], Validation]:
    """What ``bench/silicon_timing.py`` found, by chip and class of kernel."""
    text = files(__package__).joinpath("data/validation.toml").read_text(encoding="utf-8")
    made = [Validation(**each) for each in tomllib.loads(text).get("class", ())]
    return {(each.chip, each.kind): each for each in made}
