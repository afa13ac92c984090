"""What happens before what, whatever the engines' speed: a graph of beginnings and ends of instructions.

An instruction has two nodes: ``2 * number`` where it is issued, ``2 * number + 1`` where its results are there.
Instructions are numbered over all cores. Edges are what semaphores, queues and meetings guarantee in a mode:

* compiler: the end of every instruction whose bytes conflict, or that is declared, before the issue.
* manual: the queue's previous instruction (of a DMA only its issue: the transfer goes on), and what is declared.
  Transfers of one DMA queue end in the order of their issue, but they may be under way together.

In both, instructions of a ``no_reorder`` block follow each other, and a meeting of cores (barrier, transfer between
cores, collective) ends for each only when all have come.
"""

from __future__ import annotations

from collections.abc import Sequence

from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.hazards.hazard import Mode
from outcrop.silicon.timing.dependence import Edge, edges

Traces = Sequence[Sequence[Instruction]]


def queue_of(instruction: Instruction) -> str:
    """The queue that an instruction is issued on; a DMA belongs to the engine that triggers it."""
    if instruction.engine is Engine.dma:
        trigger = instruction.params.get("trigger")
        return trigger if isinstance(trigger, str) and trigger in Engine.__members__ else "sync"
    return "sync" if instruction.engine is Engine.unknown else instruction.engine.name


def is_transfer(instruction: Instruction) -> bool:
    """Whether an instruction goes on after the engine that issued it is free again."""
    return instruction.engine is Engine.dma


class Order:
    """The graph over all cores. ``preceding[node]`` are the nodes that come before it for certain."""

    def __init__(self, traces: Traces, mode: Mode) -> None:
        self.instructions = [each for trace in traces for each in trace]
        self.mode = mode
        self.conflicts: list[tuple[Edge, ...]] = []  # by number: what touched the same bytes; producers by index
        self.bases: list[int] = []  # by number: the number of its core's first instruction
        self.preceding: list[list[int]] = [[] for _ in range(2 * len(self.instructions))]
        meetings: dict[int, list[int]] = {}
        base = 0
        for trace in traces:
            self._core(trace, base)
            for number in range(base, base + len(trace)):
                meeting = self.instructions[number].params.get("meeting")
                if isinstance(meeting, int):
                    meetings.setdefault(meeting, []).append(number)
            base += len(trace)
        self.meetings = [members for _, members in sorted(meetings.items())]
        for members in self.meetings:
            begun = [2 * each for each in members]
            for each in members:
                self.preceding[2 * each + 1].extend(begun)
        self.sequence, self.stuck = self._sort()

    def _core(self, trace: Sequence[Instruction], base: int) -> None:
        found = edges(trace)
        self.conflicts += found
        self.bases += [base] * len(trace)
        in_block: dict[int, int] = {}
        issued: dict[str, int] = {}  # by queue: its last instruction
        transfers: dict[str, int] = {}
        compiler = self.mode is Mode.compiler
        preceding = self.preceding
        for index, instruction in enumerate(trace):
            number = base + index
            before = preceding[2 * number]
            if instruction in instruction.after:
                before.append(2 * number + 1)
            preceding[2 * number + 1].append(2 * number)
            if compiler:
                before += [2 * (base + edge.producer) + 1 for edge in found[index]]
            else:
                before += [2 * (base + each.index) + 1 for each in instruction.after]
                queue = queue_of(instruction)
                last = issued.get(queue)
                if last is not None:
                    before.append(2 * last if is_transfer(self.instructions[last]) else 2 * last + 1)
                issued[queue] = number
                if is_transfer(instruction):
                    earlier = transfers.get(queue)
                    if earlier is not None:
                        preceding[2 * number + 1].append(2 * earlier + 1)
                    transfers[queue] = number
            if instruction.region >= 0:
                previous = in_block.get(instruction.region)
                if previous is not None:
                    before.append(2 * previous + 1)
                in_block[instruction.region] = number

    def _sort(self) -> tuple[list[int], list[int]]:
        """The nodes in an order that keeps all edges; and those that wait for each other, or behind such."""
        following: list[list[int]] = [[] for _ in self.preceding]
        missing = [0] * len(self.preceding)
        for node, before in enumerate(self.preceding):
            missing[node] = len(before)
            for each in before:
                following[each].append(node)
        self.following = following
        ready = [node for node, count in enumerate(missing) if count == 0]
        done: list[int] = []
        while ready:
            node = ready.pop()
            done.append(node)
            for each in following[node]:
                missing[each] -= 1
                if missing[each] == 0:
                    ready.append(each)
        return done, [node for node, count in enumerate(missing) if count > 0]

    def cycle(self) -> list[Instruction]:
        """Instructions each of which waits for the next, the last for the first; empty where there are none."""
        if not self.stuck:
            return []
        stuck = set(self.stuck)
        node = self.stuck[0]
        seen: dict[int, int] = {}
        path: list[int] = []
        while node not in seen:
            seen[node] = len(path)
            path.append(node)
            node = next(each for each in self.preceding[node] if each in stuck)
        numbers = list(dict.fromkeys(each // 2 for each in path[seen[node] :]))
        return [self.instructions[each] for each in numbers]


class Meetings:
    """For each instruction, as a set of bits: meetings that are over when it is issued, and those that wait for it."""

    def __init__(self, order: Order) -> None:
        bits: dict[int, int] = {}
        for bit, members in enumerate(order.meetings):
            for each in members:
                bits[each] = 1 << bit
        count = len(order.preceding)
        before = [0] * count
        for node in order.sequence:
            known = 0
            for each in order.preceding[node]:
                known |= before[each]
            if node & 1:
                known |= bits.get(node >> 1, 0)
            before[node] = known
        after = [0] * count
        for node in reversed(order.sequence):
            waiting = 0 if node & 1 else bits.get(node >> 1, 0)
            for each in order.following[node]:
                waiting |= after[each]
            after[node] = waiting
        self.over = before[0::2]
        self.waiting = after[1::2]


class Clocks:
    """Vector clocks: for each instruction, how far it knows every queue of every core to be when it is issued."""

    def __init__(self, order: Order) -> None:
        chains: dict[tuple[int, str, bool], int] = {}
        self.chain: list[int] = []
        self.position: list[int] = []
        lengths: list[int] = []
        for number, instruction in enumerate(order.instructions):
            key = (order.bases[number], queue_of(instruction), is_transfer(instruction))
            chain = chains.setdefault(key, len(chains))
            if chain == len(lengths):
                lengths.append(0)
            lengths[chain] += 1
            self.chain.append(chain)
            self.position.append(lengths[chain])
        zero = (0,) * len(chains)
        clocks: list[tuple[int, ...]] = [zero] * len(order.preceding)
        for node in order.sequence:
            before = order.preceding[node]
            if not before:
                known = zero
            elif len(before) == 1:
                known = clocks[before[0]]
            else:
                known = tuple(map(max, *[clocks[each] for each in before]))
            if node & 1:
                chain, position = self.chain[node >> 1], self.position[node >> 1]
                if known[chain] < position:
                    known = (*known[:chain], position, *known[chain + 1 :])
            clocks[node] = known
        self.issued = clocks[0::2]

    def ordered(self, first: int, second: int) -> bool:
        """Whether the results of ``first`` are there when ``second`` is issued, for certain."""
        return self.issued[second][self.chain[first]] >= self.position[first]
