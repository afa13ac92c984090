"""What Python and NumPy would do with a tensor themselves, refused with the instruction to write instead.

A tensor of the current language has no operators: ``tile * 2`` is no instruction of any engine. Python would say only
that the types do not match, and NumPy would go through the tensor element by element.

Not covered: ``==`` and ``!=``, which compare identity as for any object, and the older language, whose tiles do have
operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from outcrop.silicon.device import rules
from outcrop.silicon.device.refusal import refuse

_ARITHMETIC = {
    "+": ("add", "add"),
    "-": ("sub", "subtract"),
    "*": ("mul", "multiply"),
    "/": ("truediv", "divide"),
    "**": ("pow", "power"),
    "%": ("mod", "mod"),
    "&": ("and", "bitwise_and"),
    "|": ("or", "bitwise_or"),
    "^": ("xor", "bitwise_xor"),
    "<<": ("lshift", "left_shift"),
    ">>": ("rshift", "right_shift"),
}
_COMPARISONS = {"<": ("lt", "less"), "<=": ("le", "less_equal"), ">": ("gt", "greater"), ">=": ("ge", "greater_equal")}


class NoArithmetic:
    """Mixed into tensors; every operator of Python ends in ``KernelRefused``."""

    __slots__ = ()

    def describe(self) -> str:
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        _refuse(self, "NumPy was given", "Compute with nki.isa or nki.language: nl.exp(tile), not np.exp(tile).")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> NoReturn:
        _refuse(
            self,
            f"NumPy's {getattr(ufunc, '__name__', 'function')} was given",
            "Compute with nki.isa or nki.language: nl.exp(tile), not np.exp(tile).",
        )

    def __iter__(self) -> NoReturn:
        _refuse(self, "Python was asked to go through", "Count, and take slices: for i in range(n): tile[:, i].")


def _refuse(tensor: NoArithmetic, what: str, remedy: str) -> NoReturn:
    refuse(rules.PARAMETER, f"{what} {tensor.describe()}.", remedy)
    raise AssertionError("refused")


def _refused(symbol: str, remedy: str) -> Callable[..., NoReturn]:
    def method(self: NoArithmetic, *_: object) -> NoReturn:
        _refuse(self, f"Python's {symbol} was used on", remedy)

    return method


def _add_methods() -> None:
    for symbol, (method, name) in _ARITHMETIC.items():
        instead = f"nisa.tensor_tensor or nisa.tensor_scalar with nl.{name}, or nl.{name}(a, b)"
        if name == "divide":  # which is not an operator of the engines
            instead = "nisa.reciprocal, and multiply with the result"
        refused = _refused(symbol, f"Tensors have no operators: write {instead}.")
        for prefix in ("", "r", "i"):
            setattr(NoArithmetic, f"__{prefix}{method}__", refused)
    for symbol, (method, name) in _COMPARISONS.items():
        remedy = f"nl.{name}(a, b) gives a mask. Python cannot branch on what the device holds."
        setattr(NoArithmetic, f"__{method}__", _refused(symbol, remedy))
    for method, symbol, instead in (
        ("matmul", "@", "nisa.nc_matmul, or nl.matmul(a, b)"),
        ("neg", "-", "nl.negative(a)"),
    ):
        setattr(NoArithmetic, f"__{method}__", _refused(symbol, f"Tensors have no operators: write {instead}."))


_add_methods()
