"""Transposes on both engines: bit-exact where the chip is, a matmul where it is not, and every rule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import ALL, find
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa

WIDE = [each.name for each in ALL if each.itemsize > 1 and each.name != "tfloat32"]
NARROW = [each.name for each in ALL if each.itemsize == 1]
FLOATS = ["float32", "bfloat16", "float16", "float8_e4m3", "float8_e5m2"]


@contextmanager
def refusal(name: str) -> Iterator[None]:
    with pytest.raises(KernelRefused) as info:
        yield
    assert info.value.rule.name == name


def bits(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray[Any, Any]:
    """Any bit patterns, NaN and infinities among them."""
    kind = find(dtype)
    raw = np.random.default_rng(seed).integers(0, 256, (*shape[:-1], shape[-1] * kind.itemsize), np.uint8)
    return raw.view(kind.numpy)


def filled(on: Core, values: np.ndarray[Any, Any], dtype: str, region: str = "sbuf") -> Tensor:
    tensor = empty(on, values.shape, dtype, region)
    on.write(tensor, values)
    return tensor


def raw(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same elements as unsigned integers, to compare NaN by their bits."""
    return np.array(values).view(f"u{values.dtype.itemsize}")


@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize("dtype", WIDE)
def test_the_tensor_engine_moves_bits(target: str, dtype: str) -> None:
    values = bits((100, 60), dtype)
    with core(target) as on:
        data, dst = filled(on, values, dtype), empty(on, (60, 100), dtype, region="psum")
        made = nisa.nc_transpose(dst, data)
        np.testing.assert_array_equal(raw(get(on, dst)), raw(values).T)
        assert (made.op, made.engine) == ("nc_transpose", nisa.engine.tensor)
        assert (made.writes, made.reads) == ((dst.access(),), (data.access(),))
        if dtype in FLOATS:
            identity = put(on, np.eye(100), dtype)
            nisa.nc_matmul(dst, data, identity, is_transpose=True)
            np.testing.assert_array_equal(raw(get(on, dst)), raw(values).T)


@pytest.mark.parametrize("dtype", NARROW)
def test_eight_bit_elements_become_sixteen_with_a_zero_upper_byte(dtype: str) -> None:
    values = bits((40, 24), dtype)
    with core() as on:
        data = filled(on, values, dtype)
        pairs = filled(on, np.full((24, 40, 2), 0xFF, np.uint8).view(find(dtype).numpy), dtype, region="psum")
        nisa.nc_transpose(pairs[:, :, 0], data)
        np.testing.assert_array_equal(raw(get(on, pairs))[..., 0], raw(values).T)
        np.testing.assert_array_equal(raw(get(on, pairs))[..., 1], 0)
        with refusal("operand-dtype"):
            nisa.nc_transpose(pairs[:, :, 1], data)
        words = empty(on, (24, 40), "uint16", region="psum")
        nisa.nc_transpose(words, data)
        np.testing.assert_array_equal(get(on, words), raw(values).T.astype(np.uint16))


@pytest.mark.parametrize("dtype", FLOATS)
def test_where_a_transpose_is_a_matmul_finite_values_are_exact(dtype: str) -> None:
    values = np.random.default_rng(0).standard_normal((100, 60))
    with core("trn1") as on:
        data = put(on, values, dtype)
        for result in {dtype, "float32"}:
            dst = empty(on, (60, 100), result, region="psum")
            nisa.nc_transpose(dst, data)
            np.testing.assert_array_equal(get(on, dst).astype(np.float64), get(on, data).T.astype(np.float64))


