"""Functions of one tile: activation functions of the scalar engine, roundings, and what is composed of them.

Results are new tiles in SBUF of the input's type, or of ``dtype``. An activation function is one ``nisa.activation``,
with the valid ranges of that instruction; ``sin``, ``cos`` and ``tan`` bring their argument into its range first.

Roundings go through int32 (to nearest even) and are corrected from there, so magnitudes of 2^31 and more saturate and
NaN becomes 0. How the vendor lowers ``mod`` and ``fmod`` is not documented: here the quotient is the product with the
reciprocal, and the remainder is corrected by one divisor where rounding took the quotient across an integer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from outcrop.silicon.device import rules
from outcrop.silicon.device.core import current
from outcrop.silicon.device.dtypes import DType, find, float32, int32, uint8
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import SBUF, Engine
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki import isa as nisa
from outcrop.silicon.nki.language.elementwise import _binary, common_type, multiply
from outcrop.silicon.nki.language.movement import copy_to_sbuf


def _tile(x: Any, name: str) -> Tensor:
    if not isinstance(x, Tensor):
        refuse(rules.PARAMETER, f"nl.{name} got {x!r}, a {type(x).__name__}.", "It takes a tile.")
        raise AssertionError("refused")
    return x


def _like(x: Tensor, dtype: Any = None) -> Tensor:
    kind: DType = x.dtype if dtype is None else find(dtype)
    return current().allocate(x.shape, kind, SBUF, "")


def _activation(name: str, summary: str) -> Callable[..., Tensor]:
    def function(x: Tensor, dtype: Any = None) -> Tensor:
        tile = _tile(x, name)
        made = _like(tile, dtype)
        nisa.activation(made, name, tile)
        return made

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{summary} Engine: scalar, by ``nisa.activation``."
    return function


exp = _activation("exp", "e to the power of x.")
log = _activation("log", "The natural logarithm.")
sqrt = _activation("sqrt", "The square root.")
square = _activation("square", "x times x.")
abs = _activation("abs", "The magnitude.")
sign = _activation("sign", "-1, 0 or 1.")
tanh = _activation("tanh", "The hyperbolic tangent.")
arctan = _activation("arctan", "The inverse tangent.")
sigmoid = _activation("sigmoid", "1 / (1 + exp(-x)).")
relu = _activation("relu", "x, or 0 where it is negative.")
gelu = _activation("gelu", "x times the standard normal distribution at x.")
gelu_dx = _activation("gelu_dx", "The derivative of gelu.")
gelu_apprx_tanh = _activation("gelu_apprx_tanh", "gelu, approximated with tanh.")
gelu_apprx_sigmoid = _activation("gelu_apprx_sigmoid", "gelu, approximated as x sigmoid(1.702 x).")
gelu_apprx_sigmoid_dx = _activation("gelu_apprx_sigmoid_dx", "The derivative of gelu_apprx_sigmoid.")
silu = _activation("silu", "x sigmoid(x).")
silu_dx = _activation("silu_dx", "The derivative of silu.")
softplus = _activation("softplus", "log(1 + exp(x)).")
mish = _activation("mish", "x tanh(softplus(x)).")
erf = _activation("erf", "The error function.")
erf_dx = _activation("erf_dx", "The derivative of the error function.")


def copy(x: Tensor, dtype: Any = None) -> Tensor:
    """A new tile in SBUF with the same values, by ``nisa.tensor_copy``."""
    tile = _tile(x, "copy")
    return copy_to_sbuf(tile, tile.dtype if dtype is None else find(dtype))


def reciprocal(x: Tensor, dtype: Any = None) -> Tensor:
    """1 / x. Engine: vector, by ``nisa.reciprocal``."""
    tile = _tile(x, "reciprocal")
    made = _like(tile, dtype)
    nisa.reciprocal(made, tile)
    return made


def rsqrt(x: Tensor, dtype: Any = None) -> Tensor:
    """1 over the square root of a tile in SBUF. Engine: gpsimd, by ``nisa.tensor_scalar``."""
    tile = _tile(x, "rsqrt")
    made = _like(tile, dtype)
    nisa.tensor_scalar(made, tile, "rsqrt", 0.0, engine=Engine.gpsimd)
    return made


def negative(x: Tensor, dtype: Any = None) -> Tensor:
    """-x, as x times -1."""
    return multiply(_tile(x, "negative"), -1.0 if not x.dtype.is_integer else -1, dtype)


def invert(x: Tensor, dtype: Any = None) -> Tensor:
    """Every bit turned over: exclusive or with all ones; integers."""
    tile = _tile(x, "invert")
    ones = (1 << (8 * tile.dtype.itemsize)) - 1 if tile.dtype.numpy.kind == "u" else -1
    return _binary("bitwise_xor", tile, ones, dtype)


def logical_not(x: Tensor, dtype: Any = None) -> Tensor:
    """1 where x is 0, else 0: exclusive or with 1."""
    return _binary("logical_xor", _tile(x, "logical_not"), 1, dtype)


# -- periodic functions -----------------------------------------------------------------------------------------------

# 2 pi in three parts, of which the first two are short: their products with up to a thousand turns are exact.
_HIGH, _MIDDLE = 6.28125, 16234 / 2**23
_TWO_PI = (_HIGH, _MIDDLE, math.tau - _HIGH - _MIDDLE)
_PI_BELOW = 3.1415925  # the largest float32 not above pi


def _turned(x: Tensor, quarter_turns: int) -> Tensor:
    """``x + quarter_turns * pi/2``, less the whole turns in it: a float32 tile with values from -pi to pi."""
    whole, turns = _like(x, int32), _like(x, float32)
    nisa.tensor_scalar(whole, x, "multiply", 1 / math.tau, False, "add", quarter_turns / 4)  # rounds to the nearest
    nisa.tensor_scalar(turns, whole, "subtract", quarter_turns / 4)
    rest = x
    for part in _TWO_PI:
        reduced = _like(x, float32)
        nisa.scalar_tensor_tensor(reduced, turns, "multiply", -part, "add", rest)
        rest = reduced
    held = _like(x, float32)
    nisa.tensor_scalar(held, rest, "minimum", _PI_BELOW, False, "maximum", -_PI_BELOW)
    return held


def sin(x: Tensor, dtype: Any = None) -> Tensor:
    """The sine, of any argument: whole turns are taken off before the scalar engine's function."""
    tile = _tile(x, "sin")
    made = _like(tile, dtype)
    nisa.activation(made, "sin", _turned(tile, 0))
    return made


