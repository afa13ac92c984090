"""Accumulator registers of the vector and scalar engines: one float32 for each partition, kept between instructions.

Five instructions of VectorE share one set: tensor_scalar_reduce, tensor_scalar_cumulative, range_select, select_reduce
and exponential. ScalarE has another set, for activation and its kin. What a kernel asks of them is ``reduce_cmd``:

=============  =========================================================================================
reset          set to the operator's identity, and accumulate nothing
reset_reduce   start from the identity, then accumulate
load_reduce    start from a given value, then accumulate
reduce         go on from what the registers hold, then accumulate
idle           accumulate nothing; on VectorE the registers are undefined afterwards, on ScalarE they stay
=============  =========================================================================================

An instruction takes the registers of the partitions that its input lies in::

    registers = accumulators.of(core, Engine.vector)
    lanes = accumulators.lanes(data)                           # the partitions of the input
    start = registers.start(lanes, "tensor_scalar_reduce", command, alu.identity(op), loaded)
    total = fold(start, values) if core.values else start      # float32 [P]
    registers.follow(core, lanes, command)                     # bytes that nothing wrote are remembered
    registers.hold(lanes, total)                               # they are defined from now on
    ...
    registers.carry_out(core, lanes, reduce_res)
    core.write(reduce_res, registers.read(lanes, "tensor_scalar_reduce")[:, None])

and an instruction that ran with ``idle`` on VectorE calls ``registers.poison(lanes, "select_reduce")``. Going on from
registers that nothing defined, or that were left undefined, breaks the rule `poisoned-accumulator`; where that rule is
relaxed, they hold NaN. All of this works the same without values (``timing_only``).

Not covered: which other instructions disturb the registers is not documented; none does here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from outcrop.silicon.device import rules
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import Engine
from outcrop.silicon.device.source import caller
from outcrop.silicon.device.tensor import Tensor

if TYPE_CHECKING:
    from outcrop.silicon.device.core import Core

POISONED_ACCUMULATOR = rules.rule(
    "poisoned-accumulator",
    "An instruction goes on from accumulator registers, or reads them, only where a reset, a load or a reduction left "
    "them defined.",
    "AWS Neuron, nki.isa API reference (NKI 0.6.0): select_reduce and exponential, accumulator behavior",
)

_RESET = frozenset({"reset", "reset_reduce"})


class Registers:
    """The accumulator registers of one engine."""

    def __init__(self, engine: Engine, count: int) -> None:
        self.engine = engine
        self.values: Array = np.full(count, np.nan, np.float32)
        self.defined: Array = np.zeros(count, np.bool_)
        self._poisoned_by = ""
        self.lost: Array = np.zeros(count, np.bool_)  # lanes whose values came of bytes that nothing wrote
        self.origin: Any = None  # of these bytes: see carry.py

    def start(self, lanes: slice, op: str, command: str, identity: float, loaded: Array | float | None = None) -> Array:
        """The float32 values, one for each lane, that an accumulating instruction starts from; a fresh array.

        ``command`` is the name of a ``reduce_cmd`` other than idle. ``loaded`` goes with load_reduce: a number, or an
        array with one element for each lane; None where values are not computed.
        """
        count = lanes.stop - lanes.start
        if command in _RESET:
            return np.full(count, identity, np.float32)
        if command == "load_reduce":
            start = np.full(count, np.nan, np.float32)
            if loaded is not None:
                start[:] = loaded.reshape(-1) if isinstance(loaded, np.ndarray) else loaded
            return start
        return self.read(lanes, op)

    def hold(self, lanes: slice, values: Array) -> None:
        """Keep the accumulated values; the lanes are defined from now on."""
        self.values[lanes] = values
        self.defined[lanes] = True

    def follow(self, core: Core, lanes: slice, command: str) -> None:
        """Keep in mind, before the instruction's writes, which lanes now depend on bytes that nothing wrote."""
        if command != "reduce" and self.origin is not None:
            self.lost[lanes] = False
        found = core.carried_lanes(lanes.stop - lanes.start)
        if found is not None and command != "reset":
            self.lost[lanes] |= found[0]
            self.origin = found[1]

    def carry_out(self, core: Core, lanes: slice, dst: Tensor) -> None:
        """``dst`` is written next and depends on what the lanes hold."""
        if self.origin is not None and self.lost[lanes].any():
            core.carry_in(self.lost[lanes], dst, self.origin)

    def read(self, lanes: slice, op: str) -> Array:
        """A copy of what the lanes hold, one float32 for each; refused where that is not defined."""
        if not self.defined[lanes].all():
            missing = np.flatnonzero(~self.defined[lanes]) + lanes.start
            cause = self._poisoned_by or "no instruction has reset or loaded them"
            refuse(
                POISONED_ACCUMULATOR,
                f"{op} reads the accumulator registers of the {self.engine.name} engine for partitions {lanes.start} "
                f"to {lanes.stop - 1}; those of {len(missing)} partitions, the first {missing[0]}, are undefined: "
                f"{cause}.",
                "Use reduce_cmd.reset_reduce (or load_reduce) for the first instruction that accumulates, and let none "
                "with reduce_cmd.idle come between.",
            )
        return self.values[lanes].copy()

    def poison(self, lanes: slice, op: str) -> None:
        """Note that an instruction left the lanes undefined."""
        self.values[lanes] = np.nan
        self.defined[lanes] = False
        self._poisoned_by = f"{op} ran with reduce_cmd.idle at {caller()}"


def of(core: Core, engine: Engine) -> Registers:
    """The registers of a core's engine."""
    key = "accumulators." + engine.name
    registers = core.state.get(key)
    if registers is None:
        registers = core.state[key] = Registers(engine, core.limits.partitions)
    assert isinstance(registers, Registers)
    return registers


def lanes(tensor: Tensor) -> slice:
    """The registers of the partitions that a tensor lies in."""
    first = tensor.start_partition
    return slice(first, first + tensor.shape[0])