def test_where_a_transpose_is_a_matmul_an_infinity_spoils_its_row() -> None:
    values = np.arange(12.0).reshape(4, 3)
    values[1, 2] = np.inf
    with core("trn1") as on:
        dst = empty(on, (3, 4), region="psum")
        nisa.nc_transpose(dst, put(on, values, "float32"))
        np.testing.assert_array_equal(get(on, dst), [[0, 3, 6, 9], [1, 4, 7, 10], [np.nan, np.inf, np.nan, np.nan]])
        other = empty(on, (3, 4), region="psum")  # is_transpose is no more than a hint here
        nisa.nc_matmul(other, put(on, values, "float32"), put(on, np.eye(4), "float32"), is_transpose=True)
        np.testing.assert_array_equal(get(on, other), get(on, dst))


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("memories", [("sbuf", "sbuf"), ("psum", "sbuf"), ("psum", "psum"), ("sbuf", "psum")])
def test_the_vector_engine_moves_bits_between_all_memories(target: str, memories: tuple[str, str]) -> None:
    for dtype in ("float32", "bfloat16", "int8", "float8_e5m2"):
        values = bits((32, 20), dtype)
        with core(target) as on:
            data, dst = filled(on, values, dtype, memories[0]), empty(on, (20, 32), dtype, memories[1])
            made = nisa.nc_transpose(dst, data, engine=nisa.engine.vector)
            np.testing.assert_array_equal(raw(get(on, dst)), raw(values).T)
            assert made.engine is nisa.engine.vector


def test_the_engine_follows_from_the_memories_where_none_is_asked_for() -> None:
    with core(timing_only=True) as on:
        sbuf, psum = empty(on, (32, 32)), empty(on, (32, 32), region="psum")
        for dst, data, expected in ((psum, sbuf, "tensor"), (sbuf, sbuf, "vector"), (sbuf, psum, "vector")):
            assert nisa.nc_transpose(dst, data).engine is nisa.engine[expected]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    rows=st.integers(1, 128),
    free=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    step=st.integers(1, 2),
    wide=st.booleans(),
)
def test_any_shape_is_flattened_first(rows: int, free: list[int], step: int, wide: bool) -> None:
    dtype = "float32" if wide else "bfloat16"
    values = bits((rows, *free, step), dtype)
    columns = int(np.prod(free))
    with core() as on:
        data = filled(on, values, dtype)[..., 0]
        dst = empty(on, (columns, rows, 2), dtype, region="psum")
        nisa.nc_transpose(dst[:, :, 0], data)
        np.testing.assert_array_equal(
            raw(get(on, dst[:, :, 0])), raw(np.ascontiguousarray(values[..., 0])).reshape(rows, columns).T
        )


def test_a_column_broadcast_in_the_free_dimension_becomes_equal_partitions() -> None:
    values = np.arange(50.0).reshape(50, 1)
    with core() as on:
        dst = empty(on, (6, 50), region="psum")
        nisa.nc_transpose(dst, put(on, values, "float32").broadcast(1, 6))
        np.testing.assert_array_equal(get(on, dst), np.tile(values.T, (6, 1)))


def test_is_transpose_takes_the_rows_that_the_ones_select() -> None:
    values = bits((6, 4), "bfloat16")
    picks = np.zeros((6, 5))
    picks[[3, 0, 5, 3], [0, 1, 2, 4]] = 1  # and none in column 3
    with core() as on:
        dst = empty(on, (4, 5), "bfloat16", region="psum")
        nisa.nc_matmul(dst, filled(on, values, "bfloat16"), put(on, picks, "bfloat16"), is_transpose=True)
        expected = raw(values)[[3, 0, 5, 0, 3]].T.copy()
        expected[:, 3] = 0
        np.testing.assert_array_equal(raw(get(on, dst)), expected)
        for wrong in (2 * np.eye(6), np.ones((6, 6))):
            out = empty(on, (4, 6), "bfloat16", region="psum")
            with refusal("transpose-identity"):
                nisa.nc_matmul(out, filled(on, values, "bfloat16"), put(on, wrong, "bfloat16"), is_transpose=True)


