"""One NeuronCore while a kernel runs on it: its memories, its settings, and the trace of what it executed.

Instructions (``ops``) are written against five methods: ``checked`` for rules that depend on operands' shapes and types
only (the verdict is kept per signature), ``read`` and ``write`` for values with every run-time check, ``allocate``, and
``record``. Reads refuse bytes that nothing wrote; writes round once to the target's data type.
"""

from __future__ import annotations

import math
import operator
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from outcrop.base.errors import UserError, check
from outcrop.silicon.device import access, accumulation, carry, rules
from outcrop.silicon.device.dtypes import Array, DType, find, store, to_float32
from outcrop.silicon.device.record import Allocation, Instruction
from outcrop.silicon.device.refusal import is_relaxed, refuse, relaxing
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.device.settings import Settings, limits_of
from outcrop.silicon.device.source import Source, assigned_name, caller
from outcrop.silicon.device.storage import Storage
from outcrop.silicon.device.tensor import Tensor, new_tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.machine import Machine

Verdict = TypeVar("Verdict")
_NO_PARAMS: Mapping[str, Any] = {}
_NO_VERDICT: Any = object()
_MOST_VERDICTS = 10_000  # of ``checked``, kept at once
_CACHE_LINE = 64  # the images' rows are this much longer than a partition, so that columns do not share a cache set


