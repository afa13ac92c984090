"""Kernels written in the kernel language as its users write them, each with its reference and its roofline.

One file per kernel: the kernel, a NumPy reference, the design in a paragraph, the choices that a search may vary, and a
``KernelCase`` that tells a test or a benchmark how to call it. They use nothing of the simulator but the language, and
``front`` has the one line that says whose: with ``from nki import ...`` there in place of
``from outcrop.silicon.nki import ...``, they are the vendor's kernels, as a test shows. ``tune`` searches the choices
of these kernels and of others by predicted time, with ``search``, ``trial`` and ``workers``.

Not covered: kernels here are written for clear structure and good predicted time at large shapes, and take any shape
that their docstring allows; none was run on a chip by us.
"""

from __future__ import annotations

import importlib
from functools import cache

from outcrop.base.errors import NotFound
from outcrop.silicon.kernels.base import KernelCase, Tuning, choice

_MODULES = (
    "matmul",
    "softmax",
    "norms",
    "rope",
    "attention",
    "attention_online",
    "attention_backward",
    "decode_attention",
    "swiglu",
    "swiglu_backward",
    "experts",
    "reduced_matmul",
    "embedding",
    "adamw",
    "cross_entropy",
    "quantise",
)  # fmt: skip

__all__ = ["KernelCase", "Tuning", "cases", "choice", "find"]


@cache
def cases() -> dict[str, KernelCase]:
    """Every kernel of this room by its name."""
    found: dict[str, KernelCase] = {}
    for module in _MODULES:
        for case in importlib.import_module(f"{__name__}.{module}").CASES:
            found[case.name] = case
    return found


def find(name: str) -> KernelCase:
    """The kernel of that name."""
    if name not in cases():
        raise NotFound(f"There is no kernel named {name!r}.", f"There are {', '.join(cases())}.")
    return cases()[name]
