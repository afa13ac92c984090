"""Virtual registers: 32-bit scalars of the engines' sequencers, and what a kernel may do with them.

A register holds a value that only the device knows while it runs, so Python cannot branch on it, count with it or
calculate with it: a real compiler has only its name. Legal are ``while reg:``, the bounds of ``nl.dynamic_range`` and
``nl.fori_loop``, ``nl.ds(reg, size)``, an index in brackets, ``ap(scalar_offset=reg)``, and the instructions of
``nki.isa`` that take registers. Source: NKI ISA API, ``register_alloc``; NKI language guide, "Dynamic Control Flow".

Not covered: which physical register of which engine the compiler picks. The limit is checked on registers that are
alive at once. A pair of registers for a 64-bit integer is not built. Without values (``timing_only``) a loaded register
counts as unknown: loops bounded by it run their body once.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import sys
import weakref
from types import FrameType
from typing import TYPE_CHECKING

from outcrop.silicon.device import rules
from outcrop.silicon.device.dynamic_loops import loops_of
from outcrop.silicon.device.refusal import refuse

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

REGISTER_CONTROL_FLOW = rules.rule(
    "register-control-flow",
    "Python does not branch on, compare or count with a register; only ``while reg:`` and the loops of nl do.",
    "AWS Neuron, NKI Dynamic Loops: the loop variable is a device register, not a Python int",
)
REGISTER_ARITHMETIC = rules.rule(
    "register-arithmetic",
    "Arithmetic on register values goes through memory, not through Python operators.",
    "AWS Neuron, NKI migration guide: do not perform Python arithmetic on the loop variable",
)
FROZEN_REGISTER = rules.rule(
    "frozen-register",
    "Nothing writes to the induction variable of a dynamic loop.",
    "AWS Neuron, NKI language guide: the induction variable is frozen",
    relaxable=False,
)
REGISTER_COUNT = rules.rule(
    "register-count", "No more registers are alive at once than an engine's sequencer has.", rules.NKI_ISA
)
UNSET_REGISTER = rules.rule("unset-register", "A register is written before it is read.", rules.NKI_ISA)

_LOW, _HIGH = -(2**31), 2**32 - 1


class VirtualRegister:
    """One register. ``held`` is its value now, ``None`` before the first write; ``known`` is false without values."""

    __slots__ = ("__weakref__", "core", "frozen", "held", "known")

    def __init__(self, core: Core, held: float | None = None, *, frozen: bool = False, known: bool = True) -> None:
        self.core = core
        self.held = held
        self.frozen = frozen
        self.known = known
        alive: weakref.WeakSet[VirtualRegister] = core.state.setdefault("registers", weakref.WeakSet())
        alive.add(self)
        limit = core.limits.registers_per_engine
        if len(alive) > limit:
            refuse(
                REGISTER_COUNT,
                f"{len(alive)} registers are alive at once.",
                f"An engine's sequencer has {limit}: reuse them, or keep values in SBUF and load them when needed.",
            )

    __hash__ = object.__hash__

    @property
    def value(self) -> float:
        """What the register holds; refuses one that nothing wrote."""
        if self.held is None:
            refuse(
                UNSET_REGISTER,
                "A register is read that nothing wrote.",
                "Give nisa.register_alloc an integer, or call register_move or register_load first.",
            )
            return 0
        return self.held

    def set(self, value: float, *, known: bool = True) -> None:
        """Write the register; the induction variable of a loop cannot be."""
        if self.frozen:
            refuse(
                FROZEN_REGISTER,
                "The induction variable of a dynamic loop is written to.",
                "Copy it with nisa.register_move into a register of your own; a while_loop can end early.",
            )
        self.held = value
        self.known = known

    def whole(self, what: str) -> int:
        """The value as an integer, as addresses and loop bounds need it."""
        value = self.value
        if int(value) != value:
            refuse(rules.PARAMETER, f"{what} is a register that holds {value}.", "It must hold a whole number.")
        return int(value)

    def __repr__(self) -> str:
        return f"<register {'unset' if self.held is None else self.held}{', frozen' if self.frozen else ''}>"

    # -- what Python cannot do with it --------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        frame = sys._getframe(1)
        if _is_while_test(frame):
            place = (id(frame), frame.f_lineno)
            return loops_of(self.core).test(place, bool(self.value) if self.known else None)
        self._refuse_control("its truth is tested outside of `while reg:`")
        return bool(self.value)

    def __index__(self) -> int:
        self._refuse_control("it is used as a Python integer")
        return self.whole("A Python integer")

    def __int__(self) -> int:
        self._refuse_control("it is converted with int()")
        return int(self.value)

    def __float__(self) -> float:
        self._refuse_control("it is converted with float()")
        return float(self.value)

    def _refuse_control(self, what: str) -> None:
        refuse(
            REGISTER_CONTROL_FLOW,
            f"A register holds a value of run time, and {what}.",
            "Loop with nl.fori_loop, nl.while_loop or `while reg:`; index with nl.ds(reg, size), t[:, reg] or "
            "ap(scalar_offset=reg); choose between values with a predicated or select instruction.",
        )

    def _compare(self, other: object, sign: str) -> float:
        self._refuse_control(f"it is compared ({sign}) in Python")
        return _number(other)

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, VirtualRegister | int | float):
            return self is other  # `reg != None` is settled when the kernel is compiled
        return self.value == self._compare(other, "==")

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: object) -> bool:
        return self._compare(other, "<") > self.value

    def __le__(self, other: object) -> bool:
        return self._compare(other, "<=") >= self.value

    def __gt__(self, other: object) -> bool:
        return self._compare(other, ">") < self.value

    def __ge__(self, other: object) -> bool:
        return self._compare(other, ">=") <= self.value

    def _arithmetic(self, other: object, sign: str) -> float:
        refuse(
            REGISTER_ARITHMETIC,
            f"Python calculates with a register ({sign}).",
            "Store it with nisa.register_store, calculate with an instruction, and load the result; or let the step "
            "of the loop or the stride of the access pattern do the scaling.",
        )
        return _number(other)

    def __add__(self, other: object) -> VirtualRegister:
        return VirtualRegister(self.core, self.value + self._arithmetic(other, "+"))

    __radd__ = __add__

    def __sub__(self, other: object) -> VirtualRegister:
        return VirtualRegister(self.core, self.value - self._arithmetic(other, "-"))

    def __rsub__(self, other: object) -> VirtualRegister:
        return VirtualRegister(self.core, self._arithmetic(other, "-") - self.value)

    def __mul__(self, other: object) -> VirtualRegister:
        return VirtualRegister(self.core, self.value * self._arithmetic(other, "*"))

    __rmul__ = __mul__

    def __floordiv__(self, other: object) -> VirtualRegister:
        return VirtualRegister(self.core, self.value // self._arithmetic(other, "//"))

    def __mod__(self, other: object) -> VirtualRegister:
        return VirtualRegister(self.core, self.value % self._arithmetic(other, "%"))

    def __neg__(self) -> VirtualRegister:
        return VirtualRegister(self.core, -self.value - self._arithmetic(0, "-"))


def _number(other: object) -> float:
    if isinstance(other, VirtualRegister):
        return other.value
    if not isinstance(other, int | float):
        raise TypeError(f"a register does not go together with {other!r}")
    return other


def immediate(value: int) -> int:
    """An integer that fits a register: 32 bits, signed or not."""
    number = int(value)
    if not _LOW <= number <= _HIGH:
        refuse(rules.PARAMETER, f"{number} does not fit a register.", f"Registers hold {_LOW} to {_HIGH}: 32 bits.")
    return number


# -- `while reg:` -----------------------------------------------------------------------------------------------------

_tests: dict[str, frozenset[tuple[int, int]] | None] = {}


def _is_while_test(frame: FrameType) -> bool:
    """Whether the frame is evaluating the condition of a ``while`` statement; yes where the source is not there."""
    file = frame.f_code.co_filename
    if file not in _tests:
        _tests[file] = _while_tests(file)
    known = _tests[file]
    if known is None:
        return True
    return _position(frame) in known


def _position(frame: FrameType) -> tuple[int, int]:
    """Line and column of the expression that the frame is at."""
    line, _, column, _ = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    return (line or 0, column or 0)


def _while_tests(file: str) -> frozenset[tuple[int, int]] | None:
    lines = linecache.getlines(file)
    if not lines:
        return None
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        return None
    plain = ast.Name | ast.Attribute | ast.Subscript
    return frozenset(
        (at.lineno, at.col_offset)  # Python 3.11 gives the test the statement's position, later ones its own
        for node in ast.walk(tree)
        if isinstance(node, ast.While) and isinstance(node.test, plain)
        for at in (node, node.test)
    )
