"""Stands for the few functions of SciPy that references of the suites use."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from outcrop.silicon.device.dtypes import Array

_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(values: Any) -> Array:
    array = np.asarray(values)
    found: Array = _erf(array)
    return found.astype(array.dtype) if array.dtype.kind == "f" else found


def expit(values: Any) -> Array:
    """The logistic function, without overflow on either side."""
    array = np.asarray(values)
    small = np.exp(-np.abs(array))
    found: Array = np.where(array >= 0, 1 / (1 + small), small / (1 + small))
    return found.astype(array.dtype) if array.dtype.kind == "f" else found


def softmax(values: Any, axis: int | None = None) -> Array:
    array = np.asarray(values)
    raised = np.exp(array - np.max(array, axis=axis, keepdims=True))
    shares: Array = raised / np.sum(raised, axis=axis, keepdims=True)
    return shares


def circulant(column: Any) -> Array:
    """The matrix whose first column is given and each further one is shifted down by one."""
    first = np.asarray(column).ravel()
    at = np.arange(first.size)
    matrix: Array = first[(at[:, None] - at[None, :]) % first.size]
    return matrix
