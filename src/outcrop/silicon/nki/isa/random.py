"""Random numbers."""

from __future__ import annotations

from typing import Any

from outcrop.base.errors import UserError
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.isa.constants import engine


def rng(dst: Tensor, engine: Any = engine.vector, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.rng is not built yet.")


def rand2(dst: Tensor, min: Any, max: Any, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.rand2 is not built yet.")


def set_rng_seed(src_seeds: Tensor, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.set_rng_seed is not built yet.")


def rand_set_state(src_seeds: Tensor, engine: Any = engine.gpsimd, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.rand_set_state is not built yet.")


def rand_get_state(dst: Tensor, engine: Any = engine.gpsimd, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.rand_get_state is not built yet.")


def dropout(dst: Tensor, data: Tensor, prob: Any, name: Any = None) -> Instruction:
    """Not built yet."""
    raise UserError("nki.isa.dropout is not built yet.")
