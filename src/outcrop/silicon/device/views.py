"""Views of views: the shape-based methods of a tensor. Each composes access patterns; none touches data.

Semantics after the vendor's NkiTensor reference (NKI 0.6.0) and the guide "NKI Access Patterns". On-chip tensors keep
their partition dimension first and have at least two dimensions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import DType, find
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.registers import VirtualRegister

if TYPE_CHECKING:
    from outcrop.silicon.device.storage import Storage
    from outcrop.silicon.device.tensor import Dynamic, ElementIndex, Tensor


class DynamicSlice(NamedTuple):
    """``nl.ds(start, size)``: ``start`` may be an integer, a register or a 1x1 tensor."""

    start: Any
    size: int
    step: int = 1


class Views:
    """The methods of a tensor that make new views of it."""

    __slots__ = ()

    if TYPE_CHECKING:
        storage: Storage
        shape: tuple[int, ...]
        strides: tuple[int, ...]
        offset: int
        dtype: DType
        dynamic: Dynamic | None
        index: ElementIndex | None

        @property
        def on_chip(self) -> bool: ...
        @property
        def row_elements(self) -> int: ...
        def describe(self) -> str: ...

    def _with(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int,
        dtype: DType | None = None,
        dynamic: Dynamic | None = None,
    ) -> Tensor:
        if self.dynamic is not None and self.dynamic.columns is not None and shape != self.shape:
            self._refuse_indirect("Another view")
        made = type(self)(self.storage, shape, strides, offset, dtype or self.dtype, dynamic or self.dynamic)  # type: ignore[call-arg]
        return cast("Tensor", made)

    def _refuse_indirect(self, what: str) -> None:
        refuse(
            rules.PARAMETER,
            f"{what} of {self.describe()}, whose elements run-time indices choose.",
            "Slice or reshape before the indirection, or choose fewer indices.",
        )

    def _keep_rows(self, key: Any) -> None:
        """The rows that ``vector_select`` or a ``vector_offset`` picks stay together."""
        whole = type(key) is slice and self._slice_bounds(key, 0, self.shape[0]) == (0, self.shape[0], 1)
        if not whole:
            self._refuse_indirect("A part of the rows")

    def _dim(self, dim: int, what: str, count: int | None = None) -> int:
        """A dimension's number, where negative ones count from the end as in NumPy."""
        limit = len(self.shape) if count is None else count
        if not -limit <= dim < limit:
            refuse(
                rules.OUT_OF_BOUNDS,
                f"{what} names dimension {dim} of {self.describe()}.",
                f"Dimensions are 0 to {limit - 1}.",
            )
        return dim % limit

    # -- queries ------------------------------------------------------------------------------------------------------

    def is_contiguous(self) -> bool:
        """Whether the elements lie densely in row-major order; on-chip, within each partition."""
        expected = 1
        first = 1 if self.on_chip else 0
        for size, stride in zip(reversed(self.shape[first:]), reversed(self.strides[first:]), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True

    def get_pattern(self) -> list[list[int]]:
        """``[[stride, count], …]``, as ``ap`` takes it."""
        return [[stride, size] for stride, size in zip(self.strides, self.shape, strict=True)]

    def is_indirect(self) -> bool:
        """Whether run-time values take part in the address."""
        return self.dynamic is not None or self.index is not None

    # -- indexing -----------------------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        keys = key if type(key) is tuple else (key,)
        if len(keys) != len(self.shape) or Ellipsis in [k for k in keys if k is Ellipsis]:
            keys = self._filled(keys)
        shape: list[int] = []
        strides: list[int] = []
        offset = self.offset
        dynamic: Dynamic | None = None
        on_chip = self.on_chip
        for dim, (item, size, stride) in enumerate(zip(keys, self.shape, self.strides, strict=True)):
            if type(item) is slice:
                start, stop, step = self._slice_bounds(item, dim, size)
                offset += start * stride
                shape.append((stop - start + step - 1) // step)
                strides.append(stride * step)
            elif isinstance(item, DynamicSlice):
                if isinstance(item.start, int):
                    if item.size or not 0 <= item.start <= size:
                        self._require_inside(dim, item.start, item.start + (item.size - 1) * item.step + 1, size)
                    offset += item.start * stride
                else:
                    dynamic = self._dynamic(dim, item.start, stride, size - (item.size - 1) * item.step, dynamic)
                shape.append(item.size)
                strides.append(stride * item.step)
            elif hasattr(item, "__index__") and not isinstance(item, VirtualRegister):
                at = operator.index(item)
                if at < 0:
                    at += size
                self._require_inside(dim, at, at + 1, size)
                offset += at * stride
                if on_chip and dim == 0:
                    shape.append(1)
                    strides.append(stride)
            else:
                if not isinstance(item, (Views, VirtualRegister)):
                    refuse(
                        rules.PARAMETER,
                        f"Dimension {dim} of {self.describe()} is indexed with {item!r}, a {type(item).__name__}.",
                        "Index with an integer, a slice, nl.ds, a register or a 1x1 tensor; see expand_dim for a new "
                        "dimension and vector_select for several rows.",
                    )
                dynamic = self._dynamic(dim, item, stride, size, dynamic)
                if on_chip and dim == 0:
                    shape.append(1)
                    strides.append(stride)
        if on_chip and len(shape) < 2:
            shape.append(1)
            strides.append(1)
        elif not shape:
            shape, strides = [1], [1]
        if self.dynamic is not None and self.dynamic.vector is not None:
            self._keep_rows(keys[0])
        if 0 in shape:  # nl.ds(start, 0), on a core that has nothing to do
            from outcrop.silicon.device.patterns import unusable  # noqa: PLC0415  (patterns build on tensors)

            return unusable(cast("Tensor", self), tuple(shape), tuple(strides), offset)
        return self._with(tuple(shape), tuple(strides), offset, dynamic=dynamic)

    def __setitem__(self, key: Any, value: Any) -> None:
        from outcrop.silicon.device.ops.assignment import assign  # noqa: PLC0415  (instructions take tensors)

        assign(self[key], value)

    def _filled(self, keys: tuple[Any, ...]) -> tuple[Any, ...]:
        given = sum(1 for k in keys if k is not Ellipsis)
        if given > len(self.shape) or len(keys) - given > 1:
            refuse(
                rules.OUT_OF_BOUNDS,
                f"{self.describe()} is indexed with {given} indices and {len(keys) - given} ellipses.",
                f"Give at most {len(self.shape)} indices and one ellipsis.",
            )
        rest = (slice(None),) * (len(self.shape) - given)
        for at, item in enumerate(keys):
            if item is Ellipsis:
                return (*keys[:at], *rest, *keys[at + 1 :])
        return (*keys, *rest)

    def _slice_bounds(self, item: slice, dim: int, size: int) -> tuple[int, int, int]:
        start, stop, step = item.start, item.stop, item.step
        start = 0 if start is None else operator.index(start)
        stop = size if stop is None else operator.index(stop)
        step = 1 if step is None else operator.index(step)
        if start < 0:
            start += size
        if stop < 0:
            stop += size
        if not (0 <= start < stop <= size and step >= 1):
            refuse(
                rules.OUT_OF_BOUNDS,
                f"The slice {item.start}:{item.stop}:{item.step} of dimension {dim} leaves {self.describe()}.",
                f"Keep 0 <= start < stop <= {size} and step >= 1: slices are not cut to the tensor as in NumPy.",
            )
        return start, stop, step

    def _require_inside(self, dim: int, start: int, stop: int, size: int) -> None:
        if not 0 <= start < stop <= size:
            refuse(
                rules.OUT_OF_BOUNDS,
                f"Elements {start} to {stop - 1} of dimension {dim} lie outside {self.describe()}.",
                f"The dimension has elements 0 to {size - 1}.",
            )

    def _dynamic(self, dim: int, value: Any, stride: int, limit: int, already: Dynamic | None) -> Dynamic:
        from outcrop.silicon.device.tensor import Dynamic  # noqa: PLC0415  (tensor is built from this class)

        if self.dynamic is not None or already is not None:
            refuse(
                rules.PARAMETER,
                f"{self.describe()} already has a dynamic address, and dimension {dim} would be a second one.",
                "An access has one dynamic dimension: add the two offsets in a register first.",
            )
        if self.on_chip and dim == 0:
            refuse(
                rules.PARTITION_STEP,
                f"The partition dimension of {self.describe()} is indexed with a run-time value.",
                "Only free dimensions of on-chip tensors take run-time indices.",
            )
        return Dynamic(stride, limit, dim, scalar=value)

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> Tensor:
        """Elements ``start`` to ``end`` (not included) of one dimension."""
        dim = self._dim(dim, "slice")
        return self[tuple(slice(start, end, step) if d == dim else slice(None) for d in range(len(self.shape)))]

    def select(self, dim: int, index: Any) -> Tensor:
        """One element of a dimension, which goes away; ``index`` may be a 1x1 tensor or a register."""
        dim = self._dim(dim, "select")
        return self[tuple(index if d == dim else slice(None) for d in range(len(self.shape)))]

    def vector_select(self, dim: int, vector_offset: Tensor) -> Tensor:
        """For each partition its own row of the first dimension of an HBM tensor; ``vector_offset`` is ``[P, 1]``."""
        from outcrop.silicon.device.tensor import Dynamic  # noqa: PLC0415

        if dim != 0 or self.on_chip or self.dynamic is not None:
            refuse(
                rules.PARAMETER,
                f"vector_select(dim={dim}) of {self.describe()}.",
                "It takes dimension 0 of an HBM tensor that has no dynamic address yet.",
            )
        dynamic = Dynamic(self.strides[0], self.shape[0], 0, vector=vector_offset)
        return self._with((vector_offset.shape[0], *self.shape[1:]), self.strides, self.offset, dynamic=dynamic)

    # -- reshaping ----------------------------------------------------------------------------------------------------

    def _keep_partition(self, touched: bool, what: str) -> None:
        if touched and (self.on_chip or (self.dynamic is not None and self.dynamic.vector is not None)):
            refuse(
                rules.PARTITION_STEP,
                f"{what} would change the partition dimension of {self.describe()}.",
                "Dimension 0 stays as it is; move data between partitions with a transpose or a DMA.",
            )

    def _shape_error(self, what: str, fix: str) -> None:
        refuse(rules.OPERAND_SHAPE, f"{what} of {self.describe()} with strides {list(self.strides)}.", fix)

    def permute(self, dims: Sequence[int]) -> Tensor:
        """Reorder the dimensions."""
        order = tuple(dims)
        if sorted(order) != list(range(len(self.shape))):
            self._shape_error(f"permute{order}", f"Give each of 0 to {len(self.shape) - 1} once.")
        self._keep_partition(order[0] != 0, f"permute{order}")
        return self._with(tuple(self.shape[d] for d in order), tuple(self.strides[d] for d in order), self.offset)

    def broadcast(self, dim: int, size: int) -> Tensor:
        """Repeat the one element of a dimension of size 1."""
        dim = self._dim(dim, "broadcast")
        self._keep_partition(dim == 0, f"broadcast({dim}, {size})")
        if self.shape[dim] != 1:
            self._shape_error(f"broadcast({dim}, {size})", "The dimension must have size 1.")
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = size, 0
        return self._with(tuple(shape), tuple(strides), self.offset)

    def expand_dim(self, dim: int) -> Tensor:
        """Insert a dimension of size 1."""
        dim = self._dim(dim, "expand_dim", len(self.shape) + 1)
        self._keep_partition(dim == 0, f"expand_dim({dim})")
        shape, strides = list(self.shape), list(self.strides)
        step = strides[dim] * shape[dim] if dim < len(shape) else 1
        shape.insert(dim, 1)
        strides.insert(dim, step)
        return self._with(tuple(shape), tuple(strides), self.offset)

    def squeeze_dim(self, dim: int) -> Tensor:
        """Remove a dimension of size 1."""
        dim = self._dim(dim, "squeeze_dim")
        self._keep_partition(dim == 0, f"squeeze_dim({dim})")
        if self.shape[dim] != 1:
            self._shape_error(f"squeeze_dim({dim})", "The dimension must have size 1.")
        return self._with(
            self.shape[:dim] + self.shape[dim + 1 :], self.strides[:dim] + self.strides[dim + 1 :], self.offset
        )

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> Tensor:
        """Split a dimension; one size may be -1."""
        dim = self._dim(dim, "reshape_dim")
        sizes = _inferred(tuple(shape), self.shape[dim])
        if sizes is None:
            self._shape_error(f"reshape_dim({dim}, {tuple(shape)})", f"The sizes must multiply to {self.shape[dim]}.")
            raise AssertionError("refused")
        self._keep_partition(dim == 0 and len([s for s in sizes if s != 1]) > 1, f"reshape_dim({dim}, {sizes})")
        steps = [self.strides[dim]]
        for size in reversed(sizes[1:]):
            steps.insert(0, steps[0] * size)
        return self._with(
            self.shape[:dim] + sizes + self.shape[dim + 1 :],
            self.strides[:dim] + tuple(steps) + self.strides[dim + 1 :],
            self.offset,
        )

    def flatten_dims(self, start_dim: int, end_dim: int) -> Tensor:
        """Merge neighbouring dimensions, ``end_dim`` included."""
        start_dim, end_dim = self._dim(start_dim, "flatten_dims"), self._dim(end_dim, "flatten_dims")
        if start_dim > end_dim:
            self._shape_error(f"flatten_dims({start_dim}, {end_dim})", "The first dimension comes first.")
        self._keep_partition(start_dim == 0 and end_dim > 0, f"flatten_dims({start_dim}, {end_dim})")
        sizes = self.shape[start_dim : end_dim + 1]
        merged = _restride(sizes, self.strides[start_dim : end_dim + 1], (math.prod(sizes),))
        if merged is None:
            self._shape_error(f"flatten_dims({start_dim}, {end_dim})", "Those dimensions do not lie back to back.")
            raise AssertionError("refused")
        return self._with(
            (*self.shape[:start_dim], math.prod(sizes), *self.shape[end_dim + 1 :]),
            (*self.strides[:start_dim], merged[0], *self.strides[end_dim + 1 :]),
            self.offset,
        )

    def reshape(self, *shape: Any) -> Tensor:
        """Another shape over the same elements in the same order; fails where that needs a copy."""
        wanted = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else tuple(shape)
        sizes = _inferred(wanted, math.prod(self.shape))
        if sizes is None:
            self._shape_error(f"reshape{wanted}", f"The sizes must multiply to {math.prod(self.shape)}.")
            raise AssertionError("refused")
        self._keep_partition(sizes[0] != self.shape[0], f"reshape{sizes}")
        kept = 1 if self.on_chip else 0
        strides = _restride(self.shape[kept:], self.strides[kept:], sizes[kept:])
        if strides is None:
            self._shape_error(f"reshape{sizes}", "Its elements do not lie so that this needs no copy.")
            raise AssertionError("refused")
        return self._with(sizes, self.strides[:kept] + strides, self.offset)

    def rearrange(
        self, src_pattern: Sequence[Any], dst_pattern: Sequence[Any], fixed_sizes: dict[str, int] | None = None
    ) -> Tensor:
        """Split, reorder and merge by names: ``t.rearrange(("b", ("h", "w")), ("b", "w", "h"), {"h": 4})``."""
        known = dict(fixed_sizes or {})
        view = cast("Tensor", self)
        names: list[str] = []
        for group in src_pattern:
            members = (group,) if isinstance(group, str) else tuple(group)
            if len(members) > 1:
                view = view.reshape_dim(len(names), tuple(known.get(name, -1) for name in members))
            names.extend(members)
        flat = [name for group in dst_pattern for name in ((group,) if isinstance(group, str) else group)]
        if sorted(flat) != sorted(names) or len(names) != len(view.shape):
            self._shape_error(f"rearrange({src_pattern} to {dst_pattern})", "Both sides name the same dimensions once.")
        order = tuple(names.index(name) for name in flat)
        if order != tuple(range(len(order))):
            view = view.permute(order)
        for at, group in enumerate(dst_pattern):
            if not isinstance(group, str) and len(group) > 1:
                view = view.flatten_dims(at, at + len(group) - 1)
        return view

    def view(self, dtype: Any) -> Tensor:
        """The same bytes as another data type; the last dimension's size changes with the element size."""
        wanted = find(dtype)
        old, new = self.dtype.itemsize, wanted.itemsize
        if old == new:
            return self._with(self.shape, self.strides, self.offset, wanted)
        last_bytes = self.shape[-1] * old
        if self.strides[-1] != 1 or self.dynamic is not None or last_bytes % new or self.offset * old % new:
            self._shape_error(f"view({wanted.name})", "The last dimension must be dense and hold whole elements.")
        if any(stride * old % new for stride in self.strides[:-1]):
            self._shape_error(f"view({wanted.name})", "Every stride must be a whole number of the new elements.")
        strides = (*(stride * old // new for stride in self.strides[:-1]), 1)
        return self._with((*self.shape[:-1], last_bytes // new), strides, self.offset * old // new, wanted)

    reinterpret_cast = view

    # -- raw patterns -------------------------------------------------------------------------------------------------

    def ap(
        self,
        pattern: Sequence[Sequence[int]],
        offset: int | None = None,
        scalar_offset: Any = None,
        vector_offset: Any = None,
        indirect_dim: int = 0,
        dtype: Any = None,
    ) -> Tensor:
        """An explicit pattern of ``[stride, count]`` over the storage, outermost first; see the vendor's guide.

        A run-time offset counts in steps of ``indirect_dim``, a dimension of this view.
        """
        from outcrop.silicon.device.patterns import explicit_pattern  # noqa: PLC0415

        return explicit_pattern(
            cast("Tensor", self), pattern, offset, scalar_offset, vector_offset, indirect_dim, dtype
        )

    def indirect(self, index: Tensor, num_elem: int | None = None) -> Tensor:
        """Tensor indirection (v4): columns of the free dimension chosen by ``index``, which is ``[P, K]``."""
        from outcrop.silicon.device.tensor import Dynamic  # noqa: PLC0415

        if not self.is_contiguous():
            self._shape_error("indirect()", "Indices count elements of a partition: take a view that is dense in each.")
        count = math.prod(index.shape) if num_elem is None else num_elem
        dynamic = Dynamic(1, math.prod(self.shape[1:]), 1, columns=index)
        return self._with((self.shape[0], count), (self.strides[0], 0), self.offset, dynamic=dynamic)


def _inferred(shape: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The shape with its one -1 filled in; ``None`` where it does not hold ``size`` elements."""
    unknown = [at for at, each in enumerate(shape) if each == -1]
    known = math.prod(each for each in shape if each != -1)
    if len(unknown) > 1 or (unknown and (known == 0 or size % known)):
        return None
    if unknown:
        return (*shape[: unknown[0]], size // known, *shape[unknown[0] + 1 :])
    return shape if known == size else None


def _restride(shape: tuple[int, ...], strides: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides that show the same elements in the same order in another shape; ``None`` where none do."""
    runs: list[tuple[int, int]] = []  # (size, stride) of dense runs, outermost first
    for size, stride in zip(shape, strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == stride * size:
            runs[-1] = (runs[-1][0] * size, stride)
        else:
            runs.append((size, stride))
    made: list[int] = []
    rest = list(reversed(wanted))
    step = 1
    for size, stride in reversed(runs):
        step, left = stride, size
        while left > 1:
            if not rest:
                return None
            each = rest.pop(0)
            if each == 0 or left % each:
                return None
            made.append(step)
            step *= each
            left //= each
    made.extend(step for _ in rest)
    return tuple(reversed(made))
