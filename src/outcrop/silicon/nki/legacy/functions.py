"""``neuronxcc.nki.language``: functions on tiles. Operators become instructions as told in ``arithmetic``."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from outcrop.silicon.device import dtypes
from outcrop.silicon.device.core import current
from outcrop.silicon.device.regions import Engine, MemoryRegion
from outcrop.silicon.nki import isa
from outcrop.silicon.nki.legacy import (
    arithmetic,
    matrix_instructions,
    results,
    selection_instructions,
    vector_instructions,
)
from outcrop.silicon.nki.legacy.access import Slice
from outcrop.silicon.nki.legacy.dtypes import kind
from outcrop.silicon.nki.legacy.indices import Predicate
from outcrop.silicon.nki.legacy.operands import computed, is_number, kind_or, part, tile, to_sbuf, truth_bits
from outcrop.silicon.nki.legacy.tile import Tile
from outcrop.silicon.nki.operators import operator_name

Function = Callable[..., Any]


def _binary(op: str, doc: str, *, truth: bool = False) -> Function:
    def function(x: Any, y: Any, dtype: Any = bool if truth else None, mask: Any = None, **kwargs: Any) -> Tile:
        return arithmetic.binary(x, y, op, dtype, mask)

    function.__name__ = function.__qualname__ = op
    function.__doc__ = doc
    return function


def _unary(op: str, doc: str, name: str = "") -> Function:
    def function(x: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Tile:
        return arithmetic.unary(x, op, dtype, mask)

    function.__name__ = function.__qualname__ = name or op
    function.__doc__ = doc
    return function


add = _binary("add", "x + y")
subtract = _binary("subtract", "x - y")
multiply = _binary("multiply", "x * y")
divide = _binary("divide", "x / y, in float32")
power = _binary("power", "x ** y")
maximum = _binary("maximum", "The larger of both.")
minimum = _binary("minimum", "The smaller of both.")
mod = _binary("mod", "The remainder with the sign of y.")
fmod = _binary("fmod", "The remainder with the sign of x.")
bitwise_and = _binary("bitwise_and", "x & y on integers")
bitwise_or = _binary("bitwise_or", "x | y on integers")
bitwise_xor = _binary("bitwise_xor", "x ^ y on integers")
left_shift = _binary("left_shift", "x << y on integers")
right_shift = _binary("right_shift", "x >> y on integers")
equal = _binary("equal", "Whether x == y.", truth=True)
not_equal = _binary("not_equal", "Whether x != y.", truth=True)
less = _binary("less", "Whether x < y.", truth=True)
less_equal = _binary("less_equal", "Whether x <= y.", truth=True)
greater = _binary("greater", "Whether x > y.", truth=True)
greater_equal = _binary("greater_equal", "Whether x >= y.", truth=True)
logical_and = _binary("logical_and", "Whether both are not 0.", truth=True)
logical_or = _binary("logical_or", "Whether one is not 0.", truth=True)
logical_xor = _binary("logical_xor", "Whether exactly one is not 0.", truth=True)

abs = _unary("abs", "Absolute value.")
arctan = _unary("arctan", "Inverse tangent.")
ceil = _unary("ceil", "Rounded up.")
cos = _unary("cos", "Cosine.")
erf = _unary("erf", "Error function.")
erf_dx = _unary("erf_dx", "Derivative of the error function.")
exp = _unary("exp", "e to the x.")
floor = _unary("floor", "Rounded down.")
gelu = _unary("gelu", "Gaussian error linear unit.")
gelu_apprx_sigmoid = _unary("gelu_apprx_sigmoid", "gelu, approximated with a sigmoid.")
gelu_apprx_tanh = _unary("gelu_apprx_tanh", "gelu, approximated with tanh.")
gelu_dx = _unary("gelu_dx", "Derivative of gelu.")
invert = _unary("invert", "All bits of an integer inverted.")
log = _unary("log", "Natural logarithm.")
mish = _unary("mish", "x * tanh(softplus(x)).")
negative = _unary("negative", "-x")
reciprocal = _unary("reciprocal", "1 / x")
relu = _unary("relu", "The larger of 0 and x.")
rsqrt = _unary("rsqrt", "1 / sqrt(x)")
sigmoid = _unary("sigmoid", "1 / (1 + exp(-x))")
sign = _unary("sign", "-1, 0 or 1.")
silu = _unary("silu", "x * sigmoid(x)")
silu_dx = _unary("silu_dx", "Derivative of silu.")
sin = _unary("sin", "Sine.")
softplus = _unary("softplus", "log(1 + exp(x))")
sqrt = _unary("sqrt", "Square root.")
square = _unary("square", "x * x")
tan = _unary("tan", "Tangent.")
tanh = _unary("tanh", "Hyperbolic tangent.")
trunc = _unary("trunc", "Rounded towards 0.")


def logical_not(x: Any, *, dtype: Any = bool, mask: Any = None, **kwargs: Any) -> Tile:
    """Whether x is 0."""
    return arithmetic.unary(x, "logical_not", dtype, mask)


# -- reductions -------------------------------------------------------------------------------------------------------


def _reduction(op: str, name: str) -> Function:
    def function(
        x: Any, axis: Any, *, dtype: Any = None, mask: Any = None, keepdims: bool = False, **kwargs: Any
    ) -> Tile:
        return arithmetic.reduce(op, x, axis, dtype, mask, keepdims=keepdims)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name} along free dimensions."
    return function


sum = _reduction("add", "sum")
prod = _reduction("multiply", "prod")
max = _reduction("maximum", "max")
min = _reduction("minimum", "min")


def all(x: Any, axis: Any, *, dtype: Any = bool, mask: Any = None, **kwargs: Any) -> Tile:
    """Whether all elements along free dimensions are not 0."""
    return arithmetic.reduce("minimum", not_equal(x, 0, dtype=np.float32, mask=mask), axis, dtype, mask)


def mean(x: Any, axis: Any, *, dtype: Any = None, mask: Any = None, keepdims: bool = False, **kwargs: Any) -> Tile:
    """The mean along free dimensions: a sum, and a multiplication with the constant 1 / n."""
    given = tile(x, "x")
    count = math.prod(given.shape[d] for d in arithmetic.free_axes(given, axis))
    total = arithmetic.reduce("add", given, axis, np.float32, mask, keepdims=keepdims)
    return arithmetic.binary(total, 1.0 / count, "multiply", kind_or(dtype, given.kind))


def var(x: Any, axis: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Tile:
    """The variance along free dimensions."""
    given = tile(x, "x")
    middle = mean(given, axis, dtype=np.float32, mask=mask, keepdims=True)
    apart = arithmetic.binary(given, middle, "subtract", np.float32, mask)
    return mean(arithmetic.unary(apart, "square", mask=mask), axis, dtype=kind_or(dtype, given.kind), mask=mask)


def softmax(
    x: Any, axis: Any, *, dtype: Any = None, compute_dtype: Any = None, mask: Any = None, **kwargs: Any
) -> Tile:
    """exp(x - max) over its sum, along free dimensions."""
    given = tile(x, "x")
    top = arithmetic.reduce("maximum", given, axis, np.float32, mask, keepdims=True)
    apart = arithmetic.unary(arithmetic.binary(given, top, "subtract", np.float32, mask), "exp", None, mask)
    total = arithmetic.reduce("add", apart, axis, np.float32, mask, keepdims=True)
    return arithmetic.binary(apart, arithmetic.unary(total, "reciprocal"), "multiply", kind_or(dtype, given.kind), mask)


def rms_norm(
    x: Any,
    w: Any,
    axis: Any,
    n: int,
    epsilon: float = 1e-6,
    *,
    dtype: Any = None,
    compute_dtype: Any = None,
    mask: Any = None,
    **kwargs: Any,
) -> Tile:
    """x / sqrt(mean(x * x) + epsilon) * w."""
    given = tile(x, "x")
    squares = arithmetic.binary(given, given, "multiply", np.float32, mask)
    total = arithmetic.reduce("add", squares, axis, np.float32, mask, keepdims=True)
    power_ = arithmetic.unary(
        vector_instructions.tensor_scalar(total, np.multiply, 1.0 / n, op1=np.add, operand1=epsilon), "rsqrt"
    )
    scaled = arithmetic.binary(given, power_, "multiply", np.float32, mask)
    return arithmetic.binary(scaled, w, "multiply", kind_or(dtype, given.kind), mask)


def loop_reduce(
    x: Any, op: Any, loop_indices: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any
) -> results.LoopReduction:
    """What, assigned to a part of a tile, reduces into it: ``acc[...] = nl.loop_reduce(x, np.add, [i])``.

    A reduction into bytes that nothing wrote starts with ``x``. Assigning to a new name is not built: eager execution
    cannot see the tile that the name had before.
    """
    return results.LoopReduction(tile(x, "x"), operator_name(op), dtype, mask)


# -- shapes and selections --------------------------------------------------------------------------------------------


def copy(src: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """A copy on chip, in SBUF."""
    return vector_instructions.tensor_copy(src, mask=mask, dtype=dtype)


def broadcast_to(src: Any, *, shape: Any, **kwargs: Any) -> Tile:
    """The tile repeated along dimensions of size 1."""
    return tile(src, "src").broadcast_to(shape)


def expand_dims(data: Any, axis: int) -> Tile:
    """A view with a dimension of size 1 more."""
    return tile(data, "data").expand_dims(axis)


def ds(start: Any, size: int) -> Slice:
    """``size`` elements from ``start``, which may be a tile of one index."""
    return Slice(start if isinstance(start, Tile) else int(start), int(size))


dslice = ds


def transpose(x: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Tile:
    """Rows and columns of a tile exchanged, in SBUF."""
    made = matrix_instructions.nc_transpose(x, mask=mask, dtype=dtype)
    return to_sbuf(made)


def matmul(x: Any, y: Any, *, transpose_x: bool = False, mask: Any = None, **kwargs: Any) -> Tile:
    """``x @ y``, or ``x.T @ y`` with ``transpose_x``, in PSUM."""
    one = tile(x, "x") if transpose_x else transpose(x)
    return matrix_instructions.nc_matmul(one, y, mask=mask)


def where(condition: Any, x: Any, y: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Tile:
    """x where the condition is not 0, y elsewhere: a copy of y, and a predicated copy of x over it."""
    tiles = [each for each in (x, y) if isinstance(each, Tile)]
    if isinstance(condition, Predicate):
        only = tiles[0]
        return selection_instructions.affine_select(condition, only, y, mask=mask, dtype=dtype)
    cond = tile(condition, "condition")
    shape = np.broadcast_shapes(cond.shape, *(each.shape for each in tiles))
    result = kind_or(dtype, arithmetic.promoted(*tiles) if tiles else dtypes.float32)
    region = part(mask, shape)
    out = results.new(shape, result)
    if region is not None and region.empty:
        return results.finish(out, region)
    if isinstance(y, Tile):
        isa.tensor_copy(out.device(region), results.broadcast(y, shape).device(region))
    else:
        isa.memset(out.device(region), y)
    chosen = x
    if isinstance(x, Tile):
        same = x if x.kind is result else results.copied(x, result)
        chosen = results.broadcast(same, shape).device(region)
    elif not is_number(x):
        chosen = tile(x, "x")
    isa.tensor_copy_predicated(out.device(region), chosen, truth_bits(results.broadcast(cond, shape), region))
    return results.finish(out, region)


def gather_flattened(data: Any, indices: Any, *, mask: Any = None, dtype: Any = None, **kwargs: Any) -> Tile:
    """For each index, that element of the partition's flattened free dimensions."""
    given, picks = tile(data, "data"), tile(indices, "indices")
    region = part(mask, picks.shape)
    out = results.new(picks.shape, kind_or(dtype, given.kind))
    if region is not None and region.empty:
        return results.finish(out, region)

    def gather(values: Any, where_: Any) -> Any:
        rows = values.reshape(values.shape[0], -1)
        picked = np.clip(where_.reshape(where_.shape[0], -1).astype(np.int64), 0, rows.shape[1] - 1)
        return np.take_along_axis(rows[: picked.shape[0]], picked, axis=1)

    computed("nc_n_gather", Engine.gpsimd, out.device(region), (given.device(), picks.device(region)), gather, {})
    return results.finish(out, region)


