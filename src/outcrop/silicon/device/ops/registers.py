"""Instructions of the sequencers' registers: allocate, move, load from memory, store to memory.

Registers live in a virtual space; the compiler places them in the sequencers that need them. Here they run on the
``sync`` engine, which has nothing else to do. A register keeps the number that was loaded; storing it converts to the
target's type as any write does. Source: NKI ISA API, ``register_alloc`` to ``register_store``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import PSUM, Engine
from outcrop.silicon.device.registers import VirtualRegister, immediate
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

_BYTES = 4


def allocate(core: Core, initial: object) -> VirtualRegister:
    """A new register: unset, with an immediate integer, or loaded from a tensor of one element."""
    made = VirtualRegister(core)
    if isinstance(initial, Tensor):
        load(core, made, initial)
    elif initial is not None:
        move(core, made, initial)
    return made


def move(core: Core, dst: VirtualRegister, src: object) -> Instruction:
    """``dst`` takes an immediate integer or another register's value."""
    _require_register("register_move", "dst", dst)
    if isinstance(src, VirtualRegister):
        dst.set(src.value, known=src.known)
    elif hasattr(src, "__index__") and not isinstance(src, bool):
        dst.set(immediate(cast("int", src)))
    else:
        refuse(
            rules.PARAMETER,
            f"register_move got src={src!r}.",
            "src must be an integer or a register; register_load takes a tensor.",
        )
    return core.record("register_move", Engine.sync, (), (), {"constant": not isinstance(src, VirtualRegister)})


def load(core: Core, dst: VirtualRegister, src: Tensor) -> Instruction:
    """``dst`` takes the one element of a tensor in HBM or SBUF."""
    _require_register("register_load", "dst", dst)
    core.checked(_check_memory, "register_load", "src", src)
    if core.values:
        held = core.read(src, defined=True).reshape(-1)[0]
        dst.set(int(held) if src.dtype.is_integer or not src.dtype.is_float else float(held))
    else:
        dst.set(0, known=False)
    return core.record("register_load", Engine.sync, (), (src,))


def store(core: Core, dst: Tensor, src: VirtualRegister) -> Instruction:
    """The one element of a tensor in HBM or SBUF takes the register's value."""
    _require_register("register_store", "src", src)
    core.checked(_check_memory, "register_store", "dst", dst)
    value = src.value
    if core.values:
        number: Array = np.array([value], np.float64)
        if dst.dtype.is_integer and value == int(value):
            number = np.array([int(value) & 0xFFFFFFFF], np.uint32)  # 32 bits, which dst reads with its own sign
            number = number.view(np.int32) if dst.dtype.numpy.kind == "i" else number
        core.write(dst, number.reshape((1,) * len(dst.shape)))
    return core.record("register_store", Engine.sync, (dst,), ())


def _require_register(op: str, role: str, register: object) -> None:
    if not isinstance(register, VirtualRegister):
        refuse(
            rules.PARAMETER,
            f"{op} got {role}={register!r}, a {type(register).__name__}.",
            f"{role} must be a register from nisa.register_alloc.",
        )


def _check_memory(core: Core, op: str, role: str, tensor: Tensor) -> None:
    if not isinstance(cast("object", tensor), Tensor):  # kernels are not type-checked
        refuse(
            rules.PARAMETER,
            f"{op} got {role}={tensor!r}, a {type(tensor).__name__}.",
            f"{role} must be a tensor with one element.",
        )
    if tensor.size != 1:
        refuse(
            rules.OPERAND_SHAPE,
            f"{op} got {role} {tensor.describe()}.",
            f"{role} must have exactly one element: shape [1] or [1, 1].",
        )
    if tensor.buffer is PSUM:
        refuse(
            rules.OPERAND_MEMORY,
            f"{op} cannot use {tensor.describe()} as {role}.",
            "Sequencers reach HBM and SBUF: copy it to SBUF first.",
        )
    if tensor.dtype.itemsize > _BYTES or tensor.dtype.lanes > 1:
        refuse(
            rules.OPERAND_DTYPE,
            f"{op} got {role} {tensor.describe()}.",
            "Registers hold one value of up to 32 bits.",
        )
