"""Where a kernel is: its place in the launch grid, which memory is which, and what it prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from outcrop.base.errors import UserError
from outcrop.silicon.device.core import current
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki.language.creation import region_of
from outcrop.silicon.nki.run import GRID_STATE, LAUNCH_GRID


def _grid() -> tuple[int, ...]:
    grid: tuple[int, ...] = current().state.get(GRID_STATE, ())
    return grid


def program_id(axis: int = 0) -> int:
    """This core's place along an axis of the launch grid; 0 where the kernel was launched without one."""
    _require_axis(axis)
    return current().index if _grid() else 0


def num_programs(axes: Any = 0) -> int:
    """How many cores run the kernel along one axis or several."""
    wanted = (axes,) if isinstance(axes, int) else tuple(range(len(_grid())) if axes is None else axes)
    count = 1
    for axis in wanted:
        _require_axis(axis)
        grid = _grid()
        count *= grid[axis] if grid else 1
    return count


def program_ndim() -> int:
    """Axes of the launch grid: 1, or 0 where the kernel was launched without one."""
    return len(_grid())


def _require_axis(axis: int) -> None:
    dims = max(len(_grid()), 1)
    if not 0 <= axis < dims:
        refuse(LAUNCH_GRID, f"Axis {axis} of the launch grid {list(_grid())}.", f"It has {dims}, counted from 0.")


def is_sbuf(buffer: Any) -> bool:
    return region_of(buffer) is MemoryRegion.sbuf


def is_psum(buffer: Any) -> bool:
    return region_of(buffer) is MemoryRegion.psum


def is_hbm(buffer: Any) -> bool:
    """Whether it is any of the HBM regions."""
    return region_of(buffer) in (MemoryRegion.private_hbm, MemoryRegion.shared_hbm)


def is_on_chip(buffer: Any) -> bool:
    """Whether it is SBUF or PSUM."""
    return region_of(buffer) in (MemoryRegion.sbuf, MemoryRegion.psum)


def device_print(print_prefix: str, tensor: Tensor) -> None:
    """Print a tensor's values now, whole tensors of up to a thousand elements and the ends of larger ones."""
    if not isinstance(tensor, Tensor):
        raise UserError(f"device_print got {tensor!r}.", "It prints a tensor; use print for other values.")
    core = current()
    if not core.values:
        print(f"{print_prefix} {tensor.describe()}: no values are computed")  # noqa: T201  (it is what the function does)
        return
    values = np.asarray(core.read(tensor))
    text = np.array2string(values.astype(np.float32) if values.dtype.kind == "V" else values, threshold=1000)
    print(f"{print_prefix} {tensor.describe()}:\n{text}")  # noqa: T201


def random_seed(seed: Tensor) -> None:
    """Seed the random numbers with a 1x1 tensor: the same seed gives the same numbers from then on."""
    nisa.set_rng_seed(seed)
