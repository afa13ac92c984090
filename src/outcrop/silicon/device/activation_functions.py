"""The activation functions of the scalar engine, as float32 functions of float32 arrays, with their valid input ranges.

The hardware evaluates piecewise polynomials whose coefficients are not published. Here each function is the exact one,
rounded: exp, tanh, sin, arctan, log and softplus to within 4 units in the last place (NumPy's float32 kernels), sigmoid
and rsqrt to 4, the rest to about 1 (computed in float64). Square roots, reciprocals and the like are correctly rounded.

Outside its valid range a function gives what the exact one gives, which is not what the hardware gives; only ``sin``
goes on there as the vendor documents: it does not reduce its argument, and its last polynomial, a cubic around the end
of the range, is extrapolated (sin(9.0) is about 27.65).

Not covered: the hardware's own approximation error; flushing of subnormal numbers, which is not documented.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.silicon.device.dtypes import Array

Function = Callable[..., Array]
_BLOCK = 8192


@dataclass(frozen=True, slots=True)
class Activation:
    """One function; valid for inputs (or, with ``magnitude``, absolute inputs) from ``low`` to ``high``."""

    name: str
    function: Function
    low: float = -math.inf
    high: float = math.inf
    magnitude: bool = False
    wide: bool = False  # computes in float64

    @property
    def limited(self) -> bool:
        return self.high != math.inf

    def __call__(self, values: Array, out: Array | None = None) -> Array:
        """The function of a float32 array, which is not changed but may itself be the result. NaN stays NaN.

        The result may be ``out``, or an array of its own.
        """
        function = self.function
        if not self.wide:
            return function(values) if out is None or function.__class__ is not np.ufunc else function(values, out)
        if values.size <= _BLOCK:
            return self.function(values.astype(np.float64)).astype(np.float32)
        # Block by block, so that the float64 temporaries stay in the processor's cache: five times as fast.
        flat = values.reshape(-1)
        result = np.empty(flat.shape, np.float32)
        for start in range(0, flat.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            result[block] = self.function(flat[block].astype(np.float64))
        return result.reshape(values.shape)

    def outside(self, values: Array) -> Array:
        """Where inputs lie outside the valid range; NaN does not count."""
        inputs = np.abs(values) if self.magnitude else values
        far: Array = (inputs < np.float32(self.low)) | (inputs > np.float32(self.high))
        return far

    def range_text(self) -> str:
        names = {math.pi: "pi", math.pi / 2: "pi/2", -math.pi: "-pi", -math.pi / 2: "-pi/2"}
        low, high = (names.get(end) or f"2^{math.log2(end):.0f}" for end in (self.low, self.high))
        return f"{low} to {high}" + (" in magnitude" if self.magnitude else "")


# -- the error function and the normal distribution --------------------------------------------------------------------

# Our own fits. erf(x) / x as a quotient of polynomials in x^2 over 0 <= x <= 4, relative error 1e-9.
_ERF_ABOVE = (
    -4.483689768605e-08, -2.881722302350e-07, 3.057672988724e-04, 2.956095747867e-03, 5.093881281026e-02,
    1.669049015772e-01, 1.128379168145e00,
)  # fmt: skip
_ERF_BELOW = (
    -6.200266781593e-07, 4.100246098605e-05, 1.039890791212e-03, 1.349158373159e-02, 1.055594118201e-01,
    4.812489898826e-01, 1.0,
)  # fmt: skip
# exp(z^2) erfc(z) / t as a polynomial in t = 2 / (2 + z) over 0 <= z <= 14.6, relative error 1.3e-9;
# what lies beyond vanishes in float32.
_ERFC_SCALED = (
    -2.4038505545625e-02, 1.8676586512539e-01, -6.1069891710537e-01, 1.0611969948623e00, -1.0010833481103e00,
    4.8214481598257e-01, -2.1075223677773e-01, 1.3754070975908e-01, 1.6692285379683e-01, 2.4787688008873e-01,
    2.8202825743983e-01, 2.8209663105170e-01,
)  # fmt: skip


def _polynomial(coefficients: tuple[float, ...], at: Array) -> Array:
    """Horner's rule, the highest power first."""
    total = at * coefficients[0]
    total += coefficients[1]
    for each in coefficients[2:]:
        total *= at
        total += each
    return total


def _erf(x: Array) -> Array:
    np.clip(x, -4.0, 4.0, out=x)  # beyond, float32 has nothing between erf and 1
    square = x * x
    x *= _polynomial(_ERF_ABOVE, square)
    x /= _polynomial(_ERF_BELOW, square)
    return x


def _erf_dx(x: Array) -> Array:
    x *= x
    np.exp(np.negative(x, out=x), out=x)
    x *= 2 / math.sqrt(math.pi)
    return x


