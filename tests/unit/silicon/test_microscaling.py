"""quantize_mx and nc_matmul_mx: exact against a model by group, scale layouts, and every rule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import find
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa

LARGEST = {"float8_e4m3fn": 8, "float8_e5m2": 15}
ELEMENTS = {"float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2}
FOURS = {**ELEMENTS, "float4_e2m1fn": ml_dtypes.float4_e2m1fn}
Numbers = np.ndarray[Any, Any]


@contextmanager
def refusal(name: str) -> Iterator[None]:
    with pytest.raises(KernelRefused) as info:
        yield
    assert info.value.rule.name == name


def reference(values: Numbers, element: str) -> tuple[Numbers, Numbers]:
    """Group by group in exact arithmetic: the rounded values, and the scales' exponents plus 127."""
    rows, columns = values.shape[0] // 8, values.shape[1] // 4
    rounded, scales = np.zeros(values.shape), np.zeros((rows, columns), int)
    for row, column in product(range(rows), range(columns)):
        group = values[8 * row : 8 * row + 8, 4 * column : 4 * column + 4].astype(np.float64)
        largest = np.abs(group).max()
        exponent = -127 if largest == 0 else math.frexp(largest)[1] - 1 - (LARGEST[element] - 1)
        exponent = max(exponent, -127)
        scales[row, column] = exponent + 127
        rounded[8 * row : 8 * row + 8, 4 * column : 4 * column + 4] = (
            (group * 2.0**-exponent).astype(np.float32).astype(ELEMENTS[element])
        )
    return rounded, scales


def values_of(packed: Numbers, element: str) -> Numbers:
    """The values of packed float8 elements, side by side."""
    return np.ascontiguousarray(packed).view(np.uint8).view(ELEMENTS[element]).astype(np.float64)


def pack(values: Numbers, element: str) -> Numbers:
    """Values ``[P, 4 F]`` as packed elements ``[P, F]``, the first in the lowest bits."""
    small = values.astype(FOURS[element])
    if element != "float4_e2m1fn":
        return small.view(np.uint32)
    nibbles = small.view(np.uint8).reshape(values.shape[0], -1, 4).astype(np.uint16)
    return nibbles[..., 0] | nibbles[..., 1] << 4 | nibbles[..., 2] << 8 | nibbles[..., 3] << 12


def scale_tensor(on: Core, scales: Numbers, dtype: str = "uint8", at: int = 0) -> Tensor:
    """Rows of scales spread over quadrants, ``at`` partitions into each; other bytes stay unwritten."""
    rows = scales.shape[0]
    height = rows if rows == 4 and at == 0 else 8 * rows
    whole = empty(on, (height, scales.shape[1]), dtype)
    for first in range(0, rows, 4):
        bits = scales[first : first + 4].astype(np.uint8).view(find(dtype).numpy)
        part = whole[8 * first + at : 8 * first + at + 4]
        on.write(part, bits)
    return whole[at:]


def scales_of(on: Core, tensor: Tensor, rows: int) -> Numbers:
    parts = [get(on, tensor[8 * first : 8 * first + 4]).view(np.uint8) for first in range(0, rows, 4)]
    return np.concatenate(parts).reshape(rows, -1)


# -- quantize_mx ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("element", list(LARGEST))
@pytest.mark.parametrize("source", ["bfloat16", "float16"])
@pytest.mark.parametrize("scale_type", ["uint8", "float8_e8m0fnu"])
def test_quantisation_is_exact_by_group(element: str, source: str, scale_type: str) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((96, 40)) * 2.0 ** random.integers(-14, 12, (96, 40))
    values[:8, :4], values[8:16, 4:8] = 0, 2.0**-24  # a zero group; float16's smallest subnormal
    with core("trn3") as on:
        src = put(on, values, source)
        dst, scale = empty(on, (96, 10), f"{element}_x4"), empty(on, (96, 10), scale_type)
        made = nisa.quantize_mx(dst, src, scale)
        rounded, scales = reference(get(on, src).astype(np.float64), element)
        np.testing.assert_array_equal(values_of(get(on, dst), element), rounded)
        np.testing.assert_array_equal(scales_of(on, scale, 12), scales)
        assert scales[0, 0] == 0
        assert (made.op, made.engine) == ("quantize_mx", nisa.engine.vector)
        assert made.writes == (dst.access(), scale.access())
        assert made.reads == (src.access(),)
        with refusal("uninitialized-read"):  # rows between the scales stay as they were
            get(on, scale[4:5])


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(bits=st.lists(st.integers(0, 0x7F7F), min_size=32, max_size=32), signs=st.integers(0, 2**32 - 1))
def test_any_finite_group_rounds_once_and_never_saturates(bits: list[int], signs: int) -> None:
    words = np.array(bits, np.uint16).reshape(8, 4) | (
        (np.uint64(signs) >> np.arange(32, dtype=np.uint64) & np.uint64(1)).astype(np.uint16).reshape(8, 4) << 15
    )
    values = np.zeros((32, 4), np.uint16)
    values[:8] = words
    for element in LARGEST:
        with core("trn3") as on:
            src = put(on, values.view(ml_dtypes.bfloat16), "bfloat16")
            dst, scale = empty(on, (32, 1), f"{element}_x4"), empty(on, (4, 1), "uint8")
            nisa.quantize_mx(dst, src, scale)
            rounded, scales = reference(values.view(ml_dtypes.bfloat16), element)
            np.testing.assert_array_equal(values_of(get(on, dst), element), rounded)
            np.testing.assert_array_equal(scales_of(on, scale, 4), scales)
            assert np.isfinite(rounded).all()


