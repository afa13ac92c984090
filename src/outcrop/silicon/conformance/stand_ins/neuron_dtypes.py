"""Stands for the vendor's closed ``neuron_dtypes``: conversion of NumPy arrays to the data types of the language."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from outcrop.silicon.device import dtypes
from outcrop.silicon.device.dtypes import Array

bfloat16 = np.dtype(ml_dtypes.bfloat16)
float8_e4m3 = np.dtype(ml_dtypes.float8_e4m3)
float8_e4m3fn = np.dtype(ml_dtypes.float8_e4m3fn)
float8_e5m2 = np.dtype(ml_dtypes.float8_e5m2)
float8_e8m0fnu = np.dtype(ml_dtypes.float8_e8m0fnu)
float8_e4m3fn_x4 = dtypes.float8_e4m3fn_x4
float8_e5m2_x4 = dtypes.float8_e5m2_x4
float4_e2m1fn_x4 = dtypes.float4_e2m1fn_x4


def static_cast(array: Any, dtype: Any) -> Array:
    """The values rounded to ``dtype``. Packed types are packed from their lanes, and unpacked to them, bit by bit."""
    values = np.asarray(array)
    if str(dtype) in ("float64", "int64", "uint64", "<class 'numpy.float64'>", "<class 'numpy.int64'>", "bool"):
        return values.astype(np.dtype(dtype))
    kind = dtypes.find(dtype)
    if kind.lanes > 1:
        return _packed(values, kind)
    with np.errstate(all="ignore"):
        return values.astype(kind.numpy)


def _packed(values: Array, kind: dtypes.DType) -> Array:
    if values.dtype == kind.numpy:
        return values
    lanes = np.ascontiguousarray(values.astype(kind.lane))
    if kind.itemsize == kind.lanes:
        return lanes.view(kind.numpy)
    nibbles = lanes.view(np.uint8).astype(np.uint16).reshape(*lanes.shape[:-1], -1, kind.lanes)
    shifts = 4 * np.arange(kind.lanes, dtype=np.uint16)
    packed: Array = np.bitwise_or.reduce((nibbles & 0xF) << shifts, axis=-1).astype(kind.numpy)
    return packed


def sizeinbytes(dtype: Any) -> int:
    return dtypes.find(dtype).itemsize


def is_float_type(dtype: Any) -> bool:
    return str(dtype) == "float64" or dtypes.find(dtype).is_float


def finfo(dtype: Any) -> Any:
    finfo_of: Any = ml_dtypes.finfo
    return finfo_of(dtypes.find(dtype).numpy)
