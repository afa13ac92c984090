"""From what a kernel passes as an operator to its name: ``nl.add``, ``np.add`` and ``"add"`` are the same."""

from __future__ import annotations

from outcrop.silicon.device import rules
from outcrop.silicon.device.refusal import refuse

# Names that NumPy or older versions of the language use for the same operator.
_ALIASES = {
    "max": "maximum",
    "min": "minimum",
    "amax": "maximum",
    "amin": "minimum",
    "absolute": "abs",
    "bitwise_not": "invert",
    "bitwise_invert": "invert",
    "true_divide": "divide",
    "pow": "power",
    "mul": "multiply",
    "sub": "subtract",
    "identity": "copy",
    "sum": "add",
    "prod": "multiply",
    "all": "logical_and",
}


def operator_name(op: object) -> str:
    """The operator's name in the language; ``None`` stays the empty string."""
    if op is None:
        return ""
    name = op if isinstance(op, str) else getattr(op, "__name__", None)
    if name is None:
        refuse(rules.PARAMETER, f"{op!r} is not an operator.", "Pass one of nki.language, such as nl.add or nl.exp.")
        raise AssertionError("refused")
    return _ALIASES.get(name, name)
