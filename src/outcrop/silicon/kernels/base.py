"""What is known of a kernel beside the kernel: how to call it, what must come out, and what it must at least cost.

A ``KernelCase`` makes arguments for given sizes, computes the reference in float64, and counts the operations and bytes
that any implementation needs. ``floor_us`` turns those into the least time on a chip: the roofline. A kernel's
``Tuning`` names the choices that change its time and not its values, with the values that each may take; ``tune``
searches them, and what it found comes back by ``KernelCase.tuned``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from outcrop.base.errors import UserError
from outcrop.silicon.chip import Chip
from outcrop.silicon.kernels.front import NKIObject
from outcrop.silicon.nki import Kernel, Run

Array: TypeAlias = NDArray[Any]
Sizes: TypeAlias = Mapping[str, int]

DTYPES: dict[str, Any] = {
    "fp32": np.float32,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "fp8": ml_dtypes.float8_e4m3,
    "int8": np.int8,
}


class Work(NamedTuple):
    """What a kernel cannot do without: matrix operations (two for a multiply-add) and bytes through DMA."""

    flops: float
    bytes: float


class Tolerance(NamedTuple):
    """How far a result may lie from the float64 reference: ``absolute + relative * |reference|``."""

    relative: float
    absolute: float


def choice(default: Any, *others: Any) -> Any:
    """A field of a ``Tuning``: what a person picked, and what else is legal."""
    return field(default=default, metadata={"legal": (default, *others)})


@dataclass(frozen=True)
class Tuning(NKIObject):
    """Base of a kernel's choices. Subclasses are frozen dataclasses whose fields are made by ``choice``."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            legal = each.metadata["legal"]
            if getattr(self, each.name) not in legal:
                raise UserError(
                    f"{type(self).__name__} got {each.name}={getattr(self, each.name)!r}.",
                    f"It may be {', '.join(map(repr, legal))}.",
                )

    @classmethod
    def legal(cls) -> dict[str, tuple[Any, ...]]:
        """Every choice with its legal values, the picked one first."""
        return {each.name: each.metadata["legal"] for each in dataclasses.fields(cls)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Tuning:
        """The choices that are given by name, others as picked; refuses what is no choice or not legal."""
        unknown = ", ".join(name for name in values if name not in cls.legal())
        if unknown:
            raise UserError(f"{cls.__name__} has no choice {unknown}.", f"It has {', '.join(cls.legal())}.")
        return cls(**values)

    @classmethod
    def variants(cls) -> Iterator[Tuning]:
        """Every combination, the picked one first."""
        names = list(cls.legal())
        for values in product(*cls.legal().values()):
            yield cls(**dict(zip(names, values, strict=True)))


class Values:
    """Arguments for a kernel: random from a seed, or with ``None`` zeros that take no memory, for time only."""

    def __init__(self, seed: int | None = 0) -> None:
        self.seed = seed
        self._random = np.random.default_rng(seed)

    def normal(self, shape: tuple[int, ...], dtype: str, scale: float = 1.0) -> Array:
        kind = np.dtype(DTYPES[dtype])
        if self.seed is None:
            return np.broadcast_to(np.zeros((), kind), shape)
        return (self._random.standard_normal(shape) * scale).astype(kind)

    def uniform(self, shape: tuple[int, ...], dtype: str, low: float = 0.0, high: float = 1.0) -> Array:
        kind = np.dtype(DTYPES[dtype])
        if self.seed is None:
            return np.broadcast_to(np.zeros((), kind), shape)
        return self._random.uniform(low, high, shape).astype(kind)

    def integers(self, shape: tuple[int, ...], limit: int) -> Array:
        if self.seed is None:
            return np.broadcast_to(np.zeros((), np.int32), shape)
        return self._random.integers(0, limit, shape).astype(np.int32)

    def permutation(self, count: int) -> Array:
        return (np.arange(count) if self.seed is None else self._random.permutation(count)).astype(np.int32)


@dataclass(frozen=True, kw_only=True)
class KernelCase:
    """One kernel and everything needed to try it. ``small`` is for values, ``large`` is what its time is told for.

    ``inputs`` gives the kernel's arguments; ``options`` are further static arguments, which the kernel and the
    reference both take. ``reference`` returns what the kernel returns, one array or several, in float64. ``bound`` is
    ``tensor`` where the matrix engine is the limit that the design aims at, else ``memory``.
    """

    name: str
    summary: str
    kernel: Kernel
    inputs: Callable[[Sizes, str, Values], tuple[Any, ...]]
    reference: Callable[..., Any]
    work: Callable[[Sizes, str], Work]
    tuning: type[Tuning]
    small: Sizes
    large: Sizes
    tolerance: Mapping[str, Tolerance]  # by the type of the data, which is also the list of types that it takes
    options: Mapping[str, Any] = field(default_factory=dict)
    bound: str = "memory"
    feature: str = ""  # of the chip, without which the kernel does not run
    ranks: int = 1
    cores: int = 1

    def run(
        self,
        args: tuple[Any, ...],
        target: Chip | str = "trn2",
        tuning: Tuning | None = None,
        **settings: Any,
    ) -> Run:
        """Launch the kernel on copies of arguments from ``inputs``: some kernels update what they get."""
        if not settings.get("timing_only"):
            args = tuple(np.array(each) if isinstance(each, np.ndarray) else each for each in args)
        kernel = self.kernel[self.cores] if self.cores > 1 else self.kernel
        ranks = {"ranks": self.ranks} if self.ranks > 1 else {}
        kernel = kernel.with_settings(target=target, **ranks, **settings)
        return kernel.run(*args, **self.options, tuning=tuning or self.tuning())

    def timing_run(
        self, sizes: Sizes | None = None, dtype: str = "bf16", target: Chip | str = "trn2", tuning: Tuning | None = None
    ) -> Run:
        """Launch it without values: its trace is what a replay for time needs."""
        args = self.inputs(sizes or self.large, dtype, Values(None))
        return self.run(args, target, tuning, timing_only=True)

    def tuned(self, path: Path) -> Tuning:
        """The choices that ``outcrop kernel tune --out`` wrote, for ``run``, ``timing_run`` or the kernel itself."""
        if not path.is_file():
            raise UserError(f"There is no file {path}.", f"outcrop kernel tune {self.name} --out {path} writes it.")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            kernel, values = found["kernel"], dict(found["tuning"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path} is not what outcrop kernel tune wrote.") from None
        if kernel != self.name:
            raise UserError(f"{path} was written for the kernel {kernel}, not for {self.name}.")
        return self.tuning.of(values)

    def floor_us(self, sizes: Sizes, dtype: str, target: Chip) -> float:
        """The least time on one core: the larger of operations over peak and bytes over the practical DMA rate."""
        flops, moved = self.work(sizes, dtype)
        totals = target.core.totals
        peak = totals.peak[dtype if dtype in totals.peak else "bf16"].value_in("TFLOP/s")
        if self.feature == "double_row" and dtype not in totals.peak:
            peak *= 2  # two rows at a time, where a chip's documents print no peak for it
        rate = totals.dma_practical_bandwidth
        if rate is None:
            raise UserError(f"The data of {target.name} have no practical DMA rate.")
        return max(flops / (peak * 1e6), moved / (rate.value_in("GB/s") * 1e3))

    def check(self, got: Any, expected: Any, dtype: str) -> None:
        """Raise where a result lies further from the reference than the kernel's tolerance."""
        results = got if isinstance(got, tuple) else (got,)
        wanted = expected if isinstance(expected, tuple) else (expected,)
        tolerance = self.tolerance[dtype]
        for at, (mine, theirs) in enumerate(zip(results, wanted, strict=True)):
            np.testing.assert_allclose(
                np.asarray(mine, np.float64),
                theirs,
                rtol=tolerance.relative,
                atol=tolerance.absolute,
                err_msg=f"{self.name}, result {at}, {dtype}",
            )


def item_bytes(dtype: str) -> int:
    """Bytes of an element of a type by its short name."""
    return int(np.dtype(DTYPES[dtype]).itemsize)


def wide(*arrays: Any) -> tuple[Array, ...]:
    """Arrays as float64, for references."""
    return tuple(np.asarray(each, np.float64) for each in arrays)
