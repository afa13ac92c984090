"""A statically quantised projection, rounding by rounding: what reaches memory after each instruction, to the bit.

An fp32 reference of such a kernel says little: where most values are clipped, one flipped sign is a large error.
So the reference here rounds where the instructions' destinations do, with a rounding written from the formats alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kernel_rig import core, empty, get, put
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki import language as nl

Array = np.ndarray[Any, Any]


def rounded(values: Array, mantissa: int, least: int) -> Array:
    """To nearest even with that many bits of mantissa, in a format whose least normal exponent is ``least``."""
    wide = np.asarray(values, np.float64)
    _, exponent = np.frexp(wide)  # |x| = m * 2**exponent, 0.5 <= m < 1
    step = np.ldexp(1.0, np.maximum(exponent - 1, least) - mantissa)
    whole: Array = np.rint(wide / step) * step
    return whole


def bfloat16(values: Array) -> Array:
    return rounded(values, 7, -126)


def float8_e4m3(values: Array) -> Array:
    return rounded(values, 3, -6)


@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize("double", [False, True])
def test_static_quantised_projection_rounds_at_each_destination_and_nowhere_else(target: str, *, double: bool) -> None:
    rng = np.random.default_rng(5)
    rows, tokens, columns, heads = 128, 8, 96, 2
    scale, back = np.float32(1 / 0.0037), np.float32(0.0037 * 0.0011)
    hidden = bfloat16(rng.uniform(0.1, 1.6, (rows, heads * tokens)) * rng.choice([-1, 1], (rows, heads * tokens)))
    weight = 16.0 * rng.integers(-15, 16, (rows, heads * columns))

    scaled = bfloat16(np.float32(hidden) * scale)
    eight = float8_e4m3(np.clip(scaled, -240, 240))
    assert 0.2 < (np.abs(eight) == 240).mean() < 0.8  # both clipped and rounded values take part
    left, right = eight.reshape(rows, heads, tokens), weight.reshape(rows, heads, columns)
    total = np.einsum("kht,khc->tc", left, right)  # exact in any order: multiples of 32 below 2**24
    expected = bfloat16(np.float32(bfloat16(total)) * back)

    with core(target) as on:
        wide = put(on, hidden, "bfloat16")
        factor, undo = put(on, np.full((rows, 1), scale), "float32"), put(on, np.full((rows, 1), back), "float32")
        nisa.activation(dst=wide, op=nl.copy, data=wide, scale=factor)
        narrow = empty(on, (rows, heads, tokens), "float8_e4m3")
        nisa.tensor_scalar(
            narrow, wide.reshape((rows, heads, tokens)), nl.minimum, 240.0, op1=nl.maximum, operand1=-240.0
        )
        np.testing.assert_array_equal(get(on, narrow).astype(np.float64), left)

        kept = put(on, right, "float8_e4m3")
        bank = empty(on, (tokens, columns), "float32", region="psum")
        if double:
            nisa.nc_matmul(bank, narrow, kept, perf_mode=nisa.matmul_perf_mode.double_row)
        else:
            for head in range(heads):
                nisa.nc_matmul(bank, narrow[:, head, :], kept[:, head, :])
        out = empty(on, (tokens, columns), "bfloat16")
        nisa.memset(out, 0.0)
        nisa.tensor_tensor(out, out, bank, nl.add)
        nisa.tensor_scalar(out, out, nl.multiply, undo[:tokens, :])
        np.testing.assert_array_equal(get(on, out).astype(np.float64), expected)


@pytest.mark.parametrize(
    ("dtype", "largest", "tie", "beyond"),
    [("float8_e4m3", 240.0, 248.0, np.inf), ("float8_e5m2", 57344.0, 61440.0, np.inf)],
)
def test_float8_beyond_the_largest_number_is_infinite_and_not_clipped(
    dtype: str, largest: float, tie: float, beyond: float
) -> None:
    values = np.array([[largest, np.nextafter(np.float32(tie), np.float32(0)), tie, 1e6, -tie, -1e6]], np.float32)
    with core() as on:
        narrow = empty(on, values.shape, dtype)
        nisa.tensor_copy(narrow, put(on, values))
        got = get(on, narrow).astype(np.float32)[0]
    assert got.tolist() == [largest, largest, beyond, beyond, -beyond, -beyond]
