"""Two profiles side by side: by engine, by kind of instruction and by source line, the largest difference first.

What is compared is the time that instructions take (for a DMA its trigger, since a device's profile shows that);
several done together as one count once. Loads of weights, which only a device shows, are left out: the clock has them
hidden behind matmuls. A measured profile has no source lines, so lines are compared only where both have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from outcrop.silicon.profile.base import Profile, Row
from outcrop.silicon.profile.report import us
from outcrop.silicon.profile.summary import Summary, critical_times, distinct, summarise, union


class Side(NamedTuple):
    """One profile's share of something."""

    instructions: int
    time_ns: float


class Difference(NamedTuple):
    """The same thing in both."""

    what: str
    before: Side
    after: Side

    @property
    def change_ns(self) -> float:
        return self.after.time_ns - self.before.time_ns


@dataclass(frozen=True)
class Comparison:
    """``before`` and ``after`` are the profiles; each list begins with the largest change."""

    before: Profile
    after: Profile
    queues: tuple[Difference, ...]
    ops: tuple[Difference, ...]
    lines: tuple[Difference, ...]

    @property
    def summaries(self) -> tuple[Summary, Summary]:
        """The summaries of both."""
        return summarise(self.before), summarise(self.after)

    def __str__(self) -> str:
        return "\n".join(_page(self))

    def document(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "before": _head(self.before),
            "after": _head(self.after),
            "change": self.after.estimate.expected_ns / max(self.before.estimate.expected_ns, 1e-9) - 1.0,
            **{
                name: [
                    {"what": each.what, "before": each.before._asdict(), "after": each.after._asdict()}
                    for each in getattr(self, name)
                ]
                for name in ("queues", "ops", "lines")
            },
        }


def compare(before: Profile, after: Profile) -> Comparison:
    """Set two profiles side by side."""
    lines: tuple[Difference, ...] = ()
    if not before.measured and not after.measured:
        lines = _matched(_by_line(before), _by_line(after))
    return Comparison(
        before=before,
        after=after,
        queues=_matched(_busy_by_queue(before), _busy_by_queue(after)),
        ops=_matched(_by_op(before), _by_op(after)),
        lines=lines,
    )


def _matched(before: Mapping[str, Side], after: Mapping[str, Side]) -> tuple[Difference, ...]:
    nothing = Side(0, 0.0)
    found = [
        Difference(key, before.get(key, nothing), after.get(key, nothing)) for key in dict.fromkeys([*before, *after])
    ]
    return tuple(sorted(found, key=lambda each: -abs(each.change_ns)))


def _busy_by_queue(profile: Profile) -> dict[str, Side]:
    found = {}
    for queue in dict.fromkeys(row.queue for row in profile.rows if row.queue != "dma"):
        rows = [row for row in _compared(profile) if row.queue == queue]
        found[queue] = Side(len(rows), union([(row.start, row.busy_until) for row in rows if row.core == 0]))
    moving = [(row.moving, row.finish) for row in profile.rows if row.is_dma and row.core == 0]
    if moving:
        found["dma transfers"] = Side(len(moving), union(moving))
    return found


def _compared(profile: Profile) -> list[Row]:
    return [row for row in distinct(profile.rows) if row.op not in ("load_weights", "transfer")]


def _grouped(profile: Profile, key: Callable[[Row], str], time: Callable[[Row], float]) -> dict[str, Side]:
    counts: dict[str, int] = {}
    times: dict[str, float] = {}
    for row in _compared(profile):
        name = key(row)
        counts[name] = counts.get(name, 0) + 1
        times[name] = times.get(name, 0.0) + time(row)
    return {name: Side(counts[name], times[name]) for name in counts}


def _by_op(profile: Profile) -> dict[str, Side]:
    return _grouped(
        profile,
        lambda row: f"{row.op} ({row.queue})",
        lambda row: row.busy_until - row.start if row.is_dma else row.duration,
    )


def _by_line(profile: Profile) -> dict[str, Side]:
    """By the text of the line, so that an edit elsewhere in the file does not part a line from itself."""
    counts = _grouped(profile, lambda row: _name(profile, row.line), lambda row: 0.0)
    found = {name: Side(side.instructions, 0.0) for name, side in counts.items()}
    for line, time in critical_times(profile).items():
        name = _name(profile, line)
        found[name] = Side(found[name].instructions, found[name].time_ns + time)
    return found


def _name(profile: Profile, line: int) -> str:
    source = profile.lines[line]
    return source.text or str(source)


def _head(profile: Profile) -> dict[str, Any]:
    return {
        "kernel": profile.kernel,
        "target": profile.chip.name,
        "measured": profile.measured,
        "time_ns": profile.estimate.expected_ns,
        "body_ns": profile.body_ns,
        "instructions": len(profile.rows),
    }


def _page(made: Comparison) -> Iterator[str]:
    for name, profile in (("before", made.before), ("after", made.after)):
        kind = "measured" if profile.measured else "expected"
        yield (
            f"{name:<7} {profile.kernel} on {profile.chip.name}: {us(profile.estimate.expected_ns)} {kind}, body "
            f"{us(profile.body_ns)}, {len(profile.rows)} instructions"
        )
    now = made.after.body_ns / max(made.before.body_ns, 1e-9) - 1.0
    yield f"body    {100 * now:+.1f} %"
    for title, found in (
        ("Queues: busy", made.queues),
        ("Kinds of instruction: total time", made.ops),
        ("Lines: on the critical path", made.lines),
    ):
        if not found:
            continue
        yield ""
        yield f"{title + ', before and after':<52} {'count':>13} {'time':>23} {'change':>11}"
        for each in found[:12]:
            what = each.what if len(each.what) <= 48 else each.what[:47] + "…"
            counts = f"{each.before.instructions} > {each.after.instructions}"
            times = f"{us(each.before.time_ns)} > {us(each.after.time_ns)}"
            yield f"  {what:<50} {counts:>13} {times:>23} {'+' if each.change_ns > 0 else ''}{us(each.change_ns):>10}"
