"""Activation functions, normalisation statistics and selections."""

from __future__ import annotations

from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa.constants import reduce_cmd


def activation(
    dst: Tensor,
    op: Any,
    data: Tensor,
    bias: Any = None,
    scale: Any = 1.0,
    reduce_op: Any = None,
    reduce_res: Any = None,
    reduce_cmd: Any = reduce_cmd.idle,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.activation is not built yet.")


def activation_reduce(
    dst: Tensor,
    op: Any,
    data: Tensor,
    reduce_op: Any,
    reduce_res: Tensor,
    bias: Any = None,
    scale: Any = 1.0,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.activation_reduce is not built yet.")


def activate2(
    dst: Tensor,
    op: Any,
    data: Tensor,
    imm0: Any,
    imm1: Any,
    op0: Any,
    op1: Any,
    relu_param: Any = 0.0,
    reverse0: Any = False,
    reverse1: Any = False,
    reduce_op: Any = None,
    reduce_res: Any = None,
    reduce_cmd: Any = reduce_cmd.idle,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.activate2 is not built yet.")


def exponential(
    dst: Tensor,
    src: Tensor,
    max_value: Any = 0.0,
    reduce_res: Any = None,
    reduce_cmd: Any = reduce_cmd.idle,
    reduce_init: Any = 0.0,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.exponential is not built yet.")


def bn_stats(dst: Tensor, data: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.bn_stats is not built yet.")


def bn_aggr(dst: Tensor, data: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.bn_aggr is not built yet.")


def range_select(
    dst: Tensor,
    on_true_tile: Tensor,
    comp_op0: Any,
    comp_op1: Any,
    bound0: Tensor,
    bound1: Tensor,
    reduce_cmd: Any = reduce_cmd.reset_reduce,
    reduce_res: Any = None,
    reduce_op: Any = "maximum",
    range_start: Any = 0,
    on_false_value: Any = ...,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.range_select is not built yet.")


def select_reduce(
    dst: Tensor,
    predicate: Tensor,
    on_true: Tensor,
    on_false: Any,
    reduce_res: Any = None,
    reduce_cmd: Any = reduce_cmd.idle,
    reduce_op: Any = "maximum",
    reverse_pred: Any = False,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.select_reduce is not built yet.")
