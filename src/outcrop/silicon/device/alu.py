"""The operators that instructions take by name: what each computes, and which are bitwise, unary or reductions.

Names are those of ``nki.operators.operator_name``. Arithmetic operators take and give float32; comparisons and logical
operators give 1.0 and 0.0. Bitwise ones take unsigned integers of one width and treat them as bits; shifts are logical
and shift everything out where the count is the width or more. ``lookup`` refuses what is no operator of the engines::

    op = alu.binary(core, "tensor_tensor", "op", "add")       # refused: unknown names, unary ones, divide
    result = op.apply(left, right, None)                      # or an output array of the broadcast shape
    total = alu.fold("maximum", values)                       # along the last axis

Not covered: NaN. An operand that is NaN makes a comparison 0.0 (not_equal 1.0) and other results NaN, as IEEE 754 and
NumPy have it; for maximum, minimum, abs_max and abs_min the hardware's choice is not documented. Orders of summation
in reductions are not documented either: sums are NumPy's, pairwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from outcrop.silicon.device import checks, rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.refusal import refuse

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

ALU_TABLE = "AWS Neuron, NKI ISA API common fields: supported math operators (NKI 0.6.0)"
OPERATOR = rules.rule("operator", "An instruction takes operators that its engine has.", ALU_TABLE, relaxable=False)
DIVIDE = rules.rule(
    "divide",
    "Kernels multiply by a reciprocal: divide is not an operator of the vector, scalar or gpsimd engines.",
    "AWS Neuron, NKI ISA API common fields: divide is not among the supported math operators (NKI 0.6.0)",
)

Apply = Callable[..., Array]


class Operator(NamedTuple):
    """``apply(a, b, out)`` for a binary operator, ``apply(a, out)`` for a unary one; ``out`` may be None."""

    name: str
    apply: Apply
    bitvec: bool = False
    unary: bool = False
    identity: float | None = None  # of an accumulation that starts from nothing; None where it makes no reduction
    reduces: bool = False  # whether the vendor's table lists it as a legal reduction
    feature: str = ""  # the target must have it


def _truth(test: Callable[..., Array]) -> Apply:
    """1.0 and 0.0 of a NumPy function that gives booleans."""

    def apply(a: Array, b: Any, out: Array | None = None) -> Array:
        found = test(a, b)
        if out is None:
            return found.astype(np.float32)
        np.copyto(out, found)
        return out

    return apply


# NumPy's own logical functions on float32 take ten times as long.
def _both(a: Array, b: Any) -> Array:
    found: Array = np.logical_and(np.not_equal(a, 0), np.not_equal(b, 0))
    return found


def _either(a: Array, b: Any) -> Array:
    found: Array = np.logical_or(np.not_equal(a, 0), np.not_equal(b, 0))
    return found


def _one_of(a: Array, b: Any) -> Array:
    found: Array = np.not_equal(np.not_equal(a, 0), np.not_equal(b, 0))
    return found


def _larger_magnitude(a: Array, b: Any, out: Array | None = None) -> Array:
    """The operand of larger magnitude with its sign; the second one where they are equal."""
    return _kept(np.where(np.greater(np.abs(a), np.abs(b)), a, b), out)


def _smaller_magnitude(a: Array, b: Any, out: Array | None = None) -> Array:
    return _kept(np.where(np.less(np.abs(a), np.abs(b)), a, b), out)


def _kept(found: Array, out: Array | None) -> Array:
    if out is None:
        return found
    np.copyto(out, found)
    return out


def _maximum(a: Array, b: Any, out: Array | None = None) -> Array:
    found: Array = np.maximum(a, b, out=out)  # by keyword: NumPy deprecates the position for these two
    return found


def _minimum(a: Array, b: Any, out: Array | None = None) -> Array:
    found: Array = np.minimum(a, b, out=out)
    return found


def _relu(a: Array, out: Array | None = None) -> Array:
    return np.maximum(a, np.float32(0), out=out)


def _rsqrt(a: Array, out: Array | None = None) -> Array:
    root = np.sqrt(a, dtype=np.float64)  # rounded to float32 once, at the end
    return _kept(np.reciprocal(root).astype(np.float32), out)


def _reciprocal(a: Array, out: Array | None = None) -> Array:
    return np.divide(np.float32(1), a, out)


def _not(a: Array, out: Array | None = None) -> Array:
    return _kept(np.equal(a, 0).astype(np.float32), out)


_INF = float("inf")
_MAGNITUDE = "alu_magnitude"  # the feature of operators that compare magnitudes

OPERATORS: dict[str, Operator] = {
    each.name: each
    for each in (
        Operator("invert", np.invert, bitvec=True, unary=True),
        Operator("bitwise_and", np.bitwise_and, bitvec=True, identity=-1, reduces=True),
        Operator("bitwise_or", np.bitwise_or, bitvec=True, identity=0, reduces=True),
        Operator("bitwise_xor", np.bitwise_xor, bitvec=True, identity=0, reduces=True),
        Operator("left_shift", np.left_shift, bitvec=True),
        Operator("right_shift", np.right_shift, bitvec=True),
        Operator("add", np.add, identity=0.0, reduces=True),
        Operator("subtract", np.subtract, identity=0.0, reduces=True),
        Operator("multiply", np.multiply, identity=1.0, reduces=True),
        Operator("maximum", _maximum, identity=-_INF, reduces=True),
        Operator("minimum", _minimum, identity=_INF, reduces=True),
        Operator("equal", _truth(np.equal)),
        Operator("not_equal", _truth(np.not_equal)),
        Operator("greater_equal", _truth(np.greater_equal)),
        Operator("greater", _truth(np.greater)),
        Operator("less_equal", _truth(np.less_equal)),
        Operator("less", _truth(np.less)),
        Operator("logical_and", _truth(_both), identity=1.0, reduces=True),
        Operator("logical_or", _truth(_either), identity=0.0, reduces=True),
        Operator("logical_xor", _truth(_one_of), identity=0.0, reduces=True),
        Operator("power", np.power),
        Operator("abs_max", _larger_magnitude, identity=0.0, feature=_MAGNITUDE),
        Operator("abs_min", _smaller_magnitude, identity=_INF, feature=_MAGNITUDE),
        Operator("fmod", np.fmod),
        Operator("mod", np.mod),
        Operator("abs", np.abs, unary=True),
        Operator("square", np.square, unary=True),
        Operator("relu", _relu, unary=True),
        Operator("rsqrt", _rsqrt, unary=True),
        Operator("reciprocal", _reciprocal, unary=True),
        Operator("logical_not", _not, unary=True),
    )
}


def lookup(core: Core, instruction: str, role: str, name: str) -> Operator:
    """The operator of that name; refused where there is none, or none on this chip."""
    found = OPERATORS.get(name)
    if found is None:
        if name == "divide":
            refuse(
                DIVIDE,
                f"{instruction} got {role}=nl.divide.",
                "Take nisa.reciprocal of the divisor and use nl.multiply; a constant divisor can be inverted in "
                "Python.",
            )
            return Operator("divide", np.divide)  # relaxed
        refuse(
            OPERATOR,
            f"{instruction} got {role}={f'nl.{name}' if name else None}, which is not one of its engine's operators.",
            f"Operators are: {', '.join(OPERATORS)}.",
        )
        raise AssertionError("refused")
    if found.feature and found.feature not in core.limits.features:
        checks.feature(core, instruction, found.feature, f"{role}=nl.{name}")
    return found


def binary(core: Core, instruction: str, role: str, name: str) -> Operator:
    """The operator of two operands; unary ones are refused too."""
    found = lookup(core, instruction, role, name)
    if found.unary:
        refuse(
            OPERATOR,
            f"{instruction} got {role}=nl.{name}, which takes one operand.",
            f"Binary operators are: {', '.join(each.name for each in OPERATORS.values() if not each.unary)}.",
        )
    return found


def arithmetic(core: Core, instruction: str, role: str, name: str, *, unary: bool = True) -> Operator:
    """The arithmetic operator; bitwise ones are refused too, and unary ones unless they are allowed."""
    found = lookup(core, instruction, role, name) if unary else binary(core, instruction, role, name)
    if found.bitvec:
        refuse(
            OPERATOR,
            f"{instruction} got {role}=nl.{name}, which is a bitwise operator.",
            f"{instruction} takes arithmetic operators only; tensor_tensor and tensor_scalar take bitwise ones.",
        )
    return found


def among(core: Core, instruction: str, role: str, name: str, allowed: tuple[str, ...]) -> Operator:
    """The operator, which must be one of ``allowed``."""
    if name not in allowed:
        refuse(
            OPERATOR,
            f"{instruction} got {role}={f'nl.{name}' if name else None}.",
            f"{role} must be one of: {', '.join('nl.' + each for each in allowed)}.",
        )
    return lookup(core, instruction, role, name)


def is_bitvec(name: str) -> bool:
    return name in OPERATORS and OPERATORS[name].bitvec


def of_bits(operator: Operator, left: Array, right: Array | None, target: np.dtype[Any]) -> Array:
    """A bitwise operator on integers as bit patterns, in the width of ``left``; ``right`` is None for unary ones.

    Operands and targets of other widths are cut, or extended by zeros: what the hardware does is not documented.
    """
    width = np.dtype(f"u{left.itemsize}")
    pattern = left.view(width)
    found = operator.apply(pattern, None if right is None else resized_bits(right, width))
    return resized_bits(found, target)


def resized_bits(values: Array, target: np.dtype[Any]) -> Array:
    """The same bits as another integer type: cut, or extended by zeros, where it has another width."""
    if values.dtype == target:
        return values
    unsigned: Array = values.view(f"u{values.itemsize}")
    return unsigned.astype(f"u{target.itemsize}", copy=False).view(target)


def of_words(operator: Operator, left: Array, right: Array, target: np.dtype[Any]) -> Array:
    """An arithmetic operator on 32-bit integers, exact, with results cut to 32 bits; comparisons give 1 and 0."""
    if operator.name == "power":
        return _integer_power(left.astype(np.int64), right.astype(np.int64)).astype(target)
    return operator.apply(left, right).astype(target, copy=False)


def _integer_power(base: Array, exponent: Array) -> Array:
    """Cut to 64 bits; negative exponents give the whole part of the quotient, 0 to a negative power gives 0."""
    positive = np.power(base, np.maximum(exponent, 0))
    ones = np.where(base == 1, 1, np.where(base == -1, np.where(exponent % 2 == 0, 1, -1), 0))
    found: Array = np.where(exponent >= 0, positive, ones)
    return found


def identity(name: str) -> float:
    """What an accumulation with that operator starts from."""
    value = OPERATORS[name].identity
    assert value is not None
    return value


_FOLDS: dict[str, Callable[[Array], Array]] = {
    "add": lambda values: np.add.reduce(values, axis=-1),
    "subtract": lambda values: np.subtract.reduce(values, axis=-1),  # the first element minus all others
    "multiply": lambda values: np.multiply.reduce(values, axis=-1),
    "maximum": lambda values: np.maximum.reduce(values, axis=-1),
    "minimum": lambda values: np.minimum.reduce(values, axis=-1),
    "logical_and": lambda values: np.all(values != 0, axis=-1),
    "logical_or": lambda values: np.any(values != 0, axis=-1),
    "logical_xor": lambda values: np.logical_xor.reduce(values != 0, axis=-1),
    "bitwise_and": lambda values: np.bitwise_and.reduce(values, axis=-1),
    "bitwise_or": lambda values: np.bitwise_or.reduce(values, axis=-1),
    "bitwise_xor": lambda values: np.bitwise_xor.reduce(values, axis=-1),
    "abs_max": lambda values: _extreme(values, np.argmax),
    "abs_min": lambda values: _extreme(values, np.argmin),
}


def fold(name: str, values: Array) -> Array:
    """The reduction of ``values`` along the last axis, in their type; 1.0 and 0.0 for logical operators."""
    found = _FOLDS[name](values)
    return found.astype(np.float32) if found.dtype == np.bool_ else found


def _extreme(values: Array, choose: Callable[..., Array]) -> Array:
    at = choose(np.abs(values), axis=-1)
    picked: Array = np.take_along_axis(values, np.expand_dims(at, -1), axis=-1)[..., 0]
    return picked
