"""Traces with fewer or larger transfers: what is loaded twice kept, what lies side by side fetched together.

Both respect the space on chip: a tile is kept, or fetched early, only where the tensors alive leave room for it. The
order of the instructions stays as the kernel wrote it, so what blocking could gain beyond that is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.record import Access, Allocation, Instruction
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.profile.clock import Traces
from outcrop.silicon.profile.rewrite import changed, fresh, is_whole_load, size_of, with_accesses


class Repeats(NamedTuple):
    """What a trace loads more than once."""

    loads: int
    again: int  # of these, how many were there before
    bytes_again: int


@dataclass(frozen=True)
class Kept:
    """Traces without the loads that could be kept."""

    traces: Traces
    repeats: Repeats
    dropped: int


def kept(traces: Traces, limit: Mapping[MemoryRegion, int]) -> Kept | None:
    """Loads of the same bytes of HBM done once, as long as they fit; the one needed furthest ahead gives way."""
    made: list[list[Instruction]] = []
    loads = again = size = dropped = 0
    for trace in traces:
        trace_made, found = _kept(trace, limit.get(MemoryRegion.sbuf, 0))
        made.append(trace_made)
        loads, again = loads + found[0], again + found[1]
        size, dropped = size + found[2], dropped + found[3]
    return Kept(made, Repeats(loads, again, size), dropped) if dropped else None


def _kept(trace: Sequence[Instruction], limit: int) -> tuple[list[Instruction], tuple[int, int, int, int]]:
    written = {a.allocation.index for each in trace for a in each.writes}
    uses = _lives(trace)
    filled: dict[int, int] = {}
    for each in trace:
        for access in each.writes:
            filled[access.allocation.index] = filled.get(access.allocation.index, 0) + 1
    tiles: dict[tuple[object, ...], list[Instruction]] = {}
    for each in trace:
        if is_whole_load(each):
            src, dst = each.reads[0], each.writes[0]
            key = (src.allocation.index, src.offset, src.shape, src.strides, dst.shape, dst.dtype.name)
            once = filled[dst.allocation.index] == 1 and dst.allocation.region is MemoryRegion.sbuf
            if src.allocation.index not in written and once:
                tiles.setdefault(key, []).append(each)
    alive = _alive(trace, uses)
    instead: dict[int, Allocation] = {}  # by tensor that is not loaded again, the one that is kept
    left_out: dict[int, int] = {}
    again = size = 0
    gaps: list[tuple[int, int, int, list[Instruction], int]] = []
    for group in tiles.values():
        again += len(group) - 1
        row = size_of(group[0].writes[0])
        size += (len(group) - 1) * row * group[0].writes[0].partitions
        for position in range(1, len(group)):
            ended = uses[group[position - 1].writes[0].allocation.index][1]
            gaps.append((group[position].index - ended, ended, group[position].index, group, position))
    for _, first, last, group, position in sorted(gaps, key=lambda gap: gap[0]):
        row = size_of(group[0].writes[0])
        between = alive[first + 1 : last + 1]
        if not between.size or between.max() + row <= limit:
            between += row
            left_out[group[position].index] = group[position - 1].index
    for group in tiles.values():
        holder = group[0]
        for each in group[1:]:
            if each.index in left_out:
                left_out[each.index] = holder.index
                instead[each.writes[0].allocation.index] = holder.writes[0].allocation
            else:
                holder = each

    def change(each: Instruction) -> Instruction | None:
        return None if each.index in left_out else with_accesses(each, redirect)

    def redirect(access: Access) -> Access:
        other = instead.get(access.allocation.index)
        return access if other is None else access._replace(allocation=other)

    counted = (sum(map(len, tiles.values())), again, size, len(left_out))
    return changed(trace, change, left_out), counted


def _lives(trace: Sequence[Instruction]) -> dict[int, tuple[int, int]]:
    """By tensor on chip, the indices of its first and last use."""
    found: dict[int, tuple[int, int]] = {}
    for at, each in enumerate(trace):
        for access in each.accesses():
            if access.allocation.on_chip:
                first = found.get(access.allocation.index, (at, at))[0]
                found[access.allocation.index] = (first, at)
    return found


def _alive(trace: Sequence[Instruction], lives: Mapping[int, tuple[int, int]]) -> Array:
    """Bytes per partition of SBUF alive at each instruction."""
    change = np.zeros(len(trace) + 1, np.int64)
    rows = {
        a.allocation.index: a.allocation.row_bytes
        for each in trace
        for a in each.accesses()
        if a.allocation.region is MemoryRegion.sbuf
    }
    for key, row in rows.items():
        first, last = lives[key]
        change[first] += row
        change[last + 1] -= row
    return change.cumsum()[: len(trace)]


# -- merging ----------------------------------------------------------------------------------------------------------


class Merged(NamedTuple):
    """Traces with merged transfers."""

    traces: Traces
    before: int  # transfers that took part
    after: int
    least_bytes: int  # the smallest descriptor among them before
    lines: tuple[Instruction, ...]  # one of each source line


def merged(traces: Traces, limit: Mapping[MemoryRegion, int], wide_bytes: int, small_bytes: int) -> Merged | None:
    """Loads of column neighbours in HBM as one load, until descriptors have ``wide_bytes``.

    Only transfers whose descriptors are below ``small_bytes`` are looked at. The members become one block on chip that
    is there from the first load to the last use.
    """
    made, before, after, least = [], 0, 0, wide_bytes
    lines: dict[object, Instruction] = {}
    for trace in traces:
        groups = [g for g in _neighbours(trace, limit, wide_bytes, small_bytes) if len(g) > 1]
        for group in groups:
            before, after = before + len(group), after + 1
            least = min(least, size_of(group[0].writes[0]))
            lines.setdefault(group[0].source, group[0])
        made.append(_joined(trace, groups) if groups else list(trace))
    return Merged(made, before, after, least, tuple(lines.values())) if before else None


def _neighbours(
    trace: Sequence[Instruction], limit: Mapping[MemoryRegion, int], wide_bytes: int, small_bytes: int
) -> list[list[Instruction]]:
    written = {a.allocation.index for each in trace for a in each.writes}
    filled: dict[int, int] = {}
    for each in trace:
        for access in each.writes:
            filled[access.allocation.index] = filled.get(access.allocation.index, 0) + 1
    panels: dict[tuple[object, ...], dict[int, list[Instruction]]] = {}
    for each in trace:
        if not is_whole_load(each):
            continue
        src, dst = each.reads[0], each.writes[0]
        simple = src.shape == dst.shape and len(src.shape) == 2 and src.strides[1] == 1
        once = filled[dst.allocation.index] == 1 and dst.allocation.region is MemoryRegion.sbuf
        if simple and once and size_of(dst) < small_bytes and src.allocation.index not in written:
            row, column = divmod(src.offset, src.strides[0]) if src.strides[0] else (0, src.offset)
            key = (src.allocation.index, row, src.shape, src.strides, dst.dtype.name)
            panels.setdefault(key, {}).setdefault(column, []).append(each)
    lives = _lives(trace)
    alive = _alive(trace, lives)
    groups: list[list[Instruction]] = []
    for panel in panels.values():
        # The n-th time a column is loaded goes with the n-th time of its neighbours.
        for time in range(max(len(each) for each in panel.values())):
            chosen = sorted((column, each[time]) for column, each in panel.items() if len(each) > time)
            group: list[Instruction] = []
            for _, each in chosen:
                columns = each.reads[0].shape[1]
                follows = group and each.reads[0].offset == group[-1].reads[0].offset + columns
                if follows and (len(group) + 1) * size_of(each.writes[0]) <= wide_bytes:
                    group.append(each)
                else:
                    groups.append(group)
                    group = [each]
            groups.append(group)
    return [group for group in groups if len(group) > 1 and _fits(group, lives, alive, limit[MemoryRegion.sbuf])]


def _fits(group: Sequence[Instruction], lives: Mapping[int, tuple[int, int]], alive: Array, limit: int) -> bool:
    """Whether the members may be there together; then they count as being so."""
    spans = [lives[each.writes[0].allocation.index] for each in group]
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    row = size_of(group[0].writes[0])
    more = np.full(last + 1 - first, len(spans) * row, np.int64)
    for begin, end in spans:
        more[begin - first : end + 1 - first] -= row
    if (alive[first : last + 1] + more).max() > limit:
        return False
    alive[first : last + 1] += more
    return True


def _joined(trace: Sequence[Instruction], groups: Sequence[Sequence[Instruction]]) -> list[Instruction]:
    leader: dict[int, Instruction] = {}
    left_out: dict[int, int] = {}
    where: dict[int, tuple[Allocation, int, int]] = {}  # by tensor: its block, and what row and offset become
    for group in groups:
        first = min(group, key=lambda each: each.index)
        src, dst = group[0].reads[0], group[0].writes[0]
        columns, parts = src.shape[1], len(group)
        block = fresh(
            dst.allocation,
            shape=(dst.allocation.partitions, parts * dst.allocation.row_bytes // dst.dtype.itemsize),
            row_bytes=parts * dst.allocation.row_bytes,
        )
        for position, each in enumerate(group):
            where[each.writes[0].allocation.index] = (block, position, parts)
            left_out[each.index] = first.index
        wide = (src.shape[0], columns * parts)
        leader[first.index] = replace(
            first,
            reads=(src._replace(shape=wide),),
            writes=(Access(block, 0, wide, (columns * parts, 1), dst.dtype),),
        )
        del left_out[first.index]

    def redirect(access: Access) -> Access:
        found = where.get(access.allocation.index)
        if found is None:
            return access
        block, position, parts = found
        row = access.row_elements
        partition, inside = divmod(access.offset, row)
        strides = (access.strides[0] * parts, *access.strides[1:])
        return access._replace(
            allocation=block, offset=partition * row * parts + position * row + inside, strides=strides
        )

    def change(each: Instruction) -> Instruction | None:
        if each.index in leader:
            return leader[each.index]
        return None if each.index in left_out else with_accesses(each, redirect)

    return changed(trace, change, left_out)
