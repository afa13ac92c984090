"""A real profile replayed under our laws in its own, compiled order: how far the laws are off, apart from scheduling.

Queues, waits and posts are the profile's; every duration is a law's. The body is measured from the first DMA trigger to
the last completion of a dynamic DMA. When each queue entered the body is taken from the profile, since what came before
it (barriers, profiling) is no part of the kernel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from outcrop.base.errors import check
from outcrop.silicon.timing.dma_engine import Descriptors, DmaEngines
from outcrop.silicon.timing.laws import Laws
from outcrop.silicon.timing.profile_json import DeviceProfile, Operand, ProfiledInstruction
from outcrop.silicon.timing.tensor_engine import Throttle

ENGINES = {"Tensor": "tensor", "TensorMatrix": "tensor", "Vector": "vector", "Scalar": "scalar", "GpSimd": "gpsimd"}
OPS = {
    "COPY": "tensor_copy",
    "CAST": "tensor_copy",
    "ACTIVATE": "activation",
    "ACT_TABLE_LOAD": "activation_table_load",
    "TENSOR_REDUCE": "tensor_reduce",
    "TENSOR_SCALAR": "tensor_scalar",
    "TENSOR_TENSOR": "tensor_tensor",
    "RECIPROCAL": "reciprocal",
    "MEMSET": "memset",
}
_BYTES = {"fp32": 4, "float32": 4, "int32": 4, "uint32": 4, "bfloat16": 2, "fp16": 2, "bf16": 2, "uint16": 2}
_CONTROL_NS = 20.0  # an instruction that only waits or posts, until its result
_BARRIER = re.compile(r"\$S\[\d+\]")  # between engines, before and after the kernel: no part of its body
_ON_CHIP = 0x802  # the top of an on-chip address in a DMA
_DMA_POST = 16  # what a DMA adds to its semaphore


class Predicted(NamedTuple):
    """One instruction of the body: measured and predicted, relative to the body's start."""

    instruction: ProfiledInstruction
    start_ns: float
    finish_ns: float


@dataclass
class ProfileReplay:
    """The result. Errors are relative, predicted over measured minus one."""

    name: str
    measured_ns: float
    predicted_ns: float
    instructions: list[Predicted] = field(default_factory=list)

    @property
    def error(self) -> float:
        return self.predicted_ns / self.measured_ns - 1.0

    def duration_errors(self) -> dict[str, list[float]]:
        """By queue and opcode, the relative errors of durations from start to result."""
        found: dict[str, list[float]] = {}
        for each in self.instructions:
            row = each.instruction
            if row.opcode in OPS or row.opcode == "MATMUL":
                predicted = each.finish_ns - each.start_ns
                found.setdefault(f"{row.queue} {row.opcode}", []).append(predicted / row.duration - 1.0)
        return found


def replay_profile(profile: DeviceProfile, laws: Laws, *, throttled: bool = True) -> ProfileReplay:
    """Replay the body of a profile; ``throttled=False`` leaves the tensor engine's activity limit out."""
    dynamic = [each for each in profile.packets if "dynamic" in each.queue]
    triggers = [each for each in profile.instructions if each.opcode == "DMA_DIRECT2D"]
    check(bool(dynamic and triggers), "a profile of a kernel has dynamic DMA")
    origin = triggers[0].start
    last = max(each.start + each.duration for each in dynamic) + laws.dma.completion_ns
    body = [each for each in profile.instructions if each.start >= origin - 1 and _matters(each)]
    run = _Run(body, laws, origin, throttled, _phase(profile, laws, origin))
    run.run()
    return ProfileReplay(profile.name, last - origin, run.last_completion, run.done)


def _matters(row: ProfiledInstruction) -> bool:
    if row.opcode == "EVENT_SEMAPHORE" and ("setter=0  $" in row.text or _BARRIER.search(row.text)):
        return False
    known = row.opcode in OPS or row.opcode in ("MATMUL", "LDWEIGHTS", "DMA_DIRECT2D")
    return known or bool(row.waits) or bool(row.posts)


