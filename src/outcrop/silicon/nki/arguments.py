"""From what a kernel is called with to what it sees, and back: arrays become tensors in HBM, tensors become arrays.

NumPy arrays and PyTorch tensors are taken, anywhere inside tuples, lists, dictionaries, dataclasses and NKIObjects; the
results come back as PyTorch tensors where any input was one. An array that lies densely is not copied: what a kernel
writes to it is there when the kernel returns, as on the device. PyTorch is never imported here: without it there are no
such tensors.

Not covered: 64-bit integers, which the device does not have. They are refused with the conversion to write.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from outcrop.base.errors import UserError
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import Array, DType, find
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.objects import NKIObject

# How PyTorch's types without a NumPy counterpart travel: as integers of their size, then as these.
_TORCH_BITS: dict[str, tuple[str, Any]] = {
    "torch.bfloat16": ("int16", ml_dtypes.bfloat16),
    "torch.float8_e5m2": ("uint8", ml_dtypes.float8_e5m2),
    "torch.float8_e4m3fn": ("uint8", ml_dtypes.float8_e4m3fn),
    "torch.float8_e8m0fnu": ("uint8", ml_dtypes.float8_e8m0fnu),
}


def is_torch(value: object) -> bool:
    """Whether it is a PyTorch tensor, told without importing PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def torch_to_numpy(value: Any) -> Array:
    """The tensor's elements; for a dense one on the CPU, its own memory."""
    if value.device.type != "cpu":
        raise UserError(f"An argument is a PyTorch tensor on {value.device}.", "Pass tensors on the CPU: .cpu().")
    plain = value.detach()
    bits = _TORCH_BITS.get(str(plain.dtype))
    if bits is None:
        return np.asarray(plain.numpy())
    torch = sys.modules["torch"]
    return np.asarray(plain.view(getattr(torch, bits[0])).numpy()).view(bits[1])


def numpy_to_torch(values: Array) -> Any:
    """A PyTorch tensor of the same elements."""
    torch = sys.modules["torch"]
    for name, (bits, kind) in _TORCH_BITS.items():
        if values.dtype == kind:
            raw = np.ascontiguousarray(values).view(bits)
            return torch.from_numpy(raw).view(getattr(torch, name.removeprefix("torch.")))
    if values.dtype.kind == "V" or values.dtype in (np.dtype(ml_dtypes.float8_e4m3),):
        return values  # PyTorch has no such type: the NumPy array then
    return torch.from_numpy(np.ascontiguousarray(values))


class Inputs:
    """The tensors made from one call's arguments, and the way back to the caller's arrays."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._made: dict[int, tuple[Any, Tensor]] = {}
        self._copied: list[tuple[Array, Tensor, Array]] = []
        self.uses_torch = False
        self.tensors: list[Tensor] = []

    def convert(self, value: Any, name: str) -> Any:
        """``value`` with every array inside replaced by a tensor named after the parameter that it came by."""
        if isinstance(value, np.ndarray):
            return self._tensor(value, value, name)
        if is_torch(value):
            self.uses_torch = True
            return self._tensor(value, torch_to_numpy(value), name)
        if isinstance(value, tuple):
            parts = [self.convert(each, f"{name}[{at}]") for at, each in enumerate(value)]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if isinstance(value, list):
            return [self.convert(each, f"{name}[{at}]") for at, each in enumerate(value)]
        if isinstance(value, dict):
            return {key: self.convert(each, f"{name}[{key!r}]") for key, each in value.items()}
        if isinstance(value, NKIObject) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
            return self._object(value, name)
        return value

    def _object(self, value: Any, name: str) -> Any:
        held = getattr(value, "__dict__", None)
        if not held:
            return value
        converted = {key: self.convert(each, f"{name}.{key}") for key, each in held.items()}
        if all(converted[key] is held[key] for key in held):
            return value
        made = copy.copy(value)
        made.__dict__.update(converted)
        return made

    def _tensor(self, given: Any, array: Array, name: str) -> Tensor:
        already = self._made.get(id(given))
        if already is not None:
            return already[1]
        values = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
        dtype = _element_type(values, name)
        if dtype.numpy.itemsize != values.dtype.itemsize:
            values = values.astype(dtype.numpy)
        elif values.dtype != dtype.numpy:
            values = values.view(dtype.numpy)  # bool as uint8: the same bytes
        if self._core.values and not (values.flags.c_contiguous and values.flags.writeable):
            values = np.array(values, order="C")
        # As the vendor's simulator has it: kernels compare the memory of their inputs with nl.hbm.
        shared = self._core.machine.cores_per_rank > 1
        region = MemoryRegion.shared_hbm if shared else MemoryRegion.private_hbm
        tensor = self._core.host_tensor(values, dtype, name, region)
        if self._core.values and not np.may_share_memory(values, array):
            self._copied.append((array, tensor, values.copy()))
        self._made[id(given)] = (given, tensor)
        self.tensors.append(tensor)
        return tensor

    def write_back(self) -> None:
        """Bring what the kernel wrote into inputs that had to be copied back to the caller's arrays."""
        for array, tensor, before in self._copied:
            if array.flags.writeable and not np.array_equal(tensor.array.view(np.uint8), before.view(np.uint8)):
                array[...] = tensor.array.reshape(array.shape).astype(array.dtype)


def _element_type(array: Array, name: str) -> DType:
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        raise UserError(
            f"The argument {name} is an array of {array.dtype}, which the device does not have.",
            f"Pass {name}.astype(np.int32), of a PyTorch tensor {name}.to(torch.int32).",
        )
    try:
        return find(array.dtype)
    except UserError as error:
        raise UserError(f"The argument {name} is an array of {array.dtype}.", str(error)) from None


def convert_results(value: Any, to_array: Callable[[Tensor], Any]) -> Any:
    """What a kernel returned, with every tensor replaced by an array."""
    if isinstance(value, Tensor):
        return to_array(value)
    if isinstance(value, tuple):
        parts = [convert_results(each, to_array) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [convert_results(each, to_array) for each in value]
    if isinstance(value, dict):
        return {key: convert_results(each, to_array) for key, each in value.items()}
    if isinstance(value, NKIObject) and getattr(value, "__dict__", None):
        made = copy.copy(value)
        made.__dict__.update({key: convert_results(each, to_array) for key, each in value.__dict__.items()})
        return made
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in what a kernel returned, in order."""
    found: list[Tensor] = []
    convert_results(value, found.append)
    return found
