"""Each operator against float64, bit by bit where the hardware's float32 is exact, and what is no operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel_rig import core, empty, get, put
from outcrop.silicon.device import alu
from outcrop.silicon.device.rules import KernelRefused, KernelWarning
from outcrop.silicon.nki import isa as nisa

Array = np.ndarray[Any, Any]
FIXED = settings(derandomize=True, deadline=None, max_examples=40)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, -7.25, 1e-30, 1e30, -2.5e38, math.inf, -math.inf, math.nan]
LEFT, RIGHT = (each.reshape(13, 13) for each in np.meshgrid(np.float32(SPECIAL), np.float32(SPECIAL)))


def magnitude(keep_left: Callable[[float, float], bool]) -> Callable[[float, float], float]:
    return lambda a, b: a if keep_left(abs(a), abs(b)) else b


def nan_or(compute: Callable[[float, float], float]) -> Callable[[float, float], float]:
    return lambda a, b: math.nan if math.isnan(a) or math.isnan(b) else compute(a, b)


def product(a: float, b: float) -> float:
    return math.nan if {abs(a), abs(b)} == {0.0, math.inf} else a * b


def python_mod(a: float, b: float) -> float:
    if b == 0 or math.isinf(a):
        return math.nan
    if math.isinf(b):
        return a if a == 0 or (a > 0) == (b > 0) else b
    return a % b


# One pair of Python numbers at a time, in float64: written without the tables of the device.
EXACT: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": product,
    "maximum": nan_or(max),
    "minimum": nan_or(min),
    "equal": lambda a, b: float(a == b),
    "not_equal": lambda a, b: float(a != b),
    "greater_equal": lambda a, b: float(a >= b),
    "greater": lambda a, b: float(a > b),
    "less_equal": lambda a, b: float(a <= b),
    "less": lambda a, b: float(a < b),
    "logical_and": lambda a, b: float(bool(a) and bool(b)),
    "logical_or": lambda a, b: float(bool(a) or bool(b)),
    "logical_xor": lambda a, b: float(bool(a) != bool(b)),
    "fmod": nan_or(lambda a, b: math.nan if b == 0 or math.isinf(a) else math.fmod(a, b)),
    "mod": nan_or(python_mod),
}


@pytest.mark.parametrize("name", EXACT)
def test_binary_operators_on_ordinary_and_special_numbers(name: str) -> None:
    wanted = [EXACT[name](float(a), float(b)) for a, b in zip(LEFT.flat, RIGHT.flat, strict=True)]
    with np.errstate(over="ignore"):
        rounded = np.array(wanted, np.float64).astype(np.float32).reshape(LEFT.shape)
    with core() as c:
        dst = empty(c, LEFT.shape)
        nisa.tensor_tensor(dst, put(c, LEFT), put(c, RIGHT), name)
        got = get(c, dst)
    assert np.array_equal(got, rounded, equal_nan=True)


@pytest.mark.parametrize(("name", "keep"), [("abs_max", lambda a, b: a > b), ("abs_min", lambda a, b: a < b)])
def test_magnitude_operators_keep_the_sign_and_take_the_second_of_equals(
    name: str, keep: Callable[[float, float], bool]
) -> None:
    left, right = np.float32([[5, -5, 1, -3]]), np.float32([[-3, 3, -1, -8]])
    wanted = [[magnitude(keep)(float(a), float(b)) for a, b in zip(left[0], right[0], strict=True)]]
    with core("trn3") as c:
        dst = empty(c, left.shape)
        nisa.tensor_tensor(dst, put(c, left), put(c, right), name)
        assert get(c, dst).tolist() == wanted
    with core("trn2") as c, pytest.raises(KernelRefused) as err:
        nisa.tensor_tensor(empty(c, left.shape), put(c, left), put(c, right), name)
    assert err.value.rule.name == "generation"


def test_power_is_as_exact_as_float32() -> None:
    rng = np.random.default_rng(1)
    base, exponent = np.float32(rng.uniform(0.1, 9, (32, 40))), np.float32(rng.uniform(-3, 3, (32, 40)))
    with core() as c:
        dst = empty(c, base.shape)
        nisa.tensor_tensor(dst, put(c, base), put(c, exponent), "power")
        got = get(c, dst)
    np.testing.assert_allclose(got, base.astype(np.float64) ** exponent.astype(np.float64), rtol=5e-7)


UNARY: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "square": lambda a: a * a,
    "relu": lambda a: a if a > 0 or math.isnan(a) else 0.0,
    "reciprocal": lambda a: 1 / a if a else math.copysign(math.inf, a),
    "rsqrt": lambda a: math.nan if a < 0 else (1 / math.sqrt(a) if a else math.copysign(math.inf, a)),
    "logical_not": lambda a: float(a == 0),
}


@pytest.mark.parametrize("name", UNARY)
def test_unary_operators_are_rounded_once(name: str) -> None:
    values = np.concatenate([np.float32(SPECIAL), np.random.default_rng(2).lognormal(0, 9, 300).astype(np.float32)])
    with np.errstate(over="ignore", under="ignore"):
        wanted = np.array([UNARY[name](float(each)) for each in values]).astype(np.float32)
    with core() as c:
        dst = empty(c, (1, values.size))
        nisa.tensor_scalar(dst, put(c, values[None]), name, None)
        got = get(c, dst)[0]
    assert np.array_equal(got, wanted, equal_nan=True)


BITS: dict[str, Callable[[int, int, int], int]] = {
    "bitwise_and": lambda a, b, n: a & b,
    "bitwise_or": lambda a, b, n: a | b,
    "bitwise_xor": lambda a, b, n: a ^ b,
    "left_shift": lambda a, b, n: (a << b) % 2**n if b < n else 0,
    "right_shift": lambda a, b, n: a >> b if b < n else 0,
}


@FIXED
@given(
    name=st.sampled_from(sorted(BITS)),
    dtype=st.sampled_from(["int8", "int16", "int32", "uint8", "uint16", "uint32"]),
    seed=st.integers(0, 999),
)
def test_bitwise_operators_see_bits_and_shift_without_sign(name: str, dtype: str, seed: int) -> None:
    bits = np.dtype(dtype).itemsize * 8
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2**bits, (4, 6)).astype(f"u{bits // 8}")
    b = rng.integers(0, bits + 3 if "shift" in name else 2**bits, (4, 6)).astype(f"u{bits // 8}")
    wanted = [BITS[name](int(x), int(y), bits) for x, y in zip(a.flat, b.flat, strict=True)]
    with core() as c:
        dst = empty(c, a.shape, dtype)
        nisa.tensor_tensor(dst, put(c, a.view(dtype)), put(c, b.view(dtype)), name)
        got = get(c, dst).view(a.dtype)
    assert got.reshape(-1).tolist() == wanted


def test_invert_and_a_reversed_shift_by_a_scalar() -> None:
    values = np.array([[0, 1, -1, 5]], np.int32)
    with core() as c:
        dst = empty(c, values.shape, "int32")
        nisa.tensor_scalar(dst, put(c, values), "invert", None)
        assert get(c, dst).tolist() == [[-1, -2, 0, -6]]
        nisa.tensor_scalar(dst, put(c, np.abs(values)), "left_shift", 3, reverse0=True)
        assert get(c, dst).tolist() == [[3, 6, 6, 96]]


@FIXED
@given(
    name=st.sampled_from(["add", "subtract", "multiply", "maximum", "less", "logical_xor", "power", "mod"]),
    kinds=st.tuples(*[st.sampled_from(["int32", "uint32"])] * 3),
    seed=st.integers(0, 999),
)
def test_gpsimd_computes_32_bit_integers_exactly(name: str, kinds: tuple[str, str, str], seed: int) -> None:
    python: dict[str, Callable[[int, int], int]] = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "maximum": max,
        "less": lambda a, b: int(a < b),
        "logical_xor": lambda a, b: int(bool(a) != bool(b)),
        "power": pow,
        "mod": lambda a, b: a % b,
    }
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(-(2**31) if k == "int32" else 0, 2**31, (3, 5)).astype(k) for k in kinds[:2])
    if name == "power":
        b %= b.dtype.type(6)
    b[b == 0] = 1
    wanted = [python[name](int(x), int(y)) % 2**32 for x, y in zip(a.flat, b.flat, strict=True)]
    with core() as c:
        dst = empty(c, a.shape, kinds[2])
        made = nisa.tensor_tensor(dst, put(c, a), put(c, b), name)
        got = get(c, dst).view(np.uint32)
    assert made.engine is nisa.engine.gpsimd
    assert got.reshape(-1).tolist() == wanted


def test_integer_power_with_a_negative_exponent_is_the_whole_part() -> None:
    base, exponent = np.int32([[1, -1, -1, 2, 0]]), np.int32([[-3, -3, -2, -1, -1]])
    with core() as c:
        dst = empty(c, base.shape, "int32")
        nisa.tensor_tensor(dst, put(c, base), put(c, exponent), "power")
        assert get(c, dst).tolist() == [[1, -1, 1, 0, 0]]


@pytest.mark.parametrize("name", sorted(each for each in alu.OPERATORS if alu.OPERATORS[each].identity is not None))
def test_folds_agree_with_the_operator_applied_one_by_one(name: str) -> None:
    rng = np.random.default_rng(4)
    bitvec = alu.is_bitvec(name)
    values: Array = rng.integers(0, 256, (5, 7)).astype(np.uint8) if bitvec else np.float32(rng.integers(-3, 4, (5, 7)))
    wanted = values[:, 0] if not name.startswith("logical") else np.float32(values[:, 0] != 0)
    for column in range(1, 7):
        wanted = alu.OPERATORS[name].apply(wanted, values[:, column], None)
    found = alu.fold(name, values)
    assert found.dtype == values.dtype
    assert np.array_equal(np.abs(found) if "abs" in name else found, np.abs(wanted) if "abs" in name else wanted)


@pytest.mark.parametrize("name", sorted(each for each in alu.OPERATORS if alu.OPERATORS[each].identity is not None))
def test_identities_leave_a_value_as_it_is(name: str) -> None:
    operator = alu.OPERATORS[name]
    start = alu.identity(name)
    if operator.bitvec:
        values: Array = np.arange(256).astype(np.int8)
        begin: Array = np.full(256, start, np.int8)
    elif name.startswith("logical"):
        values, begin = np.float32([0, 1]), np.full(2, start, np.float32)
    else:
        values, begin = np.float32([-2, 0, 5]), np.full(3, start, np.float32)
    assert np.array_equal(operator.apply(values, begin, None), values)


@pytest.mark.parametrize(
    ("name", "rule"), [("divide", "divide"), ("no_such", "operator"), ("abs", "operator"), ("", "operator")]
)
def test_what_is_no_binary_operator_is_refused(name: str, rule: str) -> None:
    with core() as c, pytest.raises(KernelRefused) as err:
        nisa.tensor_tensor(empty(c, (4, 4)), put(c, np.ones((4, 4))), put(c, np.ones((4, 4))), name)
    assert err.value.rule.name == rule


def test_divide_may_be_relaxed() -> None:
    with core(relaxed={"divide"}) as c:
        dst, left, right = empty(c, (1, 2), "bfloat16"), put(c, np.float32([[1, 9]])), put(c, np.float32([[4, 3]]))
        with pytest.warns(KernelWarning, match="divide"):
            nisa.tensor_tensor(dst, left, right, np.divide)
        assert get(c, dst).tolist() == [[0.25, 3.0]]


def test_an_operator_may_be_the_function_of_numpy_or_its_name() -> None:
    with core() as c:
        a, dst = put(c, np.float32([[2.0]])), empty(c, (1, 1))
        for op in (np.add, "add", np.maximum):
            nisa.tensor_tensor(dst, a, a, op)
    assert [each.params["op"] for each in c.trace] == ["add", "add", "maximum"]
