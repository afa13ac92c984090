"""One trial of a search: a kernel with given choices, run without values and timed by the clock.

A ``Task`` says in plain values what is tuned, so that it can be handed to another process: a kernel of this room by its
name, or ``FILE:NAME``. In a file it is a ``KernelCase`` of that name (module level, or in a list), or an ``nki.jit``
kernel with a parameter ``tuning``: its choices are the dataclass ``TUNING`` of the file, or else the class of the
parameter's default, and its other arguments are given as texts like ``a=bfloat16[1024,512]``. The fields of the
dataclass are made by ``choice(picked, *others)``, or carry ``metadata={"legal": (picked, *others)}`` and so need
nothing of Outcrop; other fields stay as they are.

Not covered: kernels of the older language, and choices that depend on each other but for being refused when run.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import inspect
import io
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from outcrop.base.errors import NotFound, UserError
from outcrop.silicon import kernels
from outcrop.silicon.chip import Chip
from outcrop.silicon.device.dtypes import find as find_dtype
from outcrop.silicon.device.rules import KernelRefused
from outcrop.silicon.kernels.base import KernelCase, Sizes, Tolerance, Values, Work
from outcrop.silicon.kernels.search import Variant
from outcrop.silicon.nki import Kernel, activate
from outcrop.silicon.nki.defaults import find_target
from outcrop.silicon.timing.predict import predict


@dataclass(frozen=True)
class Task:
    """What is tuned, for which sizes, on which chip (its name or file). What is not given is the kernel's own."""

    kernel: str
    target: str = "trn2"
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """What came of one variant: a time in microseconds with its bracket, or why it did not run."""

    tuning: Mapping[str, Any]
    expected_us: float | None = None
    low_us: float | None = None
    high_us: float | None = None
    kind: str = ""  # what binds: memory, compute or latency
    instructions: int = 0
    refused: str = ""  # the rule that it breaks, or the error that it stopped with
    why: str = ""

    @property
    def variant(self) -> Variant:
        return tuple(self.tuning.values())


@dataclass(frozen=True)
class Opened:
    """A task with what it names: the kernel, its sizes and its choices."""

    case: KernelCase
    choices: Mapping[str, tuple[Any, ...]]
    sizes: Sizes
    dtype: str
    target: Chip

    @property
    def floor_us(self) -> float:
        """Of the roofline; 0 where the work of the kernel is not known."""
        return self.case.floor_us(self.sizes, self.dtype, self.target)

    def trial(self, variant: Variant) -> Trial:
        """Run and time one variant. What it prints and warns of is left out; what stops it is noted."""
        values = dict(zip(self.choices, variant, strict=True))
        try:
            with _quiet():
                tuning = self.case.tuning(**values)
                run = self.case.timing_run(self.sizes, self.dtype, self.target, tuning)
                made = predict(run)
        except KernelRefused as refusal:
            return Trial(values, refused=refusal.rule.name, why=str(refusal))
        except Exception as error:  # a user's kernel: its other variants may run  # noqa: BLE001
            return Trial(values, refused=type(error).__name__, why=str(error))
        return Trial(
            values,
            expected_us=round(made.expected_ns / 1e3, 4),
            low_us=round(made.low_ns / 1e3, 4),
            high_us=round(made.high_ns / 1e3, 4),
            kind=made.kind,
            instructions=sum(map(len, run.traces)),
        )


@contextlib.contextmanager
def opened(task: Task) -> Iterator[Opened]:
    """Find the kernel of a task; within the block a file's ``import nki`` finds Outcrop."""
    path, _, name = task.kernel.rpartition(":")
    if not path or Path(task.kernel).is_file():
        path, name = task.kernel, ""
    if not path.endswith(".py"):
        yield _opened(kernels.find(task.kernel), task)
        return
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}.")
    with activate(task.target), _beside(Path(path)):
        with _quiet():
            module = _loaded(Path(path))
        yield _opened(_case_in(module, path, name, task), task)


