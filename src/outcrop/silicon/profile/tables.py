"""The profile as tables under the column names of the vendor's profiler (its Parquet schema, version 7.4.0).

A column that we cannot fill is left out rather than guessed; a table's rows are those of the simulated kernel. What
differs from a device's tables:

* ``DmaPacket`` has one row for each DMA engine that serves a transfer, with its share of the descriptors, not one for
  each descriptor; the shares of a transfer are taken as equal, over the whole of its service.
* ``SemaphoreUpdate`` has one semaphore for each pair of queues, raised by one.
* ``opcode`` is the name of the instruction in the kernel language.
"""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from outcrop.base.errors import UserError
from outcrop.base.files import write_atomic
from outcrop.silicon.profile.base import ENGINES, Profile
from outcrop.silicon.profile.summary import Summary

Record = dict[str, Any]
NAMES = (
    "Instruction",
    "DmaPacket",
    "SemaphoreUpdate",
    "SbufUsage",
    "PsumUsage",
    "Throttle",
    "OpcodeSummary",
    "Summary",
    "Warning",
)


def tables_of(profile: Profile, summary: Summary) -> Mapping[str, list[Record]]:
    """Rows by table; every table is there, if only with no rows."""
    return {
        "Instruction": list(_instructions(profile)),
        "DmaPacket": list(_packets(profile)),
        "SemaphoreUpdate": list(_semaphores(profile)),
        "SbufUsage": list(_sbuf(profile)),
        "PsumUsage": list(_psum(profile)),
        "Throttle": list(_throttle(profile)),
        "OpcodeSummary": list(_opcodes(profile, summary)),
        "Summary": [_summary(profile, summary)],
        "Warning": [{"message": each, "category": "Simulation"} for each in _warnings(profile)],
    }


def write_csv(tables: Mapping[str, list[Record]], directory: Path) -> list[Path]:
    """One file for each table, with a header also where there are no rows."""
    made = []
    for name, rows in tables.items():
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else _EMPTY[name], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        made.append(directory / f"{name}.csv")
        write_atomic(made[-1], text.getvalue().encode())
    return made


def write_parquet(tables: Mapping[str, list[Record]], directory: Path) -> list[Path]:
    """The same tables as Parquet; needs pyarrow (see ``parquet_library``)."""
    arrow, parquet = parquet_library()
    made = []
    for name, rows in tables.items():
        columns = list(rows[0]) if rows else _EMPTY[name]
        table = arrow.table({column: [row[column] for row in rows] for column in columns})
        made.append(directory / f"{name}.parquet")
        parquet.write_table(table, str(made[-1]))
    return made


