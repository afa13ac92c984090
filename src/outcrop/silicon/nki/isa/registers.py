"""Registers of the engines' sequencers: loop bounds, conditions and offsets that only the device knows."""

from __future__ import annotations

from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops import registers
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.tensor import Tensor


def register_alloc(x: int | Tensor | None = None) -> VirtualRegister:
    """A new register: unset where ``x`` is ``None``, else with an integer of 32 bits or a tensor's one element.

    As many as the sequencer has (``registers_per_engine``) may be alive at once. A register cannot steer Python: no
    ``if``, no comparison, no arithmetic, no ``range``; see ``outcrop.silicon.device.registers`` for what it can do.
    """
    return registers.allocate(current(), x)


def register_move(dst: VirtualRegister, src: int | VirtualRegister) -> Instruction:
    """``dst`` takes an integer or another register's value. The induction variable of a loop cannot be ``dst``."""
    return registers.move(current(), dst, src)


def register_load(dst: VirtualRegister, src: Tensor) -> Instruction:
    """``dst`` takes the one element of ``src``, a tensor of shape [1] or [1, 1] in HBM or SBUF, up to 32 bits wide."""
    return registers.load(current(), dst, src)


def register_store(dst: Tensor, src: VirtualRegister) -> Instruction:
    """The one element of ``dst``, a tensor of shape [1] or [1, 1] in HBM or SBUF, takes the register's value."""
    return registers.store(current(), dst, src)
