"""The clock as this room uses it: traces in, a prediction and its timeline out. The one place that knows its interface.

Questions are asked of the scheduler's order, averaged over where the kernel may start in the grid of the tensor
engine's activity limit, as a prediction is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from outcrop.silicon.chip import Chip
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.settings import Limits, limits_of
from outcrop.silicon.timing import laws as timing_laws
from outcrop.silicon.timing.laws import Laws
from outcrop.silicon.timing.predict import Prediction, predict
from outcrop.silicon.timing.program import Program, prepare
from outcrop.silicon.timing.replay import replay_program
from outcrop.silicon.timing.timeline import Timeline

if TYPE_CHECKING:
    from outcrop.silicon.nki.run import Run

Traces = Sequence[Sequence[Instruction]]

_LONG_WINDOWS = 60  # a kernel that lasts longer sees the limit's grid from every side anyway
_OLDER_LANGUAGE = "legacy program"


class Replayed(NamedTuple):
    """One replay and what it replayed. ``phase_ns`` is where the grid of the activity limit lay."""

    program: Program
    timeline: Timeline
    phase_ns: float


@dataclass(frozen=True)
class Clock:
    """Laws and limits of one chip. ``older`` is for kernels of the older language, whose compiler does otherwise."""

    chip: Chip
    laws: Laws
    limits: Limits
    older: bool = False

    @property
    def dma_engines(self) -> int:
        return self.chip.core.dma.engines.int_in("count")

    def predict(self, run: Run) -> Prediction:
        """Expected time, bracket and validated error."""
        return predict(run, self.chip, laws=self.laws)

    def replay(self, traces: Traces) -> Replayed:
        """The first of the replays that a prediction averages."""
        program = prepare(traces, self.laws, older=self.older)
        phase = self._phases()[0]
        timeline = replay_program(program, self.limits, self.dma_engines, "listed", phase)
        if self._is_long(timeline) and phase:
            phase = 0.0
            timeline = replay_program(program, self.limits, self.dma_engines, "listed", phase)
        return Replayed(program, timeline, phase)

    def total_ns(self, traces: Traces) -> float:
        """The expected time of a kernel, launch included."""
        program, first, phase = self.replay(traces)
        if phase == 0.0:
            return first.total_ns
        others = [
            replay_program(program, self.limits, self.dma_engines, "listed", each).total_ns
            for each in self._phases()[1:]
        ]
        return (first.total_ns + sum(others)) / (1 + len(others))

    def under(self, laws: Laws) -> Clock:
        """The same clock with other laws."""
        return replace(self, laws=laws)

    def _phases(self) -> list[float]:
        law = self.laws.throttle
        return [law.window_ns * (at + 0.5) / law.phases for at in range(law.phases)] if law is not None else [0.0]

    def _is_long(self, timeline: Timeline) -> bool:
        law = self.laws.throttle
        return law is None or timeline.body_ns > _LONG_WINDOWS * law.window_ns or not timeline.busy_ns("tensor")


def clock_of(run: Run, laws: Laws | None = None) -> Clock:
    """The clock of the chip that a run was for, with that chip's laws if not given."""
    older = any(_OLDER_LANGUAGE in core.state for core in run.machine.cores)
    return Clock(run.target, laws or timing_laws.load(run.target.name), limits_of(run.target), older)
