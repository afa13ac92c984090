"""The event simulation: in-order queues, semaphores, DMA engines and on-chip space, for the cores that run together.

Two orders. ``program``: every queue takes its instructions as the kernel wrote them. ``listed``: every queue takes, of
the instructions whose inputs are there, the one on the longest path to the end, which is our stand-in for the compiler.
In both, the space of automatic tensors is handed out in program order and given back after the last use, which is what
buffering from lifetimes comes to.

Not covered: contention of two cores for one HBM stack, and ports of SBUF and PSUM shared by engines.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from outcrop.base.errors import check
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.settings import Limits
from outcrop.silicon.timing.dependence import Kind
from outcrop.silicon.timing.dma_engine import DmaEngines
from outcrop.silicon.timing.laws import Laws
from outcrop.silicon.timing.program import Program, Work, merged_work, prepare
from outcrop.silicon.timing.queues import ByUrgency, Candidate, InOrder, Queues
from outcrop.silicon.timing.space import Space
from outcrop.silicon.timing.tensor_engine import Throttle
from outcrop.silicon.timing.timeline import QUEUES, Span, Timeline

_TENSOR = QUEUES.index("tensor")
_Q = len(QUEUES)
_FLOW = Kind.FLOW


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's cycle collector off: a replay makes millions of small tuples and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def replay(
    trace: Sequence[Instruction], laws: Laws, limits: Limits, dma_engines: int, order: str = "listed"
) -> Timeline:
    """Replay one core's trace; ``order`` is ``program`` or ``listed``."""
    with collector_paused():
        return replay_program(prepare([trace], laws), limits, dma_engines, order)


def replay_program(
    program: Program, limits: Limits, dma_engines: int, order: str = "listed", phase_ns: float = 0.0
) -> Timeline:
    """Replay prepared traces. ``phase_ns`` is where the grid of the tensor engine's activity limit lies."""
    with collector_paused():
        run = _Run(program, limits, dma_engines, order, phase_ns)
        run.run()
        return run.timeline()


class _Core:
    """What one core has of its own."""

    def __init__(self, number: int, program: Program, limits: Limits, engines: int, phase_ns: float) -> None:
        self.first_queue = number * _Q
        self.base, end = program.bounds[number : number + 2]
        self.dma = DmaEngines(program.laws.dma, engines)
        self.throttle = Throttle(program.laws.throttle, phase_ns)
        capacity = {MemoryRegion.sbuf: limits.sbuf_row_bytes, MemoryRegion.psum: limits.psum_row_bytes}
        self.space = Space(program.instructions[self.base : end], capacity)
        self.load_free = 0.0  # when the next weights may be loaded
        self.table = ""  # the function table that the scalar engine has loaded
        self.waited: dict[tuple[int, int], int] = {}  # by (waiting, posting) queue: how far the first has waited
        self.issued = [0] * _Q


