"""``nki.jit`` and ``nki.simulate``: what a kernel function becomes, and how it is launched.

There is no other device here than the simulated one, so calling a kernel and simulating it are the same. Within another
kernel, a call simply runs the function: kernels compose as the functions that they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, overload

from outcrop.base.errors import UserError
from outcrop.silicon.chip import Chip
from outcrop.silicon.device.core import maybe_current
from outcrop.silicon.nki.run import Run, run

Schedule = Sequence[tuple[str, str | Sequence[str]]]


class Kernel:
    """A kernel function, ready to launch: ``kernel(...)``, or ``kernel[2](...)`` on both cores of a logical core."""

    def __init__(
        self,
        func: Callable[..., Any],
        options: dict[str, Any] | None = None,
        grid: Any = None,
        schedule: Schedule = (),
        settings: dict[str, Any] | None = None,
    ) -> None:
        functools.update_wrapper(self, func)
        self.__name__: str = getattr(func, "__name__", type(func).__name__)
        self.func = func
        self.options = dict(options or {})  # what jit was given; only platform_target means something here
        self.grid = grid
        self.schedule = schedule
        self.settings = dict(settings or {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if maybe_current() is not None:
            return self.func(*args, **kwargs)
        return self.run(*args, **kwargs).result

    def run(self, *args: Any, **kwargs: Any) -> Run:
        """Launch it, and return everything that was learnt on the way beside the result."""
        settings = {"target": self.options.get("platform_target"), **self.settings}
        return run(self.func, args, kwargs, grid=self.grid, schedule=self.schedule, **settings)

    def __getitem__(self, grid: Any) -> Kernel:
        """The same kernel, launched on a grid: the number of cores of the logical core, 1 or 2."""
        return Kernel(self.func, self.options, grid, self.schedule, self.settings)

    def with_schedule(self, schedule: Schedule) -> Kernel:
        """The same kernel, in which instructions run after others: pairs of a name and the name or names before it."""
        return Kernel(self.func, self.options, self.grid, tuple(schedule), self.settings)

    def with_settings(self, **settings: Any) -> Kernel:
        """The same kernel, run with other settings than the defaults: those of ``run``."""
        return Kernel(self.func, self.options, self.grid, self.schedule, {**self.settings, **settings})

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """A kernel in a class body is a method, as the function would be."""
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        grid = "" if self.grid is None else f"[{self.grid}]"
        return f"<kernel {getattr(self.func, '__qualname__', self.func)}{grid}>"


@overload
def jit(func: Callable[..., Any], **options: Any) -> Kernel: ...
@overload
def jit(func: None = None, **options: Any) -> Callable[[Callable[..., Any]], Kernel]: ...
def jit(func: Callable[..., Any] | None = None, **options: Any) -> Kernel | Callable[[Callable[..., Any]], Kernel]:
    """Make a kernel of a function, as a decorator with or without options.

    Options of the vendor's compiler are accepted and have no effect, but for ``platform_target``, which names the chip.
    """
    if func is None:
        return lambda given: jit(given, **options)
    if isinstance(func, Kernel):
        return Kernel(func.func, {**func.options, **options}, func.grid, func.schedule, func.settings)
    if not callable(func):
        raise UserError(f"nki.jit got {func!r}.", "It decorates a function: @nki.jit above a def.")
    return Kernel(func, options)


def simulate(
    kernel: Callable[..., Any],
    *,
    target: Chip | str | None = None,
    relaxed: bool | Collection[str] | None = None,
    timing_only: bool | None = None,
    seed: int | None = None,
) -> Kernel:
    """A callable that runs the kernel on the simulated device: NumPy arrays or PyTorch tensors in, the same out.

    Beyond the vendor's signature it takes the settings of one run; see ``run``. ``simulate(kernel[2])(...)`` and
    ``simulate(kernel)[2](...)`` launch on two cores.
    """
    settings = {"target": target, "relaxed": relaxed, "timing_only": timing_only, "seed": seed}
    return jit(kernel).with_settings(**{name: value for name, value in settings.items() if value is not None})
