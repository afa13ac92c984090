"""Tensors out of nothing: allocated, filled with one value, with constants, or with random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outcrop.base.errors import UserError
from outcrop.silicon.device import rules
from outcrop.silicon.device.core import Core, current
from outcrop.silicon.device.dtypes import Array, DType, find, float32, uint8, uint32
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import SBUF, SHARED_HBM, MemoryRegion
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa

BUFFER_NAME = rules.rule(
    "buffer-name",
    "A buffer is given as nl.sbuf and its kin, not as a string.",
    "AWS Neuron, NKI 0.3.0 update guide: string buffer names no longer supported",
)

_REGIONS = {each.value: each for each in MemoryRegion} | {"hbm": MemoryRegion.private_hbm}


def region_of(buffer: Any) -> MemoryRegion:
    """The memory that a ``buffer`` argument names."""
    if isinstance(buffer, MemoryRegion):
        return buffer
    found = _REGIONS.get(buffer) if isinstance(buffer, str) else getattr(buffer, "region", None)
    if not isinstance(found, MemoryRegion):
        refuse(rules.PARAMETER, f"buffer={buffer!r} is no memory.", "It is nl.sbuf, nl.psum, nl.hbm or nl.shared_hbm.")
        raise AssertionError("refused")
    return found


def ndarray(shape: Sequence[int], dtype: Any, buffer: Any = SBUF, name: str = "", address: Any = None) -> Tensor:
    """A tensor whose bytes nothing has written yet.

    On-chip, the first dimension is the partition dimension (at most 128), and a one-dimensional shape gets a free
    dimension of 1. ``address`` is ``(partition, byte within the partition)``; without one, the tensor is placed at the
    end of the run. ``name`` shows in messages; without one, the variable that it is assigned to does.
    """
    if isinstance(dtype, MemoryRegion) or isinstance(buffer, DType):
        refuse(
            rules.PARAMETER,
            f"nl.ndarray got dtype={dtype!r} and buffer={buffer!r}.",
            "Shape, data type and memory come in this order: nl.ndarray((128, 512), nl.float32, nl.sbuf).",
        )
    if isinstance(buffer, str):
        remedy = f"Write buffer=nl.{buffer}."
        refuse(BUFFER_NAME, f"nl.ndarray got the memory as the string {buffer!r}.", remedy)
    return current().allocate(shape, dtype, region_of(buffer), name, address)


def full(shape: Sequence[int], fill_value: Any, dtype: Any, buffer: Any = SBUF, name: str = "") -> Tensor:
    """A tensor filled with one value: ``memset`` on-chip; in HBM, tiles of it copied there by DMA."""
    core = current()
    made = ndarray(shape, dtype, buffer, name)
    if made.on_chip:
        nisa.memset(made, fill_value)
        return made
    _fill_hbm(core, made, fill_value)
    return made


def _fill_hbm(core: Core, made: Tensor, value: Any) -> None:
    """Split the tensor into pieces of as many partitions as divide it, no wider than a chunk, and copy a tile there."""
    size = made.size
    rows = next(count for count in range(core.limits.partitions, 0, -1) if size % count == 0)
    width = size // rows
    flat = made.reshape((rows, width))
    chunk = min(width, 2048)
    tile = core.allocate((rows, chunk), made.dtype, SBUF, f"{made.name}_fill")
    nisa.memset(tile, value)
    for start in range(0, width, chunk):
        stop = min(start + chunk, width)
        nisa.dma_copy(flat[:, start:stop], tile[:, : stop - start])


def zeros(shape: Sequence[int], dtype: Any, buffer: Any = SBUF, name: str = "") -> Tensor:
    """A tensor of zeros; see ``full``."""
    return full(shape, 0, dtype, buffer, name)


def ones(shape: Sequence[int], dtype: Any, buffer: Any = SBUF, name: str = "") -> Tensor:
    """A tensor of ones; see ``full``."""
    return full(shape, 1, dtype, buffer, name)


def zeros_like(x: Tensor, dtype: Any = None, buffer: Any = None, name: str = "") -> Tensor:
    """A tensor of zeros of the shape of ``x``; also of its type and in its memory, where none is given."""
    return zeros(x.shape, x.dtype if dtype is None else dtype, x.buffer if buffer is None else buffer, name)


def empty_like(x: Tensor, dtype: Any = None, buffer: Any = None, name: str = "") -> Tensor:
    """A tensor of the shape of ``x`` that nothing wrote; also of its type and in its memory, where none is given."""
    return ndarray(x.shape, x.dtype if dtype is None else dtype, x.buffer if buffer is None else buffer, name)


def rand(shape: Sequence[int], dtype: Any, buffer: Any = SBUF, name: str = "") -> Tensor:
    """Random numbers, uniform in ``[0, 1)``: 32 random bits per element, shifted to 24 and scaled.

    24 bits are what float32 holds exactly, so that 1 is never reached; a narrower ``dtype`` may round up to 1.
    """
    core = current()
    made = ndarray(shape, dtype, buffer, name)
    sizes = made.shape if made.on_chip else _tile_shape(core, made.size)
    bits = core.allocate(sizes, uint32, SBUF, f"{made.name}_bits")
    nisa.rng(bits)
    nisa.tensor_scalar(bits, bits, "right_shift", 8)
    if made.on_chip:
        nisa.tensor_scalar(made, bits, "multiply", 2.0**-24)
        return made
    scaled = core.allocate(sizes, float32, SBUF, f"{made.name}_scaled")
    nisa.tensor_scalar(scaled, bits, "multiply", 2.0**-24)
    nisa.dma_copy(made.reshape(sizes), scaled)
    return made


def _tile_shape(core: Core, size: int) -> tuple[int, int]:
    rows = next(count for count in range(core.limits.partitions, 0, -1) if size % count == 0)
    return rows, size // rows


def shared_constant(constant: Any) -> Tensor:
    """A tensor in shared HBM with the values of a NumPy array, or of a ``.npy`` file."""
    if isinstance(constant, (str, Path)):
        path = Path(constant)
        if not path.is_file():
            raise UserError(f"shared_constant: there is no file {path}.")
        constant = np.load(path, allow_pickle=False)
    values = np.asarray(constant)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        values = values.astype(np.int32)
    dtype = find(values.dtype)
    values = np.array(values if dtype.numpy.kind == "u" and values.dtype == bool else values.astype(dtype.numpy))
    return _constant(current(), values.astype(dtype.numpy), dtype, "constant")


def _constant(core: Core, values: Array, dtype: Any, name: str) -> Tensor:
    return core.host_tensor(values, dtype, name, SHARED_HBM)


def shared_identity_matrix(n: int, dtype: Any = uint8, dst: Tensor | None = None) -> Tensor:
    """The n x n identity in SBUF, copied there by DMA from a constant; in ``dst`` where one is given."""
    core = current()
    kind = find(dtype)
    eye = np.eye(n, dtype=np.float32).astype(kind.numpy)
    source = _constant(core, eye, kind, f"identity{n}")
    target = core.allocate((n, n), kind, SBUF, f"identity{n}_tile") if dst is None else dst
    nisa.dma_copy(target, source)
    return target


__all__ = [
    "empty_like",
    "full",
    "ndarray",
    "ones",
    "rand",
    "region_of",
    "shared_constant",
    "shared_identity_matrix",
    "zeros",
    "zeros_like",
]