def cos(x: Tensor, dtype: Any = None) -> Tensor:
    """The cosine, as the sine a quarter turn on."""
    tile = _tile(x, "cos")
    made = _like(tile, dtype)
    nisa.activation(made, "sin", _turned(tile, 1))
    return made


def tan(x: Tensor, dtype: Any = None) -> Tensor:
    """The tangent, as the sine times the reciprocal of the cosine."""
    tile = _tile(x, "tan")
    above, below = sin(tile, float32), reciprocal(cos(tile, float32))
    made = _like(tile, dtype)
    nisa.tensor_tensor(made, above, below, "multiply")
    return made


# -- roundings --------------------------------------------------------------------------------------------------------


def _rounded(x: Tensor, correction: str, sign_of_correction: float, dtype: Any) -> Tensor:
    """The nearest integer, moved by one where it compares so with x."""
    whole, moved = _like(x, int32), _like(x, float32)
    nisa.tensor_copy(whole, x)
    nisa.tensor_tensor(moved, whole, x, correction)
    made = _like(x, dtype)
    nisa.scalar_tensor_tensor(made, moved, "multiply", sign_of_correction, "add", whole)
    return made


def floor(x: Tensor, dtype: Any = None) -> Tensor:
    """The largest integer not above x."""
    return _rounded(_tile(x, "floor"), "greater", -1.0, dtype)


