"""Index expressions of the older language: ``nl.arange``, ``nl.mgrid``, arithmetic on them, and masks of them.

An ``Index`` is a whole number for each position of a small grid. As long as only sums and constant factors are used it
is kept as a start and one step per dimension, which turns into a strided access without listing elements; quotients,
remainders and products of two expressions are listed. A ``Predicate`` is a truth value per position; where the true
positions form a box, masking an instruction is the same as running it on smaller operands, and that is what happens.

Not covered: expressions over tensors, which are tiles (see ``tile``).
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.refusal import refuse

Axes = tuple[int, ...]
_axis_numbers = itertools.count(1)  # 0 stands for "none" and for dimensions of size 1
_NEWAXIS_ERROR = "An index expression takes only ':', None and '...' in brackets, as in nl.arange(128)[:, None]."


class Index:
    """Whole numbers over a grid: ``start + sum(steps[d] * position[d])``, or listed in ``listed``.

    ``axes`` numbers the ``arange`` each dimension came from: a mask over ``i_k`` finds both operands of a matmul so.
    """

    __slots__ = ("axes", "listed", "shape", "start", "steps")
    __array_priority__ = 100.0
    __array_ufunc__ = None  # NumPy scalars leave arithmetic to this class

    def __init__(
        self,
        shape: tuple[int, ...],
        start: int = 0,
        steps: tuple[int, ...] = (),
        axes: Axes = (),
        listed: Array | None = None,
    ) -> None:
        self.shape = shape
        self.start = start
        self.steps = steps
        self.axes = axes or (0,) * len(shape)
        self.listed = listed

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def values(self) -> Array:
        """Every number, as an int64 array of ``shape``."""
        if self.listed is not None:
            return self.listed
        made: Array = np.full((1,) * len(self.shape), self.start, np.int64)
        for dim, (size, step) in enumerate(zip(self.shape, self.steps, strict=True)):
            line = np.arange(size, dtype=np.int64) * step
            made = made + line.reshape((-1,) + (1,) * (len(self.shape) - 1 - dim))
        return made

    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest number."""
        if self.listed is not None:
            return int(self.listed.min()), int(self.listed.max())
        reach = [step * (size - 1) for size, step in zip(self.shape, self.steps, strict=True)]
        return self.start + sum(min(0, r) for r in reach), self.start + sum(max(0, r) for r in reach)

    def spread(self, shape: tuple[int, ...]) -> Index:
        """The same numbers broadcast to ``shape`` (dimensions aligned at the right)."""
        if shape == self.shape:
            return self
        lead = len(shape) - len(self.shape)
        axes = (0,) * lead + self.axes
        if self.listed is not None:
            return Index(shape, axes=axes, listed=np.broadcast_to(self.listed, shape))
        old = (1,) * lead + self.shape
        steps = (0,) * lead + self.steps
        kept = tuple(step if size != 1 else 0 for size, step in zip(old, steps, strict=True))
        return Index(shape, self.start, kept, axes)

    def __getitem__(self, key: Any) -> Index:
        taken = _taken("".join([_tag(each) for each in (key if type(key) is tuple else (key,))]), len(self.shape))
        shape = tuple([1 if at < 0 else self.shape[at] for at in taken])
        axes = tuple([0 if at < 0 else self.axes[at] for at in taken])
        if self.listed is not None:
            return Index(shape, axes=axes, listed=self.listed.reshape(shape))
        steps = tuple([0 if at < 0 or not self.steps else self.steps[at] for at in taken])
        return Index(shape, self.start, steps, axes)

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Index:
        return _combine(self, other, operator.add)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Index:
        return _combine(self, other, operator.sub)

    def __rsub__(self, other: Any) -> Index:
        return (self * -1).__add__(other)

    def __neg__(self) -> Index:
        return self * -1

    def __mul__(self, other: Any) -> Index:
        return _combine(self, other, operator.mul)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Index:
        return _combine(self, other, operator.floordiv)

    __truediv__ = __floordiv__

    def __mod__(self, other: Any) -> Index:
        return _combine(self, other, operator.mod)

    # -- comparison ---------------------------------------------------------------------------------------------------

    def __lt__(self, other: Any) -> Predicate:
        return _compare(self, other, operator.lt)

    def __le__(self, other: Any) -> Predicate:
        return _compare(self, other, operator.le)

    def __gt__(self, other: Any) -> Predicate:
        return _compare(self, other, operator.gt)

    def __ge__(self, other: Any) -> Predicate:
        return _compare(self, other, operator.ge)

    def __eq__(self, other: object) -> Predicate:  # type: ignore[override]
        return _compare(self, other, operator.eq)

    def __ne__(self, other: object) -> Predicate:  # type: ignore[override]
        return _compare(self, other, operator.ne)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        refuse(rules.PARAMETER, "An index expression is used as a truth value.", "Compare it, and pass that as mask=.")
        return True

    def __repr__(self) -> str:
        return f"<index of shape {list(self.shape)} from {self.bounds()[0]} to {self.bounds()[1]}>"


