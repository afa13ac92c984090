"""The tensor engine's activity limit against windows worked out by hand."""

from __future__ import annotations

import pytest

from outcrop.silicon.timing.laws import ThrottleLaw
from outcrop.silicon.timing.tensor_engine import Throttle

LAW = ThrottleLaw(
    window_ns=1000.0, slow_rate=0.5, wake_activity=0.4, sleep_activity=0.35, starts_slow=True, phases=4
)  # fmt: skip


def test_work_takes_twice_as_long_until_a_busy_window_has_passed() -> None:
    throttle = Throttle(LAW)
    assert throttle.run(0.0, 300.0) == 600.0
    # The window of 0 to 1000 sees 300 + 200 at full rate, half of it: the next runs at full rate.
    assert throttle.run(600.0, 500.0) == 1300.0
    assert throttle.stretch == 1.0


def test_an_idle_window_limits_the_next() -> None:
    throttle = Throttle(LAW)
    throttle.run(0.0, 500.0)  # busy all of window 0
    assert throttle.run(1000.0, 100.0) == 1100.0  # window 1 at full rate, but only a tenth busy
    assert throttle.run(2000.0, 100.0) == 2200.0  # so window 2 is slow
    assert throttle.slow_windows == [-1, 0, 2]


def test_between_the_thresholds_the_state_stays() -> None:
    throttle = Throttle(LAW)
    throttle.run(0.0, 500.0)
    throttle.run(1000.0, 370.0)  # 0.37 of window 1: neither lifts nor sets the limit
    assert throttle.run(2000.0, 100.0) == 2100.0
    slow = Throttle(LAW)
    slow.run(0.0, 370.0)
    assert slow.run(1000.0, 100.0) == 1200.0


def test_the_grid_need_not_start_with_the_kernel() -> None:
    throttle = Throttle(LAW, phase_ns=400.0)
    # The window that began before the kernel ends at 400 with 200 done of its 1000: slow goes on until 1400.
    assert throttle.run(0.0, 700.0) == 1400.0
    assert throttle.run(1400.0, 100.0) == 1500.0


def test_a_long_stretch_crosses_windows() -> None:
    throttle = Throttle(LAW)
    assert throttle.run(500.0, 1000.0) == pytest.approx(2250.0)  # 250 by 1000, 500 by 2000 (0.25 was too little), 250


def test_without_a_limit_work_takes_its_time() -> None:
    throttle = Throttle(None)
    assert throttle.run(10.0, 100.0) == 110.0
    assert throttle.stretch == 1.0