def ceil(x: Tensor, dtype: Any = None) -> Tensor:
    """The smallest integer not below x."""
    return _rounded(_tile(x, "ceil"), "less", 1.0, dtype)


def trunc(x: Tensor, dtype: Any = None) -> Tensor:
    """The integer part: the floor of the magnitude with the sign of x."""
    tile = _tile(x, "trunc")
    size, direction = abs(tile, float32), sign(tile, float32)
    made = _like(tile, dtype)
    nisa.tensor_tensor(made, floor(size), direction, "multiply")
    return made


def _remainder(name: str, x: Any, y: Any, dtype: Any, whole: Callable[..., Tensor]) -> Tensor:
    tiles = [each for each in (x, y) if isinstance(each, Tensor)]
    if not tiles:
        refuse(rules.PARAMETER, f"nl.{name} got two numbers.", "At least one operand must be a tile.")
    kind = common_type(tiles[0].dtype, tiles[-1].dtype) if dtype is None else find(dtype)
    inverse = reciprocal(y, float32) if isinstance(y, Tensor) else 1.0 / y
    quotient = whole(_binary("multiply", x, inverse, float32))
    rest = _binary("subtract", x, _binary("multiply", quotient, y, float32), float32)
    # Rounding may have taken the quotient across an integer: the remainder is then one divisor off.
    towards = y if name == "mod" else _binary("multiply", sign(x, float32), _magnitude(y), float32)
    wrong_side = _binary("less", _binary("multiply", rest, towards, float32), 0.0, float32)
    rest = _binary("add", rest, _binary("multiply", wrong_side, towards, float32), float32)
    too_large = _binary("greater_equal", _magnitude(rest), _magnitude(y), float32)
    return _binary("subtract", rest, _binary("multiply", too_large, towards, float32), kind)


def _magnitude(value: Any) -> Any:
    return abs(value, float32) if isinstance(value, Tensor) else math.fabs(value)


def mod(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The remainder of x / y with the sign of y, as Python's %."""
    return _remainder("mod", x, y, dtype, floor)


def fmod(x: Any, y: Any, dtype: Any = None) -> Tensor:
    """The remainder of x / y with the sign of x, as C's fmod."""
    if not isinstance(x, Tensor):
        x = _binary("add", _binary("multiply", y, 0.0, float32), float(x), float32)
    return _remainder("fmod", x, y, dtype, trunc)


# -- choices ----------------------------------------------------------------------------------------------------------


def where(condition: Tensor, x: Any, y: Any, dtype: Any = None) -> Tensor:
    """x where ``condition`` is not 0, else y: y copied, then x by ``nisa.tensor_copy_predicated``."""
    chosen = _tile(condition, "where")
    tiles = [each for each in (x, y) if isinstance(each, Tensor)]
    natural = common_type(tiles[0].dtype, tiles[-1].dtype) if tiles else chosen.dtype
    kind = natural if dtype is None else find(dtype)
    made = current().allocate(chosen.shape, kind, SBUF, "")
    if isinstance(y, Tensor):
        nisa.tensor_copy(made, y)
    else:
        nisa.memset(made, y)
    if not isinstance(x, Tensor):
        on_true = current().allocate(chosen.shape, kind, SBUF, "")
        nisa.memset(on_true, x)
    else:
        on_true = x if x.dtype is kind else copy_to_sbuf(x, kind)
    predicate = _like(chosen, uint8)
    nisa.tensor_scalar(predicate, chosen, "not_equal", 0 if chosen.dtype.is_integer else 0.0)
    nisa.tensor_copy_predicated(made, on_true, predicate)
    return made


def dropout(x: Tensor, rate: Any, dtype: Any = None) -> Tensor:
    """x with elements set to 0 at random, each with probability ``rate``: a number or a ``[P, 1]`` tile."""
    tile = _tile(x, "dropout")
    made = _like(tile)
    nisa.dropout(made, tile, rate)
    return made if dtype is None or find(dtype) is tile.dtype else copy_to_sbuf(made, find(dtype))
