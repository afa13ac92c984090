"""Running a kernel: arguments in, the kernel on each core, what it left behind and what it returned.

``run`` is what every other way to call a kernel goes through. A ``Run`` keeps the results with what was learnt on the
way: the trace of each core, the fullest moment of each on-chip memory, and what was warned about.
"""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outcrop.base.errors import UserError
from outcrop.silicon.chip import Chip
from outcrop.silicon.device import rules
from outcrop.silicon.device.core import Core
from outcrop.silicon.device.dtypes import Array, bool_
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.placement import Usage, place
from outcrop.silicon.device.record import Instruction
from outcrop.silicon.device.refusal import refuse
from outcrop.silicon.device.regions import MemoryRegion
from outcrop.silicon.device.rules import KernelWarning, relaxed_names
from outcrop.silicon.device.settings import Settings
from outcrop.silicon.device.source import Source
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.device.turns import run_cores
from outcrop.silicon.hazards import Hazard, Mode, find_hazards
from outcrop.silicon.nki.arguments import Inputs, convert_results, numpy_to_torch, tensors_in
from outcrop.silicon.nki.defaults import current_options, find_target
from outcrop.silicon.nki.frontend import check_arguments, check_kernel

OUTPUT_MEMORY = rules.rule(
    "output-memory",
    "A kernel returns tensors in shared HBM.",
    "AWS Neuron, NKI 0.2 migration guide: output tensors must use nl.shared_hbm",
)
LAUNCH_GRID = rules.rule(
    "launch-grid",
    "A kernel is launched on one or two cores of a logical core.",
    "AWS Neuron, Logical NeuronCore",
    relaxable=False,
)

MOST_CORES = 2  # of a logical core

GRID_STATE = "launch grid"  # the key in Core.state under which program_ndim and friends find the grid


@dataclass(frozen=True)
class Warned:
    """A rule that the run broke without stopping."""

    rule: str
    message: str
    source: Source

    def __str__(self) -> str:
        return f"[{self.rule}] {self.message}\n  at {self.source}"


@dataclass(frozen=True)
class Run:
    """One execution. With several ranks, ``results`` has one entry for each and ``result`` is that of rank 0."""

    name: str
    machine: Machine
    results: tuple[Any, ...]
    outputs: tuple[Array, ...]  # every array of the first rank's result, in order
    usages: tuple[tuple[Usage, ...], ...]  # by core
    warnings: tuple[Warned, ...]

    @property
    def result(self) -> Any:
        """What the kernel returned, with arrays of the kind that it was called with."""
        return self.results[0]

    @property
    def target(self) -> Chip:
        return self.machine.settings.target

    @property
    def traces(self) -> tuple[list[Instruction], ...]:
        """What each core executed, in order."""
        return tuple(core.trace for core in self.machine.cores)

    @property
    def trace(self) -> list[Instruction]:
        """What the first core executed, in order."""
        return self.machine.cores[0].trace

    @property
    def usage(self) -> tuple[Usage, ...]:
        """The fullest moment of each on-chip memory of the first core."""
        return self.usages[0]

    def hazards(self, mode: Mode | str = Mode.compiler) -> list[Hazard]:
        """What goes wrong in another order than the one it ran in, worst first; see ``outcrop.silicon.hazards``."""
        return find_hazards(self.machine, mode=mode)

    def __str__(self) -> str:
        cores = f", {len(self.machine.cores)} cores" if len(self.machine.cores) > 1 else ""
        lines = [f"{self.name} on {self.target.name}{cores}: {sum(map(len, self.traces))} instructions"]
        for each in self.usage:
            used, limit = each.peak_bytes_per_partition, each.limit_bytes_per_partition
            lines.append(f"  {each.region.value.upper()}: at most {used} of {limit} bytes per partition")
        lines += [f"  warning {each}" for each in self.warnings]
        return "\n".join(lines)


class PerRank(tuple[Any, ...]):
    """An argument that differs between ranks: one value for each."""


