"""Running kernels of the older language: ``nki.jit``, ``nki.baremetal``, ``nki.simulate_kernel`` and their relatives.

All modes but benchmarking run the kernel on the simulated device. Arrays go in; a kernel may write into them
(parameters as outputs) and return tensors. Programs of a launch grid run one after another and return the same tensors,
so each declaration of a returned or shared HBM tensor gives every program the same bytes.

Default target: as for the current language, trn2 or the vendor's environment variable; ``platform_target=`` of ``jit``.
Relaxed beside the current language: on-chip tensors may be returned, which the older simulator allowed.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from outcrop.base.errors import UserError
from outcrop.silicon.device import rules
from outcrop.silicon.device.core import Core, maybe_current
from outcrop.silicon.device.dtypes import Array
from outcrop.silicon.device.machine import Machine
from outcrop.silicon.device.placement import place
from outcrop.silicon.device.rules import relaxed_names
from outcrop.silicon.device.settings import Settings
from outcrop.silicon.device.tensor import Tensor
from outcrop.silicon.nki.arguments import Inputs, numpy_to_torch
from outcrop.silicon.nki.defaults import current_options, find_target
from outcrop.silicon.nki.legacy import programs
from outcrop.silicon.nki.legacy.masks import rewritten
from outcrop.silicon.nki.legacy.memory import SHARED
from outcrop.silicon.nki.legacy.tile import Tile, around
from outcrop.silicon.nki.run import Run, Warned

_NEW_OBJECTS = 20_000  # between collections of the youngest; some 1,000 instructions


class LegacyKernel:
    """A kernel function, ready to launch: ``kernel(...)`` or ``kernel[4, 2](...)``."""

    def __init__(self, func: Callable[..., Any], options: Mapping[str, Any], grid: tuple[int, ...] = ()) -> None:
        self.func = func
        self.options = dict(options)
        self.grid = grid
        self.__name__ = getattr(func, "__name__", "kernel")
        self.__qualname__ = getattr(func, "__qualname__", self.__name__)
        self.__doc__ = func.__doc__
        self.__module__ = func.__module__

    def __getitem__(self, grid: Any) -> LegacyKernel:
        return LegacyKernel(self.func, self.options, programs.grid_sizes(grid))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if maybe_current() is not None:
            return rewritten(self.func)(*args, **kwargs)
        if self.options.get("mode") in ("benchmark", "profile"):
            return self._refuse_timing()
        return self.run(*args, **kwargs).result

    def run(self, *args: Any, **kwargs: Any) -> Run:
        """Launch it, and return the trace and what else was learnt beside the result."""
        return run_kernel(self.func, args, kwargs, self.grid, self.options.get("platform_target"))

    def _refuse_timing(self) -> Any:
        raise UserError(
            f"{self.__name__} is under @nki.{self.options['mode']}, which measures time: there is no clock here yet.",
            "Run it with nki.simulate_kernel(kernel, ...), or decorate it with @nki.jit.",
        )

    @property
    def benchmark_result(self) -> Any:
        """Latencies of ``nki.benchmark``: not measured here."""
        return self._refuse_timing()

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else lambda *args, **kwargs: self(instance, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<kernel {self.__qualname__}{list(self.grid) if self.grid else ''}>"


def _decorated(func: Any, options: dict[str, Any]) -> Any:
    if func is None:
        return lambda given: _decorated(given, options)
    if isinstance(func, LegacyKernel):
        return LegacyKernel(func.func, {**func.options, **options}, func.grid)
    inner = getattr(func, "func", func)
    if not callable(inner):
        raise UserError(f"A kernel decorator got {func!r}.", "It decorates a function: @nki.jit above a def.")
    return LegacyKernel(inner, options)


def jit(func: Any = None, mode: str = "auto", **kwargs: Any) -> Any:
    """Make a kernel of a function; every mode but "benchmark" runs it on the simulated device."""
    return _decorated(func, {"mode": mode, **kwargs})


def trace(func: Any = None, **kwargs: Any) -> Any:
    """The older decorator: a kernel for ``simulate_kernel``, or to be called from another."""
    return _decorated(func, {"mode": "trace", **kwargs})


def baremetal(kernel: Any = None, **kwargs: Any) -> Any:
    """Run without a framework: on the simulated device here."""
    return _decorated(kernel, {"mode": "baremetal", **kwargs})


def benchmark(kernel: Any = None, **kwargs: Any) -> Any:
    """A kernel whose call would measure latencies; calling it is refused until there is a clock."""
    return _decorated(kernel, {"mode": "benchmark", **kwargs})


def profile(func: Any = None, **kwargs: Any) -> Any:
    """A kernel whose call would record a profile; calling it is refused until there is a clock."""
    return _decorated(func, {"mode": "profile", **kwargs})


def simulate_kernel(kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a kernel (or ``kernel[grid]``) on the simulated device: NumPy arrays in, the same out."""
    made = kernel if isinstance(kernel, LegacyKernel) else _decorated(kernel, {"mode": "simulation"})
    return made.run(*args, **kwargs).result


