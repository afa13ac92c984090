"""The profile in words, for a terminal, and as one JSON document, for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from outcrop.silicon.profile.base import Profile
from outcrop.silicon.profile.summary import Summary

_SHOWN = 8


def report(profile: Profile, summary: Summary) -> str:
    """A page of text, the most useful first."""
    return "\n".join(_lines(profile, summary))


def _lines(profile: Profile, summary: Summary) -> Iterator[str]:
    estimate, chip = profile.estimate, profile.chip
    cores = f", {profile.cores} cores" if profile.cores > 1 else ""
    if profile.measured:
        yield f"{profile.kernel} on {chip.name}{cores}: {us(estimate.expected_ns)} measured"
    else:
        yield (
            f"{profile.kernel} on {chip.name}{cores}: {us(estimate.expected_ns)} expected, "
            f"between {us(estimate.low_ns)} and {us(estimate.high_ns)}"
        )
        yield f"  {estimate.basis}; {estimate.error}"
    if profile.bounds:
        yield ""
        yield "What binds: the time if a resource took none"
        for bound in profile.bounds:
            without = min(bound.without_ns, estimate.expected_ns)
            busy = f"busy {us(bound.busy_ns)}" if bound.busy_ns else ""
            gain = 1.0 - without / estimate.expected_ns
            yield f"  {bound.resource:<16} {busy:<16} without {us(without):>10}  {_percent(gain):>6} less"
    if profile.advice:
        yield ""
        yield "What to change: each replayed; gains do not add up"
        for each in profile.advice[:_SHOWN]:
            gain = 1.0 - each.predicted_ns / estimate.expected_ns
            mark = "  (a bound)" if each.verdict == "bound" else ""
            yield f"  {us(each.predicted_ns):>10}  {_percent(gain):>5} less  {each.title}{mark}"
            where = f" [{', '.join(str(profile.lines[line]) for line in each.lines)}]" if each.lines else ""
            yield f"                          {each.reason}{where}"
    yield ""
    yield from _use(profile, summary)
    yield ""
    yield "Queues: busy"
    for queue in summary.queues:
        if queue.instructions:
            share = _percent(queue.share)
            yield f"  {queue.queue:<22} {us(queue.busy_ns):>10} {share:>6}  {queue.instructions} instructions"
    yield ""
    yield "Lines: on the critical path, busy, count"
    for line in summary.lines[:_SHOWN]:
        if line.line >= len(profile.lines) or line.line < 0:
            continue
        source = profile.lines[line.line]
        times = f"{us(line.critical_ns):>10} {us(line.busy_ns):>10} {line.instructions:>7}"
        yield f"  {times}  {source}  {source.text[:70]}"
    for warning in profile.warnings:
        yield f"  warning {warning}"


def _use(profile: Profile, summary: Summary) -> Iterator[str]:
    if summary.flops:
        yield (
            f"  MFU {_percent(summary.mfu)} of bf16 peak, {_percent(summary.mfu_of_type)} of its data types' peak; "
            f"HFU {_percent(summary.hfu)}"
        )
    yield f"  MBU {_percent(summary.mbu)}; {_percent(summary.dma_share)} of what the DMA engines can move"
    for name in ("hbm", "sbuf", "psum"):
        read, written = getattr(summary.read, name), getattr(summary.written, name)
        yield f"  {name.upper()}: {size(read)} read, {size(written)} written"
    yield (
        f"  {summary.transfers} transfers of {summary.descriptors} descriptors, median "
        f"{size(summary.median_descriptor_bytes)}; {_percent(summary.small_descriptor_share)} of the bytes in "
        "descriptors below 2 KiB"
    )
    chip = profile.chip
    if not profile.measured:
        yield (
            f"  at most {summary.peak_sbuf} of {chip.sbuf_row_bytes} bytes of SBUF and {summary.peak_psum} of "
            f"{chip.psum_row_bytes} of PSUM per partition; no spills: the language has none"
        )
    if summary.flops or summary.throttle_share:
        yield f"  the tensor engine was limited for {_percent(summary.throttle_share)} of the time"


def document(profile: Profile, summary: Summary) -> dict[str, Any]:
    """The same as plain values."""
    made = asdict(summary)
    made["lines"] = [
        {**asdict_of(each), "source": str(profile.lines[each.line]), "code": profile.lines[each.line].text}
        for each in summary.lines
        if 0 <= each.line < len(profile.lines)
    ]
    for key in ("queues", "ops"):
        made[key] = [asdict_of(each) for each in getattr(summary, key)]
    for key in ("read", "written"):
        made[key] = getattr(summary, key)._asdict()
    return {
        "kernel": profile.kernel,
        "target": profile.chip.name,
        "cores": profile.cores,
        "measured": profile.measured,
        "estimate": asdict(profile.estimate),
        "bounds": [asdict(each) for each in profile.bounds],
        "advice": [
            {
                **asdict(each),
                "gain": 1.0 - each.predicted_ns / profile.estimate.expected_ns,
                "lines": [str(profile.lines[line]) for line in each.lines],
            }
            for each in profile.advice
        ],
        "summary": made,
        "warnings": list(profile.warnings),
    }


def asdict_of(row: Any) -> dict[str, Any]:
    """Fields of a named tuple."""
    found: dict[str, Any] = row._asdict()
    return found


def us(value_ns: float) -> str:
    """Microseconds in words."""
    return f"{value_ns / 1e3:.1f} us"


def size(value: float) -> str:
    """Bytes in words."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f} B"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if abs(share) < 0.0995 else f"{100 * share:.0f} %"
