"""Copies, constants and operators of two tensors: values on every data type, engine, generation and access pattern."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import ALL, DType, find
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.device.views import DynamicSlice
from outcrop.silicon.nki import isa as nisa

Array = np.ndarray[Any, Any]
FIXED = settings(derandomize=True, deadline=None, max_examples=40)
NUMBERS = [each for each in ALL if each.lanes == 1 and each.name not in ("tfloat32", "bool", "float8_e8m0fnu")]
PACKED = [each for each in ALL if each.lanes != 1]
ENGINES = {"vector": nisa.engine.vector, "scalar": nisa.engine.scalar, "gpsimd": nisa.engine.gpsimd}


def sample(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Values that the type holds exactly, small enough for float32 to hold too."""
    rng = np.random.default_rng(seed)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return rng.integers(max(info.min, -999), min(info.max, 999), shape).astype(dtype.numpy)
    return rng.uniform(-9, 9, shape).astype(dtype.numpy)


def rounded(values: Array, dtype: DType) -> Array:
    """float64 to the type, by float32: the reference for "fp32 arithmetic, rounded once at the end"."""
    single = np.asarray(values, np.float64).astype(np.float32)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return np.clip(np.round(single.astype(np.float64)), info.min, info.max).astype(dtype.numpy)
    return single.astype(dtype.numpy)


# -- tensor_copy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", NUMBERS, ids=str)
@pytest.mark.parametrize("source", NUMBERS, ids=str)
def test_a_copy_between_types_rounds_once_and_saturates_integers(source: DType, target: DType) -> None:
    values = sample(source, (5, 24))
    with core() as c:
        dst = empty(c, values.shape, target)
        nisa.tensor_copy(dst, put(c, values, source))
        got = get(c, dst)
    wanted = values if source is target else rounded(values.astype(np.float64), target)
    assert np.array_equal(got.astype(np.float64), wanted.astype(np.float64), equal_nan=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [*NUMBERS, *PACKED], ids=str)
def test_a_copy_of_one_type_keeps_every_bit_except_on_the_scalar_engine(dtype: DType, engine: str) -> None:
    bits = np.random.default_rng(3).integers(0, 256, (4, 8 * dtype.itemsize)).astype(np.uint8)
    with core() as c:
        src = put(c, bits, "uint8").view(dtype)
        dst = empty(c, (4, 8), dtype)
        nisa.tensor_copy(dst, src, engine=ENGINES[engine])
        got = get(c, dst.view("uint8"))
        exact = c.trace[-1].params["exact"]
    if engine == "scalar" and dtype.lanes == 1:
        assert not exact
    else:
        assert exact
        assert np.array_equal(got, bits)


def test_the_scalar_engine_takes_large_integers_through_float32() -> None:
    values = np.int32([[2**24 + 1, 2**31 - 1, -(2**31)]])
    with core() as c:
        dst = empty(c, values.shape, "int32")
        nisa.tensor_copy(dst, put(c, values), engine=nisa.engine.scalar)
        assert get(c, dst).tolist() == [[2**24, 2**31 - 1, -(2**31)]]
        nisa.tensor_copy(dst, put(c, values))
        assert get(c, dst).tolist() == values.tolist()


def test_float_to_integer_rounds_to_even_saturates_and_makes_nan_zero() -> None:
    values = np.float32([[0.5, 1.5, 2.5, -0.5, 300, -300, np.nan, np.inf]])
    with core() as c:
        dst = empty(c, values.shape, "int8")
        nisa.tensor_copy(dst, put(c, values))
        assert get(c, dst).tolist() == [[0, 2, 2, 0, 127, -128, 0, 127]]


@st.composite
def views(draw: st.DrawFn, c: Core, values: Array, dtype: str) -> Tensor:
    """A tensor of [8, 24] values laid out in one of several ways, some of them inside a larger tensor."""
    layout = draw(st.sampled_from(["plain", "split", "strided", "inner", "turned"]))
    if layout == "plain":
        return put(c, values, dtype)
    if layout == "split":
        return put(c, values.reshape(8, 4, 6), dtype)
    if layout == "strided":
        wide = np.zeros((8, 48), values.dtype)
        wide[:, ::2] = values
        return put(c, wide, dtype)[:, ::2]
    if layout == "inner":
        wide = np.zeros((8, 40), values.dtype)
        wide[:, 5:29] = values
        return put(c, wide, dtype)[:, 5:29]
    return put(c, values.reshape(8, 4, 6).transpose(0, 2, 1), dtype).permute((0, 2, 1))


