"""From a run to a profile with bounds and advice; from a profile to files; and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from outcrop.base.errors import UserError
from outcrop.base.files import write_atomic
from outcrop.silicon import chip as chips
from outcrop.silicon.chip import Chip
from outcrop.silicon.profile.advice import advice_of
from outcrop.silicon.profile.base import Profile
from outcrop.silicon.profile.bounds import bounds_of
from outcrop.silicon.profile.clock import clock_of
from outcrop.silicon.profile.device import profile_of_device
from outcrop.silicon.profile.measure import measure
from outcrop.silicon.profile.page import page_of
from outcrop.silicon.profile.report import document, report
from outcrop.silicon.profile.saved import is_saved, read_profile, write_profile
from outcrop.silicon.profile.summary import summarise
from outcrop.silicon.profile.tables import tables_of, write_csv, write_parquet
from outcrop.silicon.profile.trace_json import check_trace, trace_of
from outcrop.silicon.timing.laws import load_file
from outcrop.silicon.timing.profile_json import read_profile as read_device_profile

if TYPE_CHECKING:
    from outcrop.silicon.nki.run import Run

PAGE = "profile.html"
TRACE = "trace.json"
SUMMARY = "summary.json"
TEXT = "summary.txt"


def profile_run(run: Run, *, advice: bool = True, laws: Path | None = None) -> Profile:
    """Profile an executed kernel. ``advice`` replays it some twenty times more, for what binds and what to change.

    ``laws`` is a file of fitted laws to use instead of the chip's own; see ``timing.calibrate``.
    """
    if not any(run.traces):
        raise UserError(f"{run.name} executed no instruction.", "There is nothing to profile.")
    clock = clock_of(run, load_file(laws) if laws is not None else None)
    made = measure(run, clock)
    if not advice:
        return made
    return replace(made, bounds=bounds_of(run.traces, clock, made), advice=advice_of(run.traces, clock, made))


def save(profile: Profile, directory: Path, *, parquet: bool = False) -> dict[str, Path]:
    """Write the profile, its summary, trace, page and tables to ``directory``; the paths by kind."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "tables").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory} cannot be made ({error.strerror}).", "Choose another with --out DIR.") from error
    summary = summarise(profile)
    trace = trace_of(profile)
    check_trace(trace)
    tables = tables_of(profile, summary)
    if parquet:
        write_parquet(tables, directory / "tables")
    write_csv(tables, directory / "tables")
    texts = {
        PAGE: page_of(profile, summary),
        TRACE: json.dumps(trace, separators=(",", ":")),
        SUMMARY: json.dumps(document(profile, summary), indent=1),
        TEXT: report(profile, summary) + "\n",
    }
    for name, text in texts.items():
        write_atomic(directory / name, text.encode())
    write_profile(profile, directory)
    return {
        "page": directory / PAGE,
        "trace": directory / TRACE,
        "summary": directory / SUMMARY,
        "tables": directory / "tables",
    }


def read(path: Path, target: Chip | str | None = None) -> Profile:
    """A saved profile, or a real one: the JSON of ``neuron-profile view``, of the chip ``target`` (default: trn2)."""
    if not path.exists():
        raise UserError(f"There is no profile at {path}.", "Give a directory of outcrop kernel profile --out, or JSON.")
    if is_saved(path) or path.is_dir():
        return read_profile(path)
    chip = target if isinstance(target, Chip) else chips.load(target or chips.DEFAULT_TARGET)
    return profile_of_device(read_device_profile(path), chip)
