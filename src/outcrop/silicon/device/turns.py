"""Several cores at once, one step at a time: each core's kernel is a thread, and a seeded choice says who goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from outcrop.silicon.device.core import Core
from outcrop.silicon.device.machine import Machine

Result = TypeVar("Result")


def run_cores(machine: Machine, body: Callable[[Core], Result]) -> list[Result]:
    """Run ``body`` once on each core of the machine, with that core current; results in the order of cores."""
    if len(machine.cores) == 1:
        with machine.cores[0].active() as core:
            return [body(core)]
    raise NotImplementedError("several cores")
