"""Reductions over trailing free dimensions, and the normalisations built of them.

A reduction is one ``nisa.tensor_reduce`` on the vector engine, in float32; ``var`` uses the engine's statistics
(``bn_stats``, ``bn_aggr``). Results are new tiles in SBUF, which keep at least two dimensions.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.dtypes import DType, find, float32
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import SBUF
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki.language.elementwise import multiply
from outcrop.silicon.nki.language.movement import copy_to_sbuf

Axis = int | Sequence[int]


def _trailing(x: Any, axis: Axis, name: str) -> tuple[int, ...]:
    """The axes as non-negative numbers; refused unless they are the last ones and free."""
    if not isinstance(x, Tensor):
        refuse(rules.PARAMETER, f"nl.{name} got {x!r}, a {type(x).__name__}.", "It takes a tile.")
    dims = len(x.shape)
    axes = tuple(sorted(each + dims if each < 0 else each for each in ((axis,) if isinstance(axis, int) else axis)))
    if not axes or axes != tuple(range(dims - len(axes), dims)) or axes[0] == 0:
        last = ", ".join(str(list(range(first, dims))) for first in range(dims - 1, 0, -1))
        refuse(
            rules.PARAMETER,
            f"nl.{name} over axis {axis} of {x.describe()}.",
            f"It reduces the last free dimensions: {last}. Partitions reduce by a matmul with ones, or a transpose.",
        )
    return axes


def _kept(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    shape = tuple(1 if dim in axes else size for dim, size in enumerate(x.shape))
    return shape if keepdims else tuple(size for dim, size in enumerate(shape) if dim not in axes)


def _reduce(name: str, op: str, x: Tensor, axis: Axis, dtype: Any, keepdims: bool) -> Tensor:
    axes = _trailing(x, axis, name)
    kind: DType = x.dtype if dtype is None else find(dtype)
    made = current().allocate(_kept(x, axes, keepdims), kind, SBUF, "")
    nisa.tensor_reduce(made, op, x, axes, False, keepdims)
    return made


def max(x: Tensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The largest element along the axes."""
    return _reduce("max", "maximum", x, axis, dtype, keepdims)


def min(x: Tensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The smallest element along the axes."""
    return _reduce("min", "minimum", x, axis, dtype, keepdims)


def sum(x: Tensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum along the axes."""
    return _reduce("sum", "add", x, axis, dtype, keepdims)


def prod(x: Tensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The product along the axes."""
    return _reduce("prod", "multiply", x, axis, dtype, keepdims)


def all(x: Tensor, axis: Axis, dtype: Any = None) -> Tensor:
    """1 where every element along the axes is not 0, else 0."""
    return _reduce("all", "logical_and", x, axis, dtype, False)


def mean(x: Tensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The sum along the axes in float32, times 1 over their number."""
    axes = _trailing(x, axis, "mean")
    total = _reduce("mean", "add", x, axis, float32, keepdims)
    return multiply(total, 1.0 / math.prod(x.shape[dim] for dim in axes), x.dtype if dtype is None else dtype)


def var(x: Tensor, axis: Axis, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """The variance (over n) along the axes, which stay as dimensions of size 1 whatever ``keepdims`` says."""
    axes = _trailing(x, axis, "var")
    core = current()
    kept = math.prod(x.shape[1 : axes[0]])
    size = math.prod(x.shape[dim] for dim in axes)
    flat = _flat(x).reshape((x.shape[0], kept, size))
    made = core.allocate(_kept(x, axes, True), x.dtype if dtype is None else dtype, SBUF, "")
    target = made.reshape((x.shape[0], kept))
    chunk = builtins.min(core.limits.bn_stats_free, size)
    chunks = -(-size // chunk)
    for row in range(kept):
        stats = core.allocate((x.shape[0], chunks * 6), float32, SBUF, "")
        for at in range(chunks):
            part = flat[:, row, at * chunk : builtins.min((at + 1) * chunk, size)]
            nisa.bn_stats(stats[:, at * 6 : at * 6 + 6], part)
        aggregated = core.allocate((x.shape[0], 2), float32, SBUF, "")
        nisa.bn_aggr(aggregated, stats)
        nisa.tensor_copy(target[:, row : row + 1], aggregated[:, 1:2])
    return made


def _flat(x: Tensor) -> Tensor:
    """The tile with its free dimensions as one; copied where they do not lie densely."""
    dense = x if x.is_contiguous() else copy_to_sbuf(x, x.dtype)
    return dense.reshape((x.shape[0], x.free_size))


def _rows(x: Tensor, axis: Axis, name: str) -> tuple[Tensor, tuple[int, ...]]:
    axes = _trailing(x, axis, name)
    kept = math.prod(x.shape[1 : axes[0]])
    return _flat(x).reshape((x.shape[0], kept, x.free_size // kept)), (x.shape[0], kept, x.free_size // kept)


def softmax(x: Tensor, axis: Axis = -1, dtype: Any = None) -> Tensor:
    """exp(x - max) over its sum along the axes.

    The maximum comes from the vector engine; exponentials and their sum from one activation per row of kept
    dimensions; the division is a product with the reciprocal.
    """
    rows, shape = _rows(x, axis, "softmax")
    core = current()
    made = core.allocate(x.shape, x.dtype if dtype is None else dtype, SBUF, "")
    target = made.reshape(shape)
    largest = core.allocate((shape[0], shape[1]), float32, SBUF, "")
    nisa.tensor_reduce(largest, "maximum", rows, (2,), True, False)
    powers = core.allocate(shape, float32, SBUF, "")
    total = core.allocate((shape[0], shape[1]), float32, SBUF, "")
    inverse = core.allocate((shape[0], shape[1]), float32, SBUF, "")
    for row in range(shape[1]):
        part = slice(row, row + 1)
        nisa.activation_reduce(powers[:, row, :], "exp", rows[:, row, :], "add", total[:, part], largest[:, part])
    nisa.reciprocal(inverse, total)
    for row in range(shape[1]):
        nisa.tensor_scalar(target[:, row, :], powers[:, row, :], "multiply", inverse[:, row : row + 1])
    return made


def rms_norm(
    x: Tensor,
    w: Tensor,
    axis: Axis,
    n: int,
    epsilon: float = 1e-06,
    dtype: Any = None,
    compute_dtype: Any = None,
) -> Tensor:
    """x times w over the root of the mean square along the axes, where the mean is the sum over ``n``.

    ``compute_dtype`` is the type of what is kept between the steps, float32 where it is not given.
    """
    rows, shape = _rows(x, axis, "rms_norm")
    core = current()
    between = float32 if compute_dtype is None else find(compute_dtype)
    squares = core.allocate(shape, between, SBUF, "")
    total = core.allocate((shape[0], shape[1]), float32, SBUF, "")
    for row in range(shape[1]):
        nisa.activation_reduce(squares[:, row, :], "square", rows[:, row, :], "add", total[:, row : row + 1])
    scale = core.allocate((shape[0], shape[1]), float32, SBUF, "")
    nisa.tensor_scalar(scale, total, "multiply", 1.0 / n, False, "add", epsilon)
    nisa.activation(scale, "rsqrt", scale)
    normal = core.allocate(shape, between, SBUF, "")
    for row in range(shape[1]):
        nisa.tensor_scalar(normal[:, row, :], rows[:, row, :], "multiply", scale[:, row : row + 1])
    return multiply(normal.reshape(x.shape), w, x.dtype if dtype is None else dtype)