# -- random numbers, printing -----------------------------------------------------------------------------------------


def rand(shape: Any, dtype: Any = np.float32, **kwargs: Any) -> Tile:
    """Uniform random numbers from 0 to 1 (not included); a seeded stand-in for the hardware's generator."""
    sizes = tuple(int(each) for each in shape)
    bits = results.new(sizes, dtypes.uint32)
    isa.rng(bits.device())
    isa.tensor_scalar(bits.device(), bits.device(), "right_shift", 8)  # 24 bits, as many as a float32 holds
    out = results.new(sizes, kind(dtype))
    isa.tensor_scalar(out.device(), bits.device(), "multiply", 2.0**-24)
    return results.finish(out, None)


def random_seed(seed: Any, *, mask: Any = None, **kwargs: Any) -> None:
    """Seed the random numbers with a number or a tile of one element."""
    if isinstance(seed, Tile):
        held = seed
    else:
        held = results.new((1, 1), dtypes.int32)
        isa.memset(held.device(), int(seed))
    isa.set_rng_seed(held.device())


def dropout(x: Any, rate: Any, *, dtype: Any = None, mask: Any = None, **kwargs: Any) -> Tile:
    """Zero elements at random."""
    return vector_instructions.dropout(x, rate, mask=mask, dtype=dtype)


def device_print(prefix: str, x: Any, *, mask: Any = None, **kwargs: Any) -> None:
    """Print a prefix and a tile's values."""
    core = current()
    values = core.read(tile(x, "x").device(part(mask, x.shape))) if core.values else x.describe()
    print(prefix, values)  # noqa: T201


def all_reduce(x: Any, op: Any, program_axes: Any, **kwargs: Any) -> Tile:
    """Refused: programs of a grid run one after another here."""
    from outcrop.base.errors import UserError  # noqa: PLC0415

    raise UserError(
        "nl.all_reduce is not built: the programs of a launch grid run one after another here.",
        "Use nki.collectives of the current language, whose ranks run together.",
    )


_POSITIVE = builtins.max  # the language's names hide Python's here
_MEMORY = MemoryRegion
