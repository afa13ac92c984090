"""Search a kernel's declared choices by predicted time: what to set before the first hour on a chip.

``tune`` tries variants of a ``Task`` and returns them ranked, against the variant that a person picked. It tries up to
``trials`` of them: all where there are no more, else those of a local search with random restarts; see ``search``. The
same task, seed and number of trials give the same result with any number of processes, unless the limit of time cuts
them short. With ``results``, each trial is a line of a file from the moment it is made, and a search that
was stopped goes on from it.

The best variant is run with values at the case's small sizes and held against its reference, where it has one.

Not covered: hardware. A time is a prediction, and a gain below the error that such predictions had is not a sure one.
"""

from __future__ import annotations

import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from outcrop import silicon
from outcrop.base.errors import UserError
from outcrop.base.files import write_atomic
from outcrop.silicon.kernels.base import Values
from outcrop.silicon.kernels.search import Costs, Variant, changes, picked, search, size_of
from outcrop.silicon.kernels.trial import Opened, Task, Trial, opened
from outcrop.silicon.kernels.workers import Here, Processes, Workers
from outcrop.silicon.timing.predict import validations

TRIALS = 64

Progress = Callable[[int, int, float], None]  # trials made, trials to make at most, the least time in microseconds


@dataclass(frozen=True)
class Tuned:
    """What a search found: trials that ran, the fastest first, and those that did not."""

    kernel: str
    target: str
    sizes: Mapping[str, int]
    dtype: str
    seed: int
    variants: int  # that there are
    floor_us: float  # of the roofline; 0 where the kernel's work is not known
    ranked: tuple[Trial, ...]
    refused: tuple[Trial, ...]
    default: Trial  # what a person picked; it may not have run
    is_cut: bool  # by the limit of time
    checked: str  # what was done to see that the best variant computes the same

    @property
    def best(self) -> Trial:
        return self.ranked[0]

    def share(self, trial: Trial) -> float | None:
        """Of the least time that the roofline allows, in what was predicted; ``None`` where it is not known."""
        return self.floor_us / trial.expected_us if self.floor_us and trial.expected_us else None

    def gain(self, trial: Trial) -> float | None:
        """How much faster than the default: 0.1 is a tenth more work in the same time."""
        if self.default.expected_us is None or trial.expected_us is None:
            return None
        return self.default.expected_us / trial.expected_us - 1.0

    def winner(self) -> dict[str, Any]:
        """What a file keeps of the search, and ``KernelCase.tuned`` reads."""
        best = self.best
        return {
            "kernel": self.kernel,
            "target": self.target,
            "sizes": dict(self.sizes),
            "dtype": self.dtype,
            "tuning": dict(best.tuning),
            "expected_us": best.expected_us,
            "low_us": best.low_us,
            "high_us": best.high_us,
            "kind": best.kind,
            "floor_us": self.floor_us or None,
            "default": dict(self.default.tuning),
            "default_us": self.default.expected_us,
            "checked": self.checked,
        }

    def write(self, path: Path) -> None:
        """Write the winner as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(self.winner(), indent=2) + "\n").encode())

    def document(self) -> dict[str, Any]:
        """Everything, for scripts."""
        ranked = [{**asdict(each), "share": self.share(each), "gain": self.gain(each)} for each in self.ranked]
        return {
            **self.winner(),
            "seed": self.seed,
            "variants": self.variants,
            "is_cut": self.is_cut,
            "ranked": ranked,
            "refused": [asdict(each) for each in self.refused],
        }


def tune(
    task: Task,
    *,
    seed: int = 0,
    trials: int = TRIALS,
    jobs: int = 1,
    limit_s: float | None = None,
    results: Path | None = None,
    progress: Progress = lambda made, most, best_us: None,
) -> Tuned:
    """Try at most ``trials`` variants of a kernel, in ``jobs`` processes (1: in this one), for ``limit_s`` or less."""
    deadline = time.monotonic() + limit_s if limit_s is not None else math.inf
    with ExitStack() as stack:
        here = stack.enter_context(opened(task))
        kept = stack.enter_context(_Kept(results, _heading(task, here))) if results else _Kept(None, {})
        workers: Workers = Here(here)
        if jobs > 1:
            workers = stack.enter_context(Processes(task, list(here.choices), jobs))
        is_cut = _search(here, kept, workers, seed, trials, deadline, progress)
        return _tuned(here, list(kept.trials.values()), seed, is_cut)


def _search(
    here: Opened, kept: _Kept, workers: Workers, seed: int, most: int, deadline: float, progress: Progress
) -> bool:
    """Make the trials that the search asks for; true if time was up before the last."""
    asked: dict[Variant, float] = {}
    total = min(most, size_of(here.choices))
    steps = search(here.choices, most, seed)
    variants = next(steps)
    while True:
        missing = [each for each in variants if each not in kept.trials]
        asked.update({each: _cost(kept.trials[each]) for each in variants if each in kept.trials})
        progress(len(asked), total, min(asked.values(), default=math.inf))
        for trial in workers.trials(missing, deadline):
            kept.add(trial)
            asked[trial.variant] = _cost(trial)
            progress(len(asked), total, min(asked.values()))
        if any(each not in asked for each in variants):
            return True
        costs: Costs = {each: asked[each] for each in variants}
        try:
            variants = steps.send(costs)
        except StopIteration:
            return False


def _cost(trial: Trial) -> float:
    return math.inf if trial.expected_us is None else trial.expected_us


def _tuned(here: Opened, trials: Sequence[Trial], seed: int, is_cut: bool) -> Tuned:
    first = picked(here.choices)
    # Of equal times, that with the fewest changes, then the one that comes first among the declared values.
    order = {name: {value: at for at, value in enumerate(values)} for name, values in here.choices.items()}
    ranked = sorted(
        (each for each in trials if each.expected_us is not None),
        key=lambda each: (
            _cost(each),
            changes(each.variant, first),
            [order[name][value] for name, value in each.tuning.items()],
        ),
    )
    refused = sorted((each for each in trials if each.expected_us is None), key=lambda each: str(each.variant))
    if not ranked:
        told = f" The first: {refused[0].why}" if refused else ""
        raise UserError(
            f"None of {len(trials)} variants of {here.case.name} ran.{told}", "" if told else "Wait longer."
        )
    default = next((each for each in trials if each.variant == first), None)
    return Tuned(
        kernel=here.case.name,
        target=here.target.name,
        sizes=dict(here.sizes),
        dtype=here.dtype,
        seed=seed,
        variants=size_of(here.choices),
        floor_us=here.floor_us,
        ranked=tuple(ranked),
        refused=tuple(refused),
        default=default or Trial(dict(zip(here.choices, first, strict=True)), refused="not tried"),
        is_cut=is_cut,
        checked=_check(here, ranked[0]),
    )


def _check(here: Opened, best: Trial) -> str:
    """Run the best variant with values; an error of the values is raised: such a variant must not win in silence."""
    case = here.case
    if not case.small:
        return "values not checked: the kernel has no reference"
    args = case.inputs(case.small, here.dtype, Values(0))
    expected = case.reference(*args, **case.options)
    try:
        case.check(case.run(args, here.target, case.tuning(**best.tuning)).result, expected, here.dtype)
    except AssertionError as error:
        raise UserError(
            f"{case.name} with {dict(best.tuning)} is the fastest, but computes other values: {error}",
            "Its choices should change its time only: mend the kernel, or take that value from its choices.",
        ) from None
    return "values agree with the reference at " + ", ".join(f"{name}={size}" for name, size in case.small.items())


# -- kept results -----------------------------------------------------------------------------------------------------


class _Kept:
    """Trials by variant, each also a line of a file if there is one, which need not be made again."""

    def __init__(self, path: Path | None, heading: Mapping[str, Any]) -> None:
        self.trials: dict[Variant, Trial] = {}
        self.path = path
        self.heading = heading
        self._file: TextIO | None = None

    def __enter__(self) -> _Kept:
        assert self.path is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        if self.path.exists():
            text = self.path.read_bytes()
            whole = text.rfind(b"\n") + 1  # what follows was cut off in the midst of a line
            for trial in _read(self.path, text[:whole].decode(), self.heading):
                self.trials[trial.variant] = trial
            os.truncate(self.path, whole)
        self._file = self.path.open("a", encoding="utf-8")
        if not whole:
            self._line(self.heading)
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, trial: Trial) -> None:
        self.trials[trial.variant] = trial
        self._line({name: value for name, value in asdict(trial).items() if value not in (None, "")})

    def _line(self, values: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()


def _read(path: Path, text: str, heading: Mapping[str, Any]) -> Iterator[Trial]:
    """The trials of a file, if it is of this search."""
    try:
        first, *lines = [json.loads(line) for line in text.splitlines()] or [heading]
        trials = [Trial(**each) for each in lines]
    except (ValueError, TypeError):
        raise UserError(f"{path} is not a file of results.", "Name another, or remove it.") from None
    if first != heading:
        differs = [name for name in heading if not isinstance(first, dict) or first.get(name) != heading[name]]
        raise UserError(
            f"{path} has the results of another search: {', '.join(differs)} differ.", "Name another, or remove it."
        )
    yield from trials


def _heading(task: Task, here: Opened) -> dict[str, Any]:
    """What the results of a search depend on, but for its seed: with other seeds, trials are the same."""
    made = {
        "kernel": here.case.name,
        "target": here.target.name,
        "sizes": dict(here.sizes),
        "dtype": here.dtype,
        "arguments": dict(task.arguments),
        "choices": {name: list(values) for name, values in here.choices.items()},
        "code": _code(here),
    }
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def _code(here: Opened) -> str:
    """A checksum of the kernel's file and of the simulator: a time from another version is not comparable."""
    total = 0
    room = Path(silicon.__file__).parent
    own = Path(here.case.kernel.func.__code__.co_filename)
    for path in (own, *sorted(each for kind in ("*.py", "*.toml") for each in room.rglob(kind))):
        total = zlib.crc32(path.read_bytes() if path.is_file() else b"", total)
    return f"{total:08x}"