class Core:
    """State of one physical core. Not shared between threads; HBM storages may be."""

    def __init__(self, machine: Machine, index: int, rank: int = 0) -> None:
        self.machine = machine
        self.index = index  # within the logical core: program_id(0)
        self.rank = rank  # of the logical core among those that collectives join
        self.settings: Settings = machine.settings
        self.limits = limits_of(machine.settings.target)
        self.values = not machine.settings.timing_only
        self.trace: list[Instruction] = []
        self.allocations: list[Allocation] = []  # on-chip ones, for placement
        self.region = -1  # the innermost no_reorder block
        self.loop = -1  # the innermost run of a dynamic loop's body
        self.state: dict[str, Any] = {}  # what instruction families keep: accumulators, random states, register counts
        self.warned: list[tuple[rules.Rule, str, Source]] = []
        self._verdicts: dict[Any, Any] = {}
        self._images: dict[MemoryRegion, Array] = {}
        self._placed: dict[MemoryRegion, list[weakref.ref[Storage]]] = {}
        self._carried: list[carry.Carried] = []  # of the current instruction
        self._shared_counts: dict[str, int] = {}  # tensors in shared HBM that this core allocated, by name

    # -- memory -------------------------------------------------------------------------------------------------------

    def allocate(
        self,
        shape: Sequence[int],
        dtype: Any,
        region: MemoryRegion = MemoryRegion.sbuf,
        name: str = "",
        address: tuple[int, int] | None = None,
    ) -> Tensor:
        """A new tensor whose bytes nothing has written. ``address`` is ``(partition, byte within the partition)``."""
        kind, sizes = self._element(dtype), self._sizes(shape)
        on_chip = region is MemoryRegion.sbuf or region is MemoryRegion.psum
        if on_chip and len(sizes) < 2:
            sizes = (*sizes, 1)
        partitions = sizes[0] if on_chip else 1
        row_bytes = math.prod(sizes[1:] if on_chip else sizes) * kind.itemsize
        index = self.machine.next_allocation()
        source = caller()
        shown = name or assigned_name(source) or f"tensor{index}"
        allocation = Allocation(index, shown, region, sizes, kind, partitions, row_bytes, source, self.index)
        if on_chip:
            self._require_fits(allocation)
            self.allocations.append(allocation)
        if address is not None and on_chip:
            return new_tensor(self._place(allocation, address))
        if region is MemoryRegion.shared_hbm and self.machine.cores_per_rank > 1:
            return new_tensor(self._shared(allocation, name))
        return new_tensor(self._new_storage(allocation))

    def _element(self, dtype: Any) -> DType:
        try:
            return find(dtype)
        except UserError as error:
            refuse(rules.PARAMETER, f"A tensor was allocated with dtype={dtype!r}.", str(error))
            raise

    def _sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        try:
            sizes = tuple([operator.index(each) for each in shape])
        except TypeError:
            refuse(
                rules.PARAMETER,
                f"A tensor was allocated with shape={shape!r}.",
                "A shape is a tuple of integers: (128, 512). Divide with //, which keeps integers.",
            )
            raise
        if not sizes or min(sizes) < 1:
            refuse(
                rules.PARAMETER,
                f"A tensor of shape {sizes} has no {'elements' if sizes else 'dimensions'}.",
                "Give every dimension at least 1.",
            )
        return sizes

    def _new_storage(self, allocation: Allocation) -> Storage:
        buffer = np.empty(allocation.size_bytes, np.uint8) if self.values else None
        if buffer is not None and self.settings.relaxed:
            buffer.fill(0xFF)  # NaN in every float type, the largest value in unsigned ones
        return Storage(allocation, buffer)

    def _shared(self, allocation: Allocation, name: str) -> Storage:
        """One storage for all cores of the rank: theirs of the same name, or the n-th of those without one."""
        count = self._shared_counts.get(name, 0)
        self._shared_counts[name] = count + 1
        return self.machine.shared_hbm(self, (name, count), allocation, lambda: self._new_storage(allocation))

    def host_tensor(
        self, array: Array, dtype: DType, name: str, region: MemoryRegion = MemoryRegion.shared_hbm
    ) -> Tensor:
        """A tensor in HBM with the given contents, which are not copied where they lie densely."""
        dense = np.ascontiguousarray(array) if self.values else array
        shape = dense.shape or (1,)
        index = self.machine.next_allocation()
        row_bytes = math.prod(shape) * dtype.itemsize
        allocation = Allocation(index, name, region, shape, dtype, 1, row_bytes, caller(), self.index)
        buffer = dense.reshape(-1).view(np.uint8) if self.values else None
        return new_tensor(Storage(allocation, buffer, whole=True))

    def _row_bytes(self, region: MemoryRegion) -> int:
        return self.limits.sbuf_row_bytes if region is MemoryRegion.sbuf else self.limits.psum_row_bytes

    def _require_fits(self, allocation: Allocation) -> None:
        if allocation.partitions > self.limits.partitions:
            refuse(
                rules.PARTITION_COUNT,
                f"{allocation} has {allocation.partitions} partitions.",
                f"{self.settings.target.core.name} has {self.limits.partitions}: tile the first dimension.",
            )
        limit = self._row_bytes(allocation.region)
        if allocation.row_bytes > limit:
            refuse(
                rules.ADDRESS_RANGE,
                f"{allocation} takes {allocation.row_bytes} bytes of each partition.",
                f"{allocation.region.value.upper()} has {limit} in all: tile the free dimensions.",
            )

    def _place(self, allocation: Allocation, address: tuple[int, int]) -> Storage:
        """A storage at an explicit address in the shared image of its memory."""
        partition, byte = int(address[0]), int(address[1])
        region = allocation.region
        limit = self._row_bytes(region)
        inside = partition >= 0 and partition + allocation.partitions <= self.limits.partitions
        if not inside or not (byte >= 0 and byte + allocation.row_bytes <= limit):
            refuse(
                rules.ADDRESS_RANGE,
                f"{allocation} at address ({partition}, {byte}) ends at partition "
                f"{partition + allocation.partitions - 1}, byte {byte + allocation.row_bytes - 1}.",
                f"{region.value.upper()} has {self.limits.partitions} partitions of {limit} bytes.",
            )
        allocation.start_partition, allocation.address, allocation.explicit = partition, byte, True
        pitch = limit + _CACHE_LINE
        image = self._images.get(region)
        if image is None and self.values:
            image = np.zeros(self.limits.partitions * pitch, np.uint8)
            self._images[region] = image
        storage = Storage(allocation, image, base=partition * pitch + byte, pitch=pitch)
        placed = self._placed.setdefault(region, [])
        live = [reference for reference in placed if reference() is not None]
        for reference in live:
            other = reference()
            if other is not None and _overlapping(allocation, other.allocation):
                for one, two in ((storage, other), (other, storage)):
                    one.overlaps = [] if one.overlaps is None else one.overlaps
                    one.overlaps.append(weakref.ref(two))
        live.append(weakref.ref(storage))
        self._placed[region] = live
        return storage

    # -- what instructions are written against ------------------------------------------------------------------------

    def has(self, feature: str) -> bool:
        """Whether the target has a feature, by its name in the chip's file."""
        return feature in self.limits.features

    def checked(self, rule_check: Callable[..., Verdict], *args: Any) -> Verdict:
        """``rule_check(core, *args)``, remembered per signature of its tensors and value of its other arguments.

        The check may look at tensors' shapes, strides, types, memories and start, never at values or identities.
        Arguments that are not tensors must be hashable.
        """
        key: Any = (rule_check, *[each.signature if isinstance(each, Tensor) else each for each in args])
        try:
            verdict = self._verdicts.get(key, _NO_VERDICT)
        except TypeError:  # something that cannot be hashed where a tensor belongs: the check will say so
            key, verdict = None, _NO_VERDICT
        if verdict is _NO_VERDICT:  # not inside of a handler, so that a refusal has no other error as its context
            verdict = rule_check(self, *args)
            if key is not None:
                if len(self._verdicts) >= _MOST_VERDICTS:  # a loop whose constants change each time
                    self._verdicts.clear()
                self._verdicts[key] = verdict
        return cast("Verdict", verdict)

    def read(self, tensor: Tensor, *, skip_invalid: bool = False, defined: bool = False) -> Array:
        """The elements as they lie in memory: a view where the pattern is static, else a copy. Do not write to it.

        Refuses a tensor that nothing wrote, and run-time addresses outside (unless ``skip_invalid``). Where only a part
        is unwritten, what the instruction writes counts as unwritten too where it depends on it (see ``carry``); with
        ``defined`` that is refused at once: for indices, and whatever else decides more than a value.
        """
        if tensor.dynamic is not None:
            tensor = access.resolve(self, tensor, skip_invalid=skip_invalid)
        if not tensor.storage.whole:
            self._carry_unwritten(tensor, defined)
        return tensor.array if tensor.index is None else access.gather(tensor)

    def _carry_unwritten(self, tensor: Tensor, defined: bool) -> None:
        missing = tensor.storage.unwritten(tensor)
        if missing is None:
            return
        if defined or tensor.storage.clobbered_by is not None or is_relaxed(rules.UNINITIALIZED_READ) or missing.all():
            access.require_written(tensor)
            return
        self._carried.append(carry.carried(tensor, missing))

    def carry_as(self, change: Callable[[Array], Array], tensor: Tensor | None = None) -> None:
        """After reading: what the instruction makes of the places of ``tensor`` (of all operands) that nothing wrote.

        ``change`` takes where they are, in the operand's shape, and gives which results depend on them: in the shape of
        the result, or with its partitions.
        """
        if self._carried:
            self._carried = [
                each._replace(missing=change(each.missing))
                if tensor is None or (each.tensor.storage is tensor.storage and each.missing.shape == tensor.shape)
                else each
                for each in self._carried
            ]

    def carry_in(self, partitions: Array, tensor: Tensor, origin: carry.Origin) -> None:
        """What is written next depends on unwritten bytes that an accumulator kept, in these of its partitions."""
        self._carried.append(carry.Carried(tensor, partitions[:, None], origin))

    def carried_lanes(self, count: int) -> tuple[Array, carry.Origin] | None:
        """In which of ``count`` partitions the current instruction depends on unwritten bytes, and since when."""
        if not self._carried:
            return None
        lost = np.zeros(count, np.bool_)
        for each in self._carried:
            if each.missing.shape[0] == count:
                lost |= each.missing.reshape(count, -1).any(axis=1)
            else:
                lost[:] = True
        return lost, self._carried[0].origin

    def _forget_carried(self, tensor: Tensor) -> None:
        """What was just written to ``tensor`` depends on bytes that nothing wrote."""
        if tensor.index is not None or tensor.dynamic is not None:
            carry.refuse_sight(self._carried, "an indexed write", tensor)
        mask = carry.mask_for(tensor, self._carried)
        tensor.storage.forget(tensor, mask)
        tensor.storage.origin = self._carried[0].origin

    def read_float32(self, tensor: Tensor, *, defined: bool = False) -> Array:
        """The elements up-cast to float32, as arithmetic takes them."""
        return to_float32(self.read(tensor, defined=defined), tensor.dtype)

    def write(self, tensor: Tensor, values: Array, mask: Array | None = None, *, skip_invalid: bool = False) -> None:
        """Round ``values`` once to the tensor's type and write them; ``mask`` (bool, same shape) leaves others alone.

        ``values`` broadcast to the tensor's shape, and are bits where their type is already the tensor's.
        """
        if tensor.dynamic is not None:
            tensor = access.resolve(self, tensor, skip_invalid=skip_invalid)
        if tensor.index is not None:
            access.scatter(tensor, values, mask)
        elif mask is None:
            store(tensor.array, values, tensor.dtype)
        else:
            rounded = np.empty(tensor.shape, tensor.dtype.numpy)
            store(rounded, values, tensor.dtype)
            np.copyto(tensor.array, rounded, where=mask)
        self.mark_written(tensor, mask)

    def mark_written(self, tensor: Tensor, mask: Array | None = None) -> None:
        """Note that an instruction wrote a static view itself, through ``tensor.array`` (only where ``mask``)."""
        tensor.storage.mark_written(tensor, mask)
        if tensor.storage.accumulation is not None:
            accumulation.note_plain_write(tensor)
        if self._carried:
            self._forget_carried(tensor)

    def record(
        self,
        op: str,
        engine: Engine,
        writes: tuple[Tensor, ...],
        reads: tuple[Tensor, ...],
        params: Mapping[str, Any] = _NO_PARAMS,
        name: str | None = None,
    ) -> Instruction:
        """Append to the trace; returns the kernel's handle. The last thing an instruction does."""
        if self._carried:
            self._end_carrying(op, writes)
        for each in (*writes, *reads):
            if each.dynamic is not None:
                reads = _with_indices(writes, reads)
                break
        index = len(self.trace)
        made = Instruction(
            index,
            op,
            engine,
            tuple([each.access() for each in writes]),
            tuple([each.access() for each in reads]),
            params,
            caller(),
            self.index,
            name,
            self.region,
            self.loop,
        )
        for each in (*writes, *reads):
            allocation = each.storage.allocation
            if allocation.first_use < 0:
                allocation.first_use = index
            allocation.last_use = index
        self.trace.append(made)
        if self.machine.turns is not None:
            self.machine.turns.step(self)
        return made

    def _end_carrying(self, op: str, writes: tuple[Tensor, ...]) -> None:
        """Unwritten bytes stay within a core: refuse that an instruction lets them out into shared memory."""
        operands, self._carried = self._carried, []
        for tensor in writes:
            if tensor.buffer is MemoryRegion.shared_hbm:
                carry.refuse_sight(operands, op, tensor)

    # -- being the current core ---------------------------------------------------------------------------------------

    @contextmanager
    def active(self) -> Iterator[Core]:
        """Within the block, kernel calls of this thread go to this core."""
        before = getattr(_current, "core", None)
        _current.core = self
        try:
            with relaxing(self.settings.relaxed, self.warned):
                yield self
        finally:
            _current.core = before


