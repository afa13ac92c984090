"""What the tensor engine may add to: which bytes of PSUM hold a sum of its own.

PSUM adds near memory: a matmul either overwrites its destination or adds to it. Bytes are a sum (a matmul wrote them
last), written by another engine, or nothing; the last two are told apart by the storage's own map of written bytes. Two
matmuls may cover partly the same bytes, so a sum is kept by element and not by tensor, as fine as the smallest type
written so far. Views known to be sums throughout are remembered, so that a loop over K costs one look-up.

Semantics after the nc_matmul reference (NKI 0.6.0). ``accumulate=True`` adds; that is undefined on bytes that nothing
wrote, and on NeuronCore-v2 and -v3 on bytes that another engine wrote. ``None`` adds where a matmul wrote before (on
later cores: where anything did) and overwrites elsewhere. Where only another engine wrote, the reference leaves open
what ``None`` does on -v2 and -v3: here it overwrites, and is refused unless that is zero and both readings agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from outcrop.silicon.device import access, rules
from outcrop.silicon.device.dtypes import Array, store
from outcrop.silicon.device.refusal import refuse

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core
    from outcrop.silicon.device.storage import Storage, ViewKey
    from outcrop.silicon.device.tensor import Tensor

PSUM_ACCUMULATION = rules.rule(
    "psum-accumulation",
    "A matmul accumulates onto what a matmul wrote; onto other engines' values only where the chip can.",
    "AWS Neuron, nki.isa.nc_matmul: accumulation mode",
)


class Accumulation:
    """Which elements of one PSUM storage are sums of the tensor engine."""

    __slots__ = ("granule", "known", "sums")

    def __init__(self, storage: Storage, granule: int) -> None:
        self.granule = granule  # bytes per entry of the map
        self.sums = np.zeros(storage.size_bytes // granule, np.bool_)
        self.known: set[ViewKey] = set()  # views whose elements are sums, every one

    def refine(self, granule: int) -> None:
        """One entry for each ``granule`` bytes from now on."""
        self.sums = np.repeat(self.sums, self.granule // granule)
        self.granule = granule

    def of(self, tensor: Tensor) -> Array:
        """The entries of a view: its shape, and a last dimension for the entries of an element. A copy if indexed."""
        item = tensor.dtype.itemsize
        if item % self.granule:
            self.refine(item)
        per = item // self.granule
        if tensor.index is not None:
            taken: Array = self.sums.reshape(-1, per)[tensor.index.elements]
            return taken
        strides = (*(step * per for step in tensor.strides), 1)
        return np.ndarray((*tensor.shape, per), np.bool_, self.sums, tensor.offset * per, strides)

    def put(self, tensor: Tensor, value: bool) -> None:
        """Set the entries of a view."""
        entries = self.of(tensor)
        if tensor.index is None:
            entries[...] = value
            return
        elements = tensor.index.elements if tensor.index.valid is None else tensor.index.elements[tensor.index.valid]
        self.sums.reshape(-1, entries.shape[-1])[elements] = value

    def clobbered(self, shadow: Array) -> None:
        """A tensor at an overlapping address was written: what ``shadow`` does not show as written is no sum any more.

        ``shadow`` has an entry for each byte of the storage.
        """
        self.known.clear()
        if self.granule != 1:
            self.refine(1)
        self.sums &= shadow.reshape(-1)


def add(core: Core, dst: Tensor, product: Array, accumulate: bool | None) -> None:
    """Write a product to PSUM: over what is there, onto it, or each where it applies.

    ``product`` is float32 with as many elements as ``dst``. The sum is rounded once to the type of ``dst``.
    """
    if dst.dynamic is not None:
        dst = access.resolve(core, dst, skip_invalid=False)
    values = product.reshape(dst.shape)
    onto = _onto(core, dst, accumulate)
    if onto is False:
        overwrite(core, dst, values)
        return
    if dst.index is not None:
        before = access.gather(dst)
        total = before.astype(np.float32) + values
        access.scatter(dst, total if onto is True else np.where(onto, total, values), None)
    elif onto is True and dst.dtype.itemsize == 4:
        target = dst.array
        np.add(target, values, out=target)
    else:
        total = dst.array.astype(np.float32)
        total += values
        store(dst.array, total if onto is True else np.where(onto, total, values), dst.dtype)
    _mark(dst)


def overwrite(core: Core, dst: Tensor, values: Array) -> None:
    """Write values of the tensor engine to PSUM without regard to what was there."""
    if dst.dynamic is not None:
        dst = access.resolve(core, dst, skip_invalid=False)
    if dst.index is not None:
        access.scatter(dst, values, None)
    else:
        store(dst.array, values, dst.dtype)
    _mark(dst)


def forget(dst: Tensor, mask: Array) -> None:
    """Take back that a transpose wrote the elements of a static view where ``mask``: nothing wrote what it moved."""
    dst.storage.forget(dst, mask)
    state: Accumulation = dst.storage.accumulation
    state.known.clear()
    entries = state.of(dst)
    entries &= ~mask[..., None]


def is_fresh(dst: Tensor, accumulate: bool | None) -> bool:
    """Whether a matmul to a static view surely overwrites, so that it may compute in place; then ``wrote`` follows."""
    storage = dst.storage
    if dst.dynamic is not None or dst.index is not None or dst.dtype.itemsize != 4:
        return False
    if accumulate is None:
        return storage.accumulation is None and not storage.whole and storage.shadow is None
    return not accumulate


def wrote(dst: Tensor) -> None:
    """Note that a matmul wrote every element of a static view itself, through ``dst.array``."""
    _mark(dst)


def _mark(dst: Tensor) -> None:
    storage = dst.storage
    state: Accumulation | None = storage.accumulation
    if state is None:
        state = storage.accumulation = Accumulation(storage, dst.dtype.itemsize)
    if dst.index is not None:
        state.put(dst, True)
        storage.mark_written(dst)
        return
    key = dst.key
    if key not in state.known:  # if known, nothing was written over it since, nor over it in overlapping tensors
        state.put(dst, True)
        storage.mark_written(dst)
        state.known.add(key)


def _onto(core: Core, dst: Tensor, accumulate: bool | None) -> bool | Array:
    """Whether to add to what ``dst`` holds: everywhere, nowhere, or where the array says so."""
    if accumulate is False:
        return False
    storage = dst.storage
    state: Accumulation | None = storage.accumulation
    if state is not None and dst.index is None and dst.key in state.known:
        return True
    is_sum: Array | None = None
    if state is not None:
        is_sum = np.all(state.of(dst), axis=-1)
        if is_sum.all():
            if dst.index is None:
                state.known.add(dst.key)
            return True
        if not is_sum.any():
            is_sum = None
    missing = storage.unwritten(dst)
    if accumulate:
        _require_sums(core, dst, is_sum, missing)
        return True
    if missing is not None and missing.all():
        return False
    others = np.ones(dst.shape, np.bool_) if missing is None else ~missing  # what anyone wrote
    if core.has("psum_accumulate_any"):
        return True if missing is None else others
    if is_sum is not None:
        others &= ~is_sum
    if others.any():
        _require_zeros(core, dst, others)
    return False if is_sum is None else is_sum


def _require_sums(core: Core, dst: Tensor, is_sum: Array | None, missing: Array | None) -> None:
    """The rules for ``accumulate=True`` where not every element is a sum."""
    if missing is not None and missing.any():
        refuse(
            PSUM_ACCUMULATION,
            f"A matmul with accumulate=True adds to {dst.describe()}, where {_count(missing)} were never written.",
            "Let the first matmul of the sum overwrite: accumulate=(k > 0) in the loop over K, or leave it out.",
        )
        return
    if not core.has("psum_accumulate_any"):
        others = np.ones(dst.shape, np.bool_) if is_sum is None else ~is_sum
        refuse(
            PSUM_ACCUMULATION,
            f"A matmul with accumulate=True adds to {dst.describe()}, where another engine wrote {_count(others)}.",
            f"{core.settings.target.core.name} adds only to what a matmul wrote: start with accumulate=False, and add "
            "the other values afterwards with tensor_tensor.",
        )


def _require_zeros(core: Core, dst: Tensor, others: Array) -> None:
    """``accumulate=None`` over other engines' values: both readings of the reference agree where these are zero."""
    held = access.gather(dst) if dst.index is not None else dst.array
    differ = others & (held.astype(np.float32) != 0)
    if differ.any():
        refuse(
            PSUM_ACCUMULATION,
            f"A matmul with accumulate=None writes to {dst.describe()}, where another engine wrote values that are not "
            f"zero to {_count(differ)}.",
            f"Say accumulate=False to overwrite them. Adding to them is undefined on {core.settings.target.core.name}: "
            "do that afterwards with tensor_tensor.",
        )


def _count(where: Array) -> str:
    first = [int(each) for each in np.argwhere(where)[0]]
    return f"{int(np.count_nonzero(where))} of {where.size} elements (the first at {first})"


def note_plain_write(tensor: Tensor) -> None:
    """Another engine wrote these bytes of a storage that has accumulation state: they are no sum any more."""
    state: Accumulation = tensor.storage.accumulation
    state.known.clear()
    state.put(tensor, False)
