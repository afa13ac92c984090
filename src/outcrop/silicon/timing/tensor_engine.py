"""The tensor engine: passes over moving columns, weight loads behind them, and the activity limit on its grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from outcrop.silicon.device.record import Instruction
from outcrop.silicon.timing.laws import TensorLaw, ThrottleLaw


class Passes(NamedTuple):
    """What one instruction asks of the engine at full rate."""

    columns: float  # moving columns, over all passes: the activity that the limit looks at
    stream_ns: float
    weight_load_ns: float
    weight_second_pass_ns: float  # at full rate


def passes_of(law: TensorLaw, instruction: Instruction) -> Passes:
    """Columns and times of a matmul or of a transpose on the tensor engine."""
    stationary = instruction.reads[0]
    moving = instruction.reads[1] if len(instruction.reads) > 1 else stationary
    is_transpose = instruction.op == "nc_transpose" or bool(instruction.params.get("is_transpose"))
    wide = max(stationary.dtype.itemsize, moving.dtype.itemsize) == 4 and not stationary.dtype.lanes > 1
    columns = float(max(moving.elements_per_partition, law.least_columns))
    if instruction.op == "nc_transpose":
        columns = float(max(stationary.partitions, law.least_columns))
    if instruction.params.get("perf_mode") == "double_row":
        columns = max(columns / 2, float(law.least_columns))
    if wide:
        columns *= law.columns_per_pass_32_bit * (law.transpose_passes_32_bit if is_transpose else law.passes_32_bit)
    load = law.weight_load_32_bit_ns if wide else law.weight_load_ns
    second = law.weight_second_pass_ns if wide and not is_transpose else 0.0
    return Passes(columns, columns * law.per_column_ns, load, second)


@dataclass
class Throttle:
    """The rate of the engine over time. Windows are judged in order, so work must be given in order of time."""

    law: ThrottleLaw | None
    phase_ns: float = 0.0  # when, from the start of the kernel, the first whole window begins: less than a window
    window: int = -1  # the one that the phase ends
    slow: bool = False
    busy_ns: float = 0.0  # full-rate streaming time within the current window
    slow_windows: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.slow = self.law is not None and self.law.starts_slow
        if self.slow:
            self.slow_windows.append(self.window)

    def run(self, start_ns: float, stream_ns: float) -> float:
        """When streaming that takes ``stream_ns`` at full rate, started at ``start_ns``, is over."""
        law = self.law
        if law is None:
            return start_ns + stream_ns
        now, left = start_ns, stream_ns
        self._enter(int((now - self.phase_ns) // law.window_ns))
        while True:
            rate = law.slow_rate if self.slow else 1.0
            end_of_window = self.phase_ns + (self.window + 1) * law.window_ns
            possible = (end_of_window - now) * rate
            if left <= possible:
                self.busy_ns += left
                return now + left / rate
            self.busy_ns += possible
            left -= possible
            now = end_of_window
            self._enter(self.window + 1)

    @property
    def stretch(self) -> float:
        """How much longer than at full rate work takes now."""
        return 1.0 / self.law.slow_rate if self.law is not None and self.slow else 1.0

    def _enter(self, window: int) -> None:
        assert self.law is not None
        while self.window < window:
            activity = self.busy_ns / self.law.window_ns
            if activity >= self.law.wake_activity:
                self.slow = False
            elif activity <= self.law.sleep_activity:
                self.slow = True
            self.busy_ns = 0.0
            self.window += 1
            if self.slow:
                self.slow_windows.append(self.window)
            if self.slow and window - self.window > 1:  # an idle engine stays limited
                self.slow_windows.extend(range(self.window + 1, window + 1))
                self.window = window
