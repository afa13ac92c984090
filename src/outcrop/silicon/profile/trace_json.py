"""The profile in the Chrome trace format, which Perfetto and chrome://tracing open.

One track per engine queue and, for each DMA queue, as many as transfers of it overlap; arrows for semaphores; counters
for the bytes in use on chip and the tensor engine's rate. Times are microseconds, as the format has them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from outcrop.base.errors import UserError
from outcrop.silicon.profile.base import DMA, ENGINES, Profile, Row

Event = dict[str, Any]


class Track(NamedTuple):
    """Where a row is drawn: bars on one track never overlap."""

    core: int
    name: str
    lane: int


class Bar(NamedTuple):
    """One bar: its row, when it begins and ends."""

    row: int
    start: float
    end: float


def tracks_of(profile: Profile) -> dict[Track, list[Bar]]:
    """Bars by track: engine queues first, then DMA queues with a lane for each transfer that overlaps others."""
    found: dict[Track, list[Bar]] = {}
    for core in range(profile.cores):
        mine = [(at, row) for at, row in enumerate(profile.rows) if row.core == core]
        for engine in (*ENGINES, *sorted({row.queue for _, row in mine} - {*ENGINES, DMA})):
            bars = [Bar(at, row.start, _end(row)) for at, row in mine if row.queue == engine]
            if bars:
                _laned(found, core, engine, bars)
        for queue in sorted({row.dma_queue for _, row in mine if row.is_dma}):
            bars = [Bar(at, row.moving, row.finish) for at, row in mine if row.dma_queue == queue]
            _laned(found, core, f"dma {queue}", bars)
    return found


def _end(row: Row) -> float:
    return max(row.busy_until, row.start + 1.0)


def _laned(found: dict[Track, list[Bar]], core: int, name: str, bars: list[Bar]) -> None:
    ends: list[tuple[float, int]] = []
    lanes = 0
    last: Bar | None = None
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.end)):
        if last is not None and (bar.start, bar.end) == (last.start, last.end) and not name.startswith("dma "):
            continue  # done together as one instruction
        last = bar
        if ends and ends[0][0] <= bar.start + 1e-6:
            _, lane = heapq.heappop(ends)
        else:
            lane, lanes = lanes, lanes + 1
        heapq.heappush(ends, (bar.end, lane))
        found.setdefault(Track(core, name, lane), []).append(bar)


def trace_of(profile: Profile) -> dict[str, Any]:
    """The document."""
    events = list(_events(profile))
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {"kernel": profile.kernel, "chip": profile.chip.name, "measured": profile.measured},
    }


def _events(profile: Profile) -> Iterator[Event]:
    place: dict[int, tuple[int, int, float, float]] = {}  # of the bar on the engine's queue, and on the DMA queue
    moving: dict[int, tuple[int, int, float, float]] = {}
    for core in range(profile.cores):
        yield {"ph": "M", "name": "process_name", "pid": core, "tid": 0, "args": {"name": f"core {core}"}}
    for thread, (track, bars) in enumerate(tracks_of(profile).items(), 1):
        name = track.name if track.lane == 0 else f"{track.name} ({track.lane + 1})"
        yield {"ph": "M", "name": "thread_name", "pid": track.core, "tid": thread, "args": {"name": name}}
        order = {"sort_index": thread}
        yield {"ph": "M", "name": "thread_sort_index", "pid": track.core, "tid": thread, "args": order}
        dma = track.name.startswith("dma ")
        for bar in bars:
            (moving if dma else place)[bar.row] = (track.core, thread, bar.start, bar.end)
            yield _bar(profile, bar, track.core, thread, dma)
    for number, edge in enumerate(profile.edges):
        source = moving.get(edge.producer) or place.get(edge.producer)
        target = place.get(edge.consumer)
        if source is None or target is None:
            continue  # of several done together one is drawn
        common: Event = {"cat": "semaphore", "name": "semaphore", "id": number}
        yield {**common, "ph": "s", "pid": source[0], "tid": source[1], "ts": max(source[2], source[3] - 1) / 1e3}
        yield {**common, "ph": "f", "bp": "e", "pid": target[0], "tid": target[1], "ts": target[2] / 1e3}
    yield from _counters(profile)


def _bar(profile: Profile, bar: Bar, core: int, thread: int, dma: bool) -> Event:
    row = profile.rows[bar.row]
    args: Event = {"operands": row.operands, "number": row.number}
    if 0 <= row.line < len(profile.lines):
        args |= {"source": str(profile.lines[row.line]), "code": profile.lines[row.line].text}
    if row.is_dma:
        args |= {"descriptors": row.descriptors, "descriptor_bytes": row.descriptor_bytes}
    if row.flops:
        args["flops"] = row.flops
    return {
        "ph": "X",
        "cat": "transfer" if dma else "instruction",
        "name": row.name or row.op,
        "pid": core,
        "tid": thread,
        "ts": bar.start / 1e3,
        "dur": (bar.end - bar.start) / 1e3,
        "args": args,
    }


def _counters(profile: Profile) -> Iterator[Event]:
    for core, samples in profile.occupied.items():
        for each in samples:
            for name, value in (("SBUF bytes per partition", each.sbuf), ("PSUM bytes per partition", each.psum)):
                yield {"ph": "C", "name": name, "pid": core, "ts": each.at / 1e3, "args": {"bytes": value}}
    for core, windows in profile.limited.items():
        name = "tensor engine rate"
        if not windows or windows[0].start > 0.0:
            yield {"ph": "C", "name": name, "pid": core, "ts": 0.0, "args": {"rate": 1.0}}
        for window in windows:
            yield {"ph": "C", "name": name, "pid": core, "ts": window.start / 1e3, "args": {"rate": window.rate}}
            yield {"ph": "C", "name": name, "pid": core, "ts": window.end / 1e3, "args": {"rate": 1.0}}


_REQUIRED: Mapping[str, Sequence[str]] = {
    "X": ("name", "pid", "tid", "ts", "dur"),
    "M": ("name", "pid", "args"),
    "C": ("name", "pid", "ts", "args"),
    "s": ("name", "cat", "id", "pid", "tid", "ts"),
    "f": ("name", "cat", "id", "pid", "tid", "ts"),
}


def check_trace(document: Mapping[str, Any]) -> None:
    """Refuse a document that breaks the Chrome trace format as we use it; ``UserError`` names the first event."""
    open_arrows: set[object] = set()
    ends: dict[tuple[int, int], float] = {}
    for at, event in enumerate(document["traceEvents"]):
        kind = event.get("ph")
        missing = [key for key in _REQUIRED.get(kind, ()) if key not in event]
        if kind not in _REQUIRED or missing:
            raise UserError(f"Event {at} of the trace, of phase {kind!r}, lacks {missing or 'a known phase'}.")
        if "ts" in event and not event["ts"] >= 0.0:
            raise UserError(f"Event {at} of the trace is at {event['ts']}: times begin at 0.")
        if kind == "X":
            key = event["pid"], event["tid"]
            if event["dur"] < 0 or event["ts"] < ends.get(key, 0.0) - 1e-6:
                raise UserError(f"Event {at} of the trace overlaps the one before it on its track.")
            ends[key] = event["ts"] + event["dur"]
        elif kind == "s":
            open_arrows.add(event["id"])
        elif kind == "f":
            if event["id"] not in open_arrows:
                raise UserError(f"Event {at} of the trace ends an arrow that was not begun.")
            open_arrows.discard(event["id"])
        elif kind == "C" and not all(isinstance(value, (int, float)) for value in event["args"].values()):
            raise UserError(f"Event {at} of the trace is a counter without numbers.")
    if open_arrows:
        raise UserError(f"{len(open_arrows)} arrows of the trace have no end.")
