"""What instructions cost, as data: latency and occupancy of each kind as functions of elements per partition.

One TOML file per generation in ``data/``; a file may extend another with its engines' times scaled. Nothing here knows
a generation. An unknown key, a law without a source, or a source without a text is refused when the file is read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from outcrop.base.errors import NotFound, UserError, check

ANY = "any"


@dataclass(frozen=True, slots=True)
class Line:
    """``max(least, base + per_element * N)`` nanoseconds."""

    base: float
    per_element: float
    least: float = 0.0

    def at(self, elements: float) -> float:
        return max(self.least, self.base + self.per_element * elements)

    def scaled(self, factor: float) -> Line:
        return Line(self.base * factor, self.per_element * factor, self.least * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """The cost of one kind of instruction. ``memory`` is ``psum`` where an operand lies there, else ``sbuf``.

    ``dtypes`` is bytes per element read and written, as ``4-2``; ``variant`` is what else changes the cost (``cost``).
    ``samples`` and ``error`` (median, relative) come from calibration; without samples it is from documents or fits.
    """

    op: str
    engine: str
    memory: str = ANY
    dtypes: str = ANY
    variant: str = ANY
    latency: Line
    occupancy: Line
    source: str
    samples: int = 0
    error: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLaw:
    """The tensor engine: a weight load hidden behind the previous matmul, then one pass or more over the columns.

    ``drain_ns`` and ``weight_second_pass_ns`` (32-bit weights of a matmul) stretch with the activity limit, as the
    columns do; ``completion_ns`` and the loads do not.
    """

    per_column_ns: float
    least_columns: int
    completion_ns: float
    drain_ns: float
    weight_load_ns: float
    weight_load_32_bit_ns: float
    weight_second_pass_ns: float
    passes_32_bit: int
    columns_per_pass_32_bit: int
    transpose_passes_32_bit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleLaw:
    """The tensor engine's activity limit: on a fixed grid, a window's activity decides the next window's rate.

    The grid runs free of the kernel: where a kernel starts in a window is chance. ``phases`` is how many starts a
    prediction averages over.
    """

    window_ns: float
    slow_rate: float
    wake_activity: float
    sleep_activity: float
    starts_slow: bool
    phases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SemaphoreLaw:
    """From the end of an instruction to its semaphore, and from a semaphore to the start of what waits, by engine.

    An instruction waits for one semaphore; each further one that is not known to be reached costs an instruction of
    ``extra_ns`` that does nothing else.
    """

    post_ns: Mapping[str, float]
    wait_ns: Mapping[str, float]
    extra_ns: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DmaLaw:
    """Descriptors served one after another by each DMA engine, with fixed times before and after.

    A transfer keeps each engine for ``stall_ns`` and ``stall_share`` of its service longer: reads of HBM come back
    unevenly. ``load_turnaround_ns`` comes before the first descriptor of a load whose queue still has one under way.
    Software makes descriptors before the trigger, ``software_generation_ns`` and so much per row.
    """

    per_descriptor_ns: float
    bytes_per_ns: float
    software_per_descriptor_ns: float
    largest_descriptor_bytes: int
    hardware_issue_ns: float
    software_issue_ns: float
    software_generation_ns: float
    software_per_row_ns: float
    static_issue_ns: float
    load_dispatch_ns: float
    store_dispatch_ns: float
    load_stall_ns: float
    load_stall_share: float
    load_turnaround_ns: float
    store_stall_ns: float
    store_stall_share: float
    completion_ns: float
    hbm_bytes_per_ns: float
    arguments_by_software: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLaw:
    """Between cores: what a meeting costs, and how fast bytes move."""

    barrier_ns: float
    core_bytes_per_ns: float
    gpsimd_bytes_per_ns: float
    hop_ns: float
    chip_bytes_per_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Laws:
    """All of one generation. ``calibrated`` tells whether any comes from profiles of this chip."""

    chip: str
    calibrated: bool
    note: str
    launch_ns: float
    tensor: TensorLaw
    throttle: ThrottleLaw | None
    semaphore: SemaphoreLaw
    dma: DmaLaw
    link: LinkLaw
    laws: tuple[Law, ...]
    sources: Mapping[str, str]
    _index: dict[tuple[str, str, str, str, str], Law] = field(default_factory=dict, repr=False, compare=False)

    def find(self, op: str, engine: str, memory: str, dtypes: str, variant: str) -> Law:
        """The most specific law: operation before engine, then memory, then data types, then variant."""
        found = self._index.get((op, engine, memory, dtypes, variant))
        if found is None:
            found = self._search(op, engine, memory, dtypes, variant)
            self._index[op, engine, memory, dtypes, variant] = found
        return found

    def _search(self, *wanted: str) -> Law:
        best: tuple[tuple[bool, ...], Law] | None = None
        for law in self.laws:
            has = (law.op, law.engine, law.memory, law.dtypes, law.variant)
            if all(have in (ANY, want) for have, want in zip(has, wanted, strict=True)):
                rank = tuple(have != ANY for have in has)
                if best is None or rank > best[0]:
                    best = (rank, law)
        check(best is not None, f"{self.chip} has a law for every engine, and {wanted[1]} has one")
        assert best is not None
        return best[1]


def load(chip: str) -> Laws:
    """The laws of a chip that comes with Outcrop."""
    path = _own_file(chip)
    if not path.is_file():
        raise NotFound(f"No timing laws are known for the chip {chip!r}.", "See outcrop kernel profile --help.")
    return load_file(path)


def _own_file(chip: str) -> Path:
    return Path(str(files(__package__).joinpath("data"))) / f"{chip}.toml"


@lru_cache(maxsize=16)
def load_file(path: Path) -> Laws:
    """The laws in a file; ``UserError`` names what is wrong with it."""
    return _laws(_merged(path), path)


def _merged(path: Path) -> dict[str, Any]:
    """The file's table over that of the file it extends, whose times are scaled first."""
    own = tomllib.loads(path.read_text(encoding="utf-8"))
    base_name = own.pop("extends", None)
    scale: dict[str, float] = own.pop("scale", {})
    if base_name is None:
        return own
    own_base = _own_file(base_name)
    base = _merged(own_base if own_base.is_file() and own_base != path else path.with_name(f"{base_name}.toml"))
    base["law"] = [_scaled(law, scale.get(law["engine"], 1.0)) for law in base["law"]]
    for key, value in own.items():
        if key == "law":
            base["law"] = [*value, *base["law"]]
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            base[key] = {**base[key], **value}
        else:
            base[key] = value
    return base