@pytest.mark.parametrize(
    ("target", "rule", "data", "dst", "options"),
    [
        ("trn2", "operand-shape", ((32, 16), "float32", "sbuf"), ((16, 31), "float32", "psum"), {}),
        ("trn2", "operand-shape", ((32, 16), "float32", "sbuf"), ((32, 16), "float32", "psum"), {}),
        ("trn2", "transpose-size", ((64, 129), "float32", "sbuf"), None, {}),
        ("trn2", "transpose-size", ((33, 32), "float32", "sbuf"), ((32, 33), "float32", "sbuf"), {}),
        ("trn2", "transpose-size", ((32, 33), "float32", "sbuf"), ((33, 32), "float32", "psum"), {"engine": "vector"}),
        ("trn2", "operand-dtype", ((32, 16), "float32", "sbuf"), ((16, 32), "bfloat16", "psum"), {}),
        ("trn2", "operand-dtype", ((32, 16), "bfloat16", "sbuf"), ((16, 32), "float32", "psum"), {}),
        ("trn2", "operand-dtype", ((32, 16), "bfloat16", "sbuf"), ((16, 32), "float16", "sbuf"), {}),
        ("trn2", "operand-dtype", ((32, 16), "float8_e4m3", "sbuf"), ((16, 32), "float8_e4m3", "psum"), {}),
        ("trn2", "operand-dtype", ((32, 16), "float8_e4m3", "sbuf"), ((16, 32), "bfloat16", "psum"), {}),
        ("trn1", "operand-dtype", ((32, 16), "int32", "sbuf"), ((16, 32), "int32", "psum"), {}),
        ("trn1", "operand-dtype", ((32, 16), "bfloat16", "sbuf"), ((16, 32), "float16", "psum"), {}),
        ("trn2", "operand-memory", ((32, 16), "float32", "sbuf"), ((16, 32), "float32", "sbuf"), {"engine": "tensor"}),
        ("trn2", "operand-memory", ((32, 16), "float32", "psum"), ((16, 32), "float32", "psum"), {"engine": "tensor"}),
        ("trn2", "operand-memory", ((32, 16), "float32", "shared_hbm"), ((16, 32), "float32", "psum"), {}),
        ("trn2", "engine", ((32, 16), "float32", "sbuf"), ((16, 32), "float32", "psum"), {"engine": "gpsimd"}),
    ],
)
def test_what_a_transpose_does_not_take(target: str, rule: str, data: Any, dst: Any, options: dict[str, str]) -> None:
    with core(target, timing_only=True) as on:
        source = empty(on, *data)
        out = empty(on, (128, 64), region="psum") if dst is None else empty(on, *dst)
        chosen = {"engine": nisa.engine[options["engine"]]} if options else {}
        with refusal(rule):
            nisa.nc_transpose(out, source, **chosen)


def test_places_in_psum_that_a_transpose_does_not_take() -> None:
    with core(timing_only=True) as on:
        columns = empty(on, (128, 8), "bfloat16", region="psum")
        row = empty(on, (1, 128), "bfloat16")
        nisa.nc_transpose(columns[:, 2:3], row)
        with refusal("psum-alignment"):
            nisa.nc_transpose(columns[:, 3:4], row)
        banks = empty(on, (64, 1024), region="psum")
        nisa.nc_transpose(banks[:, 384:512], empty(on, (128, 64)))
        with refusal("psum-bank"):
            nisa.nc_transpose(banks[:, 448:576], empty(on, (128, 64)))


def test_unwritten_data_is_refused() -> None:
    for region in ("psum", "sbuf"):
        with core() as on, refusal("uninitialized-read"):
            nisa.nc_transpose(empty(on, (16, 32), region=region), empty(on, (32, 16)))


def by_nc_transpose(dst: Tensor, data: Tensor, on: Core) -> None:
    nisa.nc_transpose(dst, data)


def by_is_transpose(dst: Tensor, data: Tensor, on: Core) -> None:
    nisa.nc_matmul(dst, data, put(on, np.eye(data.shape[0], dtype=np.float32)), is_transpose=True)


