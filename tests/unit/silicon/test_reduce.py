"""Reductions along the free dimensions, across partitions, and into the vector engine's accumulators."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device import accumulators
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import find
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa

Array = np.ndarray[Any, Any]
Call = Callable[[Core], Any]
FIXED = settings(derandomize=True, deadline=None, max_examples=60)
F64 = np.float64
CMD = nisa.reduce_cmd

# Small whole numbers: every order of additions gives the same float32.
REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "add": lambda v: v.sum(axis=-1),
    "subtract": lambda v: v[..., 0] - v[..., 1:].sum(axis=-1),
    "multiply": lambda v: v.prod(axis=-1),
    "maximum": lambda v: v.max(axis=-1),
    "minimum": lambda v: v.min(axis=-1),
    "logical_and": lambda v: (v != 0).all(axis=-1).astype(F64),
    "logical_or": lambda v: (v != 0).any(axis=-1).astype(F64),
    "logical_xor": lambda v: (v != 0).sum(axis=-1) % 2.0,
}


# -- tensor_reduce ----------------------------------------------------------------------------------------------------


@FIXED
@given(
    name=st.sampled_from(sorted(REDUCTIONS)),
    free=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    dtypes=st.sampled_from(["float32 float32", "bfloat16 float32", "int8 int32", "float16 bfloat16"]),
    negate=st.booleans(),
    data=st.data(),
)
def test_trailing_axes_are_reduced(
    name: str, free: tuple[int, ...], dtypes: str, negate: bool, data: st.DataObject
) -> None:
    source, target = dtypes.split()
    count = data.draw(st.integers(1, len(free)))
    keepdims, negative_axes = data.draw(st.booleans()), data.draw(st.booleans())
    values = np.random.default_rng(len(free)).integers(-2, 3, (6, *free)).astype(F64)
    kept = (6, *free[: len(free) - count])
    axes = tuple(range(-count, 0)) if negative_axes else tuple(range(1 + len(free) - count, 1 + len(free)))
    with core() as c:
        dst = empty(c, kept + ((1,) * count if keepdims else ()), target)
        axis = axes[0] if count == 1 else list(axes)
        nisa.tensor_reduce(dst, name, put(c, values, source), axis, negate=negate, keepdims=keepdims)
        got = get(c, dst)
    wanted = REDUCTIONS[name](values.reshape(*kept, -1)) * (-1 if negate else 1)
    assert np.array_equal(got.reshape(kept), wanted.astype(find(target).numpy))


def test_sums_of_fractions_are_within_float32() -> None:
    values = np.random.default_rng(1).normal(size=(128, 3000)).astype(np.float32)
    with core() as c:
        dst, data = empty(c, (128, 1)), put(c, values)
        nisa.tensor_reduce(dst, np.add, data, [1])
        np.testing.assert_allclose(get(c, dst)[:, 0], values.astype(F64).sum(axis=1), rtol=1e-4, atol=1e-3)
        nisa.tensor_reduce(dst, np.amax, data[:, ::2], -1)
        assert np.array_equal(get(c, dst)[:, 0], values[:, ::2].max(axis=1))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
def test_bits_are_reduced_as_they_are(name: str, dtype: str) -> None:
    bits = np.dtype(dtype).itemsize * 8
    raw = np.random.default_rng(2).integers(0, 2**bits, (5, 3, 4)).astype(f"u{bits // 8}")
    with core() as c:
        dst = empty(c, (5, 3), dtype)
        nisa.tensor_reduce(dst, name, put(c, raw.view(dtype)), 2)
        got = get(c, dst).view(raw.dtype)
    python = {"bitwise_and": int.__and__, "bitwise_or": int.__or__, "bitwise_xor": int.__xor__}[name]
    wanted = [[functools.reduce(python, map(int, row)) for row in block] for block in raw]
    assert got.tolist() == wanted


def test_bits_of_a_narrow_signed_type_are_extended_by_zeros() -> None:
    with core() as c:
        data = put(c, np.int8([[-1, -2], [3, 1]]))
        for dst in (empty(c, (2, 1), "uint16"), empty(c, (2, 1), "int32")):
            nisa.tensor_reduce(dst, "bitwise_and", data, 1)
            assert get(c, dst).tolist() == [[254], [1]]
        wide = empty(c, (1, 2), "int16")
        nisa.tensor_partition_reduce(wide, "bitwise_or", data)
        assert get(c, wide).tolist() == [[255, 255]]


# -- tensor_partition_reduce ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("name", ["add", "average", "max", "bitwise_or", "bitwise_and"])
@pytest.mark.parametrize("partitions", [1, 33, 128])
def test_partitions_are_reduced_to_one(target: str, name: str, partitions: int) -> None:
    values = np.random.default_rng(3).integers(0, 64, (partitions, 4, 6))
    dtype = "uint8" if "bitwise" in name else "float32"
    with core(target) as c:
        dst = empty(c, (1, 4, 6), dtype)
        made = nisa.tensor_partition_reduce(dst, name, put(c, values, dtype))
        got = get(c, dst)[0]
    assert made.engine is nisa.engine.gpsimd
    if name == "average":
        np.testing.assert_allclose(got, values.mean(axis=0), rtol=1e-6)
    else:
        numpy = {"add": np.add, "max": np.maximum, "bitwise_or": np.bitwise_or, "bitwise_and": np.bitwise_and}[name]
        assert np.array_equal(got, numpy.reduce(values, axis=0))


def test_32_bit_integers_are_added_exactly_across_partitions() -> None:
    values = np.full((3, 2), 2**30 + 1, np.int32)
    with core() as c:
        dst = empty(c, (1, 2), "uint32")
        nisa.tensor_partition_reduce(dst, "add", put(c, values))
        assert get(c, dst).tolist() == [[3 * (2**30 + 1)] * 2]


# -- tensor_scalar_reduce and the accumulators ------------------------------------------------------------------------


@FIXED
@given(
    name=st.sampled_from(["add", "multiply", "maximum", "minimum"]),
    negate=st.booleans(),
    vector=st.booleans(),
    dtypes=st.sampled_from(["float32 float32", "bfloat16 int8", "int16 bfloat16"]),
)
def test_the_result_is_reduced_too(name: str, negate: bool, vector: bool, dtypes: str) -> None:
    source, target = dtypes.split()
    values = np.random.default_rng(4).integers(-2, 3, (5, 2, 4)).astype(F64)
    column = np.float32([[1], [2], [-1], [3], [0.5]]) if vector else np.full((5, 1), 0.5, np.float32)
    with core() as c:
        data, dst, total = put(c, values, source), empty(c, (5, 8), target), empty(c, (5, 1))
        operand0 = put(c, column) if vector else 0.5
        nisa.tensor_scalar_reduce(dst, data, "add", operand0, name, total, reduce_res_negate=negate)
        got, reduced = get(c, dst), get(c, total)
    exact = values.reshape(5, 8) + column.astype(F64)
    rounded = np.round(exact) if target == "int8" else exact
    assert np.array_equal(got.astype(F64), rounded)
    assert np.array_equal(reduced[:, 0].astype(F64), REDUCTIONS[name](exact) * (-1 if negate else 1))


def test_accumulators_go_on_load_and_are_not_changed_by_negation() -> None:
    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    sums = values.sum(axis=1)
    with core() as c:
        data, dst, total = put(c, values), empty(c, (2, 4)), empty(c, (2, 1))
        nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add")
        nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add", total, reduce_cmd=CMD.reduce, reduce_res_negate=True)
        assert get(c, total)[:, 0].tolist() == (-2 * sums).tolist()
        nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "max", total, reduce_cmd=CMD.reduce)  # max of sums and data
        assert get(c, total)[:, 0].tolist() == np.maximum(2 * sums, values.max(axis=1)).tolist()
        for init in (10.0, put(c, np.float32([[10], [10]]))):
            nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add", total, reduce_cmd=CMD.load_reduce, reduce_init=init)
            assert get(c, total)[:, 0].tolist() == (10 + sums).tolist()
        nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add", total)
        assert get(c, total)[:, 0].tolist() == sums.tolist()


def test_accumulators_belong_to_the_partitions_of_the_input() -> None:
    with core() as c:
        data, dst, total = put(c, np.ones((64, 4)), "float32"), empty(c, (64, 4)), empty(c, (64, 1))
        nisa.tensor_scalar_reduce(dst[32:64], data[32:64], "add", 0.0, "add")
        with pytest.raises(KernelRefused) as err:
            nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add", total, reduce_cmd=CMD.reduce)
        assert "32 partitions, the first 0" in str(err.value)
        nisa.tensor_scalar_reduce(dst[32:64], data[32:64], "add", 0.0, "add", total[0:32], reduce_cmd=CMD.reduce)
        assert np.all(get(c, total[0:32]) == 8)


@pytest.mark.parametrize("timing_only", [False, True])
def test_undefined_accumulators_are_refused(timing_only: bool) -> None:
    with core(timing_only=timing_only) as c:
        data, dst = c.allocate((2, 4), "float32"), empty(c, (2, 4))
        nisa.memset(data, 1.0)
        registers = accumulators.of(c, nisa.engine.vector)
        for define in (
            lambda: nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add"),
            lambda: nisa.tensor_scalar_cumulative(dst, data, "add", "add", 0.0, 2.0, reduce_cmd=CMD.load_reduce),
        ):
            with pytest.raises(KernelRefused) as err:
                nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add", reduce_cmd=CMD.reduce)
            assert err.value.rule.name == "poisoned-accumulator"
            with pytest.raises(KernelRefused):
                nisa.tensor_scalar_cumulative(dst, data, "add", "add", 0.0, reduce_cmd=CMD.reduce)
            define()
            nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add", reduce_cmd=CMD.reduce)
            registers.poison(slice(0, 2), "select_reduce")
        with pytest.raises(KernelRefused) as err:
            registers.read(slice(0, 2), "exponential")
        assert "select_reduce ran with reduce_cmd.idle at" in str(err.value)
        assert "test_reduce.py" in str(err.value)


def test_the_engines_have_accumulators_of_their_own() -> None:
    with core() as c:
        accumulators.of(c, nisa.engine.vector).hold(slice(0, 2), np.float32([1, 2]))
        assert accumulators.of(c, nisa.engine.vector).read(slice(0, 2), "x").tolist() == [1, 2]
        with pytest.raises(KernelRefused):
            accumulators.of(c, nisa.engine.scalar).read(slice(0, 2), "x")


def test_relaxed_undefined_accumulators_are_nan() -> None:
    with core(relaxed={"poisoned-accumulator"}) as c:
        data, dst, total = put(c, np.ones((2, 4)), "float32"), empty(c, (2, 4)), empty(c, (2, 1))
        with pytest.warns(KernelWarning, match="poisoned-accumulator"):
            nisa.tensor_scalar_reduce(dst, data, "add", 0.0, "add", total, reduce_cmd=CMD.reduce)
        assert np.isnan(get(c, total)).all()


# -- rules ------------------------------------------------------------------------------------------------------------


def t(c: Core, shape: tuple[int, ...] = (4, 8), dtype: str = "float32", region: str = "sbuf") -> Any:
    return put(c, np.ones(shape), dtype, region)


def tsr(c: Core, *args: Any, **kwargs: Any) -> Any:
    return nisa.tensor_scalar_reduce(t(c), t(c), *args, **kwargs)


CASES: list[tuple[str, Call, Call]] = [
    ("parameter", lambda c: nisa.tensor_reduce(t(c, (1, 8)), "add", t(c), 0),
     lambda c: nisa.tensor_reduce(t(c, (4, 1)), "add", t(c), 1)),
    ("parameter", lambda c: nisa.tensor_reduce(t(c, (4, 3)), "add", t(c, (4, 2, 3)), 1),
     lambda c: nisa.tensor_reduce(t(c, (4, 3)), "add", t(c, (4, 2, 3)).permute((0, 2, 1)), 2)),
    ("parameter", lambda c: nisa.tensor_reduce(t(c, (4, 3)), "add", t(c, (4, 2, 3, 2)), (1, 3)),
     lambda c: nisa.tensor_reduce(t(c, (4, 2)), "add", t(c, (4, 2, 3, 2)), (2, 3))),
    ("operand-shape", lambda c: nisa.tensor_reduce(t(c, (4, 3)), "add", t(c, (4, 2, 3)), 2),
     lambda c: nisa.tensor_reduce(t(c, (4, 2, 1)), "add", t(c, (4, 2, 3)), 2, keepdims=True)),
    ("operator", lambda c: nisa.tensor_reduce(t(c, (4, 1)), "greater", t(c), 1),
     lambda c: nisa.tensor_reduce(t(c, (4, 1)), "logical_or", t(c), 1)),
    ("operand-dtype", lambda c: nisa.tensor_reduce(t(c, (4, 1)), "bitwise_or", t(c), 1),
     lambda c: nisa.tensor_reduce(t(c, (4, 1), "int8"), "bitwise_or", t(c, dtype="int8"), 1)),
    ("parameter", lambda c: nisa.tensor_reduce(t(c, (4, 1), "int8"), "bitwise_or", t(c, dtype="int8"), 1, negate=True),
     lambda c: nisa.tensor_reduce(t(c, (4, 1), "int8"), "logical_or", t(c, dtype="int8"), 1, negate=True)),
    ("operator", lambda c: nisa.tensor_partition_reduce(t(c, (1, 8)), "minimum", t(c)),
     lambda c: nisa.tensor_partition_reduce(t(c, (1, 8)), "maximum", t(c))),
    ("operand-memory", lambda c: nisa.tensor_partition_reduce(t(c, (1, 8)), "add", t(c, region="psum")),
     lambda c: nisa.tensor_partition_reduce(t(c, (1, 8)), "add", t(c))),
    ("operand-shape", lambda c: nisa.tensor_partition_reduce(t(c, (4, 8)), "add", t(c)),
     lambda c: nisa.tensor_partition_reduce(t(c, (1, 2, 4)), "add", t(c))),
    ("operand-dtype", lambda c: nisa.tensor_partition_reduce(t(c, (1, 8)), "bitwise_and", t(c)),
     lambda c: nisa.tensor_partition_reduce(t(c, (1, 8), "int8"), "bitwise_and", t(c, dtype="int8"))),
    ("operator", lambda c: tsr(c, "add", 1.0, "subtract"), lambda c: tsr(c, "subtract", 1.0, "add")),
    ("operator", lambda c: tsr(c, "rsqrt", None, "add"), lambda c: tsr(c, "abs", None, "add")),
    ("operator", lambda c: tsr(c, "bitwise_and", 1, "add"), lambda c: tsr(c, "logical_and", 1, "add")),
    ("parameter", lambda c: tsr(c, "add", 1.0, "add", reverse0=True),
     lambda c: tsr(c, "add", 1.0, "add", reverse0=False)),
    ("parameter", lambda c: tsr(c, "add", 1.0, "add", reduce_cmd=CMD.idle),
     lambda c: tsr(c, "add", 1.0, "add", reduce_cmd=CMD.reset_reduce)),
    ("parameter", lambda c: tsr(c, "add", 1.0, "add", reduce_init=1.0),
     lambda c: tsr(c, "add", 1.0, "add", reduce_init=1.0, reduce_cmd=CMD.load_reduce)),
    ("parameter", lambda c: tsr(c, "add", 1.0, "add", reduce_cmd=CMD.load_reduce),
     lambda c: tsr(c, "add", 1.0, "add", reduce_init=t(c, (4, 1)), reduce_cmd=CMD.load_reduce)),
    ("parameter", lambda c: tsr(c, "add", 1.0, "add", reduce_cmd="reduce"), lambda c: tsr(c, "add", 1.0, "add")),
    ("operand-dtype", lambda c: tsr(c, "add", 1.0, "add", reduce_init=t(c, (4, 1), "int8"), reduce_cmd=CMD.load_reduce),
     lambda c: tsr(c, "add", 1.0, "add", t(c, (4, 1), "int8"))),
    ("operand-shape", lambda c: tsr(c, "add", 1.0, "add", t(c, (4, 2))),
     lambda c: tsr(c, "add", 1.0, "add", t(c, (4, 1)))),
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(CASES)), ids=[f"{at}-{case[0]}" for at, case in enumerate(CASES)])
def test_refused_by_its_rule_and_legal_without_the_mistake(at: int) -> None:
    rule, refused, legal = CASES[at]
    with core() as c:
        with pytest.raises(KernelRefused) as err:
            refused(c)
        assert err.value.rule.name == rule
        assert not c.trace
        legal(c)
        assert len(c.trace) == 1


def test_records_say_what_was_reduced_and_where_it_went() -> None:
    with core() as c:
        total = empty(c, (4, 1), "bfloat16")
        nisa.tensor_scalar_reduce(t(c), t(c), "add", t(c, (4, 1)), "add", total)
        nisa.tensor_reduce(total, "maximum", put(c, np.ones((4, 8)), ml_dtypes.bfloat16), 1)
        first, second = c.trace
    assert [each.shape for each in first.writes] == [(4, 8), (4, 1)]
    assert len(first.reads) == 2
    assert first.params["reduce_cmd"] == "reset_reduce"
    assert second.params == {"op": "maximum", "negate": False, "reduced": 8}