@FIXED
@given(data=st.data())
def test_access_patterns_only_say_where_elements_lie(data: st.DataObject) -> None:
    a, b = sample(find("float32"), (8, 24), 1), sample(find("float32"), (8, 24), 2)
    with core() as c:
        left, right = data.draw(views(c, a, "float32")), data.draw(views(c, b, "bfloat16"))
        dst = data.draw(views(c, np.zeros_like(a), data.draw(st.sampled_from(["float32", "bfloat16", "int16"]))))
        nisa.tensor_tensor(dst, left, right, "subtract")
        got = get(c, dst).reshape(8, 24)
        nisa.tensor_copy(dst, left)
        copied = get(c, dst).reshape(8, 24)
    kind = find(got.dtype)
    assert np.array_equal(got, rounded(a.astype(np.float64) - b.astype(ml_dtypes.bfloat16).astype(np.float64), kind))
    assert np.array_equal(copied, rounded(a, kind))


def test_a_copy_over_its_own_elements_reads_before_it_writes() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 12)
    with core() as c:
        tensor = put(c, values)
        nisa.tensor_copy(tensor[:, 1:12], tensor[:, 0:11])
        assert np.array_equal(get(c, tensor), np.concatenate([values[:, :1], values[:, :11]], axis=1))
        nisa.tensor_tensor(tensor[:, 0:11], tensor[:, 0:11], tensor[:, 1:12], "add")
        shifted = np.concatenate([values[:, :1], values[:, :11]], axis=1)
        assert np.array_equal(get(c, tensor[:, 0:11]), shifted[:, :11] + shifted[:, 1:])


# -- tensor_copy_predicated -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "uint32", "float8_e5m2"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("reverse", [False, True])
def test_predicated_copies_leave_other_elements_alone(dtype: str, kind: str, reverse: bool) -> None:
    before, source = sample(find(dtype), (6, 10), 1), sample(find(dtype), (6, 10), 2)
    predicate = np.random.default_rng(5).integers(0, 3, (6, 10)).astype(kind)
    chosen = (predicate == 0) if reverse else (predicate != 0)
    with core() as c:
        dst = put(c, before, dtype)
        nisa.tensor_copy_predicated(dst, put(c, source, dtype), put(c, predicate), reverse_pred=reverse)
        assert np.array_equal(get(c, dst), np.where(chosen, source, before))
        nisa.tensor_copy_predicated(dst, 2, put(c, predicate), reverse_pred=reverse)
        assert np.array_equal(get(c, dst), np.where(chosen, np.array(2, dst.dtype.numpy), before))


def test_predicated_copies_write_only_what_they_copy() -> None:
    predicate = np.uint8([[1, 0, 1, 1]])
    with core() as c:
        dst, src = empty(c, (1, 4)), empty(c, (1, 4))
        nisa.memset(src[:, 0:1], 7.0)
        nisa.memset(src[:, 2:4], 8.0)
        nisa.tensor_copy_predicated(dst, src, put(c, predicate))  # src's element 1 is not needed
        assert get(c, dst[:, 2:4]).tolist() == [[8.0, 8.0]]
        with pytest.raises(Exception, match="uninitialized-read"):
            get(c, dst)
        with pytest.raises(Exception, match="uninitialized-read"):
            nisa.tensor_copy_predicated(dst, src, put(c, np.ones_like(predicate)))


# -- memset -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
@pytest.mark.parametrize("engine", ["vector", "gpsimd"])
def test_memset_fills_with_the_rounded_constant(dtype: DType, engine: str) -> None:
    with core() as c:
        dst = empty(c, (3, 4, 5), dtype)
        nisa.memset(dst[:, 1:3], 3.3, engine=ENGINES[engine])
        nisa.memset(dst[:, 0:1], 0)
        nisa.memset(dst[:, 3:4], np.float32(1))
        got = get(c, dst).astype(np.float64)
    assert np.all(got[:, 0] == 0)
    assert np.all(got[:, 3] == 1)
    assert np.all(got[:, 1:3] == rounded(np.float64(3.3), dtype).astype(np.float64))


def test_memset_of_integers_is_exact_and_of_packed_types_zero() -> None:
    with core("trn3") as c:
        for dtype, value in (("int32", 2**31 - 1), ("uint32", 2**32 - 1), ("int32", -(2**31) + 1), ("bool", 5)):
            dst = empty(c, (2, 3), dtype)
            nisa.memset(dst, value)
            assert np.all(get(c, dst) == (1 if dtype == "bool" else value))
        for packed in PACKED:
            dst = empty(c, (2, 3), packed)
            nisa.memset(dst, 0.0)
            assert not get(c, dst).any()


