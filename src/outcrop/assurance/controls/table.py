"""The data files as typed rows, and the check that every name in them stands for something.

A control is ``tested`` (claims with tests), ``documented`` (a page and heading that tell how), ``operator`` (the
deployment's owner must do it), ``not met`` or ``not applicable``, the last three with the reason. ``gap`` says what a
tested control asks beyond its tests. Not covered: whether a test tests what its claim says; review does.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from outcrop.base.errors import NotFound, check

Status = Literal["tested", "documented", "operator", "not met", "not applicable"]
STATUSES: tuple[Status, ...] = get_args(Status)

CATALOGUES = ("aisvs", "nist-800-53", "fedramp-ksi")
"""Names of the catalogue files, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence about Outcrop, with the code that makes it true and the tests that would fail if it were not."""

    name: str
    says: str
    code: tuple[str, ...]
    """Paths below ``src/outcrop``, or from the root of the repository."""
    tests: tuple[str, ...]
    """Pytest node ids from the root of the repository, without parameters."""


@dataclass(frozen=True, slots=True)
class Control:
    """One requirement of a catalogue, and what Outcrop has to say to it."""

    id: str
    title: str
    status: Status
    claims: tuple[str, ...] = ()
    """Names of claims, for ``tested``."""
    doc: str = ""
    """``docs/page.md#heading``, for ``documented``; may stand beside any other status."""
    why: str = ""
    """The reason, for every status but ``tested`` and ``documented``."""
    gap: str = ""
    """What the control asks that the tests or the page do not show."""
    level: int = 0
    """The catalogue's own level, 0 where it has none."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One catalogue of requirements, as far as it is mapped."""

    name: str
    title: str
    source: str
    scope: str
    """Which of its requirements are here."""
    controls: tuple[Control, ...]


@dataclass(frozen=True, slots=True)
class ControlMap:
    """All claims and catalogues."""

    claims: Mapping[str, Claim]
    catalogues: tuple[Catalogue, ...]

    @classmethod
    def load(cls) -> ControlMap:
        """The map that comes with this package; ``InvariantError`` for a row that is not understood."""
        folder = resources.files(__package__)
        texts = {name: (folder / f"{name}.toml").read_text("utf-8") for name in ("claims", *CATALOGUES)}
        return cls.parse(texts)

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> ControlMap:
        """The map from the texts of its files, by name; ``InvariantError`` for a row that is not understood."""
        tables = {name: tomllib.loads(text) for name, text in texts.items()}
        claims = {name: _claim(name, row) for name, row in tables.pop("claims").items()}
        return cls(claims, tuple(_catalogue(name, table) for name, table in tables.items()))

    def controls(self) -> Iterator[tuple[Catalogue, Control]]:
        """Every control with its catalogue, in the order of the files."""
        for catalogue in self.catalogues:
            for control in catalogue.controls:
                yield catalogue, control

    def choose(self, ids: Iterable[str] = (), names: Iterable[str] = ()) -> tuple[tuple[Catalogue, Control], ...]:
        """The controls with these ids, and those of these catalogues; all where nothing is named. ``NotFound``."""
        wanted, wanted_names = {one.upper() for one in ids}, set(names)
        known, known_names = {control.id for _, control in self.controls()}, {one.name for one in self.catalogues}
        for unknown in sorted(wanted - known):
            raise NotFound(f"There is no control {unknown!r} in the map.", "docs/reference/controls.md lists them.")
        for unknown in sorted(wanted_names - known_names):
            raise NotFound(f"There is no catalogue {unknown!r}.", f"Choose from {', '.join(sorted(known_names))}.")
        return tuple(
            (catalogue, control)
            for catalogue, control in self.controls()
            if control.id in wanted or catalogue.name in wanted_names or not (wanted or wanted_names)
        )

    def tests(self, control: Control) -> tuple[str, ...]:
        """Node ids of the tests behind ``control``, each once, in the order of its claims."""
        return tuple(dict.fromkeys(test for name in control.claims for test in self.claims[name].tests))

    def code(self, control: Control) -> tuple[str, ...]:
        """Paths of the code behind ``control``, each once."""
        return tuple(dict.fromkeys(path for name in control.claims for path in self.claims[name].code))

    def problems(self, checkout: Path) -> list[str]:
        """What the map names and the source checkout ``checkout`` lacks, and rows that contradict themselves."""
        found = [f"claim {claim.name}: {what}" for claim in self.claims.values() for what in _lacks(claim, checkout)]
        used = {name for _, control in self.controls() for name in control.claims}
        found += [f"claim {name}: no control refers to it" for name in self.claims.keys() - used]
        ids = [control.id for _, control in self.controls()]
        found += [f"{one}: stands twice" for one in sorted({one for one in ids if ids.count(one) > 1})]
        for _, control in self.controls():
            found += [f"{control.id}: {what}" for what in self._contradictions(control, checkout)]
        return found

    def _contradictions(self, control: Control, checkout: Path) -> Iterator[str]:
        for name in control.claims:
            if name not in self.claims:
                yield f"there is no claim {name!r}"
        if (control.status == "tested") != bool(control.claims):
            yield "a control is tested if and only if it names claims"
        if (control.status in ("operator", "not met", "not applicable")) != bool(control.why):
            yield f"a control that is {control.status} must, and only it may, say why"
        if control.status == "documented" and not control.doc:
            yield "a documented control names its page and heading"
        if control.doc and not has_heading(checkout, control.doc):
            yield f"there is no {control.doc}"


def has_heading(checkout: Path, reference: str) -> bool:
    """Whether ``page.md#heading`` exists; headings are named as GitHub names their anchors."""
    page, _, anchor = reference.partition("#")
    path = checkout / page
    if not path.is_file():
        return False
    headings = re.findall(r"^#+ +(.+?) *$", path.read_text("utf-8"), re.MULTILINE)
    return not anchor or anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def _lacks(claim: Claim, checkout: Path) -> Iterator[str]:
    for path in claim.code:
        if not (checkout / "src" / "outcrop" / path).exists() and not (checkout / path).exists():
            yield f"there is no {path}"
    for node in claim.tests:
        path, _, function = node.partition("::")
        if function not in functions(checkout / path):
            yield f"there is no test {node}"


def functions(path: Path) -> set[str]:
    """Names of the test functions at the top of a file; none where the file is missing."""
    if not path.is_file():
        return set()
    body = ast.parse(path.read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _claim(name: str, row: Mapping[str, Any]) -> Claim:
    check(row.keys() == {"says", "code", "tests"}, f"claim {name} has a sentence, code and tests")
    tests = tuple(f"{path}::{function}" for path, names in row["tests"].items() for function in names)
    check(bool(tests), f"claim {name} names a test")
    return Claim(name, row["says"], tuple(row["code"]), tests)


def _catalogue(name: str, table: Mapping[str, Any]) -> Catalogue:
    check(table.keys() == {"title", "source", "scope", "control"}, f"{name}.toml has its four keys")
    controls = tuple(_control(name, row) for row in table["control"])
    return Catalogue(name, table["title"], table["source"], table["scope"], controls)


def _control(catalogue: str, row: Mapping[str, Any]) -> Control:
    known = {"id", "title", "status", "claims", "doc", "why", "gap", "level"}
    check(row.keys() <= known, f"a row of {catalogue} has known keys only: {sorted(row)}")
    check(row.get("status") in STATUSES, f"{row.get('id')} has one of the statuses")
    return Control(**{**row, "claims": tuple(row.get("claims", ()))})
