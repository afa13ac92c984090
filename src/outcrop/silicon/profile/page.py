"""The profile as one HTML file that needs nothing else: no network, no server, no library.

The data are columns of numbers in the page; ``page/page.js`` draws them on a canvas. Counters of bytes in use are
thinned to their maxima where there are more than a screen can show.
"""

from __future__ import annotations

import json
import linecache
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from outcrop.silicon.profile.base import Occupied, Profile
from outcrop.silicon.profile.summary import Summary, critical_path
from outcrop.silicon.profile.trace_json import tracks_of

_MOST_SAMPLES = 2000
_MOST_EDGES = 60_000
_MOST_LINES = 1500  # of source, in each file
_AROUND = 4  # lines of source before the first and after the last that did something


def page_of(profile: Profile, summary: Summary) -> str:
    """The whole page as text."""
    folder = files(__package__).joinpath("page")
    template = folder.joinpath("page.html").read_text(encoding="utf-8")
    data = json.dumps(_data(profile, summary), separators=(",", ":"), ensure_ascii=False)
    parts = {
        "{{title}}": escape(f"{profile.kernel} on {profile.chip.name}"),
        "{{style}}": folder.joinpath("page.css").read_text(encoding="utf-8"),
        "{{script}}": folder.joinpath("page.js").read_text(encoding="utf-8"),
        "{{data}}": data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
    }
    for key, value in parts.items():
        template = template.replace(key, value, 1)
    return template


class _Index:
    """Strings, each once."""

    def __init__(self) -> None:
        self.at: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.at.setdefault(text, len(self.at))


def _data(profile: Profile, summary: Summary) -> dict[str, Any]:
    ops, texts = _Index(), _Index()
    rows = profile.rows
    estimate, chip = profile.estimate, profile.chip
    scale = summary.bf16_flops / max(1, summary.flops + summary.transpose_flops) or 1.0
    total = max(estimate.expected_ns, 1e-9) * profile.cores
    columns = {
        "start": [round(row.start) for row in rows],
        "busy": [round(row.busy_until) for row in rows],
        "end": [round(row.finish) for row in rows],
        "move": [round(row.moving) if row.is_dma else 0 for row in rows],
        "op": [ops(row.op) for row in rows],
        "line": [row.line for row in rows],
        "wait": [row.waited_for for row in rows],
        "text": [texts(f"{row.name}: {row.operands}" if row.name else row.operands) for row in rows],
        "hbm": [row.read.hbm + row.written.hbm for row in rows],
        "pieces": [row.descriptors for row in rows],
        "size": [row.descriptor_bytes for row in rows],
        "flops": [row.flops for row in rows],
    }
    return {
        "kernel": profile.kernel,
        "chip": chip.name,
        "cores": profile.cores,
        "measured": profile.measured,
        "body": round(profile.body_ns),
        "estimate": {
            "expected": estimate.expected_ns,
            "low": estimate.low_ns,
            "high": estimate.high_ns,
            "launch": estimate.launch_ns,
            "kind": estimate.kind,
            "basis": estimate.basis,
            "error": estimate.error,
        },
        "rows": columns,
        "ops": list(ops.at),
        "texts": list(texts.at),
        "lines": [[each.file, each.line, each.function, each.text] for each in profile.lines],
        "tracks": [
            {"core": track.core, "name": track.name, "lane": track.lane, "rows": [bar.row for bar in bars]}
            for track, bars in tracks_of(profile).items()
        ],
        "edges": [end for edge in profile.edges[:_MOST_EDGES] for end in edge],
        "critical": list(critical_path(profile)),
        "occupied": {str(core): _thinned(samples) for core, samples in profile.occupied.items()},
        "limited": {
            str(core): [[round(each.start), round(each.end)] for each in windows]
            for core, windows in profile.limited.items()
        },
        "capacity": [chip.sbuf_row_bytes, chip.psum_row_bytes],
        "roof": {
            "peak": chip.peak_flops_per_ns / scale / 1e3,
            "hbm": chip.hbm_bytes_per_ns,
            "dma": chip.dma_bytes_per_ns,
            "x": summary.intensity,
            "y": summary.flops / total / 1e3,
        },
        "summary": {
            "mfu": summary.mfu,
            "mfuType": summary.mfu_of_type,
            "hfu": summary.hfu,
            "mbu": summary.mbu,
            "dma": summary.dma_share,
            "throttle": summary.throttle_share,
            "flops": summary.flops,
            "read": list(summary.read),
            "written": list(summary.written),
            "transfers": summary.transfers,
            "descriptor": summary.median_descriptor_bytes,
            "small": summary.small_descriptor_share,
            "spilled": summary.spilled_bytes,
            "peakSbuf": summary.peak_sbuf,
            "peakPsum": summary.peak_psum,
        },
        "queues": [list(each) for each in summary.queues],
        "opTimes": [list(each) for each in summary.ops],
        "lineTimes": [list(each) for each in summary.lines],
        "bounds": [[each.resource, each.busy_ns, each.without_ns] for each in profile.bounds],
        "advice": [
            {
                "title": each.title,
                "reason": each.reason,
                "ns": each.predicted_ns,
                "lines": list(each.lines),
                "verdict": each.verdict,
            }
            for each in profile.advice
        ],
        "files": _sources(profile),
        "warnings": list(profile.warnings),
    }


def _thinned(samples: Sequence[Occupied]) -> list[list[int]]:
    """At most so many samples; of neighbours that are put together the fullest."""
    step = max(1, -(-len(samples) // _MOST_SAMPLES))
    found = []
    for at in range(0, len(samples), step):
        group = samples[at : at + step]
        found.append([round(group[0].at), max(each.sbuf for each in group), max(each.psum for each in group)])
    if samples:
        found.append([round(samples[-1].at), samples[-1].sbuf, samples[-1].psum])
    return found


def _sources(profile: Profile) -> list[dict[str, Any]]:
    """The stretch of each file in which something happened."""
    spans: dict[str, tuple[int, int]] = {}
    for each in profile.lines:
        low, high = spans.get(each.file, (each.line, each.line))
        spans[each.file] = min(low, each.line), max(high, each.line)
    found = []
    for file, (low, high) in spans.items():
        text = linecache.getlines(file)
        first = max(1, low - _AROUND)
        lines = [line.rstrip("\n") for line in text[first - 1 : min(high + _AROUND, first + _MOST_LINES)]]
        if lines:
            found.append({"file": file, "name": Path(file).name, "first": first, "text": lines})
    return found