def parquet_library() -> tuple[ModuleType, ModuleType]:
    """pyarrow and its Parquet writer, or ``UserError`` that says what to install."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UserError(
            "Parquet tables need pyarrow, which is not installed.",
            "Install it: pip install pyarrow. CSV needs nothing.",
        ) from error


def _instructions(profile: Profile) -> Iterator[Record]:
    counters: dict[tuple[int, str], int] = {}
    for at, row in enumerate(profile.rows):
        pc = counters[row.core, row.queue] = counters.get((row.core, row.queue), -1) + 1
        line = profile.lines[row.line] if 0 <= row.line < len(profile.lines) else None
        yield {
            "id": at,
            "pc": pc,
            "pcore_idx": row.core,
            "start_ts": round(row.start),
            "end_ts": round(row.busy_until if row.is_dma else row.finish),
            "duration_ns": round(row.busy_until if row.is_dma else row.finish) - round(row.start),
            "engine": row.queue,
            "opcode": row.op,
            "operands": row.operands,
            "bir_id": str(row.number),
            "kernel_instruction_name": row.name,
            "nki_source_location": f"{line.file}:{line.line}" if line else "",
            "dma_trigger_start_ts": round(row.moving) if row.is_dma else None,
            "dma_trigger_end_ts": round(row.finish) if row.is_dma else None,
            "dma_wait_time_ns": round(row.moving - row.busy_until) if row.is_dma else None,
            "hbm_read_bytes": row.read.hbm,
            "hbm_write_bytes": row.written.hbm,
            "sbuf_read_bytes": row.read.sbuf,
            "sbuf_write_bytes": row.written.sbuf,
            "psum_read_bytes": row.read.psum,
            "psum_write_bytes": row.written.psum,
            "psum_read_sbuf_write_bytes": row.written.sbuf if row.read.psum else 0,
            "spill_save_bytes": 0,
            "spill_reload_bytes": 0,
            "raw_flops": row.flops + row.transpose_flops,
            "adjusted_flops": row.bf16_flops,
            "flops_transpose": row.transpose_flops,
        }


def _packets(profile: Profile) -> Iterator[Record]:
    number = 0
    for at, row in enumerate(profile.rows):
        if not row.is_dma:
            continue
        engines = max(1, min(row.descriptors, profile.chip.dma_engines))
        path = row.dma_queue.split()[1] if " " in row.dma_queue else row.dma_queue
        start, end = round(row.moving), max(round(row.finish), round(row.moving) + 1)
        for engine in range(engines):
            share = row.descriptors // engines + (engine < row.descriptors % engines)
            size = share * row.descriptor_bytes
            yield {
                "id": number,
                "packet_idx": engine,
                "packet_aggregation_id": at,
                "pcore_idx": row.core,
                "engine_idx": engine,
                "start_ts": start,
                "end_ts": end,
                "duration_ns": end - start,
                "read_bytes": size,
                "write_bytes": size,
                "transfer_bytes": size,
                "throughput": size / (end - start) * 1e9,
                "queue_type": _QUEUE_TYPES.get(path, "unknown"),
                "queue_name": row.dma_queue,
            }
            number += 1


_QUEUE_TYPES = {"software": "software_dynamic", "hardware": "hardware_dynamic", "static": "data"}


def _semaphores(profile: Profile) -> Iterator[Record]:
    raised: list[tuple[float, int, str, str]] = []
    for edge in profile.edges:
        producer, consumer = profile.rows[edge.producer], profile.rows[edge.consumer]
        source = producer.dma_queue or producer.queue
        raised.append((producer.finish, producer.core, f"{source}->{consumer.queue}", source))
    values: dict[tuple[int, str], int] = {}
    for at, core, name, source in sorted(raised):
        values[core, name] = values.get((core, name), 0) + 1
        yield {
            "timestamp": round(at),
            "id": name,
            "value": values[core, name],
            "update_source": source,
            "update_operation_type": "increment",
            "pcore_idx": core,
        }


def _sbuf(profile: Profile) -> Iterator[Record]:
    for core, samples in profile.occupied.items():
        for each in samples:
            share = 100.0 * each.sbuf / profile.chip.sbuf_row_bytes
            yield {"timestamp": round(each.at), "avg_util_percent": share, "pcore_idx": core}


def _psum(profile: Profile) -> Iterator[Record]:
    for core, samples in profile.occupied.items():
        for each in samples:
            share = 100.0 * each.psum / profile.chip.psum_row_bytes
            yield {"timestamp": round(each.at), "avg_util_percent": share, "pcore_idx": core}


def _throttle(profile: Profile) -> Iterator[Record]:
    for core, windows in profile.limited.items():
        for each in windows:
            yield {
                "timestamp": round(each.start),
                "duration": round(each.end - each.start),
                "k": round(8 * each.rate),
                "n": 8,
                "type": "activity_0",
                "pcore_idx": core,
            }


def _opcodes(profile: Profile, summary: Summary) -> Iterator[Record]:
    body = max(profile.body_ns, 1e-9)
    for each in summary.ops:
        yield {
            "engine": each.queue,
            "opcode": each.op,
            "instruction_count": each.instructions,
            "instruction_time_ns": round(each.total_ns),
            "active_time_ns": round(each.active_ns),
            "active_time_percent": 100.0 * each.active_ns / body,
        }


def _summary(profile: Profile, summary: Summary) -> Record:
    chip, total = profile.chip, profile.estimate.expected_ns
    rows = profile.rows
    hbm = summary.read.hbm + summary.written.hbm
    roof = summary.intensity / (chip.peak_flops_per_ns / chip.hbm_bytes_per_ns)
    made: Record = {
        "total_time": total * 1e-9,
        "total_exec_time": profile.body_ns * 1e-9,
        "hardware_flops": summary.flops + summary.transpose_flops,
        "transpose_flops": summary.transpose_flops,
        "adjusted_hardware_flops": summary.bf16_flops,
        "mm_arithmetic_intensity": summary.intensity,
        "peak_flops_bandwidth_ratio": chip.peak_flops_per_ns / chip.hbm_bytes_per_ns,
        "mfu_estimated_percent": 100.0 * summary.mfu,
        "mfu_inst_estimated_percent": 100.0 * summary.mfu,
        "mfu_max_achievable_estimated_percent": 100.0 * min(1.0, roof),
        "hfu_estimated_percent": 100.0 * summary.hfu,
        "mbu_estimated_percent": 100.0 * summary.mbu,
        "hbm_read_bytes": summary.read.hbm,
        "hbm_write_bytes": summary.written.hbm,
        "sbuf_read_bytes": summary.read.sbuf,
        "sbuf_write_bytes": summary.written.sbuf,
        "psum_read_bytes": summary.read.psum,
        "psum_write_bytes": summary.written.psum,
        "psum_read_sbuf_write_bytes": sum(row.written.sbuf for row in rows if row.read.psum),
        "psum_read_sbuf_write_count": sum(bool(row.read.psum and row.written.sbuf) for row in rows),
        "spill_save_bytes": summary.spilled_bytes,
        "spill_reload_bytes": summary.spilled_bytes,
        "dma_transfer_count": summary.transfers,
        "dma_transfer_total_bytes": hbm,
        "dma_transfer_average_bytes": hbm / summary.transfers if summary.transfers else 0.0,
        "matmul_instruction_count": sum(bool(row.flops) for row in rows),
        "activate_instruction_count": sum(row.op.startswith("activat") for row in rows),
    }
    for queue in ENGINES:
        found = next((each for each in summary.queues if each.queue == queue), None)
        made[f"{queue}_engine_instruction_count"] = found.instructions if found else 0
        made[f"{queue}_engine_active_time"] = (found.busy_ns if found else 0.0) * 1e-9
        made[f"{queue}_engine_active_time_percent"] = 100.0 * (found.share if found else 0.0)
    return made


def _warnings(profile: Profile) -> Iterator[str]:
    if not profile.measured:
        yield f"Simulated by Outcrop, {profile.estimate.basis}; {profile.estimate.error}."
    yield from profile.warnings


_EMPTY: Mapping[str, list[str]] = {
    "Instruction": ["id", "start_ts", "end_ts", "duration_ns", "engine", "opcode", "operands"],
    "DmaPacket": ["id", "start_ts", "end_ts", "duration_ns", "engine_idx", "transfer_bytes", "queue_type"],
    "SemaphoreUpdate": ["timestamp", "id", "value", "update_source", "update_operation_type", "pcore_idx"],
    "SbufUsage": ["timestamp", "avg_util_percent", "pcore_idx"],
    "PsumUsage": ["timestamp", "avg_util_percent", "pcore_idx"],
    "Throttle": ["timestamp", "duration", "k", "n", "type", "pcore_idx"],
    "OpcodeSummary": [
        "engine", "opcode", "instruction_count", "instruction_time_ns", "active_time_ns", "active_time_percent",
    ],
    "Summary": ["total_time"],
    "Warning": ["message", "category"],
}  # fmt: skip