# -- tensor_tensor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["trn1", "trn2", "trn3"])
@pytest.mark.parametrize("dtypes", [("bfloat16", "float32", "float16"), ("int8", "float8_e4m3", "int32"),
                                    ("uint16", "uint16", "bfloat16"), ("float32", "float32", "float32")])  # fmt: skip
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "less_equal"])
def test_arithmetic_of_two_tensors_is_float32_with_one_rounding(
    target: str, dtypes: tuple[str, str, str], name: str
) -> None:
    a, b = sample(find(dtypes[0]), (7, 2, 9), 1), sample(find(dtypes[1]), (7, 2, 9), 2)
    ufunc = getattr(np, name)
    with core(target) as c:
        dst = empty(c, a.shape, dtypes[2])
        nisa.tensor_tensor(dst, put(c, a), put(c, b), name)
        got = get(c, dst)
    assert np.array_equal(got, rounded(ufunc(a.astype(np.float64), b.astype(np.float64)), find(dtypes[2])))


def test_32_bit_integers_are_exact_on_gpsimd_and_go_through_float32_on_the_vector_engine() -> None:
    a, b = np.int32([[2**24 + 1, 2**31 - 1]]), np.int32([[2, 1]])
    with core() as c:
        left, right, dst = put(c, a), put(c, b), empty(c, a.shape, "int32")
        chosen = nisa.tensor_tensor(dst, left, right, "add")
        assert (chosen.engine, get(c, dst).tolist()) == (nisa.engine.gpsimd, [[2**24 + 3, -(2**31)]])
        nisa.tensor_tensor(dst, left, right, "add", engine=nisa.engine.vector)
        assert get(c, dst).tolist() == [[2**24 + 2, 2**31 - 1]]
        in_psum = put(c, a, region="psum")
        chosen = nisa.tensor_tensor(dst, in_psum, right, "add")
        assert (chosen.engine, get(c, dst).tolist()) == (nisa.engine.vector, [[2**24 + 2, 2**31 - 1]])
        narrow = put(c, np.int16([[3, 4]]))
        assert nisa.tensor_tensor(dst, left, narrow, "add").engine is nisa.engine.vector


def test_views_with_step_zero_are_operands() -> None:
    values, column = sample(find("float32"), (4, 3, 5), 1), sample(find("float32"), (4, 3), 2)
    with core() as c:
        dst, narrow = empty(c, (4, 3, 5)), put(c, column)
        nisa.tensor_tensor(dst, put(c, values), narrow.expand_dim(2).broadcast(2, 5), "multiply")
        assert np.array_equal(get(c, dst), values * column[:, :, None])
        nisa.tensor_tensor(dst, put(c, values), narrow.ap([[3, 4], [1, 3], [0, 5]]), "multiply")
        assert np.array_equal(get(c, dst), values * column[:, :, None])


def test_a_result_wider_or_narrower_in_bits_than_its_operands() -> None:
    with core() as c:
        dst, left = empty(c, (1, 3), "uint16"), put(c, np.int8([[-1, 1, 3]]))
        nisa.tensor_tensor(dst, left, put(c, np.int8([[-1, 3, 6]])), "bitwise_and")
        assert get(c, dst).tolist() == [[255, 1, 2]]


# -- reciprocal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_reciprocal_is_rounded_once(dtype: str) -> None:
    values = sample(find(dtype), (9, 33))
    with core() as c:
        dst = empty(c, values.shape, dtype)
        nisa.reciprocal(dst, put(c, values))
        assert np.array_equal(get(c, dst), rounded(1 / values.astype(np.float64), find(dtype)))


# -- run-time addresses -----------------------------------------------------------------------------------------------


def test_registers_place_operands_at_run_time() -> None:
    values = np.arange(64, dtype=np.float32).reshape(4, 16)
    with core() as c:
        data, dst = put(c, values), put(c, np.zeros((4, 16)), "float32")
        at = nisa.register_alloc(3)
        window = DynamicSlice(at, 5)
        nisa.tensor_copy(dst[:, window], data[:, 0:5])
        nisa.tensor_tensor(dst[:, window], dst[:, window], data[:, window], "add")
        column = data[:, DynamicSlice(at, 1)]
        nisa.tensor_scalar(dst[:, window], dst[:, window], "multiply", 2.0, op1="add", operand1=column)
        nisa.memset(dst[:, DynamicSlice(at, 1)], -1.0)
        got = get(c, dst)
    wanted = np.zeros((4, 16), np.float32)
    wanted[:, 3:8] = (values[:, 0:5] + values[:, 3:8]) * 2 + values[:, 3:4]
    wanted[:, 3] = -1
    assert np.array_equal(got, wanted)


