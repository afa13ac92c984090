"""Hazards of one instruction by itself: it overwrites what it has still to read, or moves bytes in crumbs.

A transfer's descriptors are spread over many DMA engines, in no order: source and destination may not overlap unless
they are the same bytes element by element; in an exchange between cores, not even then. An engine streams its elements,
the later ones a few dozen cycles after the first are written: shifting a tensor onto itself is taken as a mistake.

Descriptors: a quarter of the smallest transfer that the chip's file calls useful, per dense run of either side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from outcrop.silicon.chip import Chip
from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.device.source import Source
from outcrop.silicon.hazards.hazard import Hazard, Kind, Severity, bytes_of
from outcrop.silicon.hazards.order import is_transfer
from outcrop.silicon.timing.overlap import bytes_overlap, partitions_overlap, runs_of

_EXCHANGE = "sendrecv"
_ORDERS_ONLY = frozenset({"core_barrier"})
_COPIES = frozenset({"dma_copy", "dma_compute"})  # transposes have small pieces by nature
_FEW = 64  # descriptors on a line that are not worth a word
_LITTLE = 16 * 1024  # bytes on a line that are not


def self_overlaps(trace: Sequence[Instruction]) -> Iterator[Hazard]:
    """Instructions that read and write overlapping bytes in different places of their patterns."""
    for instruction in trace:
        if len(instruction.writes) == 0 or instruction.op in _ORDERS_ONLY:
            continue
        for written in instruction.writes:
            for read in instruction.reads:
                if read.allocation is not written.allocation or read.indirect or written.indirect:
                    continue
                swaps = instruction.op == _EXCHANGE
                if read == written and not swaps:
                    continue
                transfer = is_transfer(instruction) or swaps
                shifted = read.shape == written.shape and read.strides == written.strides
                if not (transfer or shifted) or (_bytes_in_order(read) == _bytes_in_order(written) and not swaps):
                    continue
                if not partitions_overlap(read, written) or not bytes_overlap(runs_of(read), runs_of(written)):
                    continue
                yield Hazard(
                    Kind.self_overlap,
                    Severity.error if transfer else Severity.warning,
                    instruction,
                    None,
                    f"The {instruction.op} reads {bytes_of(read)} and writes {bytes_of(written)}, which overlap.",
                    _order_of(transfer=transfer, swaps=swaps),
                    "Copy through another tensor.",
                )


def _order_of(*, transfer: bool, swaps: bool) -> str:
    if swaps:
        return "The other core's bytes arrive before this core's have left: it gets its own back."
    if transfer:
        return "A DMA engine writes its part before another one has read the same bytes."
    return "The first elements are written before the last ones are read."


def _bytes_in_order(access: Access) -> tuple[object, ...]:
    """The same for accesses that go through the same bytes in the same order."""
    first, run, outer = access.runs()
    return (access.start_partition, access.partitions, first, run, tuple(outer))


def small_descriptors(trace: Sequence[Instruction], chip: Chip) -> Iterator[Hazard]:
    """Lines whose transfers are cut into descriptors too small for their fixed cost."""
    useful = chip.core.dma.smallest_useful_transfer
    if useful is None:
        return
    limit = useful.int_in("B") // 4
    lines: dict[Source, tuple[Instruction, int, int, int]] = {}
    sizes: dict[tuple[object, ...], tuple[int, int]] = {}
    for instruction in trace:
        if instruction.op not in _COPIES or not instruction.reads:
            continue
        dst, src = instruction.writes[0], instruction.reads[0]
        key = (dst[2:5], src[2:5], dst.allocation.on_chip, src.allocation.on_chip)
        cut = sizes.get(key)
        if cut is None:
            size = min(dst.runs()[1], src.runs()[1])
            cut = sizes[key] = size, prod(dst.shape) * dst.dtype.itemsize // size
        size, pieces = cut
        if size < limit:
            first, smallest, count, times = lines.get(instruction.source, (instruction, size, 0, 0))
            lines[instruction.source] = first, min(smallest, size), count + pieces, times + 1
    for first, smallest, count, times in lines.values():
        if count >= _FEW and count * smallest >= _LITTLE:
            yield Hazard(
                Kind.small_descriptors,
                Severity.advice,
                first,
                None,
                f"{count} descriptors of {smallest} bytes and little more: a transfer of less than {limit} bytes at a "
                "time costs mostly its fixed time.",
                "",
                "Move longer dense runs: more columns of a row at once, or a layout in which they lie together.",
                times,
            )
