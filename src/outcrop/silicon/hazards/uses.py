"""What becomes of results, in the order of the program: read, overwritten, never used, or lost to another tensor.

One walk over a core's trace with maps of who last wrote each stretch of bytes, and whether anything read it since. A
compiler that tracks dependencies keeps this order, so what is wrong in it is wrong in every order.

* A tensor that is read where another one at an overlapping address wrote since: ``lifetime`` (or ``alias-race``, where
  the tensor never wrote itself: then a compiler sees no dependency between the two).
* Tensors at overlapping addresses used in turns: ``alias-race``. One that follows after the last use of the other is
  how buffers are reused, and compilers order that.
* Bytes that are read before anything wrote one of them: ``unwritten``.
* Results overwritten or left without a reader: ``overwritten``, ``dead-result``. What lies in HBM is not called dead.
* Sums in PSUM started over others, continued over something else, or read before they are complete.

Not covered: which bytes run-time indices or predicates leave alone; such writes count as touching, never as replacing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.silicon.device.record import Access, Allocation, Instruction
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.hazards.ground import Cells, Ground, grounds_of, is_partial, view
from outcrop.silicon.hazards.hazard import Hazard, Kind, Severity, bytes_of

_MOST_SEEN = 1 << 26  # entries of all maps of where each tensor of an overlapping group was
_SUMS = frozenset({"nc_matmul", "nc_matmul_mx"})
_BARRIER = "core_barrier"
_EXCHANGE = "sendrecv"  # both cores get something, whether they need it or not
_NO_RESULT = frozenset({"core_barrier", "rng", "rand2", "rand_get_state"})  # done for a state, or for no bytes at all


class _Maps:
    """What is known of one place."""

    def __init__(self, ground: Ground, *, sums: bool) -> None:
        entries = ground.rows, ground.columns
        self.ground = ground
        self.writer = np.full(entries, -1, np.int32)
        self.used = np.zeros(entries, np.bool_)
        self.sum = np.full(entries, -1, np.int32) if sums else None  # the matmul that started it
        self.owner: NDArray[np.int32] | None = None
        self.toucher: NDArray[np.int32] | None = None
        self.last_tensor: NDArray[np.int32] | None = None
        self.seen: dict[int, NDArray[np.bool_]] | None = None
        self.ordinals: dict[Allocation, int] = {}
        self.wrote: set[int] = set()
        if ground.shared:
            self.owner = np.full(entries, -1, np.int32)  # the tensor that was written last
            self.last_tensor = np.full(entries, -1, np.int32)  # the tensor that was touched last
            self.toucher = np.full(entries, -1, np.int32)
            self.ordinals = {each: at for at, each in enumerate(ground.allocations)}
            if ground.rows * ground.columns * len(ground.allocations) <= _MOST_SEEN:
                self.seen = {}


class _Walk:
    def __init__(
        self, trace: Sequence[Instruction], elsewhere: Collection[int], features: frozenset[str] | None
    ) -> None:
        self.trace = trace
        self.features = features
        count = len(trace)
        self.used = np.zeros(count + 1, np.bool_)  # the last entry is for bytes that nothing wrote
        self.overwriter = np.full(count + 1, -1, np.int32)
        self.lost = np.zeros(count + 1, np.int64)
        self.made = np.zeros(count + 1, np.int64)
        self.partly = np.zeros(count + 1, np.bool_)  # writes that count as touching only
        self.maps = self._prepare(elsewhere)
        self.hazards: list[Hazard] = []

    def _prepare(self, elsewhere: Collection[int]) -> dict[Allocation, _Maps]:
        written: set[Allocation] = set()
        seen: dict[Allocation, None] = {}
        for instruction in self.trace:
            for each in instruction.writes:
                written.add(each.allocation)
                seen[each.allocation] = None
            for each in instruction.reads:
                seen[each.allocation] = None
        wanted = [each for each in seen if each.on_chip or (each in written and each.index not in elsewhere)]
        grounds = grounds_of(wanted)
        for instruction in self.trace:
            for each in (*instruction.writes, *instruction.reads):
                ground = grounds.get(each.allocation)
                if ground is not None:
                    ground.add(each)
        kept = {ground: ground.close() for ground in dict.fromkeys(grounds.values())}
        made = {
            ground: _Maps(ground, sums=ground.allocations[0].region is MemoryRegion.psum)
            for ground, small in kept.items()
            if small
        }
        return {allocation: made[ground] for allocation, ground in grounds.items() if ground in made}

    # -- the walk -----------------------------------------------------------------------------------------------------

    def run(self) -> list[Hazard]:
        maps = self.maps
        for index, instruction in enumerate(self.trace):
            keeps = instruction.params.get("predicated") or instruction.params.get("oob_mode") == "skip"
            for access in instruction.reads:
                place = maps.get(access.allocation)
                if place is not None:
                    self._read(index, place, access)
            for access in instruction.writes:
                place = maps.get(access.allocation)
                if place is None:
                    continue
                if place.sum is not None and instruction.op in _SUMS:
                    self._sum(index, instruction, place, access)
                elif keeps or is_partial(access):
                    self._touch(index, place, access)
                else:
                    self._write(index, place, access)
        self._results()
        return self.hazards

    def _read(self, index: int, place: _Maps, access: Access) -> None:
        cells = place.ground.cells(access)
        if place.owner is not None and not access.indirect:
            self._read_shared(index, place, access, cells)
        used = view(place.used, cells)
        if not used.all():
            writers = view(place.writer, cells)[~used]
            self.used[writers] = True
            used[...] = True
            if writers.size == used.size and writers[0] < 0 and access.allocation.on_chip and not access.indirect:
                self._unwritten(index, access, writers)

    def _unwritten(self, index: int, access: Access, writers: NDArray[Any]) -> None:
        if (writers < 0).all():
            self._hazard(
                Kind.unwritten,
                Severity.error,
                (index, None),
                f"{bytes_of(access)} is read before anything is written there.",
                "The order of the program: what an earlier kernel left is read.",
                "Write it first: perhaps an instruction comes too late, or another tensor is meant.",
            )

    def _write(self, index: int, place: _Maps, access: Access) -> None:
        cells = place.ground.cells(access)
        if place.owner is not None:
            self._write_shared(index, place, access, cells)
        writer, used = view(place.writer, cells), view(place.used, cells)
        if not used.all():
            self._lose(index, writer[~used])
        writer[...] = index
        used[...] = False
        self.made[index] += writer.size
        if place.sum is not None:
            view(place.sum, cells)[...] = -1

    def _lose(self, index: int, old: NDArray[Any]) -> None:
        self.overwriter[old] = index
        first = old[0]
        if old.size == 1 or (old == first).all():
            self.lost[first] += old.size
        else:
            np.add.at(self.lost, old, 1)

    def _touch(self, index: int, place: _Maps, access: Access) -> None:
        """A write that leaves some of its bytes alone: what was there may still be needed."""
        cells = place.ground.cells(access)
        if place.owner is not None and not access.indirect:
            self._write_shared(index, place, access, cells)
        writer, used = view(place.writer, cells), view(place.used, cells)
        self.used[writer[~used]] = True
        writer[...] = index
        used[...] = False
        self.partly[index] = True
        self.made[index] += writer.size
        if place.sum is not None:
            view(place.sum, cells)[...] = -1

    # -- sums ---------------------------------------------------------------------------------------------------------

    def _sum(self, index: int, instruction: Instruction, place: _Maps, access: Access) -> None:
        accumulate = instruction.params.get("accumulate")
        if accumulate is False or instruction.params.get("is_transpose"):
            self._start(index, place, access)
            return
        cells = place.ground.cells(access)
        assert place.sum is not None
        sums, writer, used = (view(each, cells) for each in (place.sum, place.writer, place.used))
        goes_on = sums >= 0
        if not accumulate and place.owner is not None:  # the first matmul into a tensor overwrites
            goes_on &= view(place.owner, cells) == place.ordinals[access.allocation]
        if not goes_on.any() and not accumulate:
            self._start(index, place, access)
            return
        if accumulate and not goes_on.all():
            self._not_a_sum(index, access, writer[~goes_on])
        if goes_on.any() and place.owner is not None:
            self._read_shared(index, place, access, cells)
        read_early = goes_on & used & (writer >= 0)
        if read_early.any():
            self._early(index, access, int(writer[read_early][0]))
        if place.owner is not None:
            self._write_shared(index, place, access, cells)
        self.used[writer[~used]] = True
        sums[~goes_on] = index
        writer[...] = index
        used[...] = False
        self.made[index] += writer.size

    def _start(self, index: int, place: _Maps, access: Access) -> None:
        cells = place.ground.cells(access)
        assert place.sum is not None
        sums, used = view(place.sum, cells), view(place.used, cells)
        lost = (sums >= 0) & ~used
        if lost.any():
            earlier = int(view(place.writer, cells)[lost][0])
            self._hazard(
                Kind.interleaved_sum,
                Severity.warning,
                (earlier, index),
                f"A new sum starts in {bytes_of(access)} while the one there was not read.",
                "Every order: the first sum is lost, or what is added to it later mixes with the second.",
                "Give the second sum another bank, or copy the first one out before.",
            )
        self._write(index, place, access)
        sums[...] = index

    def _not_a_sum(self, index: int, access: Access, writers: NDArray[Any]) -> None:
        earlier = int(writers[0])
        if earlier < 0:
            return  # unwritten bytes are refused where values are computed
        defined = self.features is not None and "psum_accumulate_any" in self.features
        if defined:
            return
        self._hazard(
            Kind.interleaved_sum,
            Severity.error if self.features is not None else Severity.warning,
            (earlier, index),
            f"A matmul adds to {bytes_of(access)}, which another engine wrote since the sum began.",
            "Every order: what this chip then adds to is undefined.",
            "Let no one write to the bank between the first and the last matmul of a sum.",
        )

    def _early(self, index: int, access: Access, writer: int) -> None:
        self._hazard(
            Kind.interleaved_sum,
            Severity.warning,
            (writer, index),
            f"A sum goes on in {bytes_of(access)} after something read it.",
            "Every order: the reader got the sum before its last part was added.",
            "Read the bank after the last matmul of the sum; for running sums, this is as it should be.",
        )

    # -- overlapping addresses ----------------------------------------------------------------------------------------

    def _read_shared(self, index: int, place: _Maps, access: Access, cells: Cells) -> None:
        assert place.owner is not None
        mine = place.ordinals[access.allocation]
        owner = view(place.owner, cells)
        other = (owner != mine) & (owner >= 0)
        if other.any():
            earlier = int(view(place.writer, cells)[other][0])
            thief = place.ground.allocations[int(owner[other][0])]
            if mine in place.wrote:
                self._hazard(
                    Kind.lifetime,
                    Severity.error,
                    (earlier, index),
                    f"{bytes_of(access)} is read after {thief} was written over it.",
                    "The order of the program: the reader gets the other tensor's bytes. In another order, either.",
                    f"Read {access.allocation.name} before {thief.name} is written, or give one of them other "
                    "addresses (one buffer more, where they take turns).",
                )
            else:
                self._hazard(
                    Kind.alias_race,
                    Severity.error,
                    (earlier, index),
                    f"{bytes_of(access)} is read, and only {thief} at overlapping addresses was written.",
                    f"The {self.trace[index].op} is issued before the {self.trace[earlier].op} is over: they name "
                    "different tensors, so nothing orders them.",
                    f"Use one tensor, and views of it (ap, reshape, view): {thief.name} for both.",
                )
        self._touched(index, place, mine, cells)

    def _write_shared(self, index: int, place: _Maps, access: Access, cells: Cells) -> None:
        assert place.owner is not None
        assert place.last_tensor is not None
        assert place.toucher is not None
        mine = place.ordinals[access.allocation]
        if place.seen is not None and mine in place.seen:
            last = view(place.last_tensor, cells)
            back = (last != mine) & (last >= 0) & view(place.seen[mine], cells)
            if back.any():
                earlier = int(view(place.toucher, cells)[back][0])
                other = place.ground.allocations[int(last[back][0])]
                self._hazard(
                    Kind.alias_race,
                    Severity.error,
                    (earlier, index),
                    f"{bytes_of(access)} is written again after {other} at overlapping addresses was used.",
                    f"The {self.trace[index].op} lands before the {self.trace[earlier].op} is over: two tensors that "
                    "are alive at once are taken as independent.",
                    "Allocate the tensor anew for each turn, so that each lives from its first write to its last "
                    "read; or give the two different addresses.",
                )
        self._touched(index, place, mine, cells)
        view(place.owner, cells)[...] = mine
        place.wrote.add(mine)

    def _touched(self, index: int, place: _Maps, mine: int, cells: Cells) -> None:
        assert place.last_tensor is not None
        assert place.toucher is not None
        view(place.last_tensor, cells)[...] = mine
        view(place.toucher, cells)[...] = index
        if place.seen is not None:
            seen = place.seen.get(mine)
            if seen is None:
                seen = place.seen[mine] = np.zeros(place.last_tensor.shape, np.bool_)
            view(seen, cells)[...] = True

    # -- results ------------------------------------------------------------------------------------------------------

    def _results(self) -> None:
        """Overwritten before use, or never used."""
        told = {(id(each.first), each.kind) for each in self.hazards}
        for index in np.flatnonzero((self.made[:-1] > 0) & ~self.used[:-1]):
            instruction = self.trace[int(index)]
            if _has_other_effects(instruction) or (id(instruction), Kind.interleaved_sum) in told:
                continue
            result = instruction.writes[0]
            by = int(self.overwriter[index])
            in_hbm = any(not each.allocation.on_chip for each in instruction.writes)
            all_lost = bool(self.lost[index] >= self.made[index])
            if by >= 0 and (all_lost or not in_hbm):
                filled = instruction.op == "memset"
                self._hazard(
                    Kind.overwritten,
                    Severity.advice if filled else Severity.warning,
                    (int(index), by),
                    f"{bytes_of(result)} is overwritten before anything reads it.",
                    "Every order: the first result is lost.",
                    "Leave the memset out." if filled else "Read the result first, write elsewhere, or leave it out.",
                )
            elif not in_hbm and not self.partly[index] and instruction.op != _EXCHANGE:
                self._hazard(
                    Kind.dead_result,
                    Severity.advice if instruction.op == "memset" else Severity.warning,
                    (int(index), None),
                    f"{bytes_of(result)} is written and never read.",
                    "",
                    "Leave the instruction out, or read its result: perhaps another tensor is read in its place.",
                )

    def _hazard(self, kind: Kind, severity: Severity, between: tuple[int, int | None], *text: str) -> None:
        """``text`` is what happens, the order that breaks, and what mends it."""
        first, second = between
        what, order, remedy = text
        other = None if second is None else self.trace[second]
        self.hazards.append(Hazard(kind, severity, self.trace[first], other, what, order, remedy))


def _has_other_effects(instruction: Instruction) -> bool:
    """Whether an instruction is of use though nobody reads the tensors that it writes."""
    return instruction.op in _NO_RESULT or instruction.params.get("reduce_cmd") not in (None, "idle")


def uses(trace: Sequence[Instruction], elsewhere: Collection[int], features: frozenset[str] | None) -> Iterator[Hazard]:
    """The hazards of one core's trace. ``elsewhere`` are HBM tensors that other cores touch too; ``features`` are those
    of the chip, ``None`` where it is not known."""
    yield from _Walk(trace, elsewhere, features).run()
