"""The event simulation: in-order queues, semaphores, DMA engines and on-chip space, one core's trace at a time.

Two orders. ``program``: every queue takes its instructions as the kernel wrote them. ``listed``: every queue takes, of
the instructions whose inputs are there, the one on the longest path to the end. In both, the space of automatic tensors
is handed out in program order and given back after the last use, which is what buffering from lifetimes comes to.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from outcrop.base.errors import check
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.settings import Limits
from outcrop.silicon.timing import cost
from outcrop.silicon.timing.dependence import Edge, Kind, edges
from outcrop.silicon.timing.dma_engine import DmaEngines, descriptors_of, is_load, is_software
from outcrop.silicon.timing.laws import Laws
from outcrop.silicon.timing.space import Space
from outcrop.silicon.timing.tensor_engine import Passes, Throttle, passes_of
from outcrop.silicon.timing.timeline import QUEUES, Span, Timeline

_TENSOR = QUEUES.index("tensor")
_Known = dict[int, tuple[float, tuple[int, int] | None]]  # by instruction: when its inputs are there, whose was last


def queue_of(instruction: Instruction) -> int:
    """The queue that carries an instruction; a DMA belongs to the engine that triggers it."""
    if instruction.op in cost.DMA_OPS:
        if is_software(instruction):
            return QUEUES.index("gpsimd")
        wanted = instruction.params.get("trigger")
        return QUEUES.index(wanted) if wanted in QUEUES else QUEUES.index("sync")
    return QUEUES.index(cost.engine_name(instruction.engine))


class _Run:
    """State of one replay."""

    def __init__(self, trace: Sequence[Instruction], laws: Laws, limits: Limits, engines: int, order: str) -> None:
        self.trace = trace
        self.laws = laws
        self.order = order
        self.edges = edges(trace)
        self.queue = [queue_of(each) for each in trace]
        self.finish = [0.0] * len(trace)
        self.free_at = [0.0] * len(QUEUES)
        self.load_free = 0.0
        self.software_free = 0.0
        self.dma = DmaEngines(laws.dma, engines)
        self.throttle = Throttle(laws.throttle, laws.tensor.per_column_ns)
        self.space = Space(trace, {MemoryRegion.sbuf: limits.sbuf_row_bytes, MemoryRegion.psum: limits.psum_row_bytes})
        self.spans: list[Span] = []
        self.consumers: list[list[int]] = [[] for _ in trace]
        self.remaining = [0] * len(trace)
        for index, mine in enumerate(self.edges):
            self.remaining[index] = len(mine) + 1  # and its share of the on-chip space
            for edge in mine:
                self.consumers[edge.producer].append(index)

    # -- when an instruction may start --------------------------------------------------------------------------------

    def inputs_at(self, index: int) -> tuple[float, tuple[int, int] | None]:
        """When everything that an instruction waits for is there, and which producer came last."""
        latest, by = self.space.granted_at[index], None
        name = QUEUES[self.queue[index]]
        for edge in self.edges[index]:
            at = self._edge_at(edge, index, name)
            if at > latest:
                latest, by = at, (self.trace[edge.producer].core, edge.producer)
        return latest, by

    def _edge_at(self, edge: Edge, consumer: int, name: str) -> float:
        producer = edge.producer
        if self.queue[producer] == self.queue[consumer] == _TENSOR and edge.kind is not Kind.FLOW:
            return 0.0  # sums in PSUM are kept in order by the engine itself
        semaphore = self.laws.semaphore
        posted = 0.0 if self.trace[producer].op in cost.DMA_OPS else semaphore.post_ns[QUEUES[self.queue[producer]]]
        return self.finish[producer] + posted + semaphore.wait_ns[name]

    # -- running one --------------------------------------------------------------------------------------------------

    def execute(self, index: int, inputs_ns: float, by: tuple[int, int] | None) -> None:
        instruction, queue = self.trace[index], self.queue[index]
        start = max(inputs_ns, self.free_at[queue])
        if instruction.op in cost.DMA_OPS:
            start, busy, finish = self._dma(instruction, start)
        elif queue == _TENSOR and instruction.op in cost.TENSOR_OPS:
            start, busy, finish = self._matmul(passes_of(self.laws.tensor, instruction), inputs_ns)
        else:
            priced = cost.compute_cost(self.laws, instruction)
            busy, finish = start + priced.occupancy_ns, start + priced.latency_ns
        self.free_at[queue] = busy
        self.finish[index] = finish
        self.spans.append(Span(instruction, QUEUES[queue], start, busy, finish, by if start == inputs_ns else None))
        self.space.release(index, finish)

    def _matmul(self, passes: Passes, inputs_ns: float) -> tuple[float, float, float]:
        load_start = max(inputs_ns, self.load_free)
        start = max(load_start + passes.weight_load_ns, self.free_at[_TENSOR])
        busy = self.throttle.run(start, passes.stream_ns)
        self.load_free = start
        return start, busy, busy + self.laws.tensor.completion_ns

    def _dma(self, instruction: Instruction, start: float) -> tuple[float, float, float]:
        law = self.laws.dma
        software = is_software(instruction)
        if software:
            start = max(start, self.software_free)
            self.software_free = start + law.software_spacing_ns
        busy = start + (law.software_issue_ns if software else law.hardware_issue_ns)
        dispatch = law.load_dispatch_ns if is_load(instruction) else law.store_dispatch_ns
        hbm = not all(each.allocation.on_chip for each in instruction.accesses())
        served = self.dma.serve(busy + dispatch, descriptors_of(law, instruction), software=software, hbm=hbm)
        return start, busy, served + law.completion_ns

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until every instruction has run: of the queues' next instructions, the one that can start first."""
        waiting: list[list[tuple[float, int]]] = [[] for _ in QUEUES]  # inputs known, by when they are there
        ready: list[list[tuple[float, int]]] = [[] for _ in QUEUES]  # inputs there, by priority
        priority = self._priorities()
        known: _Known = {}

        def admit(index: int) -> None:
            self.remaining[index] -= 1
            if self.remaining[index] == 0:
                known[index] = self.inputs_at(index)
                heapq.heappush(waiting[self.queue[index]], (known[index][0], index))

        in_order = self.order != "listed"
        following = self._program_queues()
        for index in self.space.grant():
            admit(index)
        for _ in range(len(self.trace)):
            best: tuple[float, int, int] | None = None
            for queue in range(len(QUEUES)):
                if in_order:
                    chosen = self._head(queue, following, known)
                else:
                    chosen = self._best(queue, waiting, ready, priority)
                if chosen is None:
                    continue
                at = max(known[chosen][0], self.free_at[queue])
                if best is None or at < best[0]:
                    best = (at, queue, chosen)
            check(
                best is not None, "some queue can go on: dependences point backwards and space is handed out in order"
            )
            assert best is not None
            _, queue, index = best
            if in_order:
                following[queue].pop()
            else:
                heapq.heappop(ready[queue])
            self.execute(index, *known.pop(index))
            for consumer in self.consumers[index]:
                admit(consumer)
            for granted in self.space.grant():
                admit(granted)

    def _program_queues(self) -> list[list[int]]:
        queues: list[list[int]] = [[] for _ in QUEUES]
        for index in range(len(self.trace) - 1, -1, -1):
            queues[self.queue[index]].append(index)
        return queues

    def _head(self, queue: int, following: list[list[int]], known: _Known) -> int | None:
        return following[queue][-1] if following[queue] and following[queue][-1] in known else None

    def _best(
        self,
        queue: int,
        waiting: list[list[tuple[float, int]]],
        ready: list[list[tuple[float, int]]],
        priority: list[float],
    ) -> int | None:
        """The queue's choice: of the instructions whose inputs are there when it is free, the most urgent."""
        if not ready[queue] and not waiting[queue]:
            return None
        now = self.free_at[queue]
        if not ready[queue]:
            now = max(now, waiting[queue][0][0])
        while waiting[queue] and waiting[queue][0][0] <= now:
            _, index = heapq.heappop(waiting[queue])
            heapq.heappush(ready[queue], (-priority[index], index))
        return ready[queue][0][1]

    def _priorities(self) -> list[float]:
        """The longest path from each instruction to the end of the kernel, by latency."""
        lengths = [0.0] * len(self.trace)
        if self.order != "listed":
            return lengths
        for index in range(len(self.trace) - 1, -1, -1):
            instruction = self.trace[index]
            after = max((lengths[each] for each in self.consumers[index]), default=0.0)
            lengths[index] = after + self._latency(instruction)
        return lengths

    def _latency(self, instruction: Instruction) -> float:
        if instruction.op in cost.DMA_OPS:
            cut = descriptors_of(self.laws.dma, instruction)
            return self.laws.dma.load_dispatch_ns + cut.total_bytes / self.laws.dma.bytes_per_ns / self.dma.engines
        if instruction.engine is Engine.tensor:
            return passes_of(self.laws.tensor, instruction).stream_ns
        return cost.compute_cost(self.laws, instruction).latency_ns


def replay(
    trace: Sequence[Instruction], laws: Laws, limits: Limits, dma_engines: int, order: str = "listed"
) -> Timeline:
    """Replay one core's trace; ``order`` is ``program`` or ``listed``."""
    run = _Run(trace, laws, limits, dma_engines, order)
    run.run()
    body = max(run.finish, default=0.0)
    windows = int(body // laws.throttle.window_ns) + 1 if laws.throttle is not None else 0
    return Timeline(
        order=order,
        spans=tuple(sorted(run.spans, key=lambda each: each.start)),
        body_ns=body,
        launch_ns=laws.launch_ns,
        slow_windows=len(run.throttle.slow_windows),
        windows=windows,
        dma_busy_ns=run.dma.busy_ns,
        dma_engines=dma_engines,
        dma_bytes=run.dma.bytes_moved,
    )
