"""A real profile in the form of a simulated one, so that the two can be compared and drawn alike.

Time begins at the first DMA trigger, which is where a kernel's body begins; what came before (loading of programs,
barriers) is left out, and so are instructions that only wait or switch something. Packets of one queue without a pause
between them count as one transfer. A matmul whose weights were loaded for a transpose is one.

Not covered: source lines, semaphores and bytes on chip, which the reader of the vendor's JSON does not keep.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from outcrop.silicon.chip import Chip
from outcrop.silicon.profile.base import DMA, Estimate, Profile, Row, SourceLine, Traffic, Window
from outcrop.silicon.profile.measure import chip_of
from outcrop.silicon.timing.profile_json import DeviceProfile, LimitState, Packet, ProfiledInstruction

_QUEUES = {
    "Tensor": "tensor",
    "TensorMatrix": "tensor",
    "Vector": "vector",
    "Scalar": "scalar",
    "GpSimd": "gpsimd",
    "Sync": "sync",
}
_OPS = {
    "MATMUL": "nc_matmul",
    "LDWEIGHTS": "load_weights",
    "DMA_DIRECT2D": "dma_copy",
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
_FP32_PASSES = 2  # a device runs float32 as two matmuls at half rate, and shows both
_TRIGGER = "DMA_DIRECT2D"
_NO_WORK = (
    "EVENT_SEMAPHORE", "DRAIN", "NOP", "NOTIFY", "SET_ORDERING_MODE", "COMPARE_BRANCH", "POLL", "WRITE", "MOVE",
)  # fmt: skip
_TILE = re.compile(r"\b(\d+)\*(\d+)\b")  # contraction and rows of a matmul, as its operands end
_LIMITED_RATE = 0.5  # where the profile does not say
_PAUSE_NS = 200  # between two transfers of one queue


def profile_of_device(measured: DeviceProfile, chip: Chip) -> Profile:
    """The profile of a device."""
    triggers = [each.start for each in measured.instructions if each.opcode == _TRIGGER]
    origin = min(triggers, default=min((each.start for each in measured.instructions), default=0))
    transposes = _transposes(measured.instructions)
    body = [
        each
        for each in measured.instructions
        if each.start >= origin and each.queue in _QUEUES and not each.opcode.startswith(_NO_WORK)
    ]
    packets = [each for each in measured.packets if each.start >= origin and each.queue != "instruction"]
    rows = [_row(each, origin, each.id in transposes) for each in body] + _transfers(packets, origin)
    rows.sort(key=lambda row: row.start)
    rows = [row._replace(number=at) for at, row in enumerate(rows)]
    end = max((row.finish for row in rows), default=0.0)
    total = measured.total_ns or end
    return Profile(
        kernel=measured.name,
        chip=chip_of(chip),
        cores=1,
        rows=tuple(rows),
        lines=(SourceLine("<not in the profile>", 0, "", ""),),
        estimate=Estimate(total, total, total, max(0.0, total - end), "measured", "measured on a device", ""),
        limited={0: _limited(measured.limits, origin, end)},
        measured=True,
        dma_busy_ns=float(sum(each.duration for each in packets)),
    )


def _transposes(instructions: Sequence[ProfiledInstruction]) -> set[int]:
    """Ids of the matmuls that transpose: the n-th matmul uses the n-th weights."""
    weights = [each for each in instructions if each.opcode == "LDWEIGHTS"]
    products = [each for each in instructions if each.opcode == "MATMUL"]
    if len(weights) != len(products):
        return set()
    pairs = zip(weights, products, strict=True)
    return {product.id for load, product in pairs if load.attributes.get("transpose_mode") == "ENABLED"}


def _limited(limits: Sequence[LimitState], origin: int, end: float) -> tuple[Window, ...]:
    """The profile tells changes: before a first one to full rate, the engine was limited."""
    found = [
        Window(max(0.0, each.start - origin), each.start + each.duration - origin, each.k / each.n)
        for each in limits
        if each.k < each.n
    ]
    if limits and limits[0].k == limits[0].n and limits[0].start > origin:
        rate = found[0].rate if found else _LIMITED_RATE
        found.insert(0, Window(0.0, float(limits[0].start - origin), rate))
    return tuple(each._replace(end=min(each.end, end)) for each in found if each.end > 0.0 and each.start < end)


def _row(each: ProfiledInstruction, origin: int, transpose: bool) -> Row:
    start, end = float(each.start - origin), float(each.end - origin)
    op, flops = _OPS.get(each.opcode, each.opcode.lower()), 0
    tile = _TILE.search(each.text) if each.opcode == "MATMUL" else None
    if tile is not None and "src" in each.operands:
        flops = 2 * int(tile.group(1)) * int(tile.group(2)) * each.operands["src"].elements
    if transpose and each.opcode == "MATMUL":
        op = "nc_transpose"
    wide = flops and each.operands["src"].dtype in ("fp32", "float32") and not transpose
    return Row(
        number=0, core=0, op=op, queue=_QUEUES[each.queue],
        start=start, busy_until=end, finish=end, moving=start, dma_queue="", waited_for=-1, line=0, name="",
        operands=" ".join(each.text.split())[:160], read=Traffic(), written=Traffic(),
        flops=0 if transpose else flops, transpose_flops=flops if transpose else 0,
        bf16_flops=flops * (_FP32_PASSES if wide else 1), descriptors=0, descriptor_bytes=0,
    )  # fmt: skip


def _transfers(packets: Sequence[Packet], origin: int) -> list[Row]:
    by_queue: dict[str, list[Packet]] = {}
    for each in packets:
        by_queue.setdefault(each.queue, []).append(each)
    found: list[Row] = []
    for queue, mine in by_queue.items():
        group: list[Packet] = []
        end = 0
        for each in sorted(mine, key=lambda packet: packet.start):
            if group and each.start > end + _PAUSE_NS:
                found.append(_transfer(group, queue, origin))
                group = []
            end = max(end, each.start + each.duration) if group else each.start + each.duration
            group.append(each)
        if group:
            found.append(_transfer(group, queue, origin))
    return found


def _transfer(group: Sequence[Packet], queue: str, origin: int) -> Row:
    start = float(group[0].start - origin)
    end = float(max(each.start + each.duration for each in group) - origin)
    moved = sum(each.size_bytes for each in group)
    return Row(
        number=0, core=0, op="transfer", queue=DMA, start=start, busy_until=end, finish=end, moving=start,
        dma_queue=queue, waited_for=-1, line=0, name="", operands=f"{len(group)} packets", read=Traffic(hbm=moved),
        written=Traffic(), flops=0, transpose_flops=0, bf16_flops=0, descriptors=len(group),
        descriptor_bytes=moved // len(group),
    )  # fmt: skip
