"""What came of a run, as a table: passed, failed by cause, skipped by reason; for people, for scripts, for the docs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from outcrop.silicon.conformance.causes import cause

OUTCOMES = ("passed", "failed", "too slow", "too large", "skipped", "not collected")


@dataclass(frozen=True)
class Case:
    """One case of a suite and how it ended."""

    case: str
    outcome: str
    reason: str = ""
    where: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def file(self) -> str:
        return self.case.split("::")[0]


@dataclass(frozen=True)
class Result:
    """All cases of one suite that were run."""

    suite: str
    title: str
    revision: str  # of the checkout
    target: str
    cases: tuple[Case, ...]
    collected: int
    deselected: int
    relaxed: tuple[str, ...] = ()  # rules that only warned

    @property
    def settings(self) -> str:
        """How the cases were run, in words."""
        rules = f", with {', '.join(self.relaxed)} relaxed" if self.relaxed else ""
        return f"target {self.target}{rules}"

    def count(self, outcome: str) -> int:
        return sum(each.outcome == outcome for each in self.cases)

    @property
    def share_passed(self) -> float:
        """Of the cases that fit the limits and that the suite itself does not skip."""
        judged = self.count("passed") + self.count("failed")
        return self.count("passed") / judged if judged else 0.0


def by_file(result: Result) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for each in result.cases:
        counts[each.file][each.outcome] += 1
    return dict(sorted(counts.items()))


def reasons(result: Result, outcomes: Iterable[str]) -> list[tuple[str, int, str]]:
    """``(cause, count, an example)``, most frequent first."""
    wanted = set(outcomes)
    groups: dict[str, list[Case]] = defaultdict(list)
    for each in result.cases:
        if each.outcome in wanted:
            groups[cause(each.reason)].append(each)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [(name, len(cases), f"{cases[0].case}: {cases[0].reason}") for name, cases in ordered]


def text(results: Sequence[Result], most: int = 20) -> str:
    return "\n".join(line for result in results for line in _text(result, most))


def _text(result: Result, most: int) -> Iterator[str]:
    yield f"{result.suite}: {result.title} ({result.revision}, {result.settings})"
    yield f"  {result.collected} collected, {result.deselected} deselected by the suite"
    width = max([len(name) for name in by_file(result)] + [4])
    yield f"  {'file':<{width}} " + " ".join(f"{outcome:>13}" for outcome in OUTCOMES)
    for name, counts in by_file(result).items():
        yield f"  {name:<{width}} " + " ".join(f"{counts[outcome] or '':>13}" for outcome in OUTCOMES)
    yield f"  {'all':<{width}} " + " ".join(f"{result.count(outcome):>13}" for outcome in OUTCOMES)
    yield f"  {result.share_passed:.1%} of the cases that ran within the limits passed"
    for heading, wanted in (("failed", OUTCOMES[1:2]), ("skipped or not collected", OUTCOMES[4:])):
        listed = reasons(result, wanted)
        if listed:
            yield f"  {heading}, by cause:"
        for name, count, _ in listed[:most]:
            yield f"  {count:>6}  {name}"
        if len(listed) > most:
            yield f"  {sum(count for _, count, _ in listed[most:]):>6}  in {len(listed) - most} other groups"
    yield ""


def markdown(results: Sequence[Result], most: int = 12) -> str:
    return "\n".join(line for result in results for line in _markdown(result, most))


def _markdown(result: Result, most: int) -> Iterator[str]:
    yield f"## {result.suite}\n"
    yield f"{result.title}. Checkout `{result.revision}`, {result.settings}. {result.collected} cases collected,"
    yield f"{result.deselected} deselected by the suite; {result.share_passed:.1%} of those that ran within the limits"
    yield "passed.\n"
    yield "| File | " + " | ".join(outcome.capitalize() for outcome in OUTCOMES) + " |"
    yield "| --- |" + " ---: |" * len(OUTCOMES)
    for name, counts in by_file(result).items():
        yield f"| `{name}` | " + " | ".join(str(counts[outcome] or "") for outcome in OUTCOMES) + " |"
    yield "| all | " + " | ".join(str(result.count(outcome)) for outcome in OUTCOMES) + " |"
    for heading, wanted in (("Failed", OUTCOMES[1:2]), ("Skipped or not collected", OUTCOMES[4:])):
        listed = reasons(result, wanted)
        if not listed:
            continue
        yield f"\n{heading}, by cause:\n\n| Cases | Cause |\n| ---: | --- |"
        yield from (f"| {count} | {name.replace('|', chr(92) + '|')} |" for name, count, _ in listed[:most])
        if len(listed) > most:
            yield f"| {sum(count for _, count, _ in listed[most:])} | {len(listed) - most} other causes |"
    yield ""


def document(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For scripts: everything."""
    return [
        {
            "suite": result.suite,
            "revision": result.revision,
            "target": result.target,
            "relaxed": list(result.relaxed),
            "collected": result.collected,
            "deselected": result.deselected,
            "counts": {outcome: result.count(outcome) for outcome in OUTCOMES},
            "share_passed": result.share_passed,
            "cases": [vars(each) for each in result.cases],
        }
        for result in results
    ]