def _tag(key: object) -> str:
    if key is None:
        return "n"
    if key is Ellipsis:
        return "."
    if type(key) is slice and key.start is None and key.stop is None and key.step is None:
        return ":"
    refuse(rules.PARAMETER, f"An index expression is indexed with {key!r}.", _NEWAXIS_ERROR)
    raise AssertionError("refused")


@functools.lru_cache(1024)
def _taken(tags: str, count: int) -> tuple[int, ...]:
    """Which of an index expression's dimensions each one of the result is; -1 for new ones."""
    made: list[int] = []
    at = 0
    for tag in tags if "." in tags else f"{tags}.":
        taken = 0 if tag == "n" else 1 if tag == ":" else count - tags.count(":")
        made.extend([-1] if tag == "n" else range(at, at + taken))
        at += taken
    if at > count or tags.count(".") > 1:
        refuse(rules.PARAMETER, "An index expression is indexed beyond its dimensions.", _NEWAXIS_ERROR)
    return tuple(made)


def whole(value: object) -> int | None:
    """The integer that a loop variable or NumPy scalar is; ``None`` for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        return None
    try:
        return operator.index(cast("Any", value))
    except TypeError:
        return None


def as_index(value: object) -> Index | None:
    """An index expression or integer as an ``Index``; ``None`` for anything else."""
    if isinstance(value, Index):
        return value
    number = whole(value)
    return None if number is None else Index((), number)


_broadcast = functools.lru_cache(4096)(np.broadcast_shapes)


def joined(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that ``shapes`` broadcast to."""
    try:
        return _broadcast(*shapes)
    except ValueError:
        text = " and ".join(str(list(shape)) for shape in shapes)
        refuse(rules.OPERAND_SHAPE, f"Index expressions of shapes {text} do not fit together.", "They must broadcast.")
        raise AssertionError("refused") from None


def _axes_of(one: Index, two: Index) -> Axes:
    made = []
    for a, b, m, n in zip(one.axes, two.axes, one.shape, two.shape, strict=True):
        made.append(a if n == 1 or b in (0, a) else b if m == 1 or a == 0 else 0)
    return tuple(made)


def _lined(one: Index, two: Index) -> tuple[tuple[int, ...], Axes]:
    shape = joined(one.shape, two.shape)
    count = len(shape)
    left = one[(None,) * (count - one.ndim)] if one.ndim < count else one
    right = two[(None,) * (count - two.ndim)] if two.ndim < count else two
    return shape, _axes_of(left, right)


def _combine(one: Index, other: Any, op: Callable[[Any, Any], Any]) -> Index:
    number = whole(other)
    if number is not None and one.listed is None:
        if op is operator.add or op is operator.sub:
            return Index(one.shape, op(one.start, number), one.steps, one.axes)
        if op is operator.mul:
            return Index(one.shape, one.start * number, tuple([step * number for step in one.steps]), one.axes)
    two = as_index(other)
    if two is None:
        return NotImplemented  # type: ignore[no-any-return]
    if not one.shape and not two.shape and one.listed is None and two.listed is None:
        return Index((), op(one.start, two.start))
    shape, axes = _lined(one, two)
    affine = one.listed is None and two.listed is None
    if affine and op in (operator.add, operator.sub):
        a, b = one.spread(shape), two.spread(shape)
        return Index(shape, op(a.start, b.start), tuple(map(op, a.steps, b.steps)), axes)
    if affine and op is operator.mul and not (any(one.steps) and any(two.steps)):
        a, b = one.spread(shape), two.spread(shape)
        factor, base = (b.start, a) if not any(b.steps) else (a.start, b)
        return Index(shape, base.start * factor, tuple(step * factor for step in base.steps), axes)
    values = op(one.values(), two.values())
    return Index(shape, axes=axes, listed=np.broadcast_to(values, shape))


# -- truth values -----------------------------------------------------------------------------------------------------


class Affine(NamedTuple):
    """A predicate as one comparison with zero: what ``affine_select`` takes."""

    expression: Index
    op: Callable[[Any, Any], Any]


