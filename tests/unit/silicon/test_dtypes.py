"""Data types: names, NumPy's view of them, and the one rounding at the end of an instruction."""

from __future__ import annotations

import numpy as np
import pytest

from outcrop.base.errors import UserError
from outcrop.silicon.device import dtypes
from outcrop.silicon.device.dtypes import find, store


def stored(values: object, dtype: str) -> np.ndarray:
    kind = find(dtype)
    array = np.asarray(values)
    target = np.empty(array.shape, kind.numpy)
    store(target, array, kind)
    return target


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=str)
def test_a_type_is_its_name_and_a_numpy_dtype(dtype: dtypes.DType) -> None:
    assert dtype == str(dtype)
    assert find(str(dtype)) is dtype
    assert np.empty(3, dtype.numpy).dtype.itemsize == dtype.itemsize
    assert hash(dtype) == hash(str(dtype))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (np.float32, "float32"),
        (np.dtype("int16"), "int16"),
        ("bfloat16", "bfloat16"),
        (np.float64, "float32"),
        (np.bool_, "bool"),
        (dtypes.bfloat16.numpy, "bfloat16"),
    ],
)
def test_other_libraries_names_are_understood(given: object, name: str) -> None:
    assert find(given) == name
    assert find(name) == given or given is np.float64


def test_an_unknown_type_lists_the_known() -> None:
    with pytest.raises(UserError, match="bfloat16"):
        find("float7")


def test_integers_round_to_even_and_saturate() -> None:
    values = np.array([0.5, 1.5, 2.5, -0.5, 254.6, 300.0, -3.0, np.nan, np.inf, -np.inf], np.float32)
    assert stored(values, "uint8").tolist() == [0, 2, 2, 0, 255, 255, 0, 0, 255, 0]
    assert stored(values, "int8").tolist() == [0, 2, 2, 0, 127, 127, -3, 0, 127, -128]
    big = np.array([3e9, -3e9, 2147483520.0], np.float32)
    assert stored(big, "int32").tolist() == [2147483647, -2147483648, 2147483520]
    assert stored(np.array([300, -5], np.int32), "uint8").tolist() == [255, 0]


def test_low_precision_rounds_to_even() -> None:
    values = np.array([1.00390625, 1.01171875, 1.0078125], np.float32)  # ties of bfloat16, and one of its values
    assert stored(values, "bfloat16").astype(np.float32).tolist() == [1.0, 1.015625, 1.0078125]
    assert stored(np.array([17.0, 19.0]), "float8_e4m3").astype(np.float32).tolist() == [16.0, 20.0]


def test_tfloat32_keeps_ten_bits_of_mantissa() -> None:
    ulp = 2.0**-10
    values = np.array([1 + ulp / 2, 1 + 1.5 * ulp, 1 + ulp, np.inf, -np.inf, np.nan, 3.4028235e38], np.float32)
    got = stored(values, "tfloat32")
    assert got[:5].tolist() == [1.0, 1 + 2 * ulp, 1 + ulp, np.inf, -np.inf]
    assert np.isnan(got[5])
    assert got[6] == np.inf


def test_bool_is_one_byte_of_zero_or_one() -> None:
    assert stored(np.array([0.0, -2.0, np.nan, 1.0], np.float32), "bool").tolist() == [0, 1, 1, 1]
