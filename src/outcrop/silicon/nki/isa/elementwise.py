"""Element-wise, reducing and scanning instructions of the vector, scalar and gpsimd engines."""

from __future__ import annotations

from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa.constants import engine, reduce_cmd


def tensor_copy(dst: Tensor, src: Tensor, engine: Any = engine.unknown, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_copy is not built yet.")


def tensor_copy_predicated(
    dst: Tensor, src: Any, predicate: Tensor, reverse_pred: Any = False, name: Any = None
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_copy_predicated is not built yet.")


def memset(dst: Tensor, value: Any, engine: Any = engine.unknown, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.memset is not built yet.")


def tensor_tensor(
    dst: Tensor, data1: Tensor, data2: Tensor, op: Any, engine: Any = engine.unknown, name: Any = None
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_tensor is not built yet.")


def tensor_scalar(
    dst: Tensor,
    data: Tensor,
    op0: Any,
    operand0: Any,
    reverse0: Any = False,
    op1: Any = None,
    operand1: Any = None,
    reverse1: Any = False,
    engine: Any = engine.unknown,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_scalar is not built yet.")


def scalar_tensor_tensor(
    dst: Tensor,
    data: Tensor,
    op0: Any,
    operand0: Any,
    op1: Any,
    operand1: Tensor,
    reverse0: Any = False,
    reverse1: Any = False,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.scalar_tensor_tensor is not built yet.")


def tensor_scalar_reduce(
    dst: Tensor,
    data: Tensor,
    op0: Any,
    operand0: Any,
    reduce_op: Any,
    reduce_res: Any = None,
    reverse0: Any = False,
    reduce_cmd: Any = reduce_cmd.reset_reduce,
    reduce_init: Any = None,
    reduce_res_negate: Any = False,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_scalar_reduce is not built yet.")


def tensor_scalar_cumulative(
    dst: Tensor,
    src: Tensor,
    op0: Any,
    op1: Any,
    imm0: Any,
    imm1: Any = None,
    reduce_cmd: Any = reduce_cmd.reset_reduce,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_scalar_cumulative is not built yet.")


def tensor_reduce(
    dst: Tensor, op: Any, data: Tensor, axis: Any, negate: Any = False, keepdims: Any = False, name: Any = None
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_reduce is not built yet.")


def tensor_partition_reduce(dst: Tensor, op: Any, data: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_partition_reduce is not built yet.")


def tensor_tensor_scan(
    dst: Tensor,
    data0: Tensor,
    data1: Tensor,
    initial: Any,
    op0: Any,
    op1: Any,
    reverse0: Any = False,
    reverse1: Any = False,
    name: Any = None,
) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.tensor_tensor_scan is not built yet.")


def reciprocal(dst: Tensor, data: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.reciprocal is not built yet.")
