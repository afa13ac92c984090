"""Searching, shuffling, gathering and index generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops import gather, indices, search, shuffle
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.operators import operator_name


def max8(dst: Tensor, src: Tensor, name: str | None = None) -> Instruction:
    """The 8 largest values of each partition, in descending order, on the vector engine.

    ``src`` is ``[P, …]`` with 8 to 16,384 elements per partition in up to two free dimensions, compared as float32;
    ``dst`` is ``[P, 8]`` of any type. Both in SBUF or PSUM.
    """
    return search.max8(current(), dst, src, name)


def nc_find_index8(dst: Tensor, data: Tensor, vals: Tensor, name: str | None = None) -> Instruction:
    """Where in each partition of ``data`` the 8 values of ``vals`` first occur, on the vector engine.

    ``data`` has 8 to 16,384 elements per partition, ``vals`` 8; ``dst`` is ``[P, 8]`` of uint16 or uint32. A value that
    occurs several times in ``vals`` takes its occurrences in ascending order; one without an occurrence gives all ones.
    """
    return search.nc_find_index8(current(), dst, data, vals, name)


def nc_match_replace8(
    dst: Tensor, data: Tensor, vals: Tensor, imm: float, dst_idx: Tensor | None = None, name: str | None = None
) -> Instruction:
    """``data`` with the first occurrence of each of 8 values replaced by ``imm``, on the vector engine.

    ``dst`` has the shape of ``data`` and may be the same tensor; ``vals`` is ``[P, 8]``. ``dst_idx``, ``[P, 8]`` of
    uint16 or uint32, takes the positions. A value that occurs several times takes its occurrences in descending
    order: the last of its columns gets the first. One without an occurrence replaces nothing and gives all ones.
    """
    return search.nc_match_replace8(current(), dst, data, vals, imm, dst_idx, name)


def nc_stream_shuffle(dst: Tensor, src: Tensor, shuffle_mask: Sequence[int], name: str | None = None) -> Instruction:
    """Move partitions within quadrants of 32, on the vector engine.

    Partition i of each quadrant of ``dst`` takes partition ``shuffle_mask[i]`` of the same quadrant of ``src``; 255
    leaves it alone. Same type and elements per partition; SBUF or PSUM; in place is fine. Start partitions follow the
    partition count of the larger operand, rounded up to whole quadrants.
    """
    return shuffle.nc_stream_shuffle(current(), dst, src, shuffle_mask, name)


def local_gather(
    dst: Tensor,
    src_buffer: Tensor,
    index: Tensor,
    num_elem_per_idx: int = 1,
    num_valid_indices: int | None = None,
    name: str | None = None,
) -> Instruction:
    """Gather runs of elements at offsets that groups of 16 partitions share, on the gpsimd engine.

    ``index`` is uint16 and holds offset i of a group at ``[i % 16, i // 16]``, in elements of the flattened free
    dimensions of ``src_buffer``. Each offset gives ``num_elem_per_idx`` elements (1, 2, 4, 8, 16 or 32);
    ``num_valid_indices`` (at most 4,096) of them count, by default all. All tensors in SBUF with the same partitions, a
    multiple of 16; ``dst`` has the type of ``src_buffer`` and exactly the gathered elements in each partition.
    """
    return gather.local_gather(current(), dst, src_buffer, index, num_elem_per_idx, num_valid_indices, name)


def nc_n_gather(dst: Tensor, data: Tensor, indices: Tensor, name: str | None = None) -> Instruction:
    """Gather elements of each partition at the positions its own ``indices`` hold, on the gpsimd engine.

    Positions (uint32) count through the flattened free dimensions of ``data``. All in SBUF with the same partitions;
    ``dst`` has the type of ``data`` and as many elements per partition as ``indices``.
    """
    return gather.nc_n_gather(current(), dst, data, indices, name)


def sequence_bounds(dst: Tensor, segment_ids: Tensor, name: str | None = None) -> Instruction:
    """For each element the start and the end (exclusive) of its run of equal ids, on the gpsimd engine.

    ``segment_ids`` is ``[1, n]``, ``dst`` is ``[1, 2, n]``, both float32 or int32 in SBUF. Padding, that is id 0, gets
    start n and end -1.
    """
    return gather.sequence_bounds(current(), dst, segment_ids, name)


def nonzero_with_count(
    dst: Tensor, src: Tensor, index_offset: int = 0, padding_val: int = -1, name: str | None = None
) -> Instruction:
    """Positions of the elements that are not 0, and their number, in partitions 0, 16, … 112; on the gpsimd engine.

    ``src`` is ``[P, T]`` of float32 or int32; ``dst`` is ``[P, T + 1]`` of int32: positions plus ``index_offset``, then
    ``padding_val``, and last the count. Other partitions are neither read nor written. Not on NeuronCore-v2.
    """
    return gather.nonzero_with_count(current(), dst, src, index_offset, padding_val, name)


def topk(val_dst: Tensor, idx_dst: Tensor, src: Tensor, n: int, name: str | None = None) -> Instruction:
    """The K largest of ``n`` bfloat16 values of each group of 16 partitions, ascending, on the gpsimd engine.

    Element i of a group lies in its partition i % 16, column i // 16 of ``src``, and so do the results in ``val_dst``
    (bfloat16) and ``idx_dst`` (uint32, positions in the snake), which are ``[P, K]``. 8 <= n < 65536, K <= n.
    """
    return gather.topk(current(), val_dst, idx_dst, src, n, name)


def iota(
    dst: Tensor,
    pattern: Sequence[Sequence[int]],
    offset: int | VirtualRegister | Tensor = 0,
    channel_multiplier: int = 0,
    name: str | None = None,
) -> Instruction:
    """Write ``offset + partition * channel_multiplier + sum of steps`` in 32-bit integers, on the gpsimd engine.

    ``pattern`` has up to four ``[step, count]`` pairs, outermost first; the counts multiply to the elements in each
    partition of ``dst``, which is in SBUF and of any type. ``offset`` may be a register.
    """
    return indices.iota(current(), dst, pattern, offset, channel_multiplier, name)


def affine_select(
    dst: Tensor,
    pattern: Sequence[Sequence[int]],
    channel_multiplier: int,
    on_true_tile: Tensor,
    on_false_value: float,
    cmp_op: Any = "equal",
    offset: int | VirtualRegister | Tensor = 0,
    name: str | None = None,
) -> Instruction:
    """``on_true_tile`` where an affine value (see ``iota``) compares with 0 as asked, else a constant; gpsimd engine.

    ``cmp_op`` is nl.equal, not_equal, greater, greater_equal, less or less_equal. Both tiles are in SBUF with the same
    elements per partition; where their types differ, values pass through float32.
    """
    return indices.affine_select(
        current(),
        dst,
        pattern,
        channel_multiplier,
        on_true_tile,
        on_false_value,
        operator_name(cmp_op),
        offset,
        name,
    )
