"""max8, nc_find_index8 and nc_match_replace8 against a plain loop over rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.dtypes import find
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa

FLOATS = ["float32", "bfloat16", "float16"]


def rounded(values, dtype):
    return np.asarray(values).astype(find(dtype).numpy).astype(np.float64)


def reference_find(row, vals, order):
    """For each value, walked in ``order``, the first position of it that none took yet; -1 for none."""
    taken, found = set(), [-1] * 8
    for j in order:
        for at, each in enumerate(row):
            if each == vals[j] and at not in taken:
                taken.add(at)
                found[j] = at
                break
    return found


def few_values(rng, shape, distinct):
    return rng.integers(0, distinct, size=shape).astype(np.float32)


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "uint8"])
@pytest.mark.parametrize(("partitions", "free"), [(128, 64), (1, 8), (33, 100)])
def test_max8_gives_the_largest_descending(target, dtype, partitions, free):
    data = np.random.default_rng(1).uniform(0, 200, (partitions, free))
    data = np.floor(data) if dtype in ("int32", "uint8") else data
    with core(target) as on:
        dst = empty(on, (partitions, 8), dtype)
        handle = nisa.max8(dst=dst, src=put(on, data, dtype))
        expected = np.sort(rounded(data, dtype), axis=1)[:, ::-1][:, :8]
        assert np.array_equal(get(on, dst).astype(np.float64), expected)
        assert handle.engine is nisa.engine.vector


def test_max8_converts_to_the_type_of_dst_and_takes_two_free_dimensions():
    data = np.random.default_rng(2).standard_normal((16, 5, 7)).astype(np.float32)
    with core() as on:
        dst = empty(on, (16, 8), "bfloat16", "psum")
        nisa.max8(dst, put(on, np.tile(data, (1, 1, 2)))[:, :, 0:7], name="largest")
        expected = np.sort(data.reshape(16, -1), axis=1)[:, ::-1][:, :8]
        assert np.array_equal(get(on, dst).astype(np.float64), rounded(expected, "bfloat16"))
        assert on.trace[-1].name == "largest"


@pytest.mark.parametrize("index_dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("distinct", [3, 12, 1000])
def test_find_index8_pairs_duplicates_ascending(index_dtype, dtype, distinct):
    rng = np.random.default_rng(3)
    data, vals = few_values(rng, (32, 40), distinct), few_values(rng, (32, 8), distinct)
    with core() as on:
        dst = empty(on, (32, 8), index_dtype)
        nisa.nc_find_index8(dst, put(on, data, dtype), put(on, vals, dtype))
        missing = np.iinfo(index_dtype).max
        expected = [
            reference_find(r, v, range(8)) for r, v in zip(rounded(data, dtype), rounded(vals, dtype), strict=True)
        ]
        assert np.array_equal(get(on, dst), np.where(np.array(expected) < 0, missing, expected))


def test_find_index8_broadcast_values_and_nan():
    with core() as on:
        data = np.arange(16, dtype=np.float32).reshape(1, 16).repeat(4, 0)
        data[0, 3] = np.nan
        value = put(on, np.array([[3.0], [3.0], [-0.0], [np.nan]], np.float32))
        dst = empty(on, (4, 8), "uint32")
        nisa.nc_find_index8(dst, put(on, data), value.ap([[1, 4], [0, 8]]))
        ones = 2**32 - 1
        assert get(on, dst).tolist() == [[ones] * 8, [3] + [ones] * 7, [0] + [ones] * 7, [ones] * 8]


def test_match_replace8_documented_example():
    data = np.array([[1, 2, 3, 4, 8, 8, 8, 8, 8, 8, 8]], np.float32)
    with core() as on:
        tile, index = put(on, data), empty(on, (1, 8), "uint32")
        nisa.nc_match_replace8(
            tile, tile, put(on, np.array([[3, 8, 8, 8, 8, 8, 8, 8]], np.float32)), -1.0, dst_idx=index
        )
        assert get(on, index).tolist() == [[2, 10, 9, 8, 7, 6, 5, 4]]
        assert get(on, tile).tolist() == [[1, 2, -1, 4, -1, -1, -1, -1, -1, -1, -1]]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    partitions=st.integers(1, 128),
    free=st.integers(8, 60),
    distinct=st.sampled_from([2, 9, 500]),
    dtype=st.sampled_from(FLOATS),
    out=st.sampled_from(FLOATS),
    imm=st.sampled_from([0.0, -7.3, float("-inf")]),
)
def test_match_replace8_against_the_reference(seed, partitions, free, distinct, dtype, out, imm):
    rng = np.random.default_rng(seed)
    data, vals = few_values(rng, (partitions, free), distinct), few_values(rng, (partitions, 8), distinct)
    with core() as on:
        dst, index = empty(on, (partitions, free), out), empty(on, (partitions, 8), "uint16")
        nisa.nc_match_replace8(dst, put(on, data, dtype), put(on, vals, dtype), imm, index)
        row_values = rounded(data, dtype)
        expected = row_values.copy()
        positions = np.array(
            [reference_find(r, v, range(7, -1, -1)) for r, v in zip(row_values, rounded(vals, dtype), strict=True)]
        )
        for row, found in enumerate(positions):
            expected[row, found[found >= 0]] = imm
        assert np.array_equal(get(on, index), np.where(positions < 0, 0xFFFF, positions))
        assert np.array_equal(get(on, dst).astype(np.float64), rounded(expected, out))


def test_top_16_by_two_rounds():
    data = np.random.default_rng(5).permutation(np.arange(512.0, dtype=np.float32)).reshape(1, 512).repeat(8, 0)
    with core() as on:
        tile, top = put(on, data), empty(on, (8, 16))
        for each in range(2):
            best = top[:, each * 8 : each * 8 + 8]
            nisa.max8(best, tile)
            nisa.nc_match_replace8(tile, tile, best, float("-inf"))
        assert np.array_equal(get(on, top), np.arange(511.0, 495.0, -1).reshape(1, 16).repeat(8, 0))


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda on: nisa.max8(empty(on, (4, 8)), put(on, np.zeros((4, 7), np.float32))), "operand-shape"),
        (lambda on: nisa.max8(empty(on, (4, 8)), put(on, np.zeros((4, 16385), np.uint8))), "operand-shape"),
        (lambda on: nisa.max8(empty(on, (4, 9)), put(on, np.zeros((4, 16), np.float32))), "operand-shape"),
        (lambda on: nisa.max8(empty(on, (5, 8)), put(on, np.zeros((4, 16), np.float32))), "operand-shape"),
        (
            lambda on: nisa.max8(empty(on, (4, 8)), put(on, np.zeros((4, 4, 4, 4), np.float32))[:, 0:2, 0:2, 0:2]),
            "free-dimensions",
        ),
        (
            lambda on: nisa.max8(empty(on, (4, 8)), put(on, np.zeros((4, 16), np.float32), region="shared_hbm")),
            "operand-memory",
        ),
        (lambda on: nisa.max8(empty(on, (4, 8)), empty(on, (4, 16))), "uninitialized-read"),
        (lambda on: nisa.max8(empty(on, (4, 8)), put(on, np.zeros((8, 16), np.float32))[1:5]), "start-partition"),
        (lambda on: nisa.max8(3, put(on, np.zeros((4, 16), np.float32))), "parameter"),
        (
            lambda on: nisa.nc_find_index8(empty(on, (4, 8), "int32"), *[put(on, np.zeros((4, 8), np.float32))] * 2),
            "operand-dtype",
        ),
        (
            lambda on: nisa.nc_find_index8(
                empty(on, (4, 8), "uint32"), *[put(on, np.zeros((4, 9), np.float32))] * 2
            ),
            "operand-shape",
        ),
        (
            lambda on: nisa.nc_match_replace8(
                empty(on, (4, 9)), *[put(on, np.zeros((4, 8), np.float32))] * 2, imm=0.0
            ),
            "operand-shape",
        ),
        (
            lambda on: nisa.nc_match_replace8(
                empty(on, (4, 8)), *[put(on, np.zeros((4, 8), np.float32))] * 2, imm=0.0, dst_idx=empty(on, (4, 8))
            ),
            "operand-dtype",
        ),
    ],
)  # fmt: skip
def test_refusals(call, rule):
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            call(on)
        assert err.value.rule.name == rule


def test_without_values_only_the_record_is_made():
    with core(timing_only=True) as on:
        data, vals = empty(on, (4, 64)), empty(on, (4, 8))
        nisa.max8(vals, data)
        nisa.nc_match_replace8(data, data, vals, 0.0, empty(on, (4, 8), "uint32"))
        assert [each.op for each in on.trace] == ["max8", "nc_match_replace8"]
        assert on.trace[-1].params == {"indices": True}


@pytest.mark.filterwarnings("ignore::outcrop.silicon.device.rules.KernelWarning")
def test_relaxed_types_still_give_values():
    with core(relaxed={"operand-dtype"}) as on:
        data = put(on, np.arange(16, dtype=np.float32).reshape(1, 16))
        vals, dst = put(on, np.array([[3, 99, 5, 6, 7, 8, 9, 10]], np.float32)), empty(on, (1, 8), "float32")
        nisa.nc_find_index8(dst, data, vals)
        assert get(on, dst).tolist() == [[3, -1, 5, 6, 7, 8, 9, 10]]
        values, indices = empty(on, (16, 8)), empty(on, (16, 8), "uint32")
        nisa.topk(values, indices, put(on, np.arange(16, dtype=np.float32).reshape(16, 1)), n=16)
        assert get(on, values)[:8, 0].tolist() == list(range(8, 16))
        nisa.set_rng_seed(put(on, np.array([[7]], np.uint16)))
        assert len(on.warned) == 4
