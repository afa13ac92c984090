"""Real device profiles: the JSON that ``neuron-profile view --output-format json`` writes, as typed records.

Only what the clock needs is read: instructions with their operands and semaphores, DMA packets, the tensor engine's
activity limit. The operand text is documented in the vendor's profiler guide by example; what a line holds that this
reader does not know is kept in ``attributes``.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from outcrop.base.errors import UserError

_WAIT = re.compile(r"S\[(\d+)\](?: \(([^)]*)\))?>=(\d+)")
_POST = re.compile(r"S\[(\d+)\](?: \(([^)]*)\))?\+\+@complete")
_OPERAND = re.compile(r"\b(src\w*|dst\w*|bias_ptr)=(?:(\w+)@)?(0x[0-9a-f]+)(?:\[([-\d,]+)\]\[([-\d,]+)\])?")
_PATTERN = re.compile(r"\b(src|dst)_pattern=\[(\d+),(\d+)\]\[(\d+),(\d+)\]")
_ATTRIBUTE = re.compile(r"\b(\w+)=(\S+)")
_PSUM_BASE = 0x2000000


class Operand(NamedTuple):
    """One operand as printed: element strides and counts, innermost first."""

    dtype: str
    address: int
    strides: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def elements(self) -> int:
        total = 1
        for each in self.counts:
            total *= each
        return total

    @property
    def memory(self) -> str:
        return "psum" if self.address >= _PSUM_BASE else "sbuf"


@dataclass(frozen=True, slots=True)
class ProfiledInstruction:
    """One row of the profile; times in nanoseconds from its first timestamp."""

    id: int
    queue: str  # Tensor, TensorMatrix, Vector, Scalar, GpSimd, Sync
    opcode: str
    start: int
    duration: int
    operands: Mapping[str, Operand]
    waits: tuple[tuple[int, int], ...]  # (semaphore, value)
    posts: tuple[int, ...]  # semaphores incremented at completion
    attributes: Mapping[str, str]
    text: str

    @property
    def end(self) -> int:
        return self.start + self.duration


class Packet(NamedTuple):
    """One DMA descriptor as served."""

    start: int
    duration: int
    size_bytes: int
    engine: str
    queue: str


class LimitState(NamedTuple):
    """A stretch in which the tensor engine issued ``k`` of ``n``."""

    start: int
    duration: int
    k: int
    n: int


@dataclass(frozen=True)
class DeviceProfile:
    """What was read of one profile."""

    name: str
    instructions: tuple[ProfiledInstruction, ...]  # by start
    packets: tuple[Packet, ...]
    limits: tuple[LimitState, ...]
    semaphores: tuple[tuple[int, int, int], ...]  # (time, semaphore, new value)
    total_ns: float
    metadata: Mapping[str, Any]


def read_profile(path: Path) -> DeviceProfile:
    """Read a profile, gzipped or not; ``UserError`` where it is not one."""
    raw = path.read_bytes()
    try:
        table = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
        return _profile(path.name.split(".")[0], table)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{path} is not a profile that can be read ({type(error).__name__}: {error}).",
            "Give the JSON of: neuron-profile view --output-format json.",
        ) from error


def _profile(name: str, table: Mapping[str, Any]) -> DeviceProfile:
    return DeviceProfile(
        name=name,
        instructions=tuple(
            sorted((_instruction(row) for row in table["instruction"]), key=lambda each: (each.start, each.id))
        ),
        packets=tuple(
            Packet(row["timestamp"], row["duration"], row["transfer_size"], row["dma_engine"], row["queue_type"])
            for row in sorted(table.get("dma", ()), key=lambda row: row["timestamp"])
        ),
        limits=tuple(LimitState(row["timestamp"], row["duration"], row["k"], row["n"]) for row in table.get("ham", ())),
        semaphores=tuple(
            (row["timestamp"], int(_number(row["id"])), row["value"]) for row in table.get("semaphore_update", ())
        ),
        total_ns=1e9 * float((table.get("summary") or [{}])[0].get("total_time", 0.0)),
        metadata=(table.get("metadata") or [{}])[0],
    )


def _number(text: str) -> int:
    found = re.search(r"-?\d+", text)
    return int(found.group()) if found else -1


def _instruction(row: Mapping[str, Any]) -> ProfiledInstruction:
    text = row.get("operands", "")
    operands = {
        name: Operand(dtype or "", int(address, 16), _integers(strides), _integers(counts))
        for name, dtype, address, strides, counts in _OPERAND.findall(text)
    }
    return ProfiledInstruction(
        id=row["id"],
        queue=row["label"],
        opcode=row["opcode"],
        start=row["timestamp"],
        duration=row["duration"],
        operands=operands,
        waits=tuple((int(number), int(value)) for number, _, value in _WAIT.findall(text)),
        posts=tuple(int(number) for number, _ in _POST.findall(text)),
        attributes=dict(_ATTRIBUTE.findall(text)) | {f"{k}_pattern": ",".join(v) for k, *v in _PATTERN.findall(text)},
        text=text.strip(),
    )


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.split(",")) if text else ()