class _Run:
    def __init__(
        self, body: Sequence[ProfiledInstruction], laws: Laws, origin: int, throttled: bool, phase_ns: float
    ) -> None:
        self.laws = laws
        self.queues: dict[str, list[ProfiledInstruction]] = {}
        for row in body:
            name = "Tensor" if row.queue == "TensorMatrix" else row.queue
            self.queues.setdefault(name, []).append(row)
        # The tensor queue holds weight loads and matmuls in pairs; the profile starts the first of each pair first.
        self.free = dict.fromkeys(self.queues, 0.0)
        if "GpSimd" in self.queues:
            self.free["GpSimd"] = _first_trigger(self.queues["GpSimd"]) - origin - self._generation(128)
        self.posts: dict[int, list[float]] = {}
        self.dma_posts: dict[int, list[float]] = {}
        self.dma = DmaEngines(laws.dma, 16)
        self.throttle = Throttle(laws.throttle if throttled else None, phase_ns)
        self.loaded = 0.0
        self.stream_end = 0.0
        self.last_completion = 0.0
        self.done: list[Predicted] = []

    def run(self) -> None:
        heads = dict.fromkeys(self.queues, 0)
        while True:
            best: tuple[float, str] | None = None
            for name, rows in self.queues.items():
                if heads[name] == len(rows):
                    continue
                ready = self._ready(rows[heads[name]], name)
                if ready is None:
                    continue
                at = max(ready, self.free[name])
                if best is None or at < best[0]:
                    best = (at, name)
            if best is None:
                break
            at, name = best
            self._execute(self.queues[name][heads[name]], name, at)
            heads[name] += 1

    def _ready(self, row: ProfiledInstruction, name: str) -> float | None:
        """When the row's semaphores have their values; ``None`` while that is not known."""
        latest = 0.0
        wait = self.laws.semaphore.wait_ns[ENGINES.get(name, "sync")]
        for semaphore, value in row.waits:
            if semaphore in self.dma_posts:
                needed, times = math.ceil(value / _DMA_POST), self.dma_posts[semaphore]
            else:
                needed, times = value, self.posts.get(semaphore, [])
            if len(times) < needed:
                return None
            latest = max(latest, sorted(times)[needed - 1] + wait)
        return latest

    def _execute(self, row: ProfiledInstruction, name: str, at: float) -> None:
        start, busy, finish = at, at + self.laws.semaphore.extra_ns[ENGINES.get(name, "sync")], at + _CONTROL_NS
        tensor = self.laws.tensor
        if row.opcode == "DMA_DIRECT2D":
            start, busy, finish = self._dma(row, name, at)
        elif row.opcode == "LDWEIGHTS":
            wide = row.operands["src"].dtype in ("fp32", "float32")
            second = wide and row.attributes.get("transpose_mode") != "ENABLED"
            self.loaded = at + (tensor.weight_load_32_bit_ns if wide else tensor.weight_load_ns)
            if second:
                self.loaded += tensor.weight_second_pass_ns * self.throttle.stretch
            busy = at  # the matmul behind it may start as soon as the weights are there
        elif row.opcode == "MATMUL":
            start = max(at, self.loaded, self.stream_end)
            self.stream_end = self.throttle.run(start, self._columns(row) * tensor.per_column_ns)
            busy = start  # the next weights are loaded behind this matmul
            finish = self.stream_end + tensor.completion_ns + tensor.drain_ns * self.throttle.stretch
        elif row.opcode in OPS:
            latency, occupancy = self._cost(row)
            busy, finish = at + occupancy, at + latency
        self.free[name] = busy
        engine = ENGINES.get(name, "sync")
        for semaphore in row.posts:
            self.posts.setdefault(semaphore, []).append(finish + self.laws.semaphore.post_ns[engine])
        self.done.append(Predicted(row, start, finish))

    def _columns(self, row: ProfiledInstruction) -> float:
        src = row.operands["src"]
        columns = max(src.elements, self.laws.tensor.least_columns)
        return float(columns * (self.laws.tensor.columns_per_pass_32_bit if src.dtype in ("fp32", "float32") else 1))

    def _cost(self, row: ProfiledInstruction) -> tuple[float, float]:
        key, elements = law_key(row)
        law = self.laws.find(*key)
        return law.latency.at(elements), law.occupancy.at(elements)

    def _dma(self, row: ProfiledInstruction, name: str, at: float) -> tuple[float, float, float]:
        law = self.laws.dma
        software = name == "GpSimd"
        pattern = [int(each) for each in row.attributes.get("src_pattern", "1,1,1,1").split(",")]
        size = int(row.attributes.get("src_elem_size", "4"))
        rows = pattern[2] * pattern[3]
        if software:
            at += self._generation(rows)
        busy = at + (law.software_issue_ns if software else law.hardware_issue_ns)
        each = min(size, law.largest_descriptor_bytes)
        is_load = int(row.attributes.get("dst_addr_imm", "0x0"), 16) >> 36 == _ON_CHIP
        cut = Descriptors(rows * (size // each), each, rows)
        finish = self.dma.serve(busy, cut, ring=name, load=is_load, software=software) + law.completion_ns
        semaphore = int(row.attributes.get("semaphore", "-1"))
        self.dma_posts.setdefault(semaphore, []).append(finish)
        self.last_completion = max(self.last_completion, finish)
        return at, busy, finish

    def _generation(self, rows: int) -> float:
        law = self.laws.dma
        return law.software_generation_ns + law.software_per_row_ns * rows


def _phase(profile: DeviceProfile, laws: Laws, origin: int) -> float:
    """Where the grid of the activity limit lies, from a change of state in the profile."""
    if laws.throttle is None or not profile.limits:
        return 0.0
    return (profile.limits[-1].start - origin) % laws.throttle.window_ns  # the first may begin with the recording


def _first_trigger(rows: Sequence[ProfiledInstruction]) -> float:
    return float(next((row.start for row in rows if row.opcode == "DMA_DIRECT2D"), rows[0].start))


def law_key(row: ProfiledInstruction) -> tuple[tuple[str, str, str, str, str], int]:
    """What selects the law of a row (operation, engine, memory, data types, variant), and its elements."""
    src, dst = _data(row)
    memory = "psum" if "psum" in (src.memory, dst.memory) else "sbuf"
    dtypes = f"{_BYTES.get(src.dtype, 4)}-{_BYTES.get(dst.dtype, 4)}"
    beside = "PTR" in row.attributes.get("imm_src", "")
    key = (OPS[row.opcode], ENGINES[row.queue], memory, dtypes, "vector" if beside else "constant")
    return key, max(src.elements, dst.elements)


def _data(row: ProfiledInstruction) -> tuple[Operand, Operand]:
    nothing = Operand("fp32", 0, (1,), (1,))
    src = row.operands.get("src") or row.operands.get("src0") or nothing
    return src, row.operands.get("dst", nothing)
