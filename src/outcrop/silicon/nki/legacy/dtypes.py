"""Data types of the older language: NumPy's own, as its functions take and give them, and which type two promote to."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from outcrop.silicon.device import dtypes
from outcrop.silicon.device.dtypes import DType, find

bool_ = np.bool_
int8, int16, int32 = np.int8, np.int16, np.int32
uint8, uint16, uint32 = np.uint8, np.uint16, np.uint32
float16, float32 = np.float16, np.float32
bfloat16 = np.dtype(ml_dtypes.bfloat16)
float8_e4m3 = np.dtype(ml_dtypes.float8_e4m3)
float8_e5m2 = np.dtype(ml_dtypes.float8_e5m2)
tfloat32 = np.dtype("|V4")

_VOID = {np.dtype("|V4"): dtypes.tfloat32}
_PYTHON = {bool: dtypes.bool_, int: dtypes.int32, float: dtypes.float32}


def kind(dtype: Any) -> DType:
    """The device's data type for anything the older language takes as one."""
    if type(dtype) is DType:
        return dtype
    known = _PYTHON.get(dtype) if isinstance(dtype, type) else None
    if known is not None:
        return known
    if isinstance(dtype, np.dtype) and dtype in _VOID:
        return _VOID[dtype]
    return find(dtype)


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """What ``tile.dtype`` shows for a device type."""
    if dtype is dtypes.bool_:
        return np.dtype(np.bool_)
    return tfloat32 if dtype is dtypes.tfloat32 else dtype.numpy


_WIDTH = {dtypes.float8_e4m3: 1, dtypes.float8_e4m3fn: 1, dtypes.float8_e5m2: 1, dtypes.float16: 2, dtypes.bfloat16: 2}


def promote(one: DType, two: DType) -> DType:
    """The type of a result of two operands, after the vendor's table "NKI Type Promotion"."""
    if one is two:
        return one
    if one is dtypes.bool_ or two is dtypes.bool_:
        return two if one is dtypes.bool_ else one
    if one.is_float != two.is_float:
        return one if one.is_float else two
    if one.is_float:
        a, b = _WIDTH.get(one, 4), _WIDTH.get(two, 4)
        if a != b:
            return one if a > b else two
        if a == 4:
            return dtypes.float32
        return dtypes.float32 if a == 2 else dtypes.bfloat16
    wide = np.promote_types(one.numpy, two.numpy)
    return dtypes.float32 if wide.itemsize > 4 else find(wide)


class Float32Limits:
    """``nl.fp32``: constants of float32."""

    min = float(np.finfo(np.float32).min)
    max = float(np.finfo(np.float32).max)


class BFloat16Limits:
    """``nl.bfp16``: constants of bfloat16."""

    min = -3.3895313892515355e38
    max = 3.3895313892515355e38


fp32, bfp16 = Float32Limits, BFloat16Limits


def finfo(dtype: Any) -> Any:
    """Limits of a float type, as ``numpy.finfo`` gives them."""
    return ml_dtypes.finfo(kind(dtype).numpy)  # type: ignore[no-untyped-call]


def sizeinbytes(dtype: Any) -> int:
    """Bytes of one element."""
    return kind(dtype).itemsize


def static_cast(input_data: Any, dtype: Any) -> Any:
    """An array or scalar of the host in another type."""
    wanted = kind(dtype).numpy
    return np.asarray(input_data).astype(wanted)