class _Run:
    """State of one replay. A queue has the number ``core * 5 + place in QUEUES``."""

    def __init__(self, program: Program, limits: Limits, engines: int, order: str, phase_ns: float) -> None:
        count = len(program.instructions)
        self.program = program
        self.laws = program.laws
        self.order = order
        self.dma_engines = engines
        self.cores = [_Core(at, program, limits, engines, phase_ns) for at in range(program.cores)]
        self.queue = [core * _Q + work.queue for core, work in zip(program.core_of, program.works, strict=True)]
        self.start = [0.0] * count
        self.busy = [0.0] * count
        self.finish = [0.0] * count
        self.posted = [0.0] * count  # when its semaphore has been raised
        self.place = [0] * count  # in its queue's order
        self.by: list[int] = [-1] * count
        self.known = [-1.0] * count  # when its inputs are there, once that is known
        self.free_at = [0.0] * (_Q * program.cores)
        self.remaining = [len(mine) + 1 for mine in program.waits]  # and its share of the on-chip space
        for later in program.follows.values():
            self.remaining[later] += 1
        self.done = [False] * count
        self.dirty: set[int] = set()  # queues whose next instruction may have changed
        self.together = {each: members for members in program.meetings.values() for each in members}
        self.queues: Queues
        if order == "listed":
            self.together.update(program.merged)
            self.queues = ByUrgency(self.queue, self.known, self.free_at, self.done, self._priorities())
        else:
            self.queues = InOrder(self.queue, self.known, self.free_at, self.together)
        semaphore = self.laws.semaphore
        self.wait_ns = [semaphore.wait_ns[name] for name in QUEUES]
        self.post_ns = [semaphore.post_ns[name] for name in QUEUES]
        self.extra_ns = [semaphore.extra_ns[name] for name in QUEUES]
        table = self.laws.find("activation_table_load", "scalar", "sbuf", "4-4", "constant")
        self.table_ns = table.occupancy.at(1) if table.op == "activation_table_load" else 0.0

    # -- when an instruction may start --------------------------------------------------------------------------------

    def _inputs_at(self, index: int) -> float:
        """When everything that an instruction waits for is there; notes which producer came last."""
        core = self.cores[self.program.core_of[index]]
        latest = core.space.granted_at[index - core.base]
        by = -1
        queue = self.queue[index]
        wait = self.wait_ns[queue % _Q]
        in_place = queue % _Q == _TENSOR
        for producer, kind in self.program.waits[index]:
            if in_place and kind is not _FLOW and self.queue[producer] == queue:
                continue  # sums in PSUM are kept in order by the engine itself
            at = self.posted[producer] + wait
            if at > latest:
                latest, by = at, producer
        self.by[index] = by
        return latest

    def _extra_waits(self, index: int) -> float:
        """An instruction waits for one semaphore: others, if not known to be reached, cost an instruction each."""
        program = self.program
        queue = self.queue[index]
        waited = self.cores[program.core_of[index]].waited
        needed = 0
        newest: dict[int, int] = {}
        for producer, kind in program.waits[index]:
            other = self.queue[producer]
            if program.works[producer].transfer is not None:
                other = -1 - producer  # each DMA has a semaphore of its own
            elif other == queue and kind is not _FLOW:
                continue
            at = self.place[producer]
            if at > newest.get(other, 0):
                newest[other] = at
        for other, at in newest.items():
            key = (queue, other)
            if waited.get(key, 0) < at:
                waited[key] = at
                needed += 1
        return (needed - 1) * self.extra_ns[queue % _Q] if needed > 1 else 0.0

    # -- running one --------------------------------------------------------------------------------------------------

    def _execute(self, index: int, work: Work, begin: float) -> None:
        """Run one instruction whose queue and inputs are there at ``begin``."""
        program = self.program
        core = self.cores[program.core_of[index]]
        queue = self.queue[index]
        begin += self._extra_waits(index)
        if work.transfer is not None:
            begin, busy, finish = self._dma(core, work, begin)
        elif work.passes is not None:
            begin, busy, finish = self._matmul(core, work, self.known[index])
        else:
            if work.table and self.table_ns and work.table != core.table:
                self._load_table(core, work.table, queue)
                begin = max(begin, self.free_at[queue])
            busy, finish = begin + work.occupancy_ns, begin + work.latency_ns
        self._note(index, begin, busy, finish)

    def _note(self, index: int, begin: float, busy: float, finish: float) -> None:
        queue = self.queue[index]
        core = self.cores[self.program.core_of[index]]
        kind = queue % _Q
        self.free_at[queue] = busy
        self.start[index], self.busy[index], self.finish[index] = begin, busy, finish
        self.posted[index] = finish + (0.0 if self.program.works[index].transfer is not None else self.post_ns[kind])
        core.issued[kind] += 1
        self.place[index] = core.issued[kind]
        self.done[index] = True
        core.space.release(index - core.base, finish)

    def _load_table(self, core: _Core, table: str, queue: int) -> None:
        """The table is loaded ahead, as soon as the engine is free: the compiler knows which comes next."""
        self.free_at[queue] += self.table_ns
        core.table = table

    def _matmul(self, core: _Core, work: Work, inputs_ns: float) -> tuple[float, float, float]:
        passes = work.passes
        assert passes is not None
        law = self.laws.tensor
        load = passes.weight_load_ns + passes.weight_second_pass_ns * core.throttle.stretch
        start = max(inputs_ns, core.load_free) + load
        start = max(start, self.free_at[core.first_queue + _TENSOR])
        busy = core.throttle.run(start, passes.stream_ns)
        core.load_free = start
        return start, busy, busy + law.completion_ns + law.drain_ns * core.throttle.stretch

    def _dma(self, core: _Core, work: Work, begin: float) -> tuple[float, float, float]:
        moved = work.transfer
        assert moved is not None
        busy = begin + work.occupancy_ns
        served = core.dma.serve(
            busy, moved.descriptors, ring=moved.ring, load=moved.load, software=moved.path == "software", hbm=moved.hbm
        )
        return begin, busy, served + self.laws.dma.completion_ns

    def _meet(self, members: Sequence[int]) -> None:
        """All cores of a meeting together: it starts when the last of them has come."""
        begin = max(max(self.known[each], self.free_at[self.queue[each]]) for each in members)
        first = members[0]
        if first in self.program.merged:
            work = merged_work(self.laws, self.program.instructions[first], self.program.works[first], len(members))
            self._execute(first, work, begin)
            self._share(members)
            return
        for each in members:
            work = self.program.works[each]
            self._note(each, begin, begin + work.occupancy_ns, begin + work.latency_ns)

    def _share(self, members: Sequence[int]) -> None:
        """Instructions done as one: each is shown with its part of the time, and all results are there at the end."""
        first = members[0]
        begin, busy, finish = self.start[first], self.busy[first], self.finish[first]
        part = (busy - begin) / len(members)
        for at, each in enumerate(members):
            self._note(each, begin + at * part, begin + (at + 1) * part, finish)
        self.free_at[self.queue[first]] = busy

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until every instruction has run: of the queues' next instructions, the one that can start first."""
        queues = range(_Q * self.program.cores)
        candidates: list[Candidate] = [None for _ in queues]
        self.dirty.update(queues)
        for core in self.cores:
            self._grant(core)
        left = len(self.program.instructions)
        while left:
            for queue in self.dirty:
                candidates[queue] = self.queues.head(queue)
            self.dirty.clear()
            best: Candidate = None
            for found in candidates:
                if found is not None and (best is None or found[0] < best[0]):
                    best = found
            if best is None:
                freed = self._split() or self._overflow()
                check(freed, "some queue can go on: dependences point backwards and space is handed out in order")
            else:
                left -= self._go(best[1], best[0])

    def _go(self, index: int, at_ns: float) -> int:
        """Start an instruction, with those that go together with it, and tell whoever waited; how many went."""
        program = self.program
        members = self.together.get(index)
        if members is None:
            self._execute(index, program.works[index], at_ns)
            members = [index]
        else:
            self._meet(members)
            if self.order == "program":
                self.dirty.update(range(len(self.free_at)))
        for each in members:
            self.dirty.add(self.queue[each])
            self.queues.gone(each)
            for consumer in program.consumers[each]:
                self._admit(consumer)
            later = program.follows.get(each)
            if later is not None:
                self._admit(later)
            self._grant(self.cores[program.core_of[each]])
        return len(members)

    def _grant(self, core: _Core) -> None:
        for index in core.space.grant():
            self._admit(index + core.base)

    def _admit(self, index: int) -> None:
        """One thing less to wait for. With the last, it is known when an instruction, or its whole group, can start."""
        self.remaining[index] -= 1
        if self.remaining[index]:
            return
        known = self.known
        known[index] = self._inputs_at(index)
        members = self.together.get(index)
        if members is None:
            self.dirty.add(self.queue[index])
            self.queues.come(index)
        elif all(known[each] >= 0.0 for each in members):
            self._come_together(members)

    def _come_together(self, members: Sequence[int]) -> None:
        latest = max(self.known[each] for each in members)
        for each in members:
            self.known[each] = latest
        for each in members:
            self.dirty.add(self.queue[each])
            self.queues.come(each)

    def _split(self) -> bool:
        """Space ran out before all of a merged instruction could come: those that have come go on alone."""
        found = False
        for index, members in list(self.together.items()):
            if index not in self.program.merged or self.done[index] or index != members[0]:
                continue
            come = [each for each in members if self.known[each] >= 0.0]
            rest = [each for each in members if self.known[each] < 0.0]
            if come and rest:
                for part in (come, rest):
                    self.together.update(dict.fromkeys(part, part))
                self._come_together(come)
                found = True
        return found

    def _overflow(self) -> bool:
        """Nothing can go on for want of space that nothing will give back: the kernel does not fit."""
        for core in self.cores:
            index = core.space.force(max(self.free_at))
            if index is not None:
                self._admit(index + core.base)
                self._grant(core)
                return True
        return False

    def _priorities(self) -> list[float]:
        """The longest path from each instruction to the end of the kernel, by latency."""
        works = self.program.works
        lengths = [0.0] * len(works)
        for index in range(len(lengths) - 1, -1, -1):
            consumers = self.program.consumers[index]
            after = max([lengths[each] for each in consumers]) if consumers else 0.0
            lengths[index] = after + works[index].latency_ns
        return lengths

    # -- the result ---------------------------------------------------------------------------------------------------

    def timeline(self) -> Timeline:
        program = self.program
        body = max(self.finish, default=0.0)
        throttle = self.laws.throttle
        windows = int(body // throttle.window_ns) + 1 if throttle is not None else 0
        order = sorted(range(len(self.start)), key=self.start.__getitem__)
        return Timeline(
            order=self.order,
            spans=tuple([self._span(index) for index in order]),
            body_ns=body,
            launch_ns=self.laws.launch_ns,
            slow_windows=sum(len(core.throttle.slow_windows) for core in self.cores),
            windows=windows * program.cores,
            dma_busy_ns=sum(core.dma.busy_ns for core in self.cores),
            dma_engines=self.dma_engines * program.cores,
            dma_bytes=sum(core.dma.bytes_moved for core in self.cores),
        )

    def _span(self, index: int) -> Span:
        program = self.program
        by = self.by[index]
        waited = None
        if by >= 0 and self.start[index] >= self.known[index] and self.known[index] > 0.0:
            core = program.core_of[by]
            waited = (program.instructions[by].core, by - program.bounds[core])
        return Span(
            program.instructions[index],
            QUEUES[self.queue[index] % _Q],
            self.start[index],
            self.busy[index],
            self.finish[index],
            waited,
        )
