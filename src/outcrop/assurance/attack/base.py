"""What an attack is made of: families of cases, what came of each, and the scene that they are run on.

A case that could not be judged (its twin, which must work, did not) is ``UNPROVEN`` and fails a run like a success:
refusals by a service that refuses everything say nothing. Not covered: how results are kept or signed as evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from outcrop.assurance.attack.child import Child
from outcrop.assurance.attack.client import Client
from outcrop.assurance.attack.victims import Victims


class Outcome(StrEnum):
    """What came of one case."""

    REFUSED = "refused"
    SUCCEEDED = "succeeded"
    UNPROVEN = "unproven"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, slots=True)
class Found:
    """What a family says of one of its cases; ``evidence`` is one line without secrets."""

    case: str
    outcome: Outcome
    evidence: str


@dataclass(frozen=True, slots=True)
class Result:
    """One case's outcome, with its family and the ids of the controls that it is evidence for."""

    family: str
    case: str
    controls: tuple[str, ...]
    outcome: Outcome
    evidence: str

    @property
    def passed(self) -> bool:
        return self.outcome in (Outcome.REFUSED, Outcome.NOT_APPLICABLE)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is attacked. Each part that is ``None`` makes the families that need it not applicable."""

    client: Client
    region: str = "us-east-1"
    victims: Victims | None = None
    data: Path | None = None
    """The deployment's data directory, where the command runs on its machine. It is only read."""
    child: Callable[[], AbstractContextManager[Child]] | None = None
    """Starts a private deployment that may be broken."""
    limit: Callable[[str, int], object] | None = None
    """Sets the requests a minute of an account; 0 takes the limit away."""
    replay_cache: bool = False
    """Whether the deployment promises that a signature of a change counts once."""
    timing_trials: int = 60
    slow: bool = True
    """Also run what must wait for the service's own time-outs."""
    notes: Mapping[str, str] = field(default_factory=dict)


Runner = Callable[[Scene], Iterable[Found]]


@dataclass(frozen=True, slots=True)
class Family:
    """Cases of one kind. ``succeeds`` says what would count as a success of the attacker."""

    name: str
    title: str
    succeeds: str
    controls: tuple[str, ...]
    run: Runner


def refused(case: str, evidence: str) -> Found:
    return Found(case, Outcome.REFUSED, evidence)


def succeeded(case: str, evidence: str) -> Found:
    return Found(case, Outcome.SUCCEEDED, evidence)


def unproven(case: str, evidence: str) -> Found:
    return Found(case, Outcome.UNPROVEN, evidence)


def not_applicable(case: str, reason: str) -> Found:
    return Found(case, Outcome.NOT_APPLICABLE, reason)


def judge(case: str, hit: bool, evidence: str) -> Found:
    """A success of the attacker where ``hit``."""
    return succeeded(case, evidence) if hit else refused(case, evidence)


def results(family: Family, scene: Scene) -> Iterator[Result]:
    """Run a family on a service that answers, and see that it still does; an error on the way judges nothing."""

    def result(found: Found) -> Result:
        return Result(family.name, found.case, family.controls, found.outcome, found.evidence)

    if not scene.client.alive():
        yield result(unproven("the service before", f"nothing answers at {scene.client.url}"))
        return
    try:
        yield from map(result, family.run(scene))
    except (OSError, ValueError, LookupError) as error:
        yield result(unproven("the family as a whole", f"it ended early: {type(error).__name__}: {error}"))
    yield result(judge("the service afterwards", not scene.client.alive(), "it answers"))