@pytest.mark.parametrize("region", ["psum", "sbuf"])
@pytest.mark.parametrize("move", [by_nc_transpose, by_is_transpose])
def test_columns_that_nothing_wrote_become_unwritten_partitions(move: Any, region: str) -> None:
    if move is by_is_transpose and region == "sbuf":
        return
    with core() as on:
        data, dst = empty(on, (32, 32)), empty(on, (32, 32), region=region)
        for column in (0, 16):
            nisa.memset(data[:, column : column + 1], float(column))
        move(dst, data, on)
        np.testing.assert_array_equal(get(on, dst[0:1, :]), np.zeros((1, 32)))
        np.testing.assert_array_equal(get(on, dst[16:17, :]), np.full((1, 32), 16.0))
        for unwritten in (dst, dst[1:2, 0:1], dst[17:18, :]):
            with refusal("uninitialized-read"):
                get(on, unwritten)
        nisa.memset(data, 3.0)
        move(dst, data, on)  # and what is written afterwards counts
        np.testing.assert_array_equal(get(on, dst), np.full((32, 32), 3.0))


def test_a_matmul_does_not_add_to_what_a_transpose_left_unwritten() -> None:
    with core() as on:
        data, dst = empty(on, (32, 32)), empty(on, (32, 32), region="psum")
        nisa.memset(data[:, 0:16], 1.0)
        nisa.nc_transpose(dst, data)
        ones = put(on, np.ones((32, 32), np.float32))
        with refusal("psum-accumulation"):
            nisa.nc_matmul(dst, ones, ones, accumulate=True)


@pytest.mark.parametrize("dtype", NARROW[:2])
def test_unwritten_bytes_stay_unwritten_as_pairs(dtype: str) -> None:
    with core() as on:
        data, dst = empty(on, (32, 32), dtype), empty(on, (32, 32, 2), dtype, region="psum")
        nisa.memset(data[:, 0:8], 1)
        nisa.nc_transpose(dst[:, :, 0], data)
        assert (get(on, dst[0:8, :, 0]) == 1).all()
        with refusal("uninitialized-read"):
            get(on, dst[8:9, :, 0])


def test_a_permuting_transpose_carries_the_rows_that_it_picks() -> None:
    with core() as on:
        data, dst = empty(on, (32, 32)), empty(on, (32, 32), region="psum")
        nisa.memset(data[:, 0:4], 1.0)
        swap = np.eye(32, dtype=np.float32)[::-1]
        swap[:, 5] = 0.0
        nisa.nc_matmul(dst, data, put(on, swap), is_transpose=True)
        np.testing.assert_array_equal(get(on, dst[0:4, 5:6]), np.zeros((4, 1)))
        assert (get(on, dst[0:4, :]).sum(axis=1) == 31).all()
        assert (get(on, dst[4:32, 5:6]) == 0).all()  # no row was picked: a zero, whatever was written
        with refusal("uninitialized-read"):
            get(on, dst[4:5, 0:1])


def test_a_refusal_names_what_was_transposed_and_not_written() -> None:
    with core() as on:
        data, dst = on.allocate((32, 32), "float32", name="half_filled"), empty(on, (32, 32), region="psum")
        nisa.memset(data[:, 0:16], 1.0)
        nisa.nc_transpose(dst, data)
        sbuf = empty(on, (32, 32))
        nisa.tensor_copy(sbuf, dst)
        with pytest.raises(KernelRefused, match=r"512 of 1024 elements of half_filled .* the first at \[0, 16\]"):
            get(on, sbuf)


def test_the_older_tensor_engine_multiplies_what_nothing_wrote() -> None:
    with core("trn1") as on:
        data, dst = empty(on, (32, 32)), empty(on, (32, 32), region="psum")
        nisa.memset(data[:, 0:4], 1.0)
        with refusal("uninitialized-read"):
            nisa.nc_transpose(dst, data, nisa.engine.tensor)
