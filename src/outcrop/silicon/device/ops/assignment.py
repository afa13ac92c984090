"""``tensor[key] = value``: the copy that the language makes of an assignment to elements.

The vendor's NkiTensor has the method and its reference says no more. What it does is taken from public kernels that
were built for Trainium 2 and gave right values (yahavb/trainium-agent-labs, projects/02-kernel-agent/check, level 1): a
tensor is copied, by DMA where one side is in HBM and by an instruction where both are on chip. We write a number with
``memset``, which nobody has shown on a chip. Nothing is broadcast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.ops.dma import dma_copy
from outcrop.silicon.device.ops.elementwise import memset, tensor_copy
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.tensor import Tensor

ASSIGNMENT = rules.rule(
    "assignment",
    "Elements of a tensor are assigned to from another tensor, or on chip from a number.",
    "AWS Neuron, nki.language.NkiTensor; NKI 0.2.0 migration guide: instructions write to their destination",
    relaxable=False,
)


def assign(target: Tensor, value: Any) -> None:
    """Copy a tensor to ``target``, or fill it with a number. Engine: DMA for HBM, else the vector engine."""
    core = current()
    if isinstance(value, Tensor):
        if target.on_chip and value.on_chip:
            tensor_copy(core, target, value, Engine.unknown)
        else:
            dma_copy(core, target, value)
    elif target.on_chip and isinstance(value, int | float | np.number):
        memset(core, target, value, Engine.unknown)
    else:
        refuse(
            ASSIGNMENT,
            f"{target.describe()} is assigned {value!r} with =, which is {_kind(value, target)}.",
            "Assign a tensor, which is copied, or give what is written as dst= of the instruction that computes it.",
        )


def _kind(value: Any, target: Tensor) -> str:
    if isinstance(value, int | float | np.number):
        return "a number; DMA, which alone writes to HBM, moves tensors only"
    return f"a {type(value).__name__} and no tensor"
