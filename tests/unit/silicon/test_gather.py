"""Gathers, segment bounds, nonzero positions and top k against loops over groups and rows."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa


def zeros(on, shape, dtype="float32", region="sbuf"):
    return put(on, np.zeros(shape), dtype, region)


# -- local_gather ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 8),
    columns=st.integers(1, 5),
    run=st.sampled_from([1, 2, 4, 8, 16, 32]),
    drop=st.integers(0, 15),
    dtype=st.sampled_from(["float32", "bfloat16", "uint8", "int32"]),
)
def test_local_gather(seed, groups, columns, run, drop, dtype):
    rng = np.random.default_rng(seed)
    partitions, free, count = 16 * groups, 64, 16 * columns - drop
    index = rng.integers(0, free - run + 1, (partitions, columns))
    with core() as on:
        src = put(on, rng.integers(0, 100, (partitions, 16, 4)), dtype)
        dst = empty(on, (partitions, count, run), dtype)
        nisa.local_gather(dst, src, put(on, index, "uint16"), num_elem_per_idx=run, num_valid_indices=count)
        source = get(on, src).reshape(partitions, free)
        result = get(on, dst)
        for group in range(groups):
            rows = slice(group * 16, group * 16 + 16)
            order = index[rows].flatten(order="F")[:count]
            for i, at in enumerate(order):
                assert np.array_equal(result[rows, i], source[rows, at : at + run])


def test_local_gather_takes_all_indices_by_default_and_reads_only_the_valid_ones():
    with core() as on:
        src = put(on, np.arange(16 * 8, dtype=np.float32).reshape(16, 8))
        index = empty(on, (16, 2), "uint16")
        on.write(index[:, 0:1], np.full((16, 1), 5))
        dst = empty(on, (16, 16))
        nisa.local_gather(dst, src, index, num_valid_indices=16)
        assert np.array_equal(get(on, dst), (np.arange(16) * 8 + 5).reshape(16, 1).repeat(16, 1))
        assert on.trace[-1].params == {"num_elem_per_idx": 1, "num_valid_indices": 16}
        with pytest.raises(KernelRefused) as err:
            nisa.local_gather(empty(on, (16, 32)), src, index)
        assert err.value.rule.name == "uninitialized-read"


@pytest.mark.parametrize(
    ("dst", "src", "index", "options", "rule"),
    [
        ((16, 16), (16, 8), (16, 1), {"num_elem_per_idx": 3}, "parameter"),
        ((16, 17), (16, 8), (16, 1), {"num_valid_indices": 17}, "parameter"),
        ((16, 32), (16, 8), (16, 1), {}, "operand-shape"),
        ((24, 16), (24, 8), (24, 1), {}, "operand-shape"),
        ((16, 16), (16, 8), (32, 1), {}, "operand-shape"),
        ((16, 8192), (16, 8), (16, 512), {}, "parameter"),
    ],
)
def test_local_gather_refuses_shapes(dst, src, index, options, rule):
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            nisa.local_gather(empty(on, dst), zeros(on, src), zeros(on, index, "uint16"), **options)
        assert err.value.rule.name == rule


@pytest.mark.parametrize(
    ("kinds", "value", "rule"),
    [
        ({"index": "uint32"}, 0, "operand-dtype"),
        ({"dst": "bfloat16"}, 0, "operand-dtype"),
        ({"src_region": "psum"}, 0, "operand-memory"),
        ({}, 8, "out-of-bounds"),
    ],
)
def test_local_gather_refuses_operands(kinds, value, rule):
    with core() as on:
        src = zeros(on, (16, 8), "float32", kinds.get("src_region", "sbuf"))
        index = put(on, np.full((16, 1), value), kinds.get("index", "uint16"))
        with pytest.raises(KernelRefused) as err:
            nisa.local_gather(empty(on, (16, 16), kinds.get("dst", "float32")), src, index)
        assert err.value.rule.name == rule


def test_local_gather_reads_its_indices_from_its_own_partitions():
    with core() as on:
        index = zeros(on, (64, 1), "uint16")
        with pytest.raises(KernelRefused) as err:
            nisa.local_gather(empty(on, (32, 16)), zeros(on, (32, 8)), index[32:64])
        assert err.value.rule.name == "start-partition"
        nisa.local_gather(empty(on, (32, 16)), zeros(on, (64, 8))[32:64], index[32:64])


def test_local_gather_needs_room_for_the_whole_run():
    with core() as on:
        src = zeros(on, (16, 8))
        for at, legal in ((4, True), (5, False)):
            index = put(on, np.full((16, 1), at), "uint16")
            if legal:
                nisa.local_gather(empty(on, (16, 64)), src, index, num_elem_per_idx=4)
                continue
            with pytest.raises(KernelRefused) as err:
                nisa.local_gather(empty(on, (16, 64)), src, index, num_elem_per_idx=4)
            assert err.value.rule.name == "out-of-bounds"


# -- nc_n_gather -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8"])
@pytest.mark.parametrize(("partitions", "count"), [(1, 1), (128, 700), (33, 12)])
def test_n_gather(dtype, partitions, count):
    rng = np.random.default_rng(11)
    positions = rng.integers(0, 30, (partitions, count))
    with core() as on:
        data = put(on, rng.integers(0, 100, (partitions, 5, 6)), dtype)
        dst = empty(on, (partitions, count), dtype)
        nisa.nc_n_gather(dst=dst, data=data, indices=put(on, positions, "uint32"))
        flat = get(on, data).reshape(partitions, 30)
        expected = np.stack([row[at] for row, at in zip(flat, positions, strict=True)])
        assert np.array_equal(get(on, dst), expected)
        assert on.trace[-1].engine is nisa.engine.gpsimd


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (
            lambda on: nisa.nc_n_gather(empty(on, (4, 3)), zeros(on, (4, 8)), zeros(on, (4, 3), "int32")),
            "operand-dtype",
        ),
        (
            lambda on: nisa.nc_n_gather(empty(on, (4, 2)), zeros(on, (4, 8)), zeros(on, (4, 3), "uint32")),
            "operand-shape",
        ),
        (
            lambda on: nisa.nc_n_gather(empty(on, (4, 3)), zeros(on, (5, 8)), zeros(on, (4, 3), "uint32")),
            "operand-shape",
        ),
        (
            lambda on: nisa.nc_n_gather(empty(on, (4, 3), "bfloat16"), zeros(on, (4, 8)), zeros(on, (4, 3), "uint32")),
            "operand-dtype",
        ),
        (
            lambda on: nisa.nc_n_gather(empty(on, (4, 3)), zeros(on, (4, 8)), put(on, np.full((4, 3), 8), "uint32")),
            "out-of-bounds",
        ),
        (
            lambda on: nisa.nc_n_gather(
                empty(on, (4, 3), region="psum"), zeros(on, (4, 8)), zeros(on, (4, 3), "uint32")
            ),
            "operand-memory",
        ),
    ],
)
def test_n_gather_refusals(call, rule):
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            call(on)
        assert err.value.rule.name == rule


# -- sequence_bounds ---------------------------------------------------------------------------------------------------


def bounds_by_loop(ids):
    count = len(ids)
    starts, ends = [], []
    for at, each in enumerate(ids):
        low, high = at, at + 1
        while low > 0 and ids[low - 1] == each:
            low -= 1
        while high < count and ids[high] == each:
            high += 1
        starts.append(count if each == 0 else low)
        ends.append(-1 if each == 0 else high)
    return np.array([[starts, ends]])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    ids=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    dtypes=st.tuples(*[st.sampled_from(["float32", "int32"])] * 2),
)
def test_sequence_bounds(ids, dtypes):
    with core() as on:
        dst = empty(on, (1, 2, len(ids)), dtypes[0])
        nisa.sequence_bounds(dst, put(on, np.array([ids]), dtypes[1]))
        assert np.array_equal(get(on, dst), bounds_by_loop(ids))


def test_sequence_bounds_documented_example():
    with core() as on:
        dst = empty(on, (1, 2, 9), "int32")
        nisa.sequence_bounds(dst, put(on, np.array([[0, 1, 1, 2, 2, 2, 0, 3, 3]], np.int32)))
        assert get(on, dst).tolist() == [[[9, 1, 1, 3, 3, 3, 9, 7, 7], [-1, 3, 3, 6, 6, 6, -1, 9, 9]]]


@pytest.mark.parametrize(
    ("ids", "dst", "kinds", "rule"),
    [
        (np.zeros((2, 4)), (2, 2, 4), ("int32", "int32"), "operand-shape"),
        (np.zeros((1, 4)), (1, 4), ("int32", "int32"), "operand-shape"),
        (np.zeros((1, 4)), (1, 2, 4), ("int16", "int32"), "operand-dtype"),
        (np.zeros((1, 4)), (1, 2, 4), ("int32", "bfloat16"), "operand-dtype"),
        (np.full((1, 4), -1), (1, 2, 4), ("int32", "int32"), "parameter"),
    ],
)
def test_sequence_bounds_refusals(ids, dst, kinds, rule):
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            nisa.sequence_bounds(empty(on, dst, kinds[0]), put(on, ids, kinds[1]))
        assert err.value.rule.name == rule


# -- nonzero_with_count ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["trn2", "trn3"])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("partitions", [1, 16, 128])
def test_nonzero_with_count(target, dtype, partitions):
    rng = np.random.default_rng(12)
    data = rng.integers(0, 3, (partitions, 20)) * rng.integers(-1, 2, (partitions, 20))
    with core(target) as on:
        dst = put(on, np.full((partitions, 21), 77), "int32")
        nisa.nonzero_with_count(dst, put(on, data, dtype), index_offset=100, padding_val=-7)
        result = get(on, dst)
        for row in range(partitions):
            if row % 16:
                assert (result[row] == 77).all()
            else:
                found = [100 + at for at in range(20) if data[row, at] != 0]
                assert result[row].tolist() == found + [-7] * (20 - len(found)) + [len(found)]


def test_nonzero_with_count_touches_first_partitions_only():
    with core() as on:
        src, dst = empty(on, (32, 4)), empty(on, (32, 5), "int32")
        on.write(src[0:1], np.array([[0, 1, 1, 0]]))
        on.write(src[16:17], np.array([[0, 0, 0, 0]]))
        nisa.nonzero_with_count(dst, src)
        assert get(on, dst[0:1]).tolist() == [[1, 2, -1, -1, 2]]
        with pytest.raises(KernelRefused) as err:
            get(on, dst[0:2])
        assert err.value.rule.name == "uninitialized-read"


def test_nonzero_with_count_of_unwritten_partitions_is_unwritten():
    with core() as on:
        src, dst = empty(on, (64, 4)), put(on, np.zeros((64, 5)), "int32")
        with pytest.raises(KernelRefused) as err:
            nisa.nonzero_with_count(dst, src)
        assert err.value.rule.name == "uninitialized-read"
        on.write(src[32:33], np.array([[5, 0, 0, 5]]))
        nisa.nonzero_with_count(dst, src)
        assert get(on, dst[32:33]).tolist() == [[0, 3, -1, -1, 2]]
        assert get(on, dst[1:16]).shape == (15, 5)
        with pytest.raises(KernelRefused) as err:
            get(on, dst[0:1])
        assert err.value.rule.name == "uninitialized-read"


@pytest.mark.parametrize(
    ("target", "src", "dst", "options", "rule"),
    [
        ("trn1", ("float32", 4), ("int32", 5), {}, "generation"),
        ("trn2", ("bfloat16", 4), ("int32", 5), {}, "operand-dtype"),
        ("trn2", ("float32", 4), ("uint32", 5), {}, "operand-dtype"),
        ("trn2", ("float32", 4), ("int32", 4), {}, "operand-shape"),
        ("trn2", ("float32", 4), ("int32", 5), {"padding_val": 2**31}, "parameter"),
    ],
)
def test_nonzero_with_count_refusals(target, src, dst, options, rule):
    with core(target) as on:
        with pytest.raises(KernelRefused) as err:
            nisa.nonzero_with_count(empty(on, (16, dst[1]), dst[0]), zeros(on, (16, src[1]), src[0]), **options)
        assert err.value.rule.name == rule


# -- topk --------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 8),
    n=st.integers(8, 200),
    share=st.floats(0.01, 1),
    ties=st.booleans(),
)
def test_topk(seed, groups, n, share, ties):
    rng = np.random.default_rng(seed)
    k, columns = max(1, int(n * share)), -(-n // 16)
    rows = rng.integers(-3, 4, (groups, columns * 16)) if ties else rng.standard_normal((groups, columns * 16))
    rows = rows.astype(ml_dtypes.bfloat16)
    snake = rows.reshape(groups, columns, 16).transpose(0, 2, 1).reshape(groups * 16, columns)
    with core() as on:
        values, indices = empty(on, (groups * 16, k), "bfloat16"), empty(on, (groups * 16, k), "uint32")
        nisa.topk(values, indices, put(on, snake, "bfloat16"), n=n)

        def unsnaked(tile):
            used = -(-k // 16)
            return get(on, tile)[:, :used].reshape(groups, 16, used).transpose(0, 2, 1).reshape(groups, -1)[:, :k]

        found, at = unsnaked(values).astype(np.float64), unsnaked(indices)
        active = rows[:, :n].astype(np.float64)
        assert np.array_equal(found, np.sort(active, axis=1)[:, n - k :])
        assert np.array_equal(np.take_along_axis(active, at.astype(np.int64), axis=1), found)
        for row in range(groups):
            assert len(set(at[row].tolist())) == k
            left_out = sorted(set(range(n)) - set(at[row].tolist()))
            tied = [i for i in left_out if active[row, i] == found[row, 0]]
            assert all(i > max(int(j) for j in at[row][found[row] == found[row, 0]]) for i in tied)


def test_topk_reads_active_elements_only():
    with core() as on:
        src = empty(on, (16, 2), "bfloat16")
        on.write(src[:, 0:1], np.arange(16).reshape(16, 1))
        values, indices = empty(on, (16, 2), "bfloat16"), empty(on, (16, 2), "uint32")
        nisa.topk(values, indices, src, n=16)
        assert get(on, values)[:3].tolist() == [[14, 0], [15, 0], [0, 0]]
        assert get(on, indices)[:3].tolist() == [[14, 0], [15, 0], [0, 0]]
        assert on.trace[-1].params == {"n": 16, "k": 2}
        with pytest.raises(KernelRefused) as err:
            nisa.topk(values, indices, src, n=17)
        assert err.value.rule.name == "uninitialized-read"


@pytest.mark.parametrize(
    ("partitions", "columns", "k", "n", "kinds", "rule"),
    [
        (16, 4, 8, 65, {}, "operand-shape"),
        (24, 4, 8, 64, {}, "operand-shape"),
        (16, 4, 8, 7, {}, "parameter"),
        (16, 4, 33, 32, {}, "parameter"),
        (16, 4, 8, 64, {"src": "float32"}, "operand-dtype"),
        (16, 4, 8, 64, {"val": "float32"}, "operand-dtype"),
        (16, 4, 8, 64, {"idx": "int32"}, "operand-dtype"),
    ],
)
def test_topk_refusals(partitions, columns, k, n, kinds, rule):
    with core() as on:
        val, idx = (
            empty(on, (partitions, k), kinds.get("val", "bfloat16")),
            empty(on, (partitions, k), kinds.get("idx", "uint32")),
        )
        with pytest.raises(KernelRefused) as err:
            nisa.topk(val, idx, zeros(on, (partitions, columns), kinds.get("src", "bfloat16")), n=n)
        assert err.value.rule.name == rule


def test_without_values_the_records_are_made_and_rules_kept():
    with core("trn3", timing_only=True) as on:
        data, offsets = empty(on, (32, 8)), empty(on, (32, 1), "uint16")
        nisa.local_gather(empty(on, (32, 16)), data, offsets)
        nisa.nc_n_gather(empty(on, (32, 5)), data, empty(on, (32, 5), "uint32"))
        nisa.sequence_bounds(empty(on, (1, 2, 9)), empty(on, (1, 9)))
        nisa.nonzero_with_count(empty(on, (32, 9), "int32"), data)
        nisa.topk(empty(on, (32, 4), "bfloat16"), empty(on, (32, 4), "uint32"), empty(on, (32, 8), "bfloat16"), n=100)
        nisa.nc_stream_shuffle(data, data, [255] * 32)
        nisa.iota(data, [[1, 8]])
        nisa.affine_select(data, [[1, 8]], 0, data, 0.0)
        nisa.set_rng_seed(empty(on, (1, 1), "uint32"))
        nisa.rng(offsets)
        nisa.rand2(data, 0.0, 1.0)
        nisa.rand_set_state(empty(on, (32, 6), "uint32"))
        nisa.rand_get_state(empty(on, (32, 6), "uint32"))
        nisa.dropout(data, data, 0.5)
        assert " ".join(each.op for each in on.trace) == (
            "local_gather nc_n_gather sequence_bounds nonzero_with_count topk nc_stream_shuffle iota affine_select "
            "set_rng_seed rng rand2 rand_set_state rand_get_state dropout"
        )
        with pytest.raises(KernelRefused):
            nisa.local_gather(empty(on, (32, 17)), data, offsets)
