"""Loops: those that Python unrolls, those that the device runs, and the block that keeps program order.

A dynamic loop is one hardware loop. Here its body runs eagerly once per iteration, with values, and the trace keeps the
path that was taken (``Instruction.loop`` numbers the runs). The loop's variable is a frozen register. Without values
(``timing_only``) a loop whose bound comes from memory runs its body once.
Sources: NKI language API (NKI 0.6.0), NKI Dynamic Loops, NKI migration guide "Rules for migrated loops".

Not covered: that tensors allocated in a loop's body are out of reach after the loop is not checked, nor that all cores
of a logical core take the same path.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, SupportsIndex

from outcrop.silicon.device import rules
from outcrop.silicon.device.access import scalar_value
from outcrop.silicon.device.core import Core, current
from outcrop.silicon.device.dynamic_loops import loops_of
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.registers import VirtualRegister
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.device.views import DynamicSlice

Bound = int | VirtualRegister


def affine_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """Python's ``range``: the loop is unrolled. Bounds are integers; for registers use ``fori_loop``."""
    return range(start) if stop is None else range(start, stop, step)


def sequential_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """Python's ``range``: the loop is unrolled. Bounds are integers; for registers use ``fori_loop``."""
    return affine_range(start, stop, step)


def static_range(start: int, stop: int | None = None, step: int = 1) -> range:
    """Python's ``range``: the loop is unrolled. Bounds are integers; for registers use ``fori_loop``."""
    return affine_range(start, stop, step)


def dynamic_range(start: Bound, stop: Bound | None = None, step: int = 1) -> Iterator[VirtualRegister]:
    """Iterate on the device from ``start`` to ``stop`` (not included); each may be a register.

    Yields frozen registers. ``step`` is a positive integer. Not inside ``no_reorder``. Deprecated by the vendor in
    favour of ``fori_loop``.
    """
    core = current()
    lower, upper = (0, start) if stop is None else (start, stop)
    return _runs(core, "nl.dynamic_range", _iterations("nl.dynamic_range", core, lower, upper, step))


def fori_loop(lower: Bound, upper: Bound, body_fun: Callable[[VirtualRegister], object], step: int = 1) -> None:
    """Call ``body_fun(i)`` for i from ``lower`` to ``upper`` (not included), as one loop on the device.

    The bounds may be registers, read once when the loop begins; ``step`` is a positive integer. ``i`` is a frozen
    register. The body returns nothing: what it leaves behind is in memory.
    """
    core = current()
    for i in _runs(core, "nl.fori_loop", _iterations("nl.fori_loop", core, lower, upper, step)):
        returned = body_fun(i)
        if returned is not None:
            refuse(
                rules.PARAMETER,
                f"The body of nl.fori_loop returned {returned!r}.",
                "It returns nothing: write what outlives the iteration to a tensor allocated before the loop.",
            )


def while_loop(init: VirtualRegister, body_fun: Callable[[VirtualRegister], VirtualRegister]) -> None:
    """Call ``r = body_fun(r)`` while the register ``r``, at first a copy of ``init``, is not zero.

    The body gets the condition by value and returns the register with the next one.
    """
    core = current()
    _require_condition(init, "got init")
    loops = loops_of(core)
    before = loops.enter("nl.while_loop")
    condition, goes_on = init, bool(init.value) or not init.known
    try:
        while goes_on:
            loops.next_run(before)
            condition = body_fun(VirtualRegister(core, condition.value, known=condition.known))
            _require_condition(condition, "got from its body")
            goes_on = condition.known and bool(condition.value)
    finally:
        loops.leave(before)


def no_reorder() -> AbstractContextManager[None]:
    """Within the block, instructions keep their order. Dynamic loops cannot run inside; a loop's body may have one."""
    return loops_of(current()).no_reorder()


def ds(start: Any, size: int) -> DynamicSlice:
    """A slice of ``size`` elements from ``start``, which may be an integer, a register or a tensor of one element.

    A size of 0 is refused where an instruction uses what is sliced: a core may have nothing to do.
    """
    if not isinstance(start, VirtualRegister | Tensor) and hasattr(start, "__index__"):
        start = operator.index(start)
    count = operator.index(size)
    if count < 0:
        refuse(rules.PARAMETER, f"nl.ds got size={count}.", "A slice has at least one element.")
    return DynamicSlice(start, count)


def _runs(core: Core, what: str, iterations: range) -> Iterator[VirtualRegister]:
    """One frozen register for each iteration, with the core told which run of the body it is in."""
    before = loops_of(core).enter(what)

    def run() -> Iterator[VirtualRegister]:
        loops = loops_of(core)
        try:
            for index in iterations:
                loops.next_run(before)
                yield VirtualRegister(core, index, frozen=True)
        finally:
            loops.leave(before)

    return run()


def _iterations(what: str, core: Core, lower: object, upper: object, step: object) -> range:
    stride = operator.index(step) if isinstance(step, SupportsIndex) and not isinstance(step, VirtualRegister) else 0
    if stride < 1:
        refuse(
            rules.PARAMETER,
            f"{what} got step={step!r}.",
            "The step is encoded in the loop instruction: a positive integer known when the kernel is compiled.",
        )
    first = _bound(what, core, lower)
    if isinstance(upper, VirtualRegister) and not upper.known:
        return range(first, first + stride, stride)
    return range(first, _bound(what, core, upper), stride)


def _bound(what: str, core: Core, bound: object) -> int:
    if not isinstance(bound, VirtualRegister) and not hasattr(bound, "__index__"):
        refuse(
            rules.PARAMETER,
            f"{what} got the bound {bound!r}.",
            "Bounds are integers or registers: nisa.register_load takes one from a tensor.",
        )
    return scalar_value(core, bound)


def _require_condition(register: object, how: str) -> None:
    if not isinstance(register, VirtualRegister):
        refuse(
            rules.PARAMETER,
            f"nl.while_loop {how} {register!r}, a {type(register).__name__}.",
            "The condition is a register; the body returns the next one.",
        )