@contextmanager
def _fewer_collections() -> Iterator[None]:
    """Python's garbage collector looks at the growing trace less often; dead tiles go without it."""
    before = gc.get_threshold()
    if before[0]:
        gc.set_threshold(max(before[0], _NEW_OBJECTS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


# -- one run ----------------------------------------------------------------------------------------------------------


def run_kernel(
    func: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    grid: tuple[int, ...] = (),
    target: Any = None,
) -> Run:
    """Run every program of the grid on one core."""
    options = current_options()
    settings = Settings(
        target=find_target(target if options.target is None else options.target),
        relaxed=relaxed_names(options.relaxed),
        timing_only=options.timing_only,
        seed=options.seed,
    )
    machine = Machine(settings)
    core = machine.cores[0]
    inputs = Inputs(core)
    names = _names(func, len(args))
    given = [inputs.convert(_plain(each), name) for name, each in zip(names, args, strict=True)]
    named = {name: inputs.convert(_plain(each), name) for name, each in kwargs.items()}
    function = rewritten(func)
    value: Any = None
    with core.active(), _fewer_collections():
        shared: list[Tensor] = []
        for point in programs.points(grid):
            core.state[programs.POINT] = (grid, point)
            core.state[SHARED] = [shared, 0]
            value = function(*_tiles(given), **{name: _tiles(each) for name, each in named.items()})
        outputs: list[Array] = []
        result = _arrays(core, value, inputs, outputs)
        usages = (place(core, spills=True),)
    inputs.write_back()
    warned = tuple(Warned(rule.name, message, source) for rule, message, source in core.warned)
    made = Run(getattr(func, "__name__", "kernel"), machine, (result,), tuple(outputs), usages, warned)
    for watcher in options.watchers:
        watcher.append(made)
    return made


def _names(func: Callable[..., Any], count: int) -> list[str]:
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        names = []
    return [names[at] if at < len(names) else f"argument{at}" for at in range(count)]


def _plain(value: Any) -> Any:
    """64-bit arrays as the 32-bit ones that the older simulator made of them."""
    if isinstance(value, np.ndarray) and value.dtype in (np.dtype(np.int64), np.dtype(np.uint64)):
        return value.astype(np.int32 if value.dtype.kind == "i" else np.uint32)
    return value


def _tiles(value: Any) -> Any:
    if isinstance(value, Tensor):
        return around(value)
    if isinstance(value, tuple):
        parts = [_tiles(each) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [_tiles(each) for each in value]
    if isinstance(value, dict):
        return {key: _tiles(each) for key, each in value.items()}
    return value


def _arrays(core: Core, value: Any, inputs: Inputs, outputs: list[Array]) -> Any:
    """What a kernel returned, with arrays for tiles."""
    if isinstance(value, Tile):
        array = _array(core, value)
        outputs.append(array)
        return numpy_to_torch(array) if inputs.uses_torch else array
    if isinstance(value, tuple):
        parts = [_arrays(core, each, inputs, outputs) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [_arrays(core, each, inputs, outputs) for each in value]
    if isinstance(value, dict):
        return {key: _arrays(core, each, inputs, outputs) for key, each in value.items()}
    return value


def _array(core: Core, tile: Tile) -> Array:
    tensor = tile.device()
    if not core.values:
        return np.broadcast_to(np.zeros((), tensor.dtype.numpy), tensor.shape)
    missing = tensor.storage.unwritten(tensor)
    values = np.array(tensor.array if tensor.index is None else core.read(tensor), order="C")
    if missing is not None:
        core.warned.append((rules.UNWRITTEN_OUTPUT, f"{tile.describe()} is returned but not all written.",
                            tensor.storage.allocation.source))  # fmt: skip
        values.view(np.uint8).reshape(*values.shape, -1)[missing] = 0
    return values.view(np.bool_) if tile.dtype == np.bool_ else values
