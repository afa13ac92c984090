"""Several cores at once, one step at a time: each core's kernel is a thread, and a seeded choice says who goes on.

Exactly one core runs at any moment: it holds the baton, and the others sleep. After some instructions, between one and
32 by the seeded choice, the baton goes to a core that is not waiting. So the same seed gives the same order of
instructions, and another seed another one, in short and long stretches. Cores meet in barriers, transfers between them
and collectives (``Interleaving.meet``): the last to arrive does the work for all. When no core can go on, the run ends
with the rule ``deadlock``, which names where each core waits. An error on one core stops the others.

Not covered: the engines of one core run in program order here; races between them are for ``hazards`` to find.
"""

from __future__ import annotations

import contextvars
import random
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.source import Source, caller

Result = TypeVar("Result")
Outcome = TypeVar("Outcome")

DEADLOCK = rules.rule(
    "deadlock",
    "Every core that waits for others is met by them.",
    "AWS Neuron, nki.isa core_barrier and sendrecv: all cores must arrive before any can go on",
    relaxable=False,
)
_LONGEST_STRETCH = 5  # a core goes on for 2 ** (0 to this) instructions


class _Stopped(BaseException):  # not an Exception: a kernel's own handlers must not keep a stopped core alive
    """Another core failed."""


class _Waiting(NamedTuple):
    key: Hashable
    what: str
    source: Source


class Interleaving:
    """Who goes on; made by ``run_cores`` and kept in ``Machine.turns`` while the cores run."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._random = random.Random(machine.settings.seed)  # noqa: S311  (an order, not a secret)
        self._batons = {core: threading.Lock() for core in machine.cores}
        for baton in self._batons.values():
            baton.acquire()
        self._ready = list(machine.cores)
        self._waiting: dict[Core, _Waiting] = {}
        self._arrived: dict[Hashable, dict[Core, Any]] = {}
        self._done: list[Core] = []
        self._left = 0
        self.failure: BaseException | None = None

    # -- for Core and instructions ------------------------------------------------------------------------------------

    def step(self, core: Core) -> None:
        """One instruction of ``core`` is over; perhaps another core goes first now."""
        self._left -= 1
        if self._left <= 0:
            self._yield_to(core, self._choose())

    def meet(
        self,
        core: Core,
        key: Hashable,
        members: Sequence[Core],
        what: str,
        arrival: Any,
        complete: Callable[[dict[Core, Any]], Outcome],
    ) -> Outcome:
        """Wait until every member has come with this key; returns what ``complete`` made of all arrivals, to each.

        ``complete`` runs once, on the last to arrive, while the others still sleep. ``what`` names the instruction.
        """
        self._check_running()
        arrivals = self._arrived.setdefault(key, {})
        arrivals[core] = arrival
        if len(arrivals) < len(members):
            self._waiting[core] = _Waiting(key, what, caller())
            self._ready.remove(core)
            if not self._ready:
                self._refuse_deadlock()
            self._yield_to(core, self._choose())
            outcome: Outcome = arrivals.pop(core)
            return outcome
        del self._arrived[key]
        outcome = complete(arrivals)
        for other in arrivals:
            if other is not core:
                del self._waiting[other]
                arrivals[other] = outcome
        self._ready = [each for each in self._machine.cores if each not in self._waiting and each not in self._done]
        return outcome

    # -- for run_cores ------------------------------------------------------------------------------------------------

    def start(self, core: Core) -> None:
        """Sleep until it is this core's turn."""
        self._batons[core].acquire()
        self._check_running()

    def first(self) -> None:
        """Give the baton to the first core."""
        self._batons[self._choose()].release()

    def finish(self, core: Core) -> None:
        """The core's kernel is over: the baton goes on for good."""
        self._check_running()
        self._done.append(core)
        self._ready.remove(core)
        if self._ready:
            self._batons[self._choose()].release()
        elif self._waiting:
            self._refuse_deadlock()

    def fail(self, error: BaseException) -> None:
        """Stop every core: each wakes up to find the failure."""
        if self.failure is None:
            self.failure = error
            for baton in self._batons.values():
                if baton.locked():
                    baton.release()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _choose(self) -> Core:
        chance = self._random.random
        self._left = 1 << int(chance() * (_LONGEST_STRETCH + 1))
        return self._ready[int(chance() * len(self._ready))]

    def _yield_to(self, core: Core, other: Core) -> None:
        self._check_running()
        if other is not core:
            self._batons[other].release()
            self._batons[core].acquire()
        self._check_running()

    def _check_running(self) -> None:
        if self.failure is not None:
            raise _Stopped

    def _refuse_deadlock(self) -> None:
        lines = [f"{_label(core)} waits in {each.what} at {each.source}" for core, each in self._waiting.items()]
        lines += [f"{_label(core)} has ended" for core in self._done]
        refuse(
            DEADLOCK,
            f"No core can go on: {'; '.join(lines)}.",
            "Every core must reach the same barriers, transfers and collectives in the same order, with ranks, tensors "
            "and groups that match.",
        )


def _label(core: Core) -> str:
    if core.machine.ranks == 1:
        return f"core {core.index}"
    if core.machine.cores_per_rank == 1:
        return f"rank {core.rank}"
    return f"core {core.index} of rank {core.rank}"


def run_cores(machine: Machine, body: Callable[[Core], Result]) -> list[Result]:
    """Run ``body`` once on each core of the machine, with that core current; results in the order of cores.

    The first core runs in the calling thread, so that a debugger and an interrupt find it there.
    """
    if len(machine.cores) == 1:
        with machine.cores[0].active() as core:
            return [body(core)]
    turns = Interleaving(machine)
    machine.turns = turns
    results: dict[Core, Result] = {}

    def run_one(core: Core) -> None:
        try:
            turns.start(core)
            with core.active():
                results[core] = body(core)
                turns.finish(core)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  (handed to the caller's thread)
            if getattr(error, "rule", None) is not DEADLOCK:  # which names all cores itself
                error.add_note(f"This happened on {_label(core)}.")
            turns.fail(error)

    threads = [
        threading.Thread(
            target=contextvars.copy_context().run, args=(run_one, core), name=f"outcrop {_label(core)}", daemon=True
        )
        for core in machine.cores[1:]
    ]
    for thread in threads:
        thread.start()
    try:
        turns.first()
        run_one(machine.cores[0])
        for thread in threads:
            thread.join()
    except BaseException as error:  # an interrupt while the others run
        turns.fail(error)
        for thread in threads:
            thread.join()
        raise
    finally:
        machine.turns = None
    if turns.failure is not None:
        _reraise(turns.failure)
    return [results[core] for core in machine.cores]


def _reraise(error: BaseException) -> NoReturn:
    raise error