# -- for people -------------------------------------------------------------------------------------------------------


def report(made: Tuned, rows: int = 10) -> Iterator[str]:
    """The ranking in lines of text."""
    sizes = ", ".join(f"{name}={size}" for name, size in made.sizes.items())
    tried = len(made.ranked) + len(made.refused)
    yield f"{made.kernel} on {made.target}" + (f", {sizes}, {made.dtype}" if sizes else "")
    cut = "; time was up" if made.is_cut else ""
    yield f"  {tried} of {made.variants} variants tried, {len(made.refused)} do not run{cut}"
    yield f"  {'':>4} {'predicted us':>13} {'of floor':>9} {'gain':>7}  {'bound':8} choices"
    shown = list(enumerate(made.ranked[:rows], 1))
    shown += [(at, each) for at, each in enumerate(made.ranked, 1) if each == made.default and at > rows]
    for at, each in shown:
        share, gain = made.share(each), made.gain(each)
        picked_by_hand = "  (picked by hand)" if each == made.default else ""
        yield (
            f"  {at:>4} {each.expected_us:>13,.1f} {'' if share is None else format(share, '.1%'):>9} "
            f"{'' if gain is None else format(gain, '+.1%'):>7}  {each.kind:8} {_choices(each)}{picked_by_hand}"
        )
    if made.default.expected_us is None:
        yield f"  The variant picked by hand did not run: {made.default.refused}. {made.default.why}"
    counts: dict[str, int] = {}
    for each in made.refused:
        counts[each.refused] = counts.get(each.refused, 0) + 1
    if counts:
        yield "  Refused: " + ", ".join(f"{count} by {rule}" for rule, count in counts.items())
    yield f"  Best: {made.checked}."
    known = validations().get((made.target, made.best.kind))
    told = f"were {known.error:.0%} off on average" if known else "have not been compared with hardware"
    yield f"  Predicted, not measured: predictions of {made.best.kind}-bound kernels on {made.target} {told}."


def _choices(trial: Trial) -> str:
    return " ".join(f"{name}={value}" for name, value in trial.tuning.items())