def test_free_dimensions_are_flattened_and_patterns_may_be_strided() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((32, 3, 5, 4, 2))
    with core("trn3") as on:
        src = put(on, values, "bfloat16")[..., 1]
        dst, scale = empty(on, (32, 3, 5), "float8_e5m2_x4"), empty(on, (4, 3, 5), "float8_e8m0fnu")
        nisa.quantize_mx(dst, src, scale)
        rounded, scales = reference(get(on, src).reshape(32, 60), "float8_e5m2")
        np.testing.assert_array_equal(values_of(get(on, dst).reshape(32, 15), "float8_e5m2"), rounded)
        np.testing.assert_array_equal(get(on, scale).view(np.uint8).reshape(4, 15), scales)


def test_four_tensors_share_one_scale_tensor() -> None:
    random = np.random.default_rng(0)
    with core("trn3") as on:
        packed = empty(on, (64, 6), "uint8")
        kept = []
        for at in (0, 4, 8, 12):
            src = put(on, random.standard_normal((64, 24)) * 2.0**at, "bfloat16")
            dst = empty(on, (64, 6), "float8_e4m3fn_x4")
            nisa.quantize_mx(dst, src, packed[at:])
            kept.append((at, src, dst))
        for at, src, dst in kept:
            rounded, scales = reference(get(on, src), "float8_e4m3fn")
            np.testing.assert_array_equal(scales_of(on, packed[at:], 8), scales)
            np.testing.assert_array_equal(values_of(get(on, dst), "float8_e4m3fn"), rounded)
            out = empty(on, (6, 6), region="psum")
            nisa.nc_matmul_mx(out, dst, dst, packed[at:], packed[at:])
            scaled = rounded * 2.0 ** (np.repeat(np.repeat(scales, 8, 0), 4, 1) - 127)
            expected = np.einsum("kiq,kjq->ij", *[scaled.reshape(64, 6, 4)] * 2)
            np.testing.assert_allclose(get(on, out), expected, rtol=1e-5)


def test_infinities_and_nan_leave_finite_values_zero() -> None:
    values = np.ones((32, 8))
    values[3, 2], values[3, 6] = np.inf, np.nan
    with core("trn3") as on, np.errstate(all="raise"):
        dst, scale = empty(on, (32, 2), "float8_e5m2_x4"), empty(on, (4, 2), "uint8")
        nisa.quantize_mx(dst, put(on, values, "bfloat16"), scale)
        found = values_of(get(on, dst), "float8_e5m2")
        assert found[3, 2] == np.inf
        assert np.isnan(found[3, 6])
        assert found[0, 0] == 0
        assert get(on, scale)[0].tolist() == [241, 241]


@pytest.mark.parametrize(
    ("target", "rule", "src", "dst", "scale"),
    [
        ("trn2", "generation", ((32, 16), "bfloat16"), ((32, 4), "float8_e5m2_x4"), ((4, 4), "uint8")),
        ("trn3", "operand-dtype", ((32, 16), "float32"), ((32, 4), "float8_e5m2_x4"), ((4, 4), "uint8")),
        ("trn3", "operand-dtype", ((32, 16), "bfloat16"), ((32, 4), "float4_e2m1fn_x4"), ((4, 4), "uint8")),
        ("trn3", "operand-dtype", ((32, 16), "bfloat16"), ((32, 4), "float8_e5m2_x4"), ((4, 4), "int8")),
        ("trn3", "mx-partitions", ((48, 16), "bfloat16"), ((48, 4), "float8_e5m2_x4"), ((48, 4), "uint8")),
        ("trn3", "operand-shape", ((32, 18), "bfloat16"), ((32, 4), "float8_e5m2_x4"), ((4, 4), "uint8")),
        ("trn3", "operand-shape", ((64, 16), "bfloat16"), ((32, 4), "float8_e5m2_x4"), ((4, 4), "uint8")),
        ("trn3", "operand-shape", ((32, 16), "bfloat16"), ((32, 4), "float8_e5m2_x4"), ((4, 5), "uint8")),
        ("trn3", "operand-shape", ((64, 16), "bfloat16"), ((64, 4), "float8_e5m2_x4"), ((8, 4), "uint8")),
        ("trn3", "operand-memory", ((32, 16), "bfloat16", "psum"), ((32, 4), "float8_e5m2_x4"), ((4, 4), "uint8")),
        ("trn3", "operand-memory", ((32, 16), "bfloat16"), ((32, 4), "float8_e5m2_x4"), ((4, 4), "uint8", "psum")),
    ],
)
def test_what_quantisation_does_not_take(target: str, rule: str, src: Any, dst: Any, scale: Any) -> None:
    with core(target, timing_only=True) as on, refusal(rule):
        nisa.quantize_mx(empty(on, *dst), empty(on, *src), empty(on, *scale))


