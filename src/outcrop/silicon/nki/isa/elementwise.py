"""Element-wise, reducing and scanning instructions of the vector, scalar and gpsimd engines.

Signatures are the vendor's (NKI 0.6.0, whose nki.isa reference is the source of everything said here). Common to all:
operands are on-chip tensors of at most 128 partitions; inputs are up-cast to float32 and results rounded once to
``dst``'s type, except where an instruction is said to be exact; ``dst`` has as many partitions and elements in each as
the inputs, in any free shape. A broken rule raises ``KernelRefused`` and names it. ``name`` labels the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops import elementwise, reduce, scalar_operand, scalar_reduce, scan
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa.constants import engine, reduce_cmd
from outcrop.silicon.nki.operators import operator_name


def _engine(op: str, chosen: Any) -> Engine:
    if not isinstance(chosen, Engine):
        refuse(rules.PARAMETER, f"{op} got engine={chosen!r}.", "Pass one of nisa.engine, such as nisa.engine.vector.")
    found: Engine = chosen
    return found


def _command(op: str, command: Any) -> str:
    if not isinstance(command, reduce_cmd):
        refuse(
            rules.PARAMETER,
            f"{op} got reduce_cmd={command!r}.",
            "Pass one of nisa.reduce_cmd, such as nisa.reduce_cmd.reset_reduce.",
        )
    return str(command.name)


def tensor_copy(dst: Tensor, src: Tensor, engine: Any = engine.unknown, name: Any = None) -> Instruction:
    """Copy ``src`` to ``dst``: bit by bit where both have one type and the engine is vector or gpsimd, else by value.

    GpSimd does not reach PSUM. The scalar engine copies from NeuronCore-v3 on, and through float32 even where the
    types are equal. Left unknown, the engine is vector. Packed types are copied to the same type only.
    """
    return elementwise.tensor_copy(current(), dst, src, _engine("tensor_copy", engine), name)


def tensor_copy_predicated(
    dst: Tensor, src: Any, predicate: Tensor, reverse_pred: Any = False, name: Any = None
) -> Instruction:
    """Copy ``src`` (a tensor of ``dst``'s type, or a number) to ``dst`` where ``predicate`` is not 0.

    With ``reverse_pred``, where it is 0. Other elements of ``dst`` stay as they are. ``predicate`` is uint8, uint16 or
    uint32; ``src`` and ``predicate`` are not both in PSUM. Vector engine.
    """
    return elementwise.tensor_copy_predicated(current(), dst, src, predicate, bool(reverse_pred), name)


def memset(dst: Tensor, value: Any, engine: Any = engine.unknown, name: Any = None) -> Instruction:
    """Fill ``dst`` with a number known before the kernel runs, on the vector (default) or gpsimd engine.

    Packed types take 0 only; an integer type takes integers that it holds. GpSimd does not reach PSUM.
    """
    return elementwise.memset(current(), dst, value, _engine("memset", engine), name)


def tensor_tensor(
    dst: Tensor, data1: Tensor, data2: Tensor, op: Any, engine: Any = engine.unknown, name: Any = None
) -> Instruction:
    """``dst = data1 <op> data2`` with a binary operator, element by element.

    Bitwise operators take integers as bits, on the vector engine. ``nl.power`` runs on gpsimd. With int32 and uint32
    tensors only, none in PSUM, the engine is gpsimd unless asked otherwise, and the result exact modulo 2^32; on the
    vector engine it goes through float32. The inputs are not both in PSUM, and nothing is broadcast: use
    ``tensor_scalar`` for a ``[P, 1]`` operand, or a view with step 0. Inputs in SBUF start at one partition.
    """
    return elementwise.tensor_tensor(
        current(), dst, data1, data2, operator_name(op), _engine("tensor_tensor", engine), name
    )


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
    """``dst = (data <op0> operand0) <op1> operand1``; ``reverse0`` and ``reverse1`` swap an operator's operands.

    Operands are numbers or float32 tensors of one element for each partition (for bitwise operators, integers). Both
    operators are bitwise, on integers and the vector engine, or both arithmetic. Unary operators take operand None or
    0. ``nl.rsqrt`` runs on gpsimd, the only engine that has it; the scalar engine takes multiply and add only, on
    NeuronCore-v3, and nothing before it.
    """
    return scalar_operand.tensor_scalar(
        current(),
        dst,
        data,
        operator_name(op0),
        operand0,
        bool(reverse0),
        operator_name(op1),
        operand1,
        bool(reverse1),
        _engine("tensor_scalar", engine),
        name,
    )


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
    """``dst = (data <op0> operand0) <op1> operand1``, ``operand0`` as in ``tensor_scalar``, ``operand1`` a tensor.

    Arithmetic operators only. ``data`` and ``operand1`` are not both in PSUM. Vector engine.
    """
    return scalar_operand.scalar_tensor_tensor(
        current(),
        dst,
        data,
        operator_name(op0),
        operand0,
        operator_name(op1),
        operand1,
        bool(reverse0),
        bool(reverse1),
        name,
    )


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
    """``dst = data <op0> operand0``, and all of it reduced by ``reduce_op`` in each partition.

    The reduction (add, multiply, maximum or minimum, of the float32 values before they are rounded) goes to the vector
    engine's accumulators, and from there to ``reduce_res``, ``[P, 1]``, where one is given, negated on request.
    ``reduce_cmd`` is reset_reduce, reduce (go on) or load_reduce (start from ``reduce_init``). See ``accumulators``.
    """
    return scalar_reduce.tensor_scalar_reduce(
        current(),
        dst,
        data,
        operator_name(op0),
        operand0,
        operator_name(reduce_op),
        reduce_res,
        bool(reverse0),
        _command("tensor_scalar_reduce", reduce_cmd),
        reduce_init,
        bool(reduce_res_negate),
        name,
    )


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
    """``register = (src[i] <op0> imm0) <op1> register`` along the free dimensions; ``dst[i]`` is each register.

    ``op1`` is add, subtract, multiply, maximum or minimum. The register is the vector engine's accumulator: reset to
    the operator's identity, loaded from ``imm1`` or gone on from, as ``reduce_cmd`` says. ``imm0`` and ``imm1`` are
    numbers or float32 ``[P, 1]``. Not for types of 32-bit integers.
    """
    return scan.tensor_scalar_cumulative(
        current(),
        dst,
        src,
        operator_name(op0),
        operator_name(op1),
        imm0,
        imm1,
        _command("tensor_scalar_cumulative", reduce_cmd),
        name,
    )


def tensor_reduce(
    dst: Tensor, op: Any, data: Tensor, axis: Any, negate: Any = False, keepdims: Any = False, name: Any = None
) -> Instruction:
    """Reduce the last free dimensions of ``data``: ``axis`` is an integer or the last few dimensions, never 0.

    ``op`` is an operator that the vendor lists as a legal reduction. ``negate`` multiplies arithmetic results by -1.
    ``dst`` has the elements that are left, with or without dimensions of size 1 (``keepdims``). Vector engine.
    """
    del keepdims  # dst has its shape already: only the number of elements matters
    axes = tuple(int(each) for each in axis) if isinstance(axis, Sequence) else (int(axis),)
    return reduce.tensor_reduce(current(), dst, operator_name(op), data, axes, bool(negate), name)


def tensor_partition_reduce(dst: Tensor, op: Any, data: Tensor, name: Any = None) -> Instruction:
    """Reduce the partitions of ``data`` to one: add, average, maximum, bitwise_or or bitwise_and.

    ``dst`` has one partition and the elements of ``data``'s. SBUF only. GpSimd engine.
    """
    return reduce.tensor_partition_reduce(current(), dst, operator_name(op), data, name)


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
    """``state = (data0[i] <op0> state) <op1> data1[i]`` along the free dimensions; ``dst[i]`` is each state.

    The state is float32 and starts from ``initial``, a number or a ``[P, 1]`` tensor. ``reverse0`` makes ``data0[i]``
    the right operand of ``op0``, ``reverse1`` makes ``data1[i]`` the left one of ``op1``. Both operators are binary and
    arithmetic. The inputs are not both in PSUM. Vector engine.
    """
    return scan.tensor_tensor_scan(
        current(),
        dst,
        data0,
        data1,
        initial,
        operator_name(op0),
        operator_name(op1),
        bool(reverse0),
        bool(reverse1),
        name,
    )


def reciprocal(dst: Tensor, data: Tensor, name: Any = None) -> Instruction:
    """``dst = 1 / data`` on the vector engine, which is more exact there than as an activation."""
    return elementwise.reciprocal(current(), dst, data, name)
