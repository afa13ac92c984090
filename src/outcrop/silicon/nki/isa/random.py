"""Random numbers. The streams are a reproducible stand-in for the engines' own: see ``device.random_words``."""

from __future__ import annotations

from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops import random
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor


def rng(dst: Tensor, engine: Engine = Engine.vector, name: str | None = None) -> Instruction:
    """32 random bits for each element; narrower integers keep the lowest bits.

    ``dst`` is of an integer type in SBUF or PSUM; for the gpsimd engine (not on NeuronCore-v2) in SBUF.
    """
    return random.rng(current(), dst, engine, name)


def rand2(dst: Tensor, min: float | Tensor, max: float | Tensor, name: str | None = None) -> Instruction:
    """Uniform values from ``min`` to ``max`` on the vector engine, from NeuronCore-v4 on.

    Each bound is a number or a float32 tensor ``[P, 1]``; ``dst`` is in SBUF or PSUM, float or integer.
    """
    return random.rand2(current(), dst, min, max, name)


def set_rng_seed(src_seeds: Tensor, name: str | None = None) -> Instruction:
    """Seed the vector engine's generator with the 32 bits of a ``[1, 1]`` tensor in SBUF or PSUM."""
    return random.set_rng_seed(current(), src_seeds, name)


def rand_set_state(src_seeds: Tensor, engine: Engine = Engine.gpsimd, name: str | None = None) -> Instruction:
    """Set the state of each lane from its partition: 6 uint32 words (gpsimd) or 24 (vector, from NeuronCore-v4 on)."""
    return random.rand_set_state(current(), src_seeds, engine, name)


def rand_get_state(dst: Tensor, engine: Engine = Engine.gpsimd, name: str | None = None) -> Instruction:
    """Store the state of each lane in its partition: 6 uint32 words (gpsimd) or 24 (vector, from NeuronCore-v4 on)."""
    return random.rand_get_state(current(), dst, engine, name)


def dropout(dst: Tensor, data: Tensor, prob: float | Tensor, name: str | None = None) -> Instruction:
    """``data`` with elements replaced by 0 with probability ``prob``, on the vector engine; nothing is scaled.

    ``prob`` is a number or a ``[P, 1]`` tensor: float32, or any float where ``data`` is float. Same type in and out.
    """
    return random.dropout(current(), dst, data, prob, name)
