"""What the compiler of the older kernel language does before scheduling: equal instructions of loop iterations as one.

Seen in the device profiles: transfers of neighbouring iterations go as one of up to 512 KiB, instructions on columns
(one element per partition) are done for several iterations together, and copies that fill one row of a tile are merged
up to a PSUM bank. Merging saves fixed costs and makes all iterations wait for the last.

Only instructions from the same source line, of the same kind and at the same depth of the dependence graph are merged,
so that no merged instruction can wait for itself. The current language is translated one to one: nothing is merged.
"""

from __future__ import annotations

from collections.abc import Sequence

from outcrop.silicon.device.record import Access, Instruction
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.timing.cost import DMA_OPS, TENSOR_OPS
from outcrop.silicon.timing.dependence import Edge

_TRANSFER_BYTES = 512 << 10
_MOST_MEMBERS = 8
_COLUMN_ELEMENTS = 8  # an instruction on columns reads no more per partition
_BANK_BYTES = 2048


def groups_of(trace: Sequence[Instruction], waits: Sequence[tuple[Edge, ...]]) -> list[list[int]]:
    """Which instructions of one core's trace go together: lists of at least two indices, ascending."""
    depth = [0] * len(trace)
    for index, mine in enumerate(waits):
        depth[index] = 1 + max((depth[edge.producer] for edge in mine), default=-1)
    found: list[list[int]] = []
    current: dict[tuple[object, ...], tuple[list[int], int]] = {}
    for index, instruction in enumerate(trace):
        size, most = _size(instruction)
        if not most or instruction.region >= 0 or instruction.loop >= 0:
            continue
        key = (instruction.source, instruction.op, depth[index], size, _tile(instruction))
        members, room = current.get(key, ([], 0))
        if not members or room < size or len(members) == _MOST_MEMBERS:
            members, room = [], most
            found.append(members)
        members.append(index)
        current[key] = (members, room - size)
    return [each for each in found if len(each) > 1]


def _size(instruction: Instruction) -> tuple[int, int]:
    """How much of what limits its merging an instruction has, and the limit; a limit of 0 keeps it apart."""
    if instruction.op in DMA_OPS:
        moved = instruction.writes[0]
        return _bytes(moved), _TRANSFER_BYTES
    if instruction.op in TENSOR_OPS or not instruction.writes or not instruction.reads:
        return 0, 0
    written = instruction.writes[0]
    if written.elements_per_partition == 1 and instruction.reads[0].elements_per_partition <= _COLUMN_ELEMENTS:
        return instruction.reads[0].elements_per_partition, _BANK_BYTES // 4
    source = instruction.reads[0]
    if instruction.op == "tensor_copy" and source.allocation.region is MemoryRegion.psum:
        return source.elements_per_partition * 4, _BANK_BYTES
    return 0, 0


def _tile(instruction: Instruction) -> int:
    """Copies are merged within one tile only."""
    return instruction.writes[0].allocation.index if instruction.op == "tensor_copy" else -1


def _bytes(access: Access) -> int:
    count = access.dtype.itemsize
    for size in access.shape:
        count *= size
    return count
