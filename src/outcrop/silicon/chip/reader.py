"""Turn the tables of a chip file into typed parts, refusing whatever the schema does not know.

Every refusal names the file, the key, what was seen there and what would make it right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from outcrop.base.errors import UserError
from outcrop.silicon.chip.quantity import UNITS, Confidence, Dimension, Figure, units_of
from outcrop.silicon.chip.spec import Kind, Spec, spec_of

FIGURE_KEYS = ("value", "unit", "source", "confidence", "note")
LARGEST_VALUE = 1e30  # in any unit: whatever is larger is a slip of the pen
NEEDS_NOTE = (Confidence.DERIVED, Confidence.ESTIMATED)

Part = TypeVar("Part")


def joined(where: str, key: str) -> str:
    """``key`` below ``where``, as TOML writes it: names with dots or spaces are quoted."""
    bare = key.replace("_", "").replace("-", "")
    shown = key if bare.isascii() and bare.isalnum() else f'"{key}"'
    return f"{where}.{shown}" if where else shown


@dataclasses.dataclass(frozen=True, slots=True)
class Reader:
    """Reads the merged tables of one chip; ``files`` says which file each figure was written in."""

    file: Path
    sources: Mapping[str, str]
    files: Mapping[str, Path]

    def refuse(self, where: str, seen: str, remedy: str) -> NoReturn:
        """Raise the ``UserError`` for what was seen at ``where``."""
        raise UserError(f"{self.files.get(where, self.file)}: {where}: {seen}.", remedy)

    def part(self, cls: type[Part], table: Any, where: str, **given: Any) -> Part:
        """``cls`` filled from ``table``; fields that a file cannot fill come from ``given``."""
        self._check_table(table, where or "the file")
        specs = {field.name: spec for field in dataclasses.fields(cls) if (spec := spec_of(field.metadata))}  # type: ignore[arg-type]
        for key in table:
            if key not in specs:
                self.refuse(joined(where, key), "this key is not known", f"Known here: {', '.join(specs)}.")
        values: dict[str, Any] = {}
        for name, spec in specs.items():
            if name in table:
                values[name] = self._field(spec, table[name], joined(where, name))
            elif spec.required:
                self.refuse(joined(where, name), "this is missing and every chip needs it", f"Add {spec.kind.value}.")
        return cls(**values, **given)

    def _field(self, spec: Spec, seen: Any, where: str) -> Any:
        if spec.kind is Kind.TEXT:
            return self._text(seen, where)
        if spec.kind is Kind.FIGURE:
            return self._figure(spec, seen, where)
        self._check_table(seen, where)
        if spec.kind is Kind.FIGURES:
            return MappingProxyType({key: self._figure(spec, value, joined(where, key)) for key, value in seen.items()})
        assert spec.part is not None
        if spec.kind is Kind.PARTS:
            cls = spec.part
            return MappingProxyType({key: self.part(cls, value, joined(where, key)) for key, value in seen.items()})
        return self.part(spec.part, seen, where)

    def _check_table(self, seen: Any, where: str) -> None:
        if not isinstance(seen, dict):
            self.refuse(where, f"here is {seen!r} where a table belongs", f"Write [{where}] with its keys below.")

    def _text(self, seen: Any, where: str) -> str:
        if not isinstance(seen, str) or not seen.strip():
            self.refuse(where, f"here is {seen!r} where a text belongs", "Put the text in quotes.")
        return seen

    def _figure(self, spec: Spec, seen: Any, where: str) -> Figure:
        assert spec.dimension is not None
        units = units_of(spec.dimension)
        form = f'Write {{ value = ..., unit = "{units[-1]}", source = "...", confidence = "..." }}.'
        if not isinstance(seen, dict):
            self.refuse(where, f"here is {seen!r} where a figure belongs", form)
        for key in seen:
            if key not in FIGURE_KEYS:
                self.refuse(joined(where, key), "this key is not known", f"A figure has {', '.join(FIGURE_KEYS)}.")
        for key in FIGURE_KEYS[:4]:
            if key not in seen:
                self.refuse(where, f"the figure has no {key}", form)
        unit = self._unit(spec.dimension, seen["unit"], where)
        value = self._value(seen["value"], unit, spec.whole, where)
        confidence = self._confidence(seen["confidence"], where)
        note = self._text(seen["note"], joined(where, "note")) if "note" in seen else ""
        if confidence in NEEDS_NOTE and not note:
            self.refuse(where, f"a figure that is {confidence.value} says how in a note, and this has none", "Add one.")
        return Figure(value, unit, self._source(seen["source"], where), confidence, note)

    def _value(self, seen: Any, unit: str, whole: bool, where: str) -> int | float:
        if isinstance(seen, bool) or not isinstance(seen, int | float):
            self.refuse(where, f"the value is {seen!r}, not a number", "Write it as 28 or 2.4, without quotes.")
        if not 0 < seen < LARGEST_VALUE:  # NaN is neither
            remedy = f"Give a number above zero and below {LARGEST_VALUE:g}, or leave out what the chip has not."
            self.refuse(where, f"the value is {seen} {unit}", remedy)
        if whole and not isinstance(seen, int):
            self.refuse(where, f"the value is {seen}, and a {unit} is whole", "Write a whole number.")
        return seen

    def _unit(self, dimension: Dimension, seen: Any, where: str) -> str:
        one_of = f"Use one of: {', '.join(units_of(dimension))}."
        if not isinstance(seen, str) or seen not in UNITS:
            self.refuse(where, f"the unit {seen!r} is not known", one_of)
        if UNITS[seen][0] is not dimension:
            measured = UNITS[seen][0].value
            self.refuse(where, f"the unit {seen!r} measures {measured}, and this is a {dimension.value}", one_of)
        return seen

    def _confidence(self, seen: Any, where: str) -> Confidence:
        try:
            return Confidence(seen)
        except ValueError:
            known = ", ".join(confidence.value for confidence in Confidence)
            self.refuse(where, f"the confidence {seen!r} is not known", f"Use one of: {known}.")

    def _source(self, seen: Any, where: str) -> str:
        if not isinstance(seen, str) or seen not in self.sources:
            known = ", ".join(self.sources) or "none yet"
            self.refuse(where, f"the source {seen!r} is not in [sources]", f"Add it there, or use one of: {known}.")
        return self.sources[seen]
