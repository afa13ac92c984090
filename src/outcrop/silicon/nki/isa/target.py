"""Queries of the target."""

from __future__ import annotations

from outcrop.silicon.device.core import maybe_current
from outcrop.silicon.device.settings import Settings, limits_of
from outcrop.silicon.nki.isa.constants import nc_version


def get_nc_version() -> nc_version:
    """The generation of the core that the kernel runs on; outside of a kernel, of the default target."""
    core = maybe_current()
    return nc_version(core.limits.generation if core is not None else limits_of(Settings().target).generation)


def get_nc_sub_version() -> int:
    """The silicon revision within the generation: always the first, 0."""
    return 0