def _scaled(law: dict[str, Any], factor: float) -> dict[str, Any]:
    if factor == 1.0:
        return law
    times = {name: {key: value * factor for key, value in law[name].items()} for name in ("latency", "occupancy")}
    return {**law, **times, "samples": 0}


def _laws(table: dict[str, Any], path: Path) -> Laws:
    try:
        made = Laws(
            chip=table["chip"],
            calibrated=table["calibrated"],
            note=table.get("note", ""),
            launch_ns=float(table["launch"]["overhead_ns"]),
            tensor=TensorLaw(**table["tensor"]),
            throttle=ThrottleLaw(**table["throttle"]) if table.get("throttle") else None,
            semaphore=SemaphoreLaw(**table["semaphore"]),
            dma=DmaLaw(**table["dma"]),
            link=LinkLaw(**table["link"]),
            laws=tuple(_law(each, path) for each in table["law"]),
            sources=table["sources"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{path.name}: {error}.", "The files in silicon/timing/data show the form.") from error
    for law in made.laws:
        if law.source not in made.sources:
            raise UserError(f"{path.name}: the law of {law.op} on {law.engine} has the unknown source {law.source!r}.")
    return made


def _law(table: dict[str, Any], path: Path) -> Law:
    known = {each.name for each in fields(Law)}
    if unknown := set(table) - known:
        raise UserError(f"{path.name}: a law has unknown keys {sorted(unknown)}.", f"It has: {sorted(known)}.")
    return Law(**{**table, "latency": Line(**table["latency"]), "occupancy": Line(**table["occupancy"])})