_current = threading.local()


def current() -> Core:
    """The core that this thread's kernel runs on."""
    core: Core | None = getattr(_current, "core", None)
    if core is None:
        raise UserError(
            "A kernel instruction was called outside of a kernel.",
            "Call it in a function under @nki.jit, and call that, or run it with nki.simulate(kernel)(...).",
        )
    check(isinstance(core, Core), "the current core is a Core")
    return core


def maybe_current() -> Core | None:
    """The core that this thread's kernel runs on, ``None`` outside of a kernel."""
    core: Core | None = getattr(_current, "core", None)
    return core


def _with_indices(writes: tuple[Tensor, ...], reads: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What an instruction reads, with the tensors that hold the run-time addresses of all its operands."""
    found = list(reads)
    for each in (*writes, *reads):
        if each.dynamic is not None:
            for index in (each.dynamic.scalar, each.dynamic.vector, each.dynamic.columns):
                if isinstance(index, Tensor) and not any(index is other for other in found):
                    found.append(index)
    return tuple(found)


def _overlapping(one: Allocation, two: Allocation) -> bool:
    assert one.address is not None
    assert two.address is not None
    return (
        one.start_partition < two.start_partition + two.partitions
        and two.start_partition < one.start_partition + one.partitions
        and one.address < two.address + two.row_bytes
        and two.address < one.address + one.row_bytes
    )
