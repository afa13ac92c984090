"""Launch grids and loops of the older language: ``program_id``, ``spmd_dim``, ``affine_range``.

The programs of a grid run one after another on one core, in row-major order; each starts with empty on-chip memory and
sees the same HBM. How ``nl.nc`` spreads programs over physical cores changes no values and is kept only as sizes.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from typing import Any

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import maybe_current
from outcrop.silicon.device.refusal import refuse

LOOPS = "legacy loops"  # in Core.state: what each running loop remembers, outermost first
UNROLLED = "legacy unrolled loops"  # in Core.state: where each running static_range is
POINT = "legacy program"  # in Core.state: the grid and this program's place in it


class CoreDimension:
    """``nl.nc(n)``: a grid dimension over ``n`` physical cores."""

    def __init__(self, size: int) -> None:
        self.size = int(size)

    def __mul__(self, other: int) -> GridDimension:
        return GridDimension(self.size * int(other))

    __rmul__ = __mul__


class GridDimension:
    """One dimension of a launch grid, however it is spread."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __mul__(self, other: Any) -> GridDimension:
        return GridDimension(self.size * _size(other))

    __rmul__ = __mul__


def _size(value: Any) -> int:
    return int(getattr(value, "size", value))


nc = CoreDimension


def spmd_dim(*dims: Any) -> GridDimension:
    """A grid dimension made of several, such as ``spmd_dim(nl.nc(2), 2)``."""
    return GridDimension(math.prod(_size(each) for each in dims))


def grid_sizes(grid: Any) -> tuple[int, ...]:
    """The sizes of what a kernel was indexed with."""
    dims = grid if isinstance(grid, (tuple, list)) else (grid,)
    sizes = tuple(_size(each) for each in dims)
    if any(size < 1 for size in sizes):
        refuse(rules.PARAMETER, f"A kernel was launched on the grid {list(sizes)}.", "Sizes are at least 1.")
    return sizes


def points(grid: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every program's place, the last dimension fastest."""
    return list(itertools.product(*(range(size) for size in grid)))


def _state() -> tuple[tuple[int, ...], tuple[int, ...]]:
    core = maybe_current()
    held: tuple[tuple[int, ...], tuple[int, ...]] = ((), ()) if core is None else core.state.get(POINT, ((), ()))
    return held


def program_id(axis: int) -> int:
    """This program's place along an axis of the grid."""
    grid, point = _state()
    if not 0 <= axis < len(grid):
        if not grid and axis == 0:
            return 0
        refuse(rules.PARAMETER, f"nl.program_id({axis}) on the grid {list(grid)}.", "Launch the kernel as kernel[...].")
    return point[axis]


def num_programs(axes: Any = None) -> int:
    """Programs along axes of the grid, or in all."""
    grid, _ = _state()
    if axes is None:
        return math.prod(grid)
    wanted = axes if isinstance(axes, (tuple, list)) else (axes,)
    return math.prod(grid[axis] for axis in wanted if axis < len(grid))


def program_ndim() -> int:
    """Dimensions of the grid."""
    return len(_state()[0])


class Loop:
    """A loop whose body the older compiler traced once, for all iterations.

    Python runs the body every time here. What it decides but the device cannot do per iteration, where a tensor lies
    under direct allocation, is remembered from the first: see ``once``.
    """

    def __init__(self, args: tuple[Any, ...]) -> None:
        self.numbers = range(*(int(each) for each in args))

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        core = maybe_current()
        active: list[dict[Any, Any]] = [] if core is None else core.state.setdefault(LOOPS, [])
        active.append({})
        depth = len(active)
        try:
            yield from self.numbers
        finally:
            del active[depth - 1 :]


def once(made: Any) -> Any:
    """``made``, or within a loop what the same call made in the loop's first iteration."""
    core = maybe_current()
    active = [] if core is None else core.state.get(LOOPS, [])
    if not active:
        return made
    assert core is not None
    return active[0].setdefault((core.state.get(UNROLLED, ()), _call_sites()), made)


def _call_sites() -> tuple[Any, ...]:
    """The calls that led here from the kernel, each as its code and place in it."""
    frame = sys._getframe(2)
    made = []
    while frame is not None:
        made.append((frame.f_code, frame.f_lasti))
        if frame.f_code.co_name == "run_kernel":
            break
        back = frame.f_back
        if back is None:
            break
        frame = back
    return tuple(made)


def affine_range(*args: Any, **kwargs: Any) -> Loop:
    """A loop whose iterations do not depend on each other; run in order here."""
    return Loop(args)


def sequential_range(*args: Any, **kwargs: Any) -> Loop:
    """A loop whose iterations depend on each other."""
    return Loop(args)


class UnrolledLoop(Loop):
    """A loop whose body the older compiler traced for every iteration."""

    def __iter__(self) -> Iterator[int]:
        core = maybe_current()
        state: dict[str, Any] = {} if core is None else core.state
        before = state.get(UNROLLED, ())
        try:
            for number in self.numbers:
                state[UNROLLED] = (*before, number)
                yield number
        finally:
            state[UNROLLED] = before


def static_range(*args: Any, **kwargs: Any) -> Loop:
    """A loop that the compiler unrolls."""
    return UnrolledLoop(args)
