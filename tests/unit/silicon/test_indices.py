"""iota and affine_select against their documented loops, in 64-bit integers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.dtypes import find
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import isa as nisa

PATTERNS = st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 5)), min_size=1, max_size=4)
COMPARISONS = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
}


def affine(partitions, pattern, offset, multiplier):
    rows = [
        [offset + p * multiplier + sum(i * step for i, (step, _) in zip(at, pattern, strict=True))
         for at in itertools.product(*[range(count) for _, count in pattern])]
        for p in range(partitions)
    ]  # fmt: skip
    return np.array(rows, np.int64)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    pattern=PATTERNS,
    offset=st.integers(-1000, 1000),
    multiplier=st.integers(-20, 20),
    partitions=st.integers(1, 128),
    dtype=st.sampled_from(["int32", "float32", "bfloat16", "uint8", "int16"]),
    target=st.sampled_from(["trn1", "trn2", "trn3"]),
)
def test_iota(pattern, offset, multiplier, partitions, dtype, target):
    expected = affine(partitions, pattern, offset, multiplier)
    kind = find(dtype)
    if kind.is_integer:
        info = np.iinfo(kind.numpy)
        expected = np.clip(expected, info.min, info.max)
    with core(target) as on:
        dst = empty(on, expected.shape, dtype)
        nisa.iota(dst, [list(each) for each in pattern], offset=offset, channel_multiplier=multiplier)
        assert np.array_equal(get(on, dst), expected.astype(kind.numpy))
        assert on.trace[-1].params["pattern"] == tuple(pattern)


def test_iota_wraps_at_32_bits_and_takes_strided_targets():
    with core() as on:
        dst = empty(on, (2, 8), "int32")
        nisa.iota(dst[:, 0:8:2], [[1, 4]], offset=2**31 - 2)
        assert get(on, dst[:, 0:8:2]).tolist() == [[2**31 - 2, 2**31 - 1, -(2**31), -(2**31) + 1]] * 2
        with pytest.raises(KernelRefused) as err:
            get(on, dst)
        assert err.value.rule.name == "uninitialized-read"


def test_offsets_of_run_time():
    with core() as on:
        dst = empty(on, (2, 4), "int32")
        for offset in (nisa.register_alloc(40), put(on, np.array([[40]], np.int32))):
            nisa.iota(dst, [[2, 4]], offset=offset, channel_multiplier=100)
            assert get(on, dst).tolist() == [[40, 42, 44, 46], [140, 142, 144, 146]]
        assert [len(each.reads) for each in on.trace if each.op == "iota"] == [0, 1]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    pattern=PATTERNS,
    offset=st.integers(-100, 100),
    multiplier=st.integers(-20, 20),
    partitions=st.integers(1, 64),
    comparison=st.sampled_from(sorted(COMPARISONS)),
    source=st.sampled_from(["float32", "bfloat16", "int32"]),
    dtype=st.sampled_from(["float32", "bfloat16", "float16"]),
    value=st.sampled_from([0.0, -3.3, float("-inf"), 3e38]),
)
def test_affine_select(pattern, offset, multiplier, partitions, comparison, source, dtype, value):
    keep = COMPARISONS[comparison](affine(partitions, pattern, offset, multiplier), 0)
    data = np.random.default_rng(0).integers(-200, 200, keep.shape)
    with core() as on:
        tile, dst = put(on, data, source), empty(on, keep.shape, dtype)
        nisa.affine_select(dst, [list(e) for e in pattern], multiplier, tile, value, cmp_op=comparison, offset=offset)
        with np.errstate(over="ignore"):
            expected = np.where(keep, get(on, tile).astype(np.float32), np.float32(value)).astype(find(dtype).numpy)
        assert np.array_equal(get(on, dst), expected)


def test_a_causal_mask():
    data = np.random.default_rng(1).standard_normal((128, 128)).astype(np.float32)
    with core() as on:
        tile = put(on, data)
        nisa.affine_select(tile, [[-1, 128]], 1, tile, -9984.0, cmp_op=np.greater_equal)
        assert np.array_equal(get(on, tile), np.where(np.tri(128, dtype=bool), data, np.float32(-9984.0)))
        assert on.trace[-1].params["cmp_op"] == "greater_equal"


def zeros(on, shape, **kind):
    return put(on, np.zeros(shape, np.float32), **kind)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda on: nisa.iota(empty(on, (4, 8)), [[1, 7]]), "operand-shape"),
        (lambda on: nisa.iota(empty(on, (4, 8)), []), "parameter"),
        (lambda on: nisa.iota(empty(on, (4, 8)), [[1, 2], [1, 2], [1, 2], [1, 1], [1, 1]]), "parameter"),
        (lambda on: nisa.iota(empty(on, (4, 8)), [[1, 0]]), "parameter"),
        (lambda on: nisa.iota(empty(on, (4, 8)), [[2**31, 8]]), "parameter"),
        (lambda on: nisa.iota(empty(on, (4, 8)), [[1, 8]], channel_multiplier=2**31), "parameter"),
        (lambda on: nisa.iota(empty(on, (4, 8), region="psum"), [[1, 8]]), "operand-memory"),
        (lambda on: nisa.affine_select(empty(on, (4, 8)), [[1, 8]], 0, zeros(on, (4, 9)), 0.0), "operand-shape"),
        (lambda on: nisa.affine_select(empty(on, (4, 8)), [[1, 8]], 0, zeros(on, (4, 8)), 0.0, "add"), "parameter"),
        (
            lambda on: nisa.affine_select(empty(on, (4, 8)), [[1, 8]], 0, zeros(on, (4, 8)), zeros(on, (4, 1))),
            "parameter",
        ),
        (
            lambda on: nisa.affine_select(empty(on, (4, 8)), [[1, 8]], 0, zeros(on, (4, 8), region="psum"), 0.0),
            "operand-memory",
        ),
        (lambda on: nisa.affine_select(empty(on, (4, 8)), [[1, 8]], 0, empty(on, (4, 8)), 0.0), "uninitialized-read"),
    ],
)
def test_refusals(call, rule):
    with core() as on:
        with pytest.raises(KernelRefused) as err:
            call(on)
        assert err.value.rule.name == rule