def _normal_cdf(x: Array) -> Array:
    """The standard normal distribution of a float64 array, accurate in its lower tail too."""
    size = np.abs(x)
    t = 1 / (1 + size * (0.25 * math.sqrt(2)))
    tail = 0.5 * t * _polynomial(_ERFC_SCALED, t)
    size *= size
    tail *= np.exp(-0.5 * size)
    result: Array = np.where(x < 0, tail, 1 - tail)
    return result


# -- functions made of sigmoids and the normal distribution ------------------------------------------------------------
# Those in float64 get an array of their own, which they may change. Inputs are clipped where the factor that they
# multiply has vanished, so that infinities do not meet zeros.


def _sigmoid(values: Array) -> Array:
    result = np.negative(values)
    np.exp(result, out=result)
    result += 1
    return np.reciprocal(result, out=result)


def _swish(x: Array, slope: float) -> Array:
    """x sigmoid(slope x)."""
    np.maximum(x, -200.0, out=x)
    below = np.exp(x * -slope)
    below += 1
    return np.divide(x, below, out=x)


def _swish_dx(x: Array, slope: float) -> Array:
    np.clip(x, -400.0, 400.0, out=x)
    x *= slope
    s = 1 / (1 + np.exp(-x))
    return s * (1 + x * (1 - s))


def _gelu(x: Array) -> Array:
    below = _normal_cdf(x)
    below *= np.maximum(x, -20.0, out=x)
    return below


def _gelu_dx(x: Array) -> Array:
    below = _normal_cdf(x)
    np.clip(x, -40.0, 40.0, out=x)
    below += x * np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return below


def _gelu_tanh(x: Array) -> Array:
    """0.5 x (1 + tanh(u)) as x sigmoid(2u), which keeps its accuracy for negative x."""
    np.maximum(x, -100.0, out=x)
    u = x * x
    u *= -2 * math.sqrt(2 / math.pi) * 0.044715
    u -= 2 * math.sqrt(2 / math.pi)
    u *= x
    np.exp(u, out=u)
    u += 1
    np.divide(x, u, out=x)
    return x


def _softplus(values: Array) -> Array:
    return np.maximum(values, 0) + np.log1p(np.exp(-np.abs(values)))


def _mish(x: Array) -> Array:
    """x tanh(softplus(x)), by tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2)."""
    np.maximum(x, -200.0, out=x)
    e = np.exp(np.minimum(x, 40.0))
    e *= e + 2
    x *= e
    e += 2
    return np.divide(x, e, out=x)


# -- the rest ----------------------------------------------------------------------------------------------------------


def _sin(values: Array) -> Array:
    result = np.sin(values)
    past = np.abs(values)
    far = past > np.float32(math.pi)
    if far.any():
        beyond = past[far].astype(np.float64) - math.pi
        result[far] = np.copysign(1.0, values[far]) * (beyond * (beyond * beyond / 6 - 1))
    return result


def _rsqrt(values: Array) -> Array:
    return np.reciprocal(np.sqrt(values))


def _relu(values: Array) -> Array:
    return np.maximum(values, 0)


def prelu(values: Array, slope: Any) -> Array:
    """x where it is not negative, else slope x; ``slope`` broadcasts. Instructions without a slope use 0."""
    result: Array = np.where(values < 0, values * slope, values)
    return result


_PI = math.pi

ACTIVATIONS: dict[str, Activation] = {
    each.name: each
    for each in (
        Activation("copy", lambda values: values),
        Activation("square", np.square),
        Activation("sigmoid", _sigmoid),
        Activation("relu", _relu),
        Activation("prelu", _relu),
        Activation("gelu", _gelu, wide=True),
        Activation("gelu_dx", _gelu_dx, wide=True),
        Activation("gelu_apprx_tanh", _gelu_tanh, wide=True),
        Activation("gelu_apprx_sigmoid", lambda values: _swish(values, 1.702), wide=True),
        Activation("gelu_apprx_sigmoid_dx", lambda values: _swish_dx(values, 1.702), wide=True),
        Activation("silu", lambda values: _swish(values, 1.0), wide=True),
        Activation("silu_dx", lambda values: _swish_dx(values, 1.0), wide=True),
        Activation("tanh", np.tanh),
        Activation("softplus", _softplus),
        Activation("mish", _mish, wide=True),
        Activation("erf", _erf, wide=True),
        Activation("erf_dx", _erf_dx, wide=True),
        Activation("exp", np.exp),
        Activation("log", np.log, 2.0**-64, 2.0**64),
        Activation("sin", _sin, -_PI, _PI),
        Activation("arctan", np.arctan, -_PI / 2, _PI / 2),
        Activation("sqrt", np.sqrt, 2.0**-116, 2.0**118),
        Activation("rsqrt", _rsqrt, 2.0**-87, 2.0**97),
        Activation("reciprocal", np.reciprocal, 2.0**-42, 2.0**42, magnitude=True),
        Activation("sign", np.sign),
        Activation("abs", np.abs),
    )
}