def choices_of(kind: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Every choice of a dataclass with its legal values, the picked one first."""
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    return {each.name: tuple(each.metadata["legal"]) for each in fields if "legal" in each.metadata}


def _opened(case: KernelCase, task: Task) -> Opened:
    if task.arguments and case.large:
        raise UserError(f"{case.name} makes its own arguments, for given sizes.", "Give --shape in place of --arg.")
    for name in task.sizes:
        if name not in case.large:
            has = f"It has {', '.join(case.large)}." if case.large else "Its sizes are those of its arguments."
            raise UserError(f"{case.name} has no size {name}.", has)
    dtype = task.dtype or ("bf16" if "bf16" in case.tolerance else next(iter(case.tolerance)))
    if dtype not in case.tolerance:
        raise UserError(f"{case.name} does not take {dtype}.", f"It takes {', '.join(case.tolerance)}.")
    choices = choices_of(case.tuning)
    if not choices:
        raise UserError(
            f"{case.tuning.__name__} declares no choices.",
            "Make its fields with outcrop.silicon.kernels.choice(picked, *others), or metadata={'legal': (...)}.",
        )
    return Opened(case, choices, {**case.large, **task.sizes}, dtype, find_target(task.target))


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=SourceFileLoader(path.stem, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _case_in(module: ModuleType, path: str, name: str, task: Task) -> KernelCase:
    """The case of that name, the kernel of that name, or the only one there is."""
    found: dict[str, KernelCase | Kernel] = {}
    for value in vars(module).values():
        for each in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(each, KernelCase):
                found[each.name] = each
    if not found:
        found = {key: value for key, value in vars(module).items() if isinstance(value, Kernel) and _is_tunable(value)}
    if not name and len(found) == 1:
        name = next(iter(found))
    if name not in found:
        asked = f"no kernel {name!r} that can be tuned" if name else "not exactly one kernel that can be tuned"
        raise NotFound(
            f"{path} has {asked}.",
            f"It has {', '.join(found) or 'none'}: a KernelCase, or an nki.jit kernel with a parameter `tuning`.",
        )
    kernel = found[name]
    return kernel if isinstance(kernel, KernelCase) else _case_of(kernel, getattr(module, "TUNING", None), name, task)


def _is_tunable(kernel: Kernel) -> bool:
    return "tuning" in inspect.signature(kernel.func).parameters


def _case_of(kernel: Kernel, kind: Any, name: str, task: Task) -> KernelCase:
    """A case for a plain kernel with given arguments. Its work and its reference are not known."""
    signature = inspect.signature(kernel.func)
    kind = kind or type(signature.parameters["tuning"].default)
    arguments = {key: argument(text) for key, text in task.arguments.items()}
    try:
        signature.bind(**arguments, tuning=None)
    except TypeError as error:
        raise UserError(
            f"{name}{signature} was given {', '.join(arguments) or 'no arguments'}: {error}.",
            "Give each parameter but `tuning`: --arg NAME=bfloat16[128,512] or NAME=3.",
        ) from None
    return KernelCase(
        name=name,
        summary="",
        kernel=kernel,
        inputs=_nothing,
        reference=_nothing,
        work=_no_work,
        tuning=kind,
        small={},
        large={},
        tolerance={"bf16": Tolerance(0.0, 0.0)},
        options=arguments,
    )


def argument(text: str) -> Any:
    """What ``float32[128,512]`` stands for, zeros that take no memory; else a Python literal, or the text itself."""
    shaped = re.fullmatch(r"(\w+)\[([\d, ]*)\]", text)
    if shaped:
        dtype = find_dtype(shaped.group(1))
        shape = tuple(int(size) for size in shaped.group(2).split(",") if size.strip())
        return np.broadcast_to(np.zeros((), dtype.numpy), shape)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _nothing(sizes: Sizes, dtype: str, values: Values) -> tuple[Any, ...]:
    return ()


def _no_work(sizes: Sizes, dtype: str) -> Work:
    return Work(0.0, 0.0)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[None]:
    """As when Python runs a script: modules beside it can be imported."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a kernel prints and warns of would come again with every variant."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
