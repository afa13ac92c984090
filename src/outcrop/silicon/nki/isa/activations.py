"""Activation functions, normalisation statistics and selections.

Data operands lie in SBUF or PSUM with up to 128 partitions, and have as many elements in each partition as ``dst``.
Operands "of one element in each partition" have shape ``[P, 1]``. Operators may be given as ``nl.exp``, ``np.exp`` or
``"exp"``. Broken rules raise ``KernelRefused``. After the vendor's nki.isa reference (NKI 0.6.0).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops import activation as activations
from outcrop.silicon.device.ops import exponential as exponentials
from outcrop.silicon.device.ops import selection, statistics
from outcrop.silicon.device.ops.tiles import constant
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa.constants import reduce_cmd
from outcrop.silicon.nki.operators import operator_name

_Command = reduce_cmd  # arguments of that name hide it


def _command(op: str, given: Any) -> str:
    if not isinstance(given, _Command):
        refuse(
            rules.PARAMETER,
            f"{op} got reduce_cmd={given!r}.",
            "Pass one of nisa.reduce_cmd, such as nisa.reduce_cmd.reset_reduce.",
        )
        raise AssertionError("refused")
    return given.name


def _integer(op: str, role: str, given: Any) -> int:
    if not isinstance(given, int | np.integer):
        refuse(
            rules.PARAMETER,
            f"{op} got {role}={given!r}, a {type(given).__name__}.",
            f"{role} must be an integer that is known when the kernel is compiled.",
        )
    return int(given)


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
    """``dst = op(data * scale + bias)`` on the scalar engine, in float32.

    ``op`` is one of the 26 activation functions; inputs outside its valid range are computed all the same and warned
    of (rule activation-range), and ``sin`` extrapolates there as the hardware does. ``scale`` is a number or a float32
    tensor of one element in each partition. So is ``bias``, of any type but tfloat32; NeuronCore-v2 takes no number
    there, and no bias with reciprocal.

    ``reduce_cmd`` drives the engine's accumulator registers, one for each partition: ``reset`` sets them to 0,
    ``reduce`` adds the sum of the results to them, ``reset_reduce`` does both, ``idle`` leaves them. ``reduce_op`` must
    be add where it is used. ``reduce_res``, of one element in each partition, gets what the registers hold afterwards.
    """
    return activations.activation(
        current(),
        dst,
        operator_name(op),
        data,
        bias,
        scale,
        operator_name(reduce_op),
        reduce_res,
        _command("activation", reduce_cmd),
        name,
    )


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
    """``activation`` with ``reduce_cmd.reset_reduce``: ``reduce_res`` gets the sum of the results in each partition."""
    return activations.activation(
        current(),
        dst,
        operator_name(op),
        data,
        bias,
        scale,
        operator_name(reduce_op),
        reduce_res,
        "reset_reduce",
        name,
        op="activation_reduce",
    )


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
    """``dst = op((data op0 imm0) op1 imm1)`` on the scalar engine of NeuronCore-v4 and later, in float32.

    ``(op0, op1)`` is (multiply, add), (multiply, subtract), or one of multiply, add, subtract and bypass with bypass;
    ``reverse0`` and ``reverse1`` swap a step's operands. ``imm0``, ``imm1`` and ``relu_param``, the slope of prelu, are
    numbers or tensors of one element in each partition. ``reduce_op`` may be add, maximum, minimum, abs_max or abs_min;
    else reductions are those of ``activation``, and share its registers.
    """
    return activations.activate2(
        current(),
        dst,
        operator_name(op),
        data,
        imm0,
        imm1,
        operator_name(op0),
        operator_name(op1),
        relu_param,
        reverse0,
        reverse1,
        operator_name(reduce_op),
        reduce_res,
        _command("activate2", reduce_cmd),
        name,
    )


def exponential(
    dst: Tensor,
    src: Tensor,
    max_value: Any = 0.0,
    reduce_res: Any = None,
    reduce_cmd: Any = reduce_cmd.idle,
    reduce_init: Any = 0.0,
    name: Any = None,
) -> Instruction:
    """``dst = exp(src - max_value)`` on the vector engine of NeuronCore-v4 and later, in float32.

    ``max_value`` is a number or a float32 tensor of one element in each partition. The sum of the results goes into the
    vector engine's accumulator registers: from 0 on with ``reset_reduce``, on top of what they hold with ``reduce``, of
    ``reduce_init`` with ``load_reduce``; ``idle`` leaves them undefined. ``reduce_res`` gets what they hold.
    """
    return exponentials.exponential(
        current(), dst, src, max_value, reduce_res, _command("exponential", reduce_cmd), reduce_init, name
    )


def bn_stats(dst: Tensor, data: Tensor, name: Any = None) -> Instruction:
    """Statistics of each partition's elements on the vector engine, in float32: six numbers.

    Count, mean and variance times count of the elements at even places, then of those at odd places. ``data`` has at
    most 512 elements in each partition (rule bn-stats-size), ``dst`` six.
    """
    return statistics.bn_stats(current(), dst, data, name)


def bn_aggr(dst: Tensor, data: Tensor, name: Any = None) -> Instruction:
    """Mean and variance of each partition on the vector engine, from any number of bn_stats' triples in ``data``."""
    return statistics.bn_aggr(current(), dst, data, name)


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
    """Elements whose index lies within bounds, the smallest float32 elsewhere; on NeuronCore-v3 and later.

    Element i of a partition (counted over all free dimensions) is kept where ``comp_op0(range_start + i, bound0)`` and
    ``comp_op1(range_start + i, bound1)`` hold; the comparisons are equal, less, less_equal, greater and greater_equal.
    ``on_true_tile`` is of a float type, the bounds are float32 of one element in each partition, indices are at most
    2^24. The maximum goes into the vector engine's accumulator registers (``idle`` leaves them undefined), and from
    there into ``reduce_res``.
    """
    return selection.range_select(
        current(),
        dst,
        on_true_tile,
        operator_name(comp_op0),
        operator_name(comp_op1),
        bound0,
        bound1,
        _command("range_select", reduce_cmd),
        reduce_res,
        operator_name(reduce_op),
        _integer("range_select", "range_start", range_start),
        selection.FILL if on_false_value is ... else constant("range_select", "on_false_value", on_false_value),
        name,
    )


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
    """``on_true`` where the predicate is not 0, else ``on_false``, on the vector engine; with the maximum on request.

    The predicate has an 8- or 16-bit integer type; ``on_true`` any but tfloat32 and 32-bit integers; not both are in
    PSUM. ``on_false`` is a number or a tensor of one element in each partition. Accumulator registers are used as in
    ``range_select``; ``reduce_res`` has a float type.
    """
    return selection.select_reduce(
        current(),
        dst,
        predicate,
        on_true,
        on_false,
        reduce_res,
        _command("select_reduce", reduce_cmd),
        operator_name(reduce_op),
        reverse_pred,
        name,
    )