def test_scales_lie_in_the_datas_quadrant() -> None:
    with core("trn3", timing_only=True) as on:
        src, dst = empty(on, (128, 16), "bfloat16"), empty(on, (128, 4), "float8_e5m2_x4")
        scale = empty(on, (128, 4), "uint8")
        nisa.quantize_mx(dst[64:], src[64:], scale[72:])
        for wrong in (scale[66:], scale[80:], scale[:64], scale[32:]):
            with refusal("mx-scale-layout" if wrong.shape[0] >= 36 else "operand-shape"):
                nisa.quantize_mx(dst[64:], src[64:], wrong)


# -- nc_matmul_mx -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "two"), list(product(FOURS, FOURS)))
def test_products_of_scaled_values(one: str, two: str) -> None:
    random = np.random.default_rng(0)
    for partitions, at, dtype in ((32, 0, "uint8"), (128, 0, "float8_e8m0fnu"), (96, 12, "uint8")):
        sides = []
        with core("trn3") as on:
            for element, columns in ((one, 10), (two, 24)):
                values = (random.standard_normal((partitions, 4 * columns)) * 2).astype(FOURS[element])
                scales = random.integers(120, 135, (partitions // 8, columns))
                data = empty(on, (partitions, columns), f"{element}_x4")
                on.write(data, pack(values, element))
                factors = 2.0 ** (np.repeat(np.repeat(scales, 8, 0), 4, 1) - 127)
                scaled = (values.astype(np.float64) * factors).reshape(partitions, columns, 4)
                sides.append((data, scale_tensor(on, scales, dtype, at), scaled))
            (left, left_scale, left_values), (right, right_scale, right_values) = sides
            dst = empty(on, (10, 24), region="psum")
            made = nisa.nc_matmul_mx(dst, left, right, left_scale, right_scale)
            expected = np.einsum("kiq,kjq->ij", left_values, right_values)
            bound = np.einsum("kiq,kjq->ij", np.abs(left_values), np.abs(right_values)) * 4 * partitions * 2.0**-24
            assert np.all(np.abs(get(on, dst) - expected) <= bound)
            assert made.reads == tuple(each.access() for each in (left, right, left_scale, right_scale))
            assert made.params == {"accumulate": None, "tile_position": (), "tile_size": ()}


def test_mx_products_accumulate_like_others() -> None:
    with core("trn3") as on:
        data = empty(on, (32, 4), "float8_e5m2_x4")
        on.write(data, pack(np.ones((32, 16)), "float8_e5m2"))
        scale = scale_tensor(on, np.full((4, 4), 127))
        for dtype in ("float32", "bfloat16"):
            dst = empty(on, (4, 4), dtype, region="psum")
            with refusal("psum-accumulation"):
                nisa.nc_matmul_mx(dst, data, data, scale, scale, accumulate=True)
            for total in (128, 256, 384):
                nisa.nc_matmul_mx(dst, data, data, scale, scale)
                np.testing.assert_array_equal(get(on, dst).astype(float), np.full((4, 4), total))
            nisa.nc_matmul_mx(dst, data, data, scale, scale, accumulate=False)
            np.testing.assert_array_equal(get(on, dst).astype(float), np.full((4, 4), 128.0))


def test_a_scale_of_255_is_not_a_number_and_0_is_the_smallest() -> None:
    with core("trn3") as on:
        data = empty(on, (32, 2), "float8_e5m2_x4")
        on.write(data, pack(np.ones((32, 8)), "float8_e5m2"))
        big = scale_tensor(on, np.full((4, 2), 254))
        low = scale_tensor(on, np.array([[255, 0]] + [[127, 0]] * 3))
        dst = empty(on, (2, 2), region="psum")
        nisa.nc_matmul_mx(dst, data, data, low, big)
        assert np.isnan(get(on, dst)[0]).all()
        np.testing.assert_array_equal(get(on, dst)[1], 128.0)  # 2**-127 times 2**127


SCALE, TALL, ODD = ((4, 4), "uint8"), ((36, 4), "uint8"), ((4, 3), "uint8")
DATA = ((32, 4), "float8_e5m2_x4")


@pytest.mark.parametrize(
    ("target", "rule", "stationary", "moving", "scales", "dst", "options"),
    [
        ("trn2", "generation", DATA, DATA, (SCALE, SCALE), ((4, 4), "float32"), {}),
        ("trn3", "operand-dtype", ((32, 4), "float8_e5m2"), DATA, (SCALE, SCALE), ((4, 4), "float32"), {}),
        ("trn3", "operand-dtype", DATA, DATA, (((4, 4), "float32"), SCALE), ((4, 4), "float32"), {}),
        ("trn3", "operand-dtype", DATA, DATA, (SCALE, SCALE), ((4, 4), "float16"), {}),
        ("trn3", "operand-shape", DATA, ((64, 4), "float8_e5m2_x4"), (SCALE, TALL), ((4, 4), "float32"), {}),
        ("trn3", "operand-shape", DATA, DATA, (SCALE, SCALE), ((4, 5), "float32"), {}),
        ("trn3", "operand-shape", DATA, DATA, (SCALE, ((4, 3), "uint8")), ((4, 4), "float32"), {}),
        ("trn3", "operand-shape", DATA, DATA, (((3, 4), "uint8"), SCALE), ((4, 4), "float32"), {}),
        ("trn3", "operand-shape", ((32, 3), "float8_e5m2_x4"), DATA, (ODD, SCALE), ((3, 4), "float32"), {}),
        ("trn3", "mx-partitions", ((16, 4), "float8_e5m2_x4"), DATA, (SCALE, SCALE), ((4, 4), "float32"), {}),
        ("trn3", "operand-memory", DATA, DATA, (SCALE, SCALE), ((4, 4), "float32", "sbuf"), {}),
        (
            "trn3", "pe-tiling", DATA, DATA, (SCALE, SCALE), ((4, 4), "float32"),
            {"tile_position": (0, 0), "tile_size": (32, 64)},
        ),
        (
            "trn3", "pe-tiling", DATA, DATA, (SCALE, SCALE), ((4, 4), "float32"),
            {"tile_position": (16, 0), "tile_size": (32, 128)},
        ),
    ],
)  # fmt: skip
def test_what_an_mx_matmul_does_not_take(
    target: str, rule: str, stationary: Any, moving: Any, scales: Any, dst: Any, options: dict[str, Any]
) -> None:
    with core(target, timing_only=True) as on, refusal(rule):
        out = empty(on, *dst) if len(dst) == 3 else empty(on, *dst, region="psum")
        nisa.nc_matmul_mx(out, empty(on, *stationary), empty(on, *moving), *(empty(on, *s) for s in scales), **options)


def test_row_tiles_and_scale_quadrants_of_an_mx_matmul() -> None:
    with core("trn3", timing_only=True) as on:
        data, scale = empty(on, (128, 4), "float8_e5m2_x4"), empty(on, (128, 4), "uint8")
        dst = empty(on, (4, 4), region="psum")
        part, its_scale = data[32:64], scale[36:64]
        nisa.nc_matmul_mx(dst, part, part, its_scale, its_scale, tile_position=(32, 0), tile_size=(32, 128))
        for wrong in (scale[0:32], scale[33:64], scale[48:64]):
            with refusal("mx-scale-layout"):
                nisa.nc_matmul_mx(dst, part, part, its_scale, wrong)


def test_indirect_data_and_scales_share_an_index() -> None:
    random = np.random.default_rng(0)
    with core("trn3") as on:
        data, scale = empty(on, (32, 6), "float8_e5m2_x4"), empty(on, (32, 6), "uint8")
        nisa.quantize_mx(data, put(on, random.standard_normal((32, 24)), "bfloat16"), scale)
        on.write(scale[4:], np.full((28, 6), 127, np.uint8))
        index = put(on, np.resize([5, 0, 2, 2], (32, 1)), "int32")
        dst, plain = empty(on, (4, 6), region="psum"), empty(on, (6, 6), region="psum")
        made = nisa.nc_matmul_mx(dst, data.indirect(index, 4), data, scale.indirect(index, 4), scale)
        assert made.reads.count(index.access()) == 1
        nisa.nc_matmul_mx(plain, data, data, scale, scale)
        np.testing.assert_array_equal(get(on, dst), get(on, plain)[[5, 0, 2, 2]])
        with refusal("tensor-indirection"):
            nisa.nc_matmul_mx(dst, data.indirect(index, 4), data, scale[:, :4], scale)
