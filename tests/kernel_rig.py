"""A core to try single instructions on: tensors in, instructions through ``nki.isa``, values out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from outcrop.silicon import chip
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import find
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.rules import relaxed_names
from outcrop.silicon.device.settings import Settings
from outcrop.silicon.device.tensor import Tensor

CHIPS = {name: chip.load(name) for name in ("trn1", "trn2", "trn3")}  # loading takes tens of milliseconds


@contextmanager
def core(target: str = "trn2", relaxed: bool | Collection[str] = False, **settings: Any) -> Iterator[Core]:
    """The current core of this thread, within the block."""
    machine = Machine(Settings(target=CHIPS[target], relaxed=relaxed_names(relaxed), **settings))
    with machine.cores[0].active() as made:
        yield made


def put(
    on: Core, values: Any, dtype: Any = None, region: str = "sbuf", address: tuple[int, int] | None = None
) -> Tensor:
    """A tensor with the given values, rounded to ``dtype``."""
    array = np.asarray(values)
    kind = find(array.dtype if dtype is None else dtype)
    tensor = on.allocate(array.shape, kind, MemoryRegion(region), address=address)
    on.write(tensor, array.reshape(tensor.shape))
    return tensor


def empty(on: Core, shape: tuple[int, ...], dtype: Any = "float32", region: str = "sbuf") -> Tensor:
    """A tensor that nothing wrote."""
    return on.allocate(shape, dtype, MemoryRegion(region))


def get(on: Core, tensor: Tensor) -> np.ndarray[Any, Any]:
    """A copy of a tensor's elements as they lie in memory; refuses what nothing wrote."""
    return np.array(on.read(tensor, defined=True))
