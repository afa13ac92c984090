"""nki.language's functions of tiles, each against NumPy in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from kernel_rig import CHIPS, core, get, put
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.nki import language as nl

RANDOM = np.random.default_rng(5)
P, F = 33, 40
X = (RANDOM.standard_normal((P, F)) * 3).astype(np.float32)
Y = RANDOM.standard_normal((P, F)).astype(np.float32)
POSITIVE = np.abs(X) + np.float32(0.1)
INTS = RANDOM.integers(-1000, 1000, (P, F)).astype(np.int32)
COUNTS = RANDOM.integers(0, 8, (P, F)).astype(np.int32)


def wide(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values, np.float64)


def result(function: Callable[..., Any], *arrays: Any, target: str = "trn2", relaxed: Any = False) -> Any:
    with core(target, relaxed) as on:
        tiles = [put(on, each) if isinstance(each, np.ndarray) else each for each in arrays]
        return get(on, function(*tiles))


BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
SHAPES = {
    "tiles": (X, Y),
    "equal values": (X, X),
    "number": (X, 2.5),
    "number first": (2.5, X),
    "column": (X, Y[:, :1].copy()),
    "column first": (Y[:, :1].copy(), X),
    "row": (X, Y[:1].copy()),
    "row first": (Y[:1].copy(), X),
    "column and row": (X[:, :1].copy(), Y[:1].copy()),
    "bfloat16 column": (X, Y[:, :1].astype(ml_dtypes.bfloat16)),
    "three dimensions": (X.reshape(P, 8, 5), Y.reshape(P, 8, 5)[:, :, :1].copy()),
    "three dimensions, middle": (X.reshape(P, 8, 5), Y.reshape(P, 8, 5)[:, :1].copy()),
}


@pytest.mark.parametrize("target", sorted(CHIPS))
@pytest.mark.parametrize("shapes", sorted(SHAPES))
@pytest.mark.parametrize("name", sorted(BINARY))
def test_binary_operators_broadcast_as_numpy_does(name: str, shapes: str, target: str):
    x, y = SHAPES[shapes]
    found = result(getattr(nl, name), x, y, target=target)
    expected = BINARY[name](wide(x), wide(y))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor"])
@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int16, np.uint8])
def test_bitwise_operators_are_exact(name: str, dtype: Any):
    x, y = INTS.astype(dtype), COUNTS.astype(dtype)
    np.testing.assert_array_equal(result(getattr(nl, name), x, y), getattr(np, name)(x, y))
    np.testing.assert_array_equal(result(lambda tile: getattr(nl, name)(tile, 5), x), getattr(np, name)(x, dtype(5)))


def test_shifts_and_inversion_are_exact():
    unsigned = INTS.view(np.uint32)
    np.testing.assert_array_equal(result(nl.left_shift, COUNTS, COUNTS), COUNTS << COUNTS)
    np.testing.assert_array_equal(result(lambda tile: nl.right_shift(tile, 3), unsigned), unsigned >> 3)
    for values in (INTS, unsigned, INTS.astype(np.uint8), INTS.astype(np.int16)):
        np.testing.assert_array_equal(result(nl.invert, values), ~values)


def test_logical_not_turns_truth_over():
    np.testing.assert_array_equal(result(nl.logical_not, (X > 0).astype(np.float32)), X <= 0)


def _gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ERF = np.vectorize(math.erf)
UNARY: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "exp": (X, np.exp),
    "log": (POSITIVE, np.log),
    "sqrt": (POSITIVE, np.sqrt),
    "rsqrt": (POSITIVE, lambda x: x**-0.5),
    "square": (X, np.square),
    "abs": (X, np.abs),
    "sign": (X, np.sign),
    "tanh": (X, np.tanh),
    "arctan": (X / 8, np.arctan),
    "sigmoid": (X, lambda x: 1 / (1 + np.exp(-x))),
    "relu": (X, lambda x: np.maximum(x, 0)),
    "silu": (X, lambda x: x / (1 + np.exp(-x))),
    "gelu": (X, lambda x: x * (1 + ERF(x / math.sqrt(2))) / 2),
    "gelu_apprx_tanh": (X, _gelu_tanh),
    "gelu_apprx_sigmoid": (X, lambda x: x / (1 + np.exp(-1.702 * x))),
    "softplus": (X, lambda x: np.log1p(np.exp(x))),
    "mish": (X, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "erf": (X, ERF),
    "erf_dx": (X, lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    "reciprocal": (POSITIVE, lambda x: 1 / x),
    "negative": (X, np.negative),
    "copy": (X, np.array),
    "floor": (X, np.floor),
    "ceil": (X, np.ceil),
    "trunc": (X, np.trunc),
    "sin": (X * 100, np.sin),
    "cos": (X * 100, np.cos),
}


@pytest.mark.parametrize("target", sorted(CHIPS))
@pytest.mark.parametrize("name", sorted(UNARY))
def test_functions_of_one_tile(name: str, target: str):
    values, reference = UNARY[name]
    found = result(getattr(nl, name), values, target=target)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(wide(values)), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["gelu_dx", "silu_dx", "gelu_apprx_sigmoid_dx"])
def test_derivatives_are_those_of_the_functions(name: str):
    step = 1e-4
    function = UNARY[name.removesuffix("_dx")][1]
    slope = (function(wide(X) + step) - function(wide(X) - step)) / (2 * step)
    np.testing.assert_allclose(result(getattr(nl, name), X), slope, rtol=1e-5, atol=1e-6)


def test_tangent_is_sine_over_cosine():
    found = result(nl.tan, X)
    error = (found - np.tan(wide(X))) * np.cos(wide(X)) ** 2  # how far the angle is off
    assert np.abs(error).max() < 1e-6


@pytest.mark.parametrize("x", [0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -3.0, 1e6 + 0.5, -(2.0**30), 8388609.0])
@pytest.mark.parametrize("name", ["floor", "ceil", "trunc"])
def test_roundings_at_the_edges(name: str, x: float):
    assert result(getattr(nl, name), np.full((2, 1), x, np.float32))[0, 0] == getattr(math, name)(x)


@pytest.mark.parametrize("divisor", [POSITIVE, -POSITIVE, 1.7, -1.7, Y])
def test_remainders(divisor: Any):
    for name, reference in (("mod", np.mod), ("fmod", np.fmod)):
        found = result(getattr(nl, name), X, divisor)
        off = np.abs(found - reference(wide(X), wide(divisor)))
        size = np.abs(wide(divisor))
        near = np.minimum(off, np.abs(off - size))  # a remainder of 0 may come out as a whole divisor, less a rounding
        assert near.max() < 1e-4
        assert np.all(np.abs(found) <= size * (1 + 1e-6))


def test_remainders_of_a_number_by_a_tile():
    for name, reference in (("mod", np.mod), ("fmod", np.fmod)):
        found = result(lambda tile, name=name: getattr(nl, name)(7.3, tile), POSITIVE)
        np.testing.assert_allclose(found, reference(7.3, wide(POSITIVE)), atol=1e-4)


def test_where_takes_tiles_and_numbers():
    condition = (COUNTS > 3).astype(np.float32)
    np.testing.assert_array_equal(result(nl.where, condition, X, Y), np.where(COUNTS > 3, X, Y))
    np.testing.assert_array_equal(result(nl.where, condition, X, -1.0), np.where(COUNTS > 3, X, np.float32(-1)))
    np.testing.assert_array_equal(result(nl.where, condition, 3.0, Y), np.where(COUNTS > 3, np.float32(3), Y))


def test_rsqrt_runs_on_gpsimd_which_does_not_reach_psum():
    with core() as on:
        nl.rsqrt(put(on, POSITIVE))
        assert on.trace[-1].engine.name == "gpsimd"
        with pytest.raises(KernelRefused) as refused:
            nl.rsqrt(put(on, POSITIVE, region="psum"))
        assert refused.value.rule.name == "operand-memory"


def test_power_takes_tiles_and_numbers():
    np.testing.assert_allclose(result(nl.power, POSITIVE, Y), wide(POSITIVE) ** wide(Y), rtol=2e-6)
    np.testing.assert_allclose(result(nl.power, POSITIVE, 2.0), wide(POSITIVE) ** 2, rtol=2e-6)


@pytest.mark.parametrize("name", ["abs_max", "abs_min"])
def test_magnitudes_are_compared_where_the_chip_can(name: str):
    compare = np.greater if name == "abs_max" else np.less
    expected = np.where(compare(np.abs(X), np.abs(Y)), X, Y)
    np.testing.assert_array_equal(result(getattr(nl, name), X, Y, target="trn3"), expected)
    with pytest.raises(KernelRefused) as refused:
        result(getattr(nl, name), X, Y, target="trn2")
    assert refused.value.rule.name == "generation"


def test_division_is_refused_and_relaxed_it_multiplies_by_the_reciprocal():
    with pytest.raises(KernelRefused) as refused:
        result(nl.divide, X, POSITIVE)
    assert refused.value.rule.name == "divide"
    for x, y in ((X, POSITIVE), (2.0, POSITIVE), (X, 3.0)):
        with pytest.warns(match="divide"):
            found = result(nl.divide, x, y, relaxed={"divide"})
        np.testing.assert_allclose(found, wide(x) / wide(y), rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (np.float32, ml_dtypes.bfloat16, np.float32),
        (np.float16, ml_dtypes.bfloat16, np.float32),
        (ml_dtypes.bfloat16, np.int32, ml_dtypes.bfloat16),
        (np.int16, np.int32, np.int32),
        (ml_dtypes.bfloat16, ml_dtypes.bfloat16, ml_dtypes.bfloat16),
    ],
)
def test_the_type_of_a_result_of_two_types(x: Any, y: Any, expected: Any):
    assert result(nl.add, COUNTS.astype(x), COUNTS.astype(y)).dtype == expected
    assert result(nl.add, COUNTS.astype(y), COUNTS.astype(x)).dtype == expected


@pytest.mark.parametrize("name", ["exp", "copy", "floor", "sin", "reciprocal", "negative"])
def test_results_take_the_asked_type(name: str):
    found = result(lambda tile: getattr(nl, name)(tile, dtype=nl.bfloat16), POSITIVE)
    assert found.dtype == ml_dtypes.bfloat16
    exact = result(getattr(nl, name), POSITIVE)
    np.testing.assert_array_equal(found, exact.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda x: nl.add(x, [1]), "parameter"),
        (lambda x: nl.add(1, 2), "parameter"),
        (lambda x: nl.exp(3.0), "parameter"),
        (lambda x: nl.mod(3.0, 2.0), "parameter"),
        (lambda x: nl.add(x, x[:, :7]), "operand-shape"),
        (lambda x: nl.add(x, x.reshape((P, 8, 5))), "operand-shape"),
    ],
)
def test_what_the_functions_refuse(call: Callable[[Any], Any], rule: str):
    with pytest.raises(KernelRefused) as refused:
        result(call, X)
    assert refused.value.rule.name == rule


def test_a_comparison_has_a_truth_value_for_assertions():
    with core() as on:
        x = put(on, X)
        assert nl.equal(x, x)
        assert not nl.equal(x, put(on, Y))
        assert not nl.less(x, x)


def test_functions_name_operators():
    names = [*BINARY, *UNARY, "max", "min", "sum", "average", "prelu", "bypass", "power", "divide", "abs_max"]
    assert [getattr(nl, name).__name__ for name in names] == names
