"""Data types of the kernel language: how an element lies in memory, and the one rounding at the end of an instruction.

Names and meaning follow the vendor's table of data types (NKI ISA API, "Supported Data Types"). A ``DType`` is a string
with the type's name, as in the vendor's API, and also converts to a NumPy dtype. Low-precision floats are those of
``ml_dtypes``, which rounds to nearest even.

Not covered: the hardware's behaviour where a float8 result overflows is not documented; values beyond the largest
finite number become infinity or NaN as IEEE and OCP conversions give them, and are not saturated.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from outcrop.base.errors import UserError

Array = NDArray[Any]


class DType(str):
    """One data type. Equal to its own name, to NumPy dtypes and scalar types of the same layout, and hashable."""

    numpy: np.dtype[Any]  # how one element lies in memory; packed types are unsigned integers there
    itemsize: int  # bytes of one element
    is_float: bool
    is_integer: bool
    lanes: int  # values in one element: 4 for packed types, else 1
    lane: np.dtype[Any]  # the type of each value

    def __new__(cls, name: str, numpy: Any, *, lane: Any = None, lanes: int = 1) -> DType:
        made = super().__new__(cls, name)
        made.numpy = np.dtype(numpy)
        made.itemsize = made.numpy.itemsize
        made.lanes = lanes
        made.lane = made.numpy if lane is None else np.dtype(lane)
        made.is_integer = lanes == 1 and made.numpy.kind in "iu" and name != "bool"
        made.is_float = lanes == 1 and not made.is_integer and name != "bool"
        return made

    @property
    def dtype(self) -> np.dtype[Any]:
        """What NumPy asks an object for when it is used as a dtype."""
        return self.numpy

    @property
    def name(self) -> str:
        return str.__str__(self)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, str):
            return str.__eq__(self, other)
        try:
            return find(other) is self
        except UserError:
            return False

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __call__(self, value: Any) -> Any:
        """A NumPy scalar of this type, as ``np.float32(1)`` gives."""
        return self.numpy.type(value)

    def __repr__(self) -> str:
        return f"nl.{self.name}"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Copies and unpickled values are the type itself."""
        return find, (self.name,)


bool_ = DType("bool", np.uint8)  # "boolean stored as uint8"
int8 = DType("int8", np.int8)
int16 = DType("int16", np.int16)
int32 = DType("int32", np.int32)
uint8 = DType("uint8", np.uint8)
uint16 = DType("uint16", np.uint16)
uint32 = DType("uint32", np.uint32)
float16 = DType("float16", np.float16)
bfloat16 = DType("bfloat16", ml_dtypes.bfloat16)
float32 = DType("float32", np.float32)
tfloat32 = DType("tfloat32", np.float32)  # 8 bits of exponent, 10 of mantissa, in 4 bytes
float8_e4m3 = DType("float8_e4m3", ml_dtypes.float8_e4m3)
float8_e4m3fn = DType("float8_e4m3fn", ml_dtypes.float8_e4m3fn)
float8_e5m2 = DType("float8_e5m2", ml_dtypes.float8_e5m2)
float8_e8m0fnu = DType("float8_e8m0fnu", ml_dtypes.float8_e8m0fnu)
float8_e5m2_x4 = DType("float8_e5m2_x4", np.uint32, lane=ml_dtypes.float8_e5m2, lanes=4)
float8_e4m3fn_x4 = DType("float8_e4m3fn_x4", np.uint32, lane=ml_dtypes.float8_e4m3fn, lanes=4)
float4_e2m1fn_x4 = DType("float4_e2m1fn_x4", np.uint16, lane=ml_dtypes.float4_e2m1fn, lanes=4)

ALL: tuple[DType, ...] = (
    bool_, int8, int16, int32, uint8, uint16, uint32, float16, bfloat16, float32, tfloat32, float8_e4m3, float8_e4m3fn,
    float8_e5m2, float8_e8m0fnu, float8_e5m2_x4, float8_e4m3fn_x4, float4_e2m1fn_x4,
)  # fmt: skip

_BY_NAME: dict[str, DType] = {each.name: each for each in ALL} | {
    "bool_": bool_,
    "fp32": float32,
    "fp16": float16,
    "bf16": bfloat16,
    "float": float32,
}
_BY_NUMPY: dict[np.dtype[Any], DType] = {np.dtype(np.bool_): bool_, np.dtype(np.float64): float32} | {
    each.numpy: each for each in reversed(ALL) if each.lanes == 1 and each not in (bool_, tfloat32)
}

_FLOAT8_VALUES: dict[np.dtype[Any], Array] = {
    each.numpy: np.arange(256, dtype=np.uint8).view(each.numpy).astype(np.float32)
    for each in (float8_e4m3, float8_e4m3fn, float8_e5m2, float8_e8m0fnu)
}


def find(dtype: Any) -> DType:
    """The data type that a name, a NumPy dtype or scalar type, or a PyTorch dtype stands for; else ``UserError``."""
    if type(dtype) is DType:
        return dtype
    if isinstance(dtype, str):
        found = _BY_NAME.get(dtype)
        if found is not None:
            return found
    text = str(dtype)
    if text.startswith("torch."):
        found = _BY_NAME.get(text.removeprefix("torch."))
    else:
        try:
            found = _BY_NUMPY.get(np.dtype(dtype))
        except TypeError:
            found = None
    if found is None:
        raise UserError(f"{dtype!r} is not a data type of the kernel language.", f"It has: {', '.join(ALL)}.")
    return found


def to_float32(values: Array, dtype: DType) -> Array:
    """The up-cast at the start of arithmetic; float32 comes back as it is, not copied."""
    if values.dtype == np.float32:
        return values
    table = _FLOAT8_VALUES.get(values.dtype)
    if table is not None:  # several times as fast as ml_dtypes' conversion
        up: Array = table.take(values.view(np.uint8))
        return up
    return values.astype(np.float32)


def store(target: Array, values: Array, dtype: DType) -> None:
    """Write ``values`` (any NumPy type) into ``target`` (laid out as ``dtype``), rounding once.

    To a float: to nearest even. To an integer: to nearest even, then saturated; NaN becomes 0. To bool: 1 where the
    value is not 0. Values that already have the target's type are copied bit by bit.
    """
    if dtype is tfloat32:
        target[...] = _round_mantissa(np.asarray(values, np.float32), bits=10)
    elif values.dtype == target.dtype:
        target[...] = values
    elif dtype is bool_:
        target[...] = values != 0
    elif dtype.is_integer:
        target[...] = _to_integer(values, dtype.numpy)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            target[...] = values


def _to_integer(values: Array, target: np.dtype[Any]) -> Array:
    info = np.iinfo(target)
    if values.dtype.kind in "iu":
        wide: Array = np.clip(values.astype(np.int64), info.min, info.max).astype(target)
        return wide
    with np.errstate(invalid="ignore"):
        rounded = np.rint(values.astype(np.float64))
    rounded = np.nan_to_num(np.clip(rounded, info.min, info.max), nan=0.0)
    whole: Array = rounded.astype(target)
    return whole


def _round_mantissa(values: Array, bits: int) -> Array:
    drop = 23 - bits
    raw = values.view(np.uint32)
    half = np.uint32((1 << (drop - 1)) - 1)
    odd = (raw >> np.uint32(drop)) & np.uint32(1)
    rounded = ((raw + half + odd) >> np.uint32(drop)) << np.uint32(drop)
    finite: Array = np.where(np.isfinite(values), rounded, raw).view(np.float32)
    return finite