class Predicate:
    """A truth value per position of a grid. Combine with ``&``, ``|`` and ``~``; ``and`` cannot see both sides."""

    __slots__ = ("_values", "affine", "axes", "make", "shape")
    __array_ufunc__ = None

    def __init__(
        self, shape: tuple[int, ...], axes: Axes, make: Callable[[], Array], affine: Affine | None = None
    ) -> None:
        self.shape = shape
        self.axes = axes
        self.make = make
        self.affine = affine
        self._values: Array | None = None

    def values(self) -> Array:
        """Truth values that broadcast to ``shape``."""
        if self._values is None:
            self._values = self.make()
        return self._values

    def _join(self, other: Any, op: Callable[[Any, Any], Any]) -> Predicate:
        if isinstance(other, (bool, np.bool_)):
            return Predicate(self.shape, self.axes, lambda: op(self.values(), bool(other)))
        if not isinstance(other, Predicate):
            return NotImplemented  # type: ignore[no-any-return]
        shape = joined(self.shape, other.shape)
        mine, theirs = (
            Index(self.shape, axes=self.axes, steps=(0,) * len(self.shape)),
            Index(other.shape, axes=other.axes, steps=(0,) * len(other.shape)),
        )
        _, axes = _lined(mine, theirs)
        return Predicate(shape, axes, lambda: op(self.values(), other.values()))

    def __and__(self, other: Any) -> Predicate:
        return self._join(other, operator.and_)

    __rand__ = __and__

    def __or__(self, other: Any) -> Predicate:
        return self._join(other, operator.or_)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Predicate:
        return self._join(other, operator.xor)

    def __invert__(self) -> Predicate:
        return Predicate(self.shape, self.axes, lambda: np.logical_not(self.values()))

    def __bool__(self) -> bool:
        refuse(
            rules.PARAMETER,
            f"A predicate over a grid of shape {list(self.shape)} is used as a single truth value.",
            "Write (a) & (b), (a) | (b) and ~(a) instead of 'and', 'or' and 'not', and pass it as mask= or pred=.",
        )
        return True


def _compare(one: Index, other: Any, op: Callable[[Any, Any], Any]) -> Predicate:
    two = as_index(other)
    if two is None:
        return NotImplemented  # type: ignore[no-any-return]
    shape, axes = _lined(one, two)
    difference = one - two

    def make() -> Array:
        low, high = difference.bounds()
        if op is not operator.ne and op is not operator.eq and bool(op(low, 0)) == bool(op(high, 0)):
            return np.full((1,) * len(shape), bool(op(low, 0)))
        truth: Array = op(difference.values(), 0)
        return truth

    return Predicate(shape, axes, make, Affine(difference, op) if difference.listed is None else None)


# -- the language's functions -----------------------------------------------------------------------------------------


def arange(*args: Any) -> Index:
    """``arange(stop)`` or ``arange(start, stop[, step])``: numbers along one dimension, to be indexed with ``None``."""
    numbers = [operator.index(each) for each in args]
    start, stop, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    size = max(0, math.ceil((stop - start) / step))
    if size < 1:
        refuse(rules.PARAMETER, f"nl.arange{tuple(numbers)} has no elements.", "Give a stop above the start.")
    return Index((size,), start, (step,), (next(_axis_numbers),))


class Grid(tuple[Index, ...]):
    """What ``nl.mgrid[...]`` gives: one index expression per dimension, also by the names p, x, y, z and w."""

    __slots__ = ()
    p = property(lambda self: self[0])
    x = property(lambda self: self[1])
    y = property(lambda self: self[2])
    z = property(lambda self: self[3])
    w = property(lambda self: self[4])


class MeshGrid:
    """``nl.mgrid[0:128, 0:512]``: index expressions that span the grid, each of its own dimension."""

    def __getitem__(self, key: Any) -> Grid:
        ranges = key if isinstance(key, tuple) else (key,)
        made = []
        for at, each in enumerate(ranges):
            line = arange(each.start or 0, each.stop, each.step or 1)
            made.append(line[tuple(slice(None) if dim == at else None for dim in range(len(ranges)))])
        return Grid(made)


mgrid = MeshGrid()


class Box(NamedTuple):
    """Half-open ranges of positions, one per dimension, where a mask is true."""

    ranges: tuple[tuple[int, int], ...]

    @property
    def empty(self) -> bool:
        return any(low >= high for low, high in self.ranges)


def box_of(truth: Array, shape: tuple[int, ...]) -> Box | None:
    """The box that the true positions fill, when they do; ``truth`` broadcasts to ``shape``."""
    ranges = []
    volume = 1
    full = (1,) * (len(shape) - truth.ndim) + truth.shape
    truth = truth.reshape(full)
    for dim, size in enumerate(shape):
        if full[dim] == 1:
            ranges.append((0, size))
            continue
        line = truth.any(axis=tuple(d for d in range(truth.ndim) if d != dim))
        hits = np.flatnonzero(line)
        if not hits.size:
            return Box(((0, 0),) * len(shape))
        ranges.append((int(hits[0]), int(hits[-1]) + 1))
        volume *= ranges[-1][1] - ranges[-1][0]
    count = int(np.count_nonzero(truth))
    if not count:
        return Box(((0, 0),) * len(shape))
    return Box(tuple(ranges)) if count == volume else None


def each_position(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Every index tuple of a small shape, the last dimension fastest."""
    return itertools.product(*(range(size) for size in shape))
