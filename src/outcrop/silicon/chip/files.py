"""Chip files: find them, follow ``extends``, and lay one file's tables over those it extends.

A figure is replaced whole, source and all, so that no value ever stands beside another value's source. Names,
machines and documented totals are not inherited: they are true of the chip they were written for only.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outcrop.base.errors import NotFound, UserError
from outcrop.silicon.chip.parts import Chip
from outcrop.silicon.chip.reader import Reader, joined

DATA = Path(__file__).parent / "data"
HEADER = ("name", "title", "extends", "aliases", "sources")
NOT_INHERITED = ("instances", "ultraservers", "totals")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LARGEST_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Laid:
    """The tables of a file laid over those it extends; ``files`` says where each key was written last."""

    header: dict[str, Any]
    tables: dict[str, Any]
    sources: dict[str, str]
    files: dict[str, Path] = field(default_factory=dict)


def bundled() -> dict[str, Path]:
    """The chips that come with Outcrop: name and file, in order of name."""
    return {path.stem: path for path in sorted(DATA.glob("*.toml"))}


def bundled_file(name: str) -> Path:
    """The file of a chip that comes with Outcrop; ``NotFound`` names those there are."""
    if name not in (files := bundled()):
        raise NotFound(f"No chip is called {name!r}.", f"Known: {', '.join(files)}; or give the path of a chip file.")
    return files[name]


def read_chip(path: Path) -> Chip:
    """The chip that the file at ``path`` describes, checked whole."""
    laid = _lay(path, ())
    tables = {**laid.tables, "name": laid.header["name"], "title": laid.header.get("title", "")}
    reader = Reader(path, laid.sources, laid.files)
    return reader.part(Chip, tables, "", path=path, extends=laid.header.get("extends", ""))


def read_header(path: Path) -> dict[str, Any]:
    """The keys of ``path`` that are no part of a chip: its name, its aliases, what it extends."""
    return _header(path, _parse(path))


def _lay(path: Path, above: tuple[Path, ...]) -> Laid:
    if path.resolve() in above:
        chain = " -> ".join(step.name for step in (*above, path.resolve()))
        raise UserError(f"{path}: extends: the files extend each other in a circle: {chain}.", "Break it somewhere.")
    document = _parse(path)
    header = _header(path, document)
    tables = {key: value for key, value in document.items() if key not in HEADER}
    own = dict.fromkeys(_keys(tables, ""), path)
    sources = header.get("sources", {})
    if "extends" not in header:
        return Laid(header, tables, sources, own)
    base = _lay(_extended(path, header["extends"]), (*above, path.resolve()))
    for key in sources.keys() & base.sources.keys():
        if sources[key] != base.sources[key]:
            raise UserError(
                f"{path}: sources.{key}: here is another text than in the chip that this file extends.",
                "Choose another key: inherited figures keep their source.",
            )
    inherited = _inheritable(base.tables)
    return Laid(header, _merged(inherited, tables), {**base.sources, **sources}, {**base.files, **own})


def _extended(path: Path, extends: str) -> Path:
    if extends in bundled():
        return bundled_file(extends)
    if (beside := path.parent / extends).is_file():
        return beside
    known = ", ".join(bundled())
    raise NotFound(
        f"{path}: extends: {extends!r} is neither a known chip nor a file beside this one.", f"Known: {known}."
    )


def _inheritable(tables: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in tables.items() if key not in NOT_INHERITED}
    return {key: _inheritable(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)) or "value" in base or "value" in over:
        return over
    return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}


def _keys(tables: dict[str, Any], where: str) -> list[str]:
    found = []
    for key, value in tables.items():
        found.append(joined(where, key))
        if isinstance(value, dict):
            found += _keys(value, joined(where, key))
    return found


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise UserError(f"{path} is larger than {_LARGEST_FILE_BYTES} bytes.", "A chip file is a few kilobytes.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{path} cannot be read: {error}.", "Give the path of a chip file, or a chip's name.") from error
    except (ValueError, RecursionError) as error:  # also numbers and nestings that the parser itself gives up on
        raise UserError(f"{path} is not TOML: {error}.", "Mend the file at that place.") from error


def _header(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    header = {key: document[key] for key in HEADER if key in document}
    name = header.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{path}: name: here is {name!r} where a chip's name belongs.",
            'Write name = "..." with lower-case letters, digits, dots and dashes.',
        )
    if (taken := bundled().get(name)) and taken.resolve() != path.resolve():
        raise UserError(f"{path}: name: {name!r} is the name of a chip that comes with Outcrop.", "Choose another.")
    if not isinstance(header.get("extends", ""), str):
        raise UserError(f"{path}: extends: here is {header['extends']!r}, not a name.", 'Write extends = "trn2".')
    sources = header.get("sources", {})
    if not isinstance(sources, dict) or not all(isinstance(text, str) and text for text in sources.values()):
        raise UserError(
            f"{path}: sources: here is {sources!r}, not a table of texts.",
            'Write key = "where a reader finds it" below [sources].',
        )
    aliases = header.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise UserError(f"{path}: aliases: here is {aliases!r}, not a list of names.", 'Write aliases = ["..."].')
    return header
