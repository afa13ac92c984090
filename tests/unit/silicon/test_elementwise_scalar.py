"""tensor_scalar and scalar_tensor_tensor: constants, vectors, reversals, two operators, engines and bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.nki import isa as nisa

Array = np.ndarray[Any, Any]
FIXED = settings(derandomize=True, deadline=None, max_examples=60)
F32, F64 = np.float32, np.float64
# Every step is rounded to float32: exact in float64, since the inputs are float32.
STEPS: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda a, b: (a.astype(F64) + b.astype(F64)).astype(F32),
    "subtract": lambda a, b: (a.astype(F64) - b.astype(F64)).astype(F32),
    "multiply": lambda a, b: (a.astype(F64) * b.astype(F64)).astype(F32),
    "maximum": lambda a, b: np.where(a > b, a, b),
    "greater": lambda a, b: (a > b).astype(F32),
}


@FIXED
@given(
    first=st.sampled_from(sorted(STEPS)),
    second=st.sampled_from(["", *sorted(STEPS)]),
    reverse=st.tuples(st.booleans(), st.booleans()),
    vectors=st.tuples(st.booleans(), st.booleans()),
    dtypes=st.sampled_from(["float32 float32", "bfloat16 bfloat16", "int16 float32", "float32 uint8"]),
    free=st.sampled_from([(11,), (3, 4), (2, 2, 3)]),
)
def test_two_operators_with_constants_and_vectors(
    first: str,
    second: str,
    reverse: tuple[bool, bool],
    vectors: tuple[bool, bool],
    dtypes: str,
    free: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(6)
    source, target = dtypes.split()
    shape = (5, *free)
    with core() as c:
        data = put(c, rng.uniform(-20, 20, shape).astype(F32), source)
        columns = [rng.uniform(-3, 3, (5, *(1,) * len(free))).astype(F32) for _ in range(2)]
        given_operands: list[Any] = [put(c, each.reshape(5, 1)) if v else float(each.flat[0])
                                     for each, v in zip(columns, vectors, strict=True)]  # fmt: skip
        dst = empty(c, shape, target)
        nisa.tensor_scalar(
            dst, data, first, given_operands[0], reverse[0],
            second or None, given_operands[1] if second else None, reverse[1],
        )  # fmt: skip
        got, values = get(c, dst), get(c, data).astype(F32)
        reads = [each.allocation.name for each in c.trace[-1].reads]
    used = [each if v else each.flat[0] for each, v in zip(columns, vectors, strict=True)]
    result = STEPS[first](*((used[0], values) if reverse[0] else (values, used[0])))
    if second:
        result = STEPS[second](*((used[1], result) if reverse[1] else (result, used[1])))
    if target == "uint8":
        wanted: Array = np.clip(np.round(result), 0, 255).astype(np.uint8)
    else:
        wanted = result.astype(got.dtype)
    assert np.array_equal(got, wanted)
    assert len(reads) == 1 + vectors[0] + (vectors[1] if second else 0)


def test_in_place_with_its_own_first_column_as_operand() -> None:
    values = np.arange(12, dtype=F32).reshape(3, 4)
    with core() as c:
        tensor = put(c, values)
        nisa.tensor_scalar(tensor, tensor, "subtract", tensor[:, 0:1], op1="multiply", operand1=tensor[:, 1:2])
        assert np.array_equal(get(c, tensor), (values - values[:, :1]) * values[:, 1:2])


def test_unary_operators_take_none_or_zero() -> None:
    values = np.float32([[-4, 9]])
    with core() as c:
        data, dst = put(c, values), empty(c, (1, 2))
        nisa.tensor_scalar(dst, data, "abs", 0.0, op1="add", operand1=1.0)
        assert get(c, dst).tolist() == [[5, 10]]
        nisa.tensor_scalar(dst, data, "add", 4.0, op1="relu", operand1=None)
        assert get(c, dst).tolist() == [[0, 13]]
        nisa.scalar_tensor_tensor(dst, data, "square", None, "subtract", data)
        assert get(c, dst).tolist() == [[20, 72]]


@pytest.mark.parametrize(
    ("ops", "engine"),
    [
        (("rsqrt", None), "gpsimd"),
        (("add", "rsqrt"), "gpsimd"),
        (("add", "power"), "gpsimd"),
        (("multiply", "add"), "vector"),
        (("bitwise_and", None), "vector"),
    ],
)
def test_the_engine_where_the_choice_is_left_to_the_compiler(ops: tuple[str, str | None], engine: str) -> None:
    dtype = "int32" if "bitwise" in ops[0] else "float32"
    with core() as c:
        data, dst = put(c, np.full((2, 2), 4), dtype), empty(c, (2, 2), dtype)
        operand0 = None if ops[0] == "rsqrt" else 1
        operand1 = None if ops[1] in (None, "rsqrt") else 2.0
        made = nisa.tensor_scalar(dst, data, ops[0], operand0, op1=ops[1], operand1=operand1)
        assert made.engine.name == engine


def test_rsqrt_and_power_agree_with_float64() -> None:
    values = np.random.default_rng(7).uniform(0.01, 99, (8, 30)).astype(F32)
    with core() as c:
        dst = empty(c, values.shape)
        nisa.tensor_scalar(dst, put(c, values), "add", 1e-3, op1="rsqrt")
        step = (values.astype(F64) + F64(F32(1e-3))).astype(F32)
        assert np.array_equal(get(c, dst), (1 / np.sqrt(step.astype(F64))).astype(F32))
        nisa.tensor_scalar(dst, put(c, values), "add", 1e-3, op1="power", operand1=-0.5)
        np.testing.assert_allclose(get(c, dst), 1 / np.sqrt(step.astype(F64)), rtol=3e-7)


@pytest.mark.parametrize("target", ["trn2", "trn3"])
def test_the_scalar_engine_multiplies_and_adds(target: str) -> None:
    values = np.random.default_rng(8).normal(size=(4, 6)).astype(ml_dtypes.bfloat16)
    with core(target) as c:
        dst, bias = empty(c, values.shape), put(c, np.float32([[1], [2], [3], [4]]))
        made = nisa.tensor_scalar(
            dst, put(c, values), "multiply", 3.0, op1="add", operand1=bias, engine=nisa.engine.scalar
        )
        assert made.engine is nisa.engine.scalar
        wanted = STEPS["add"](STEPS["multiply"](values.astype(F32), F32(3)), get(c, bias))
        assert np.array_equal(get(c, dst), wanted)
        if target == "trn3":  # there it has all operators of the vector engine
            nisa.tensor_scalar(dst, put(c, values), "maximum", 0.0, engine=nisa.engine.scalar)


@FIXED
@given(
    dtype=st.sampled_from(["int8", "int16", "int32", "uint8", "uint16", "uint32"]),
    mask=st.integers(-(2**31), 2**32 - 1),
    shift=st.integers(0, 33),
    vector=st.booleans(),
)
def test_bits_by_constants_and_vectors(dtype: str, mask: int, shift: int, vector: bool) -> None:
    bits = np.dtype(dtype).itemsize * 8
    unsigned = np.random.default_rng(9).integers(0, 2**bits, (3, 7)).astype(f"u{bits // 8}")
    with core() as c:
        data, dst = put(c, unsigned.view(dtype)), empty(c, unsigned.shape, dtype)
        count = put(c, np.full((3, 1), shift, np.int32)) if vector else shift
        nisa.tensor_scalar(dst, data, "bitwise_xor", mask, op1="right_shift", operand1=count)
        got = get(c, dst).view(unsigned.dtype)
    wanted = [[(int(x) ^ (mask % 2**bits)) >> shift for x in row] for row in unsigned]
    assert got.tolist() == wanted


@FIXED
@given(
    first=st.sampled_from(sorted(STEPS)),
    second=st.sampled_from(sorted(STEPS)),
    reverse=st.tuples(st.booleans(), st.booleans()),
    vector=st.booleans(),
    psum=st.sampled_from(["", "data", "operand1", "dst"]),
)
def test_scalar_tensor_tensor(first: str, second: str, reverse: tuple[bool, bool], vector: bool, psum: str) -> None:
    rng = np.random.default_rng(10)
    values, other = rng.normal(size=(4, 2, 6)).astype(F32), rng.normal(size=(4, 12)).astype(ml_dtypes.bfloat16)
    column = rng.normal(size=(4, 1)).astype(F32)
    with core() as c:
        data = put(c, values, region="psum" if psum == "data" else "sbuf")
        operand1 = put(c, other, region="psum" if psum == "operand1" else "sbuf")
        dst = empty(c, (4, 12), "float16", region="psum" if psum == "dst" else "sbuf")
        operand0 = put(c, column) if vector else 0.75
        nisa.scalar_tensor_tensor(dst, data, first, operand0, second, operand1, reverse[0], reverse[1])
        got = get(c, dst)
    scalar = column if vector else F32(0.75)
    flat = values.reshape(4, 12)
    middle = STEPS[first](*((scalar, flat) if reverse[0] else (flat, scalar)))
    last = other.astype(F32)
    result = STEPS[second](*((last, middle) if reverse[1] else (middle, last)))
    assert np.array_equal(got, result.astype(np.float16))
