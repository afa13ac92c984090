"""``neuronxcc.nki.compiler``: direct allocation, and directives to the compiler, which change no values here.

``alloc`` takes a function from a block's index and size to its place; ``mod_alloc`` is the round-robin one.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from outcrop.silicon.device.core import current
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.nki import language
from outcrop.silicon.nki.legacy import memory
from outcrop.silicon.nki.legacy.memory import Buffer
from outcrop.silicon.nki.legacy.programs import once

Place = Callable[..., tuple[int, ...]]


def _ask(func: Place, index: tuple[int, ...], partitions: int, row: int) -> tuple[int, ...]:
    """A kernel's own allocation function, by its documented parameter names where it has them."""
    names = inspect.signature(func).parameters
    if "idx" in names and "pdim_size" in names and "fdim_size" in names:
        return tuple(int(each) for each in func(idx=index, pdim_size=partitions, fdim_size=row))
    return tuple(int(each) for each in func(index, partitions, row))


def _turn(index: tuple[int, ...], tiles: tuple[int, ...]) -> int:
    """Which of the physical tiles a block gets, counted along all dimensions; tiles without a block are the first."""
    sizes = tiles or (1,) * len(index)
    return sum(
        at % size * math.prod(sizes[dim + 1 :]) for dim, (at, size) in enumerate(zip(index, sizes, strict=False))
    )


class StateBuffer:
    """``nki.compiler.sbuf``; as a ``buffer=`` it means automatic allocation."""

    buffer_of_legacy = memory.sbuf

    def auto_alloc(self) -> Buffer:
        """Let the compiler place the tensor."""
        return memory.sbuf

    def alloc(self, func: Place) -> Buffer:
        """``func(block index, partitions, bytes per partition)`` gives ``(start partition, byte)``."""

        def place(index: tuple[int, ...], partitions: int, row: int) -> tuple[int, int]:
            start, byte = _ask(func, index, partitions, row)
            return start, byte

        made: Buffer = once(Buffer("sbuf", MemoryRegion.sbuf, place))
        return made

    def mod_alloc(
        self,
        *,
        base_addr: int,
        base_partition: int = 0,
        num_par_tiles: tuple[int, ...] = (),
        num_free_tiles: tuple[int, ...] = (),
    ) -> Buffer:
        """Blocks take turns on a number of physical tiles."""

        def place(index: tuple[int, ...], partitions: int, row: int) -> tuple[int, int]:
            return (
                base_partition + _turn(index, num_par_tiles) * partitions,
                base_addr + _turn(index, num_free_tiles) * row,
            )

        made: Buffer = once(Buffer("sbuf", MemoryRegion.sbuf, place))
        return made


class PartialSums:
    """``nki.compiler.psum``; as a ``buffer=`` it means automatic allocation."""

    buffer_of_legacy = memory.psum

    def auto_alloc(self) -> Buffer:
        """Let the compiler place the tensor."""
        return memory.psum

    def alloc(self, func: Place) -> Buffer:
        """``func(block index, partitions, bytes per partition)`` gives ``(bank, start partition, byte in it)``."""

        def place(index: tuple[int, ...], partitions: int, row: int) -> tuple[int, int]:
            bank, start, byte = _ask(func, index, partitions, row)
            return start, bank * current().limits.psum_bank_bytes + byte

        made: Buffer = once(Buffer("psum", MemoryRegion.psum, place))
        return made

    def mod_alloc(
        self,
        *,
        base_bank: int,
        base_addr: int = 0,
        base_partition: int = 0,
        num_bank_tiles: tuple[int, ...] = (),
        num_par_tiles: tuple[int, ...] = (),
        num_free_tiles: tuple[int, ...] = (),
    ) -> Buffer:
        """Blocks take turns on a number of banks."""

        def place(index: tuple[int, ...], partitions: int, row: int) -> tuple[int, int, int]:
            return (
                base_bank + _turn(index, num_bank_tiles),
                base_partition + _turn(index, num_par_tiles) * partitions,
                base_addr + _turn(index, num_free_tiles) * row,
            )

        return self.alloc(place)


sbuf = StateBuffer()
psum = PartialSums()


def _unchanged(func: Any = None, *args: Any, **kwargs: Any) -> Any:
    """A decorator, with or without arguments, that leaves its function as it is."""
    return func if callable(func) else lambda given: given


enable_stack_allocator = _unchanged
force_auto_alloc = _unchanged
skip_middle_end_transformations = _unchanged


def multi_buffer(factor: int = 2) -> Buffer:
    """Several buffers for one tensor: the compiler's choice, which automatic allocation leaves open."""
    return memory.sbuf


@contextmanager
def allocation_scope() -> Iterator[None]:
    """A scope for the compiler's allocator; tensors here live as long as they are used."""
    yield


def no_reorder() -> AbstractContextManager[None]:
    """Instructions within stay in order."""
    return language.no_reorder()
