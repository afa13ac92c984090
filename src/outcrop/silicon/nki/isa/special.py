"""Searching, shuffling, gathering and index generation."""

from __future__ import annotations

from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.tensor import Tensor


def max8(dst: Tensor, src: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.max8 is not built yet.")


def nc_find_index8(dst: Tensor, data: Tensor, vals: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.nc_find_index8 is not built yet.")


def nc_match_replace8(
    dst: Tensor, data: Tensor, vals: Tensor, imm: Any, dst_idx: Any = None, name: Any = None
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.nc_match_replace8 is not built yet.")


def nc_stream_shuffle(dst: Tensor, src: Tensor, shuffle_mask: Any, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.nc_stream_shuffle is not built yet.")


def local_gather(
    dst: Tensor,
    src_buffer: Tensor,
    index: Tensor,
    num_elem_per_idx: Any = 1,
    num_valid_indices: Any = None,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.local_gather is not built yet.")


def nc_n_gather(dst: Tensor, data: Tensor, indices: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.nc_n_gather is not built yet.")


def sequence_bounds(dst: Tensor, segment_ids: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.sequence_bounds is not built yet.")


def nonzero_with_count(
    dst: Tensor, src: Tensor, index_offset: Any = 0, padding_val: Any = -1, name: Any = None
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.nonzero_with_count is not built yet.")


def topk(val_dst: Tensor, idx_dst: Tensor, src: Tensor, n: Any, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.topk is not built yet.")


def iota(dst: Tensor, pattern: Any, offset: Any = 0, channel_multiplier: Any = 0, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.iota is not built yet.")


def affine_select(
    dst: Tensor,
    pattern: Any,
    channel_multiplier: Any,
    on_true_tile: Tensor,
    on_false_value: Any,
    cmp_op: Any = "equal",
    offset: Any = 0,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.affine_select is not built yet.")
