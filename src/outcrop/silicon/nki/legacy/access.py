"""From bracket expressions to access patterns: strided wherever the indices are affine, element by element elsewhere.

A view keeps bounds that its indices may break until it is used, because a mask given to the instruction may leave the
offending positions out.

Not covered: two run-time indices in one access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.tensor import Dynamic
from outcrop.silicon.nki.legacy.indices import Index, joined, whole

if TYPE_CHECKING:
    from outcrop.silicon.nki.legacy.tile import Tile


class Slice(NamedTuple):
    """``nl.ds(start, size)``."""

    start: Any
    size: int


class Bound(NamedTuple):
    """An index that may leave its dimension: checked when the view is used."""

    along: Index
    size: int
    dim: int


class Place(NamedTuple):
    """What a view adds to its storage: see ``Tile``."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    partition: int
    axes: tuple[int, ...]
    bounds: tuple[Bound, ...]
    elements: Array | None
    dynamic: Dynamic | None


class Family(NamedTuple):
    """The places of brackets that differ only in where their indices start: the offset moves, all else is the same."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    partition: int
    axes: tuple[int, ...]  # by the order in which the brackets name them, from 1


class _Brackets(NamedTuple):
    """A bracket expression without its starts, and the starts."""

    form: tuple[Any, ...]  # a dictionary key
    starts: list[tuple[int, int, int, int]]  # dimension, start, lowest and highest index from there
    axes: list[int]


_families: dict[Any, Family] = {}
_MOST_FAMILIES = 4096  # the same few brackets come back in every iteration of a loop


def place(tile: Tile, key: Any) -> Place:
    """Where ``tile[key]`` lies."""
    brackets = None
    if tile.elements is None and tile.dynamic is None and not tile.bounds:
        brackets = _brackets(tile.shape, key if type(key) is tuple else (key,))
    if brackets is None:
        return _placed(tile, key)
    form, starts, axes = brackets
    offset = tile.offset
    sizes, strides = tile.shape, tile.strides
    for dim, start, low, high in starts:
        if start + low < 0 or start + high >= sizes[dim]:
            return _placed(tile, key)
        offset += start * strides[dim]
    question = (sizes, strides, tile.partition, form)
    known = _families.get(question)
    if known is not None:
        own = tuple([axes[each - 1] if each else 0 for each in known.axes]) if axes else known.axes
        return Place(known.shape, known.strides, offset, known.partition, own, (), None, None)
    made = _placed(tile, key)
    if made.elements is None and made.dynamic is None and not made.bounds:
        if len(_families) >= _MOST_FAMILIES:
            _families.clear()
        named = tuple([axes.index(each) + 1 if each else 0 for each in made.axes])
        _families[question] = Family(made.shape, made.strides, made.partition, named)
    return made


def _brackets(sizes: tuple[int, ...], keys: tuple[Any, ...]) -> _Brackets | None:
    """The brackets told apart from their starts; ``None`` where they depend on values, or for refusals."""
    form: list[Any] = []
    starts: list[tuple[int, int, int, int]] = []
    axes: list[int] = []
    dim = 0
    for each in keys:
        if each is None:
            form.append(None)
            continue
        kind = type(each)
        if each is Ellipsis:
            form.append(Ellipsis)
            dim += len(sizes) - sum([1 for other in keys if other is not None and other is not Ellipsis])
            continue
        if dim < 0 or dim >= len(sizes):
            return None
        if kind is Index:
            if each.listed is not None:
                return None
            named = []
            for axis in each.axes:
                if axis and axis not in axes:
                    axes.append(axis)
                named.append(axes.index(axis) + 1 if axis else 0)
            form.append((each.shape, each.steps, tuple(named)))
            low = high = 0
            for size, step in zip(each.shape, each.steps, strict=True):
                if step > 0:
                    high += step * (size - 1)
                else:
                    low += step * (size - 1)
            starts.append((dim, each.start, low, high))
        elif kind is slice:
            start, stop, step = each.start, each.stop, each.step
            start = 0 if start is None else whole(start)
            stop = sizes[dim] if stop is None else whole(stop)
            step = 1 if step is None else whole(step)
            if start is None or stop is None or step is None or start < 0 or stop <= start or step < 1:
                return None
            count = -(-(stop - start) // step)
            form.append((count, step))
            starts.append((dim, start, 0, (count - 1) * step))
        else:
            number = each if kind is int else whole(each)
            if number is None:
                return None
            form.append(0)
            starts.append((dim, number + sizes[dim] if number < 0 else number, 0, 0))
        dim += 1
    return _Brackets(tuple(form), starts, axes)


def _placed(tile: Tile, key: Any) -> Place:
    items = _filled(tile, key if isinstance(key, tuple) else (key,))
    shape, axes, indices, dynamic = _indices(tile, items)
    shape, axes, indices, partition = _with_partition(tile, shape, axes, indices)
    bounds = [
        Bound(index, size, dim)
        for dim, (index, size) in enumerate(zip(indices, tile.shape, strict=True))
        if (low_high := index.bounds())[0] < 0 or low_high[1] >= size
    ]
    for bound in tile.bounds:
        bounds.append(Bound(composed(bound.along, indices, shape), bound.size, bound.dim))
    if tile.elements is not None:
        require_inside(tile, bounds)
        elements = tile.elements[tuple(each.spread(shape).values() for each in indices)]
        return Place(shape, (0,) * len(shape), tile.offset, partition, axes, (), elements, dynamic)
    if any(each.listed is not None for each in indices):
        elements = np.full(shape, tile.offset, np.int64)
        for index, stride in zip(indices, tile.strides, strict=True):
            elements += index.spread(shape).values() * stride
        return Place(shape, (0,) * len(shape), tile.offset, partition, axes, tuple(bounds), elements, dynamic)
    offset = tile.offset
    strides = [0] * len(shape)
    for index, stride in zip(indices, tile.strides, strict=True):
        offset += index.start * stride
        for dim, step in enumerate(index.spread(shape).steps):
            strides[dim] += step * stride
    return Place(shape, tuple(strides), offset, partition, axes, tuple(bounds), None, dynamic or tile.dynamic)


def _filled(tile: Tile, keys: tuple[Any, ...]) -> list[Any]:
    given = sum(1 for each in keys if each is not Ellipsis and each is not None)
    if given > len(tile.shape):
        refuse(
            rules.OUT_OF_BOUNDS,
            f"{tile.describe()} is indexed with {given} indices.",
            f"It has {len(tile.shape)} dimensions.",
        )
    rest = [slice(None)] * (len(tile.shape) - given)
    for at, each in enumerate(keys):
        if each is Ellipsis:
            return [*keys[:at], *rest, *keys[at + 1 :]]
    return [*keys, *rest]


def _range(tile: Tile, item: Any, dim: int, size: int) -> tuple[int, int, int]:
    """Start, count and step of a slice or ``nl.ds``."""
    if isinstance(item, Slice):
        start, count, step = int(item.start), item.size, 1
    else:
        step = 1 if item.step is None else int(item.step)
        start = 0 if item.start is None else int(item.start)
        stop = size if item.stop is None else int(item.stop)
        start, stop = start + size if start < 0 else start, stop + size if stop < 0 else stop
        count = -(-(stop - start) // step)
    if count < 1 or step < 1 or start < 0:  # beyond the end is for a mask to leave out, as for nl.arange
        refuse(
            rules.OUT_OF_BOUNDS,
            f"The slice {start}:{start + (count - 1) * step + 1}:{step} of dimension {dim} leaves {tile.describe()}.",
            f"The dimension has elements 0 to {size - 1}; use nl.arange with mask= for a part of a tile.",
        )
    return start, count, step


def _indices(tile: Tile, items: list[Any]) -> tuple[tuple[int, ...], tuple[int, ...], list[Index], Dynamic | None]:
    """One index expression over the result for every dimension of the tile, as NumPy combines them."""
    from outcrop.silicon.nki.legacy.tile import Tile  # noqa: PLC0415

    advanced: list[Index | Tile] = []
    places: list[int] = []
    plain: list[tuple[str, Any]] = []  # per item: what it is
    dim = 0
    for each in items:
        if each is None:
            plain.append(("new", None))
            continue
        number = whole(each)
        if number is not None:
            size = tile.shape[dim]
            plain.append(("int", number + size if number < 0 else number))
        elif isinstance(each, slice) or (isinstance(each, Slice) and not isinstance(each.start, Tile)):
            plain.append(("range", _range(tile, each, dim, tile.shape[dim])))
        elif isinstance(each, Slice):
            plain.append(("moving", each))
        elif isinstance(each, (Index, Tile)):
            plain.append(("index", each))
            advanced.append(each)
            places.append(len(plain) - 1)
        else:
            refuse(
                rules.PARAMETER,
                f"{tile.describe()} is indexed with {each!r}.",
                "Use integers, slices, nl.ds, nl.arange or nl.mgrid expressions, or tiles of integers.",
            )
        dim += 1
    group = joined(*(each.shape for each in advanced)) if advanced else ()
    lead = _group_place(plain, places)
    return _assembled(tile, plain, group, lead)


def _group_place(plain: list[tuple[str, Any]], places: list[int]) -> int:
    """Where the dimensions of the index expressions go: at the first of them, in front if slices stand between."""
    if not places:
        return -1
    between = [what for what, _ in plain[places[0] : places[-1] + 1]]
    apart = any(what in ("range", "moving", "new") for what in between)
    return -1 if apart else places[0]


def _assembled(
    tile: Tile, plain: list[tuple[str, Any]], group: tuple[int, ...], lead: int
) -> tuple[tuple[int, ...], tuple[int, ...], list[Index], Dynamic | None]:
    advanced = any(what == "index" for what, _ in plain)
    sizes: list[int] = []
    group_at = 0
    positions: list[int] = []
    if advanced and lead < 0:
        sizes.extend(group)
    for at, (what, value) in enumerate(plain):
        if advanced and at == lead:
            group_at = len(sizes)
            sizes.extend(group)
        positions.append(len(sizes))
        if what == "range":
            sizes.append(value[1])
        elif what == "moving":
            sizes.append(value.size)
        elif what == "new":
            sizes.append(1)
    shape = tuple(sizes)
    axes = [0] * len(shape)
    made: list[Index] = []
    dynamic: Dynamic | None = None
    dim = 0
    for position, (what, value) in zip(positions, plain, strict=True):
        if what == "new":
            continue
        if what == "int":
            made.append(Index((1,) * len(shape), value, (0,) * len(shape)))
        elif what == "range":
            made.append(_line(shape, position, value[0], value[2]))
        elif what == "moving":
            dynamic = _scalar(tile, value.start, dim, value.size, dynamic)
            made.append(_line(shape, position, 0, 1))
        else:
            index, picked = _taken(tile, value, dim, group)
            if picked is not None:
                dynamic = _only(tile, dynamic, picked)
            index = index.spread(joined(index.shape, group))
            back = (None,) * (len(shape) - group_at - len(group))
            made.append(index[(*(None,) * group_at, Ellipsis, *back)] if shape != group else index)
            for d, axis in enumerate(index.axes):
                axes[group_at + d] = axes[group_at + d] or axis
        dim += 1
    return shape, tuple(axes), made, dynamic


def _line(shape: tuple[int, ...], position: int, start: int, step: int) -> Index:
    own = tuple(size if d == position else 1 for d, size in enumerate(shape))
    return Index(own, start, tuple(step if d == position else 0 for d in range(len(shape))))


def _only(tile: Tile, already: Dynamic | None, picked: Dynamic) -> Dynamic:
    if already is not None or tile.dynamic is not None:
        refuse(
            rules.PARAMETER,
            f"{tile.describe()} is indexed with run-time values in two dimensions.",
            "An access has one run-time dimension: compute one index from both first.",
        )
    return picked


def _scalar(tile: Tile, value: Tile, dim: int, size: int, already: Dynamic | None) -> Dynamic:
    made = Dynamic(tile.strides[dim], tile.shape[dim] - size + 1, dim, scalar=value.device())
    return _only(tile, already, made)


def _taken(tile: Tile, value: Index | Tile, dim: int, group: tuple[int, ...]) -> tuple[Index, Dynamic | None]:
    """An index expression as it is; a tile of indices as a run-time address, or as listed numbers."""
    if isinstance(value, Index):
        return value, None
    steady = Index((1,) * len(value.shape), 0, (0,) * len(value.shape))
    regular = tile.elements is None and tile.dynamic is None and value.elements is None
    if regular and value.size == 1:
        return steady, Dynamic(tile.strides[dim], tile.shape[dim], dim, scalar=value.device())
    per_row = value.shape[0] == group[0] and value.size == value.shape[0] and len(value.shape) <= len(group)
    if regular and per_row and tile.partition < 0:
        return steady, Dynamic(tile.strides[dim], tile.shape[dim], dim, vector=value.device())
    core = current()
    numbers: Array = (
        core.read(value.device()).astype(np.int64).reshape(value.shape)
        if core.values
        else np.zeros(value.shape, np.int64)
    )
    return Index(value.shape, listed=numbers, axes=value.axes), None


def _with_partition(
    tile: Tile, shape: tuple[int, ...], axes: tuple[int, ...], indices: list[Index]
) -> tuple[tuple[int, ...], tuple[int, ...], list[Index], int]:
    """Keep an on-chip view's partition dimension in front, and at least two dimensions."""
    if tile.partition < 0:
        return shape, axes, indices, -1
    own = indices[tile.partition]
    along = _dimension_of(own, shape)
    if along < 0 and (not shape or shape[0] != 1):
        shape, axes = (1, *shape), (0, *axes)
        indices = [each.spread(joined(each.shape, shape[1:]))[(None, Ellipsis)] for each in indices]
        along = 0
    elif along < 0:
        along = 0
    if len(shape) < 2:
        shape, axes = (*shape, 1), (*axes, 0)
        indices = [each.spread(joined(each.shape, shape[:-1]))[(Ellipsis, None)] for each in indices]
    return shape, axes, indices, along