def test_indirect_operands_gather_and_scatter() -> None:
    """One group of 16 partitions; offset i at index[i % 16, i // 16]."""
    values = np.arange(16 * 24, dtype=np.float32).reshape(16, 24)
    offsets = np.random.default_rng(11).permutation(24)[:16].astype(np.int32)
    with core("trn3") as c:
        data, index = put(c, values), put(c, offsets[:, None])
        dst, scattered = empty(c, (16, 16)), put(c, np.zeros((16, 24)), "float32")
        nisa.tensor_copy(dst, data.indirect(index))
        assert np.array_equal(get(c, dst), values[:, offsets])
        nisa.tensor_tensor(scattered.indirect(index), data.indirect(index), dst, "subtract")
        nisa.tensor_scalar(scattered.indirect(index), data[:, 0:16], "add", 1.0)
        got = get(c, scattered)
        with pytest.raises(KernelRefused) as err:
            nisa.tensor_copy(dst, data.indirect(index), engine=nisa.engine.gpsimd)
        assert err.value.rule.name == "engine"
        with pytest.raises(KernelRefused) as err:
            nisa.tensor_tensor(dst, dst, data.indirect(index), "add")
        assert err.value.rule.name == "tensor-indirection"
        in_psum = empty(c, (16, 24), region="psum")
        with pytest.raises(KernelRefused) as err:
            nisa.tensor_copy(in_psum.indirect(index), dst, engine=nisa.engine.scalar)
        assert err.value.rule.name == "tensor-indirection"
        nisa.tensor_copy(in_psum.indirect(index), dst)
    wanted = np.zeros((16, 24), np.float32)
    wanted[:, offsets] = values[:, 0:16] + 1
    assert np.array_equal(got, wanted)
    with core("trn2") as c, pytest.raises(KernelRefused) as err:
        nisa.tensor_copy(empty(c, (16, 16)), put(c, values).indirect(put(c, offsets[:, None])))
    assert err.value.rule.name == "generation"


# -- records ----------------------------------------------------------------------------------------------------------


def test_records_name_operands_engine_and_what_changes_meaning() -> None:
    with core() as c:
        a, b, d = put(c, np.ones((4, 4))), put(c, np.ones((4, 4))), empty(c, (4, 4))
        mask = put(c, np.uint8(np.ones((4, 4))))
        nisa.tensor_tensor(d, a, b, "add", name="mine")
        nisa.tensor_copy_predicated(d, a, mask)
        nisa.memset(d, 0)
        first, second, third = c.trace
    assert (first.op, first.name, first.engine) == ("tensor_tensor", "mine", nisa.engine.vector)
    assert [each.allocation.name for each in first.reads] == [a.name, b.name]
    assert first.params == {"op": "add", "domain": "float32"}
    assert [each.allocation.name for each in second.reads] == [a.name, mask.name]
    assert (third.params["value"], third.reads) == (0.0, ())


def test_without_values_the_same_is_recorded_and_refused() -> None:
    def run(timing_only: bool) -> list[tuple[Any, ...]]:
        with core(timing_only=timing_only) as c:
            a = c.allocate((4, 8), "float32")
            b, mask = c.allocate((4, 8), "bfloat16"), c.allocate((4, 8), "uint8")
            nisa.memset(a, 1.5)
            nisa.memset(mask, 1)
            nisa.tensor_copy(b, a)
            nisa.tensor_tensor(a, a, b, "add")
            nisa.tensor_copy_predicated(a, 2.0, mask)
            nisa.reciprocal(a, b)
            with pytest.raises(Exception, match="operator"):
                nisa.tensor_tensor(a, a, b, "nothing")
            return [(each.op, each.engine, each.params, each.writes[0].shape) for each in c.trace]

    assert run(timing_only=True) == run(timing_only=False)


def test_a_predicated_copy_to_one_place_keeps_the_last_chosen_element() -> None:
    with core() as c:
        for dtype in ("uint8", "float32"):
            dst = put(c, np.zeros((32, 8)), dtype)
            src = put(c, np.tile(np.arange(8), (32, 1)), dtype)
            chosen = put(c, np.tile([1, 1, 1, 0, 0, 0, 0, 0], (32, 1)), "uint8")
            nisa.tensor_copy_predicated(dst.ap([[8, 32], [0, 8]]), src, chosen)
            assert get(c, dst[:, 0:1]).reshape(-1).tolist() == [2] * 32
            nisa.tensor_copy_predicated(dst.ap([[8, 32], [1, 2], [1, 4]]), src, chosen)
            assert get(c, dst[0:1, 0:4]).reshape(-1).tolist() == [0, 1, 2, 0]
