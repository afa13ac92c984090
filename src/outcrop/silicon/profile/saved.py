"""Profiles on disk: a directory with ``profile.json``, which can be read again, and everything made from it.

Not covered: profiles of another version of Outcrop whose format has changed; they are refused, and made again quickly.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outcrop.base.errors import UserError
from outcrop.base.files import write_atomic
from outcrop.silicon.profile.base import (
    Advice,
    Bound,
    Chip,
    Edge,
    Estimate,
    Occupied,
    Profile,
    Row,
    SourceLine,
    Traffic,
    Window,
)

FORMAT = 1
FILE = "profile.json"
_ROW_FIELDS = Row._fields


def write_profile(profile: Profile, directory: Path) -> Path:
    """Write ``profile.json``; the directory must exist."""
    document = {
        "format": FORMAT,
        "kernel": profile.kernel,
        "chip": asdict(profile.chip),
        "cores": profile.cores,
        "measured": profile.measured,
        "estimate": asdict(profile.estimate),
        "dma_busy_ns": profile.dma_busy_ns,
        "row_fields": list(_ROW_FIELDS),
        "rows": profile.rows,
        "lines": profile.lines,
        "edges": profile.edges,
        "occupied": profile.occupied,
        "limited": profile.limited,
        "bounds": [asdict(each) for each in profile.bounds],
        "advice": [asdict(each) for each in profile.advice],
        "warnings": profile.warnings,
    }
    path = directory / FILE
    write_atomic(path, json.dumps(document, separators=(",", ":")).encode())
    return path


def read_profile(path: Path) -> Profile:
    """Read a profile from its directory or file; ``UserError`` where it is none of this version."""
    file = path / FILE if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        inside = sorted(str(each.parent) for each in path.glob(f"*/{FILE}"))
        if inside:
            raise UserError(f"{path} holds the profiles of {len(inside)} kernels.", f"Name one: {', '.join(inside)}.")
    try:
        document = json.loads(file.read_bytes())
        if document["format"] != FORMAT or tuple(document["row_fields"]) != _ROW_FIELDS:
            raise UserError(f"{file} was written by another version of Outcrop.", "Profile the kernel again.")
        return _profile(document)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a saved profile that can be read ({type(error).__name__}: {error}).",
            "outcrop kernel profile --out DIR writes one.",
        ) from error


def is_saved(path: Path) -> bool:
    """Whether a path looks like what ``write_profile`` wrote."""
    return (path / FILE).is_file() or (path.name == FILE and path.is_file())


def _profile(table: dict[str, Any]) -> Profile:
    read, written = _ROW_FIELDS.index("read"), _ROW_FIELDS.index("written")
    rows = []
    for each in table["rows"]:
        each[read], each[written] = Traffic(*each[read]), Traffic(*each[written])
        rows.append(Row(*each))
    return Profile(
        kernel=table["kernel"],
        chip=Chip(**table["chip"]),
        cores=table["cores"],
        rows=tuple(rows),
        lines=tuple(SourceLine(*each) for each in table["lines"]),
        estimate=Estimate(**table["estimate"]),
        edges=tuple(Edge(*each) for each in table["edges"]),
        occupied={int(core): tuple(Occupied(*each) for each in mine) for core, mine in table["occupied"].items()},
        limited={int(core): tuple(Window(*each) for each in mine) for core, mine in table["limited"].items()},
        bounds=tuple(Bound(**each) for each in table["bounds"]),
        advice=tuple(Advice(**{**each, "lines": tuple(each["lines"])}) for each in table["advice"]),
        warnings=tuple(table["warnings"]),
        measured=table["measured"],
        dma_busy_ns=table["dma_busy_ns"],
    )
