"""Generations of the accelerator as data: each number with its unit, its source and how far to trust it.

``load("trn2")`` gives a typed ``Chip``; ``load_file`` reads a hypothetical one of the same form. Nothing here assumes
a generation: what differs between chips is in their files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from outcrop.base.errors import NotFound
from outcrop.silicon.chip.files import bundled, bundled_file, read_chip, read_header
from outcrop.silicon.chip.parts import (
    Chip,
    Core,
    Device,
    Dma,
    GpSimdEngine,
    Hbm,
    Link,
    Machine,
    Psum,
    Sbuf,
    StreamEngine,
    TensorEngine,
    Totals,
)
from outcrop.silicon.chip.quantity import CONFIDENCE_MEANINGS, UNITS, Confidence, Dimension, Figure, Quantity
from outcrop.silicon.chip.totals import Total, totals
from outcrop.silicon.chip.walk import absent, walk

__all__ = [
    "CONFIDENCE_MEANINGS",
    "DEFAULT_TARGET",
    "TARGET_VARIABLE",
    "UNITS",
    "Chip",
    "Confidence",
    "Core",
    "Device",
    "Dimension",
    "Dma",
    "Figure",
    "GpSimdEngine",
    "Hbm",
    "Link",
    "Machine",
    "Psum",
    "Quantity",
    "Sbuf",
    "StreamEngine",
    "TensorEngine",
    "Total",
    "Totals",
    "absent",
    "aliases",
    "default_target",
    "load",
    "load_file",
    "names",
    "totals",
    "walk",
]

TARGET_VARIABLE = "NEURON_PLATFORM_TARGET_OVERRIDE"  # the vendor's own, with the vendor's values
DEFAULT_TARGET = "trn2"  # the vendor's simulator takes trn3 where there is no device; ours says which it took


def names() -> list[str]:
    """The chips that come with Outcrop."""
    return list(bundled())


def aliases() -> dict[str, str]:
    """Other names that the vendor's tools take, each with the chip it stands for."""
    return {alias: name for name, path in bundled().items() for alias in read_header(path).get("aliases", [])}


def default_target(environment: Mapping[str, str] | None = None) -> str:
    """The chip to use where none is named: the vendor's variable, else trn2. ``NotFound`` names a wrong value."""
    value = (os.environ if environment is None else environment).get(TARGET_VARIABLE, "")
    if not value:
        return DEFAULT_TARGET
    name = value if value in bundled() else aliases().get(value)
    if name is None:
        known = ", ".join([*names(), *aliases()])
        raise NotFound(f"{TARGET_VARIABLE} is {value!r}, which is no known target.", f"Set it to one of: {known}.")
    return name


def load(name: str | None = None) -> Chip:
    """The chip of that name or alias; without one, the default target."""
    chosen = default_target() if name is None else name
    return read_chip(bundled_file(chosen if chosen in bundled() else aliases().get(chosen, chosen)))


def load_file(path: Path | str) -> Chip:
    """The chip that a file describes; the file may extend a known chip or another file."""
    return read_chip(Path(path))