def _dimension_of(index: Index, shape: tuple[int, ...]) -> int:
    """The one dimension of the result that an index moves along; -1 for none."""
    lead = len(shape) - len(index.shape)
    if index.listed is None:
        moving = [d + lead for d, step in enumerate(index.steps) if step and index.shape[d] > 1]
    else:
        moving = [d + lead for d, size in enumerate(index.shape) if size > 1]
    return moving[0] if moving else -1


def composed(outer: Index, indices: list[Index], shape: tuple[int, ...]) -> Index:
    if outer.listed is not None:
        listed = outer.spread(outer.shape).values()[tuple(
            np.minimum(each.spread(shape).values(), size - 1) for each, size in zip(indices, outer.shape, strict=True)
        )]  # fmt: skip
        return Index(shape, listed=listed)
    made = Index(shape, outer.start, (0,) * len(shape))
    for step, each in zip(outer.steps, indices, strict=True):
        if step:
            made = made + each * step
    return made


def require_inside(tile: Tile, bounds: list[Bound] | tuple[Bound, ...]) -> None:
    """Refuse indices that leave their dimension."""
    for bound in bounds:
        low, high = bound.along.bounds()
        if low < 0 or high >= bound.size:
            refuse(
                rules.OUT_OF_BOUNDS,
                f"Indices {low} to {high} of dimension {bound.dim} leave {tile.describe()}.",
                f"The dimension has elements 0 to {bound.size - 1}: give the instruction a mask= that leaves the "
                "others out.",
            )
