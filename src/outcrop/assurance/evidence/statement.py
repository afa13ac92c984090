"""What an evidence file states: for each control its status, its tests and what came of them.

A control *holds* when it is tested and every test behind it passed; one skipped test makes it *incomplete*. A control
that is not tested says so, with the map's reason. Not covered: assessing. A control that holds here is a control whose
tests passed, with the gap that the map names beside it.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from outcrop.assurance.controls import Catalogue, Control, ControlMap
from outcrop.assurance.evidence.run import Execution

FORMAT = "outcrop-evidence/1"


@dataclass(frozen=True, slots=True)
class ControlResult:
    """One control with what came of its tests."""

    catalogue: str
    id: str
    title: str
    status: str
    outcome: str
    """``holds``, ``fails`` or ``incomplete`` for a tested control; empty for every other."""
    claims: tuple[str, ...]
    tests: tuple[str, ...]
    doc: str
    why: str
    gap: str


@dataclass(frozen=True, slots=True)
class Statement:
    """Everything that is signed."""

    at: str
    """When the run ended, UTC, ISO 8601."""
    checkout: Mapping[str, Any]
    machine: Mapping[str, Any]
    packages: Mapping[str, str]
    tests: Sequence[Execution]
    controls: Sequence[ControlResult]
    version: str = field(default_factory=lambda: importlib.metadata.version("outcrop"))
    format: str = field(default=FORMAT)

    def document(self) -> dict[str, Any]:
        """The statement as JSON data."""
        return asdict(self)

    @property
    def sound(self) -> bool:
        """Whether no tested control fails or is incomplete."""
        return all(result.outcome in ("holds", "") for result in self.controls)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many controls of each catalogue hold, fail, are incomplete, or have another status."""
        names = dict.fromkeys(result.catalogue for result in self.controls)
        return {
            name: dict(Counter(one.outcome or one.status for one in self.controls if one.catalogue == name))
            for name in names
        }


def results(
    control_map: ControlMap, chosen: Iterable[tuple[Catalogue, Control]], runs: Iterable[Execution]
) -> list[ControlResult]:
    """What ``runs`` say about each of the ``chosen`` controls."""
    outcomes = {run.test: run.outcome for run in runs}
    return [
        ControlResult(
            catalogue.name,
            control.id,
            control.title,
            control.status,
            _outcome([outcomes.get(test, "not run") for test in control_map.tests(control)]),
            control.claims,
            control_map.tests(control),
            control.doc,
            control.why,
            control.gap,
        )
        for catalogue, control in chosen
    ]


def _outcome(outcomes: Sequence[str]) -> str:
    if not outcomes:
        return ""
    if "failed" in outcomes:
        return "fails"
    return "holds" if set(outcomes) == {"passed"} else "incomplete"
