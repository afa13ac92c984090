"""The activation functions against Python's own float64 mathematics, in units in the last place of float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from outcrop.silicon.device.activation_functions import ACTIVATIONS, prelu

INF = math.inf
Array = np.ndarray[Any, Any]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _density(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _gelu_tanh(x: float) -> float:
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x * _sigmoid(2 * u)  # 0.5 x (1 + tanh u)


def _swish_dx(x: float, k: float) -> float:
    return _sigmoid(k * x) * (1 + k * x * _sigmoid(-k * x))


# Exact function, units in the last place allowed.
EXACT: dict[str, tuple[Callable[[float], float], float]] = {
    "copy": (lambda x: x, 0),
    "square": (lambda x: x * x, 0.5),
    "sigmoid": (_sigmoid, 4),
    "relu": (lambda x: max(x, 0.0), 0),
    "prelu": (lambda x: max(x, 0.0), 0),
    "gelu": (lambda x: x * _cdf(x), 1),
    "gelu_dx": (lambda x: _cdf(x) + x * _density(x), 8),  # near its root, where terms cancel
    "gelu_apprx_tanh": (_gelu_tanh, 1),
    "gelu_apprx_sigmoid": (lambda x: x * _sigmoid(1.702 * x), 1),
    "gelu_apprx_sigmoid_dx": (lambda x: _swish_dx(x, 1.702), 1),
    "silu": (lambda x: x * _sigmoid(x), 1),
    "silu_dx": (lambda x: _swish_dx(x, 1.0), 1),
    "tanh": (math.tanh, 4),
    "softplus": (_softplus, 4),
    "mish": (lambda x: x * math.tanh(_softplus(x)), 1),
    "erf": (math.erf, 1),
    "erf_dx": (lambda x: 2 / math.sqrt(math.pi) * math.exp(-x * x), 1),
    "exp": (math.exp, 4),
    "log": (math.log, 4),
    "sin": (math.sin, 4),
    "arctan": (math.atan, 4),
    "sqrt": (math.sqrt, 0.5),
    "rsqrt": (lambda x: 1 / math.sqrt(x), 4),
    "reciprocal": (lambda x: 1 / x, 0.5),
    "sign": (lambda x: float((x > 0) - (x < 0)), 0),
    "abs": (abs, 0),
}
# At plus and minus infinity, then at zero.
LIMITS: dict[str, tuple[float, float, float]] = {
    "copy": (INF, -INF, 0),
    "square": (INF, INF, 0),
    "sigmoid": (1, 0, 0.5),
    "relu": (INF, 0, 0),
    "prelu": (INF, 0, 0),
    "gelu": (INF, 0, 0),
    "gelu_dx": (1, 0, 0.5),
    "gelu_apprx_tanh": (INF, 0, 0),
    "gelu_apprx_sigmoid": (INF, 0, 0),
    "gelu_apprx_sigmoid_dx": (1, 0, 0.5),
    "silu": (INF, 0, 0),
    "silu_dx": (1, 0, 0.5),
    "tanh": (1, -1, 0),
    "softplus": (INF, 0, math.log(2)),
    "mish": (INF, 0, 0),
    "erf": (1, -1, 0),
    "erf_dx": (0, 0, 2 / math.sqrt(math.pi)),
    "exp": (INF, 0, 1),
    "sign": (1, -1, 0),
    "abs": (INF, INF, 0),
}


def _inputs(name: str) -> Array:
    rng = np.random.default_rng(3)
    small = 10.0 ** rng.uniform(-30, 1, 400) * rng.choice([-1, 1], 400)
    spread = [rng.normal(size=600) * 2, rng.uniform(-87, 87, 600), small, [0.0, 1.0, -1.0, 3.9, -4.1]]
    x = np.concatenate(spread).astype(np.float32)
    function = ACTIVATIONS[name]
    if function.limited:
        wide = 2.0 ** rng.uniform(-120, 120, 600) * rng.choice([-1, 1], 600)
        ends = [function.low, function.high]
        x = np.concatenate([x, wide, ends]).astype(np.float32)
        x = x[~function.outside(x)]
    assert x.size > 500
    return x


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_function_agrees_with_float64_mathematics(name: str) -> None:
    exact, allowed = EXACT[name]
    x = _inputs(name)
    with np.errstate(over="ignore"):
        got = ACTIVATIONS[name](x)
        expected = np.array([exact(float(each)) for each in x])
        rounded = expected.astype(np.float32)
    assert got.dtype == np.float32
    finite = np.isfinite(rounded) & (np.abs(rounded) >= np.finfo(np.float32).tiny)
    error = np.abs(got.astype(np.float64) - expected)[finite] / np.spacing(np.abs(rounded[finite])).astype(np.float64)
    assert error.max() <= allowed + 1e-6, x[finite][error.argmax()]
    tiny = ~finite & np.isfinite(rounded)
    assert (np.abs(got[tiny]) <= np.finfo(np.float32).tiny).all()
    assert np.array_equal(got[~np.isfinite(rounded)], rounded[~np.isfinite(rounded)])


def test_table_has_the_vendors_functions() -> None:
    assert set(ACTIVATIONS) == set(EXACT)
    assert len(ACTIVATIONS) == 26


@pytest.mark.parametrize("name", LIMITS)
def test_function_at_infinities_zero_and_nan(name: str) -> None:
    with np.errstate(all="ignore"):
        got = ACTIVATIONS[name](np.array([INF, -INF, 0, math.nan], np.float32))
    assert got[:3] == pytest.approx(np.float32(LIMITS[name]))
    assert np.isnan(got[3])


@pytest.mark.parametrize("name", ["erf", "tanh", "gelu", "silu", "mish", "sin", "copy", "arctan"])
def test_odd_functions_keep_the_sign_of_zero_and_subnormal_numbers(name: str) -> None:
    got = ACTIVATIONS[name](np.array([-0.0, -1e-41, 1e-41], np.float32))
    assert np.signbit(got).tolist() == [True, True, False]
    assert got[1] < 0 < got[2]


def test_sin_extrapolates_a_cubic_outside_its_range() -> None:
    far = np.array([9.0, -9.0, 4.0, 3.1415927, INF], np.float32)
    with np.errstate(invalid="ignore"):
        got = ACTIVATIONS["sin"](far)
    assert got[0] == pytest.approx(27.65, abs=0.005)  # the vendor's documented value
    assert got[1] == -got[0]
    d = 4.0 - math.pi
    assert got[2] == pytest.approx(d**3 / 6 - d, rel=1e-6)
    assert got[3] == np.sin(np.float32(3.1415927))
    assert got[4] == INF


@pytest.mark.parametrize(
    ("name", "inside", "beyond"),
    [
        ("log", [2.0**-64, 2.0**64], [2.0**-65, 2.0**65, 0.0, -1.0, INF]),
        ("sin", [-3.1415927, 3.1415927], [3.142, -3.142, INF]),
        ("arctan", [-1.57, 1.57], [1.58, -1.58]),
        ("sqrt", [2.0**-116, 2.0**118], [2.0**-117, 2.0**119, 0.0]),
        ("rsqrt", [2.0**-87, 2.0**97], [2.0**-88, 2.0**98]),
        ("reciprocal", [2.0**-42, -(2.0**42)], [2.0**-43, -(2.0**43), 0.0]),
    ],
)
def test_valid_ranges(name: str, inside: list[float], beyond: list[float]) -> None:
    function = ACTIVATIONS[name]
    assert function.limited
    assert not function.outside(np.array([*inside, math.nan], np.float32)).any()
    assert function.outside(np.array(beyond, np.float32)).all()


def test_other_functions_take_every_input() -> None:
    limited = {name for name, each in ACTIVATIONS.items() if each.limited}
    assert limited == {"log", "sin", "arctan", "sqrt", "rsqrt", "reciprocal"}


def test_large_and_strided_arrays_give_what_small_ones_do() -> None:
    x = np.random.default_rng(5).normal(size=(130, 70, 4)).astype(np.float32)[:, ::2, 1:3]
    for name, each in ACTIVATIONS.items():
        with np.errstate(all="ignore"):
            whole = each(x)
            pieces = np.stack([each(row) for row in x])
        assert whole.shape == x.shape, name
        assert np.allclose(whole, pieces, rtol=1e-6, equal_nan=True), name


def test_prelu_has_a_slope_for_each_row() -> None:
    x = np.array([[-2.0, 3.0], [-4.0, -0.5]], np.float32)
    got = prelu(x, np.array([[0.5], [0.25]], np.float32))
    assert got.tolist() == [[-1.0, 3.0], [-1.0, -0.125]]
