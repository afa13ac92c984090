"""Registers of the engines' sequencers."""

from __future__ import annotations

from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.tensor import Tensor


def register_alloc(x: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.register_alloc is not built yet.")


def register_move(dst: Any, src: Any) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.register_move is not built yet.")


def register_load(dst: Any, src: Tensor) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.register_load is not built yet.")


def register_store(dst: Tensor, src: Any) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.register_store is not built yet.")
