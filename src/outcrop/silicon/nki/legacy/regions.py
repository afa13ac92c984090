"""Where a masked instruction takes place: nowhere, everywhere, in a box, or at listed positions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.nki.legacy.indices import Axes, Box, Predicate, box_of


class Region(NamedTuple):
    """The positions of an iteration space that a mask leaves. ``truth`` is set where they form no box."""

    shape: tuple[int, ...]
    box: Box | None
    truth: Array | None
    axes: Axes

    @property
    def empty(self) -> bool:
        return self.box is not None and self.box.empty

    def ranges_for(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The box for an operand of ``shape``, whose dimensions are those of the iteration space or of size 1."""
        assert self.box is not None
        if len(shape) == len(self.shape):
            return tuple(
                (0, size) if size == 1 or size != whole else pair
                for size, whole, pair in zip(shape, self.shape, self.box.ranges, strict=True)
            )
        partial = any(pair != (0, whole) for pair, whole in zip(self.box.ranges[1:], self.shape[1:], strict=True))
        if partial or shape[0] not in (1, self.shape[0]):
            refuse(
                rules.OPERAND_SHAPE,
                f"A mask over {list(self.shape)} is applied to an operand of shape {list(shape)}.",
                "Index the operand so that it has the mask's dimensions.",
            )
        first = self.box.ranges[0] if shape[0] != 1 else (0, 1)
        return (first, *((0, size) for size in shape[1:]))

    def truth_for(self, shape: tuple[int, ...]) -> Array:
        """The listed positions for an operand of ``shape``."""
        assert self.truth is not None
        truth = np.broadcast_to(self.truth, self.shape)
        if len(shape) == len(self.shape):
            shrunk = tuple(d for d, size in enumerate(shape) if size == 1 and self.shape[d] != 1)
            return np.broadcast_to(truth.any(axis=shrunk, keepdims=True) if shrunk else truth, shape)
        rows = truth.any(axis=tuple(range(1, truth.ndim)))
        return np.broadcast_to(rows.reshape((-1,) + (1,) * (len(shape) - 1)), shape)

    def part_for(self, axes: Axes, shape: tuple[int, ...]) -> Region | None:
        """The same mask on an operand whose dimensions came from ``axes``: what a matmul's operands need.

        ``None`` where the mask says nothing about the operand.
        """
        box = self.box
        if box is None:
            refuse(
                rules.OPERAND_SHAPE,
                f"The mask over {list(self.shape)} of a matmul selects no box.",
                "Mask with comparisons of single index expressions, joined by &.",
            )
            raise AssertionError("refused")
        known = {axis: pair for axis, pair in zip(self.axes, box.ranges, strict=True) if axis}
        ranges = tuple(
            known.get(axis, (0, size)) if axis else (0, size) for axis, size in zip(axes, shape, strict=True)
        )
        whole = tuple((0, size) for size in shape)
        return None if ranges == whole else Region(shape, Box(ranges), None, axes)


def region_of(mask: Any, shape: tuple[int, ...]) -> Region | None:
    """The region of a ``mask=`` argument over an iteration space; ``None`` is everywhere."""
    if mask is None or mask is True:
        return None
    if isinstance(mask, (bool, np.bool_)):
        return None if mask else Region(shape, Box(((0, 0),) * len(shape)), None, (0,) * len(shape))
    if not isinstance(mask, Predicate):
        refuse(
            rules.PARAMETER,
            f"mask={mask!r} is a {type(mask).__name__}.",
            "A mask compares index expressions, as in mask=(i_p < 64) & (i_f < n).",
        )
    truth = mask.values()
    if len(mask.shape) > len(shape) or any(
        mine not in (1, whole) for mine, whole in zip(reversed(mask.shape), reversed(shape), strict=False)
    ):
        box = box_of(truth, mask.shape)
        if box is not None and box.ranges == tuple((0, size) for size in mask.shape):
            return None
        return _trimmed(mask, box, shape)
    axes = (0,) * (len(shape) - len(mask.axes)) + mask.axes
    box = box_of(truth, shape)
    if box is None:
        return Region(shape, None, truth, axes)
    if box.ranges == tuple((0, size) for size in shape):
        return None
    return Region(shape, box, None, axes)


def _trimmed(mask: Predicate, box: Box | None, shape: tuple[int, ...]) -> Region:
    """A mask over the indices of an operand, for an iteration space that has only the first of its dimensions whole."""
    if box is not None and box.empty:
        return Region(shape, Box(((0, 0),) * len(shape)), None, (0,) * len(shape))
    whole = box is not None and all(
        pair == (0, size) for pair, size in zip(box.ranges[1:], mask.shape[1:], strict=True)
    )
    if box is None or not whole or mask.shape[0] not in (1, shape[0]):
        refuse(
            rules.OPERAND_SHAPE,
            f"A mask over {list(mask.shape)} is applied to an instruction over {list(shape)}.",
            "The mask's index expressions must broadcast to the shape of what it masks.",
        )
        raise AssertionError("refused")
    ranges = (box.ranges[0], *((0, size) for size in shape[1:]))
    return Region(shape, Box(ranges), None, (mask.axes[0], *((0,) * (len(shape) - 1))))