def run(
    kernel: Callable[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    grid: int | Sequence[int] | None = None,
    target: Chip | str | None = None,
    relaxed: bool | Collection[str] | None = None,
    timing_only: bool | None = None,
    seed: int | None = None,
    ranks: int = 1,
    schedule: Sequence[tuple[str, str | Sequence[str]]] = (),
) -> Run:
    """Run a kernel on the simulated device; see ``Run`` for what comes back.

    ``grid`` is the number of cores of a logical core (1 or 2), ``ranks`` the number of logical cores that collectives
    join: an argument that is a ``PerRank`` gives each its own. What is not given comes from ``defaults`` blocks, and at
    last from the vendor's environment variable (the target), strict rules and seed 0.
    """
    options = current_options()
    settings = Settings(
        target=find_target(options.target if target is None else target),
        relaxed=relaxed_names(options.relaxed if relaxed is None else relaxed),
        timing_only=options.timing_only if timing_only is None else timing_only,
        seed=options.seed if seed is None else seed,
    )
    function = getattr(kernel, "func", kernel)
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise UserError(
            f"{function.__name__} is a {'generator' if inspect.isgeneratorfunction(function) else 'coroutine'}: "
            "calling it runs nothing.",
            "A kernel is a plain function that returns its tensors; take yield, async and await out.",
        )
    if ranks < 1:
        raise UserError(f"ranks={ranks} runs no kernel.", "Give the number of logical cores, 1 or more.")
    shape = _grid(grid)
    machine = Machine(settings, cores_per_rank=shape[0] if shape else 1, ranks=ranks)
    calls = [_Call(machine, rank, function, args, kwargs or {}) for rank in range(ranks)]

    def body(core: Core) -> Any:
        core.state[GRID_STATE] = shape
        call = calls[core.rank]
        return function(*call.args, **call.kwargs)

    with machine.cores[0].active():
        check_kernel(function)
        check_arguments(function, args, kwargs or {})
    returned = run_cores(machine, body)
    usages = []
    for core in machine.cores:
        with core.active():
            usages.append(place(core))
            _apply_schedule(core, schedule)
    results: list[Any] = []
    outputs: list[Array] = []
    for rank, call in enumerate(calls):
        first = machine.cores[rank * machine.cores_per_rank]
        with first.active():
            value = returned[rank * machine.cores_per_rank]
            results.append(call.results(first, value))
            if rank == 0:
                outputs = [_array(first, each, call.inputs) for each in tensors_in(value)]
        call.inputs.write_back()
    warned = tuple(
        Warned(rule.name, message, source) for core in machine.cores for rule, message, source in core.warned
    )
    name = getattr(function, "__name__", type(function).__name__)
    made = Run(name, machine, tuple(results), tuple(outputs), tuple(usages), warned)
    for watcher in options.watchers:
        watcher.append(made)
    return made


class _Call:
    """The arguments of one rank as its kernel sees them."""

    def __init__(
        self, machine: Machine, rank: int, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.inputs = Inputs(machine.cores[rank * machine.cores_per_rank])
        names = _parameter_names(function, len(args))
        self.args = [
            self.inputs.convert(_of_rank(each, rank, machine.ranks), name)
            for name, each in zip(names, args, strict=True)
        ]
        self.kwargs = {
            name: self.inputs.convert(_of_rank(each, rank, machine.ranks), name) for name, each in kwargs.items()
        }

    def results(self, core: Core, value: Any) -> Any:
        def to_array(tensor: Tensor) -> Any:
            values = _array(core, tensor, self.inputs)
            return numpy_to_torch(values) if self.inputs.uses_torch else values

        for tensor in tensors_in(value):
            _check_output(core, tensor, self.inputs)
        return convert_results(value, to_array)


def _grid(grid: int | Sequence[int] | None) -> tuple[int, ...]:
    if grid is None:
        return ()
    sizes: tuple[Any, ...] = tuple(grid) if isinstance(grid, (tuple, list)) else (grid,)
    if len(sizes) != 1 or not hasattr(sizes[0], "__index__") or not 1 <= operator.index(sizes[0]) <= MOST_CORES:
        refuse(
            LAUNCH_GRID,
            f"A kernel was launched on the grid {list(sizes)}.",
            "Launch it as kernel(...) or kernel[1](...) on one core, or as kernel[2](...) on two.",
        )
    return (operator.index(sizes[0]),)


def _of_rank(value: Any, rank: int, ranks: int) -> Any:
    if not isinstance(value, PerRank):
        return value
    if len(value) != ranks:
        raise UserError(f"A PerRank argument has {len(value)} values for {ranks} ranks.", "Give one value per rank.")
    return value[rank]


def _parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        names = []
    return [names[at] if at < len(names) else f"argument{at}" for at in range(count)]


def _check_output(core: Core, tensor: Tensor, inputs: Inputs) -> None:
    ours = any(tensor.storage is each.storage for each in inputs.tensors)
    if tensor.buffer is not MemoryRegion.shared_hbm and not ours:
        refuse(
            OUTPUT_MEMORY,
            f"The kernel returned {tensor.describe()}, allocated at {tensor.storage.allocation.source}.",
            "Allocate what is returned with buffer=nl.shared_hbm, and copy the result there with nisa.dma_copy.",
        )
    if not core.values:
        return
    missing = tensor.storage.unwritten(tensor)
    if missing is not None:
        allocation = tensor.storage.allocation
        first = [int(each) for each in np.argwhere(missing)[0]]
        message = (
            f"The kernel returned {tensor.describe()}, of which it never wrote {int(missing.sum())} of {tensor.size} "
            f"elements, the first at {first}; they read as NaN, or all bits set."
        )
        core.warned.append((rules.UNWRITTEN_OUTPUT, message, allocation.source))
        where = allocation.source
        warnings.warn_explicit(f"[{rules.UNWRITTEN_OUTPUT.name}] {message}", KernelWarning, where.file, where.line)


def _array(core: Core, tensor: Tensor, inputs: Inputs) -> Array:
    """The elements of a returned tensor; a copy only where the bytes belong to the caller or are not all written."""
    if not core.values:
        return np.broadcast_to(np.zeros((), tensor.dtype.numpy), tensor.shape)  # shape and type; no memory behind
    missing = tensor.storage.unwritten(tensor)
    ours = any(tensor.storage is each.storage for each in inputs.tensors)
    values = tensor.array
    if missing is not None or ours or not tensor.is_contiguous():
        values = np.array(values, order="C")
    if missing is not None:
        values.view(np.uint8).reshape(*values.shape, -1)[missing] = 0xFF
    return values.view(np.bool_) if tensor.dtype is bool_ else values


def _apply_schedule(core: Core, schedule: Sequence[tuple[str, str | Sequence[str]]]) -> None:
    """Note the order that ``with_schedule`` asks for in the trace: each consumer after its producers."""
    if not schedule:
        return
    named: dict[str, list[Instruction]] = {}
    for each in core.trace:
        if each.name:
            named.setdefault(each.name, []).append(each)
    for consumer, producers in schedule:
        for name in (producers,) if isinstance(producers, str) else tuple(producers):
            for end in (consumer, name):
                if end not in named:
                    raise UserError(
                        f"with_schedule names the instruction {end!r}, which the kernel did not execute.",
                        f"Named instructions: {', '.join(sorted(named)) or 'none; pass name= to an instruction'}.",
                    )
            for each in named[consumer]:
                each.depends_on(*named[name])
