"""Shapes of one service model as Python source: msgspec structures for ``tools/generate_wire.py`` and its tests.

Scalars with constraints become named aliases, structures become classes, lists and maps are written in place.
What msgspec cannot check by itself (timestamps that are not ISO 8601, patterns with Unicode properties) is left as a
note in ``Meta.extra``, which ``service/wire/trees.py`` reads; so is the trait ``sensitive``, for
``service/wire/redact.py``. Not covered: flattened lists, XML attributes, event headers, sensitive operation inputs as
a whole; a model that uses them stops the generator.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from wire_patterns import translate

Model = Mapping[str, Any]

TYPE_NAMES = {"bool", "bytes", "datetime", "dict", "field", "float", "int", "list", "str"}
INTEGER_BITS = {"byte": 8, "short": 16, "integer": 32, "long": 64}
RESERVED = {"Annotated", "Any", "Bindings", "Literal", "Meta", "OPERATIONS", "Shape", "Shapes", "UnionShape"} | {
    kind.capitalize() for kind in INTEGER_BITS
}
LOCATION_FORMATS = {"header": "rfc822", "headers": "rfc822", "uri": "iso8601", "querystring": "iso8601"}
PROTOCOL_FORMATS = {"rest-json": "unixTimestamp", "json": "unixTimestamp", "query": "iso8601", "rest-xml": "iso8601"}
BINDING_FIELDS = {"uri": "labels", "querystring": "query", "header": "headers", "headers": "prefixes"}
UNSUPPORTED_TRAITS = {"flattened", "xmlAttribute", "eventheader"}
ANY = re.compile(r"Any\Z|Annotated\[Any,")


def literal(value: object) -> str:
    """``value`` as Python source with double-quoted strings."""
    if isinstance(value, str):
        return '"' + repr("'" + value)[2:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "(" + ", ".join(literal(item) for item in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    return repr(value)


def snake(wire: str) -> str:
    """The attribute for a member: ``topP`` is ``top_p``; a keyword or a name the module uses gets an underscore."""
    name = re.sub(r"\W", "_", wire)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    name = re.sub(r"__+", "_", name).strip("_").lower()
    if keyword.iskeyword(name) or name in TYPE_NAMES or not name.isidentifier():
        name = name + "_" if name.isidentifier() else "n" + name
    return name


def camel(attribute: str) -> str:
    """The wire name that msgspec's ``rename="camel"`` gives ``attribute``; empty where its rule is not plain."""
    head, *rest = attribute.rstrip("_").split("_")
    if not all(word.isalpha() for word in rest):
        return ""
    return head + "".join(word.capitalize() for word in rest)


class ServiceTypes:
    """The types of one service model that a set of operations reaches, and the operations' bindings."""

    def __init__(self, model: Model, built: Sequence[str]) -> None:
        self.model = model
        self.shapes: Model = model["shapes"]
        self.built = sorted(built)
        self.default_format = PROTOCOL_FORMATS[model["metadata"]["protocol"]]
        self.reached = self._closure()
        self.names = self._class_names()
        self.aliases: dict[str, str] = {}

    def source(self) -> str:
        """The module's text after its header lines."""
        classes = [self._structure(name) for name in sorted(self.reached) if self._is_class(name)]
        operations = [self._operation(name) for name in self.built]
        body = "".join(f"{name} = {text}\n" for name, text in sorted(self.aliases.items())) + "\n\n"
        body += "\n\n".join(classes)
        body += "\n\nOPERATIONS: dict[str, Shapes] = {\n" + "".join(operations) + "}\n"
        return self._imports(body) + body

    def _imports(self, body: str) -> str:
        def used(*names: str) -> str:
            return ", ".join(name for name in names if re.search(rf"\b{name}\b(?!\w*\")", body))

        lines = [f'"""Typed structures of {self.model["metadata"]["serviceFullName"]}, by their names in its model."""']
        lines += ["", "from __future__ import annotations", ""]
        standard = []
        if used("datetime"):
            standard.append("from datetime import datetime")
        if used("Annotated", "Any", "Literal"):
            standard.append(f"from typing import {used('Annotated', 'Any', 'Literal')}")
        lines += [*standard, ""] if standard else []
        if used("Meta", "field"):
            lines += [f"from msgspec import {used('Meta', 'field')}", ""]
        lines += [f"from outcrop.service.wire.model import {used('Bindings', 'Shape', 'Shapes', 'UnionShape')}", "", ""]
        return "\n".join(lines)

    # --- which shapes ---------------------------------------------------------------------------------------------

    def _closure(self) -> set[str]:
        """Names of the shapes that the operations reach, errors inside event streams left out."""
        reached: set[str] = set()
        waiting = []
        for name in self.built:
            operation = self.model["operations"][name]
            waiting += [operation[side]["shape"] for side in ("input", "output") if side in operation]
        while waiting:
            name = waiting.pop()
            shape = self.shapes[name]
            if name not in reached and not shape.get("exception"):
                reached.add(name)
                waiting += [reference["shape"] for reference in references(shape)]
        return reached

    def _is_class(self, name: str) -> bool:
        shape = self.shapes[name]
        return shape["type"] == "structure" and not shape.get("eventstream") and not shape.get("document")

    def _class_names(self) -> dict[str, str]:
        names: dict[str, str] = {}
        for name in sorted(self.reached):
            wanted = re.sub(r"\W", "_", name[:1].upper() + name[1:])
            while wanted in RESERVED or hasattr(builtins, wanted) or wanted in names.values():
                wanted += "Shape"
            names[name] = wanted
        return names

    # --- structures -----------------------------------------------------------------------------------------------

    def _structure(self, name: str) -> str:
        shape = self.shapes[name]
        required = set(shape.get("required", ()))
        base = "UnionShape" if shape.get("union") else "Shape"
        lines = [f"class {self.names[name]}({base}, frozen=True, kw_only=True):"]
        for attribute, wire, member in sorted(self._members(name), key=lambda entry: entry[1] not in required):
            lines.append("    " + self._field(attribute, wire, member, wire in required))
        return "\n".join(lines if len(lines) > 1 else [*lines, "    pass"]) + "\n"

    def _members(self, name: str) -> Iterator[tuple[str, str, Model]]:
        """Attribute, member name and member of a structure, event streams left out."""
        seen: set[str] = set()
        for wire, member in self.shapes[name]["members"].items():
            if self.shapes[member["shape"]].get("eventstream"):
                continue
            attribute = snake(wire)
            if attribute in seen:
                raise SystemExit(f"{name}: two members become the attribute {attribute}")
            seen.add(attribute)
            yield attribute, wire, member

    def _field(self, attribute: str, wire: str, member: Model, required: bool) -> str:
        unsupported = UNSUPPORTED_TRAITS & (member.keys() | self.shapes[member["shape"]].keys())
        if unsupported or (member.get("jsonvalue") and member.get("location")):
            raise SystemExit(f"{wire}: this generator does not know {sorted(unsupported) or 'jsonvalue in a header'}")
        annotation = self._type(member, member.get("location", ""))
        name = wire if member.get("location") else member.get("locationName", wire)
        arguments = [] if required else ["default=None"]
        if camel(attribute) != name:
            arguments.append(f"name={literal(name)}")
        if not required and not ANY.match(annotation):
            annotation += " | None"
        if arguments == ["default=None"]:
            return f"{attribute}: {annotation} = None"
        return f"{attribute}: {annotation}" + (f" = field({', '.join(arguments)})" if arguments else "")

    # --- types ----------------------------------------------------------------------------------------------------

    def _type(self, reference: Model, location: str) -> str:
        """The annotation for one reference to a shape that travels in ``location`` (empty means the body)."""
        name = reference["shape"]
        shape = self.shapes[name]
        kind: str = shape["type"]
        notes: dict[str, object] = {"sensitive": True} if shape.get("sensitive") or reference.get("sensitive") else {}
        if shape.get("document"):
            return annotated("Any", [], notes)
        if kind == "structure":
            return annotated(self.names[name], [], notes)
        if kind == "list":
            return annotated(f"list[{self._type(shape['member'], location)}]", lengths(shape), notes)
        if kind == "map":
            inside = f"{self._type(shape['key'], location)}, {self._type(shape['value'], location)}"
            return annotated(f"dict[{inside}]", lengths(shape), notes)
        if kind == "timestamp":
            wire_format = reference.get("timestampFormat") or shape.get("timestampFormat")
            wire_format = wire_format or LOCATION_FORMATS.get(location) or self.default_format
            if wire_format != "iso8601" or location:
                notes["format"] = wire_format
            return annotated("datetime", ["tz=True"], notes)
        return self._scalar(name, shape, notes)

    def _scalar(self, name: str, shape: Model, notes: dict[str, object]) -> str:
        kind: str = shape["type"]
        if kind == "boolean":
            return annotated("bool", [], notes)
        if kind == "string" and shape.get("enum"):
            text = annotated(f"Literal[{', '.join(literal(value) for value in shape['enum'])}]", [], notes)
        elif kind == "string":
            checked, noted = pattern(name, shape)
            text = annotated("str", [*lengths(shape), *checked], noted | notes)
        elif kind == "blob":
            text = annotated("bytes", lengths(shape), notes)
        elif kind in INTEGER_BITS:
            edge = 2 ** (INTEGER_BITS[kind] - 1)
            text = annotated(
                "int", [f"ge={int(shape.get('min', -edge))}", f"le={int(shape.get('max', edge - 1))}"], notes
            )
            if not {"min", "max"} & shape.keys() and not notes:
                self.aliases[kind.capitalize()] = text
                return kind.capitalize()
        elif kind in ("float", "double"):
            bounds = [f"{key}={float(shape[trait])}" for trait, key in (("min", "ge"), ("max", "le")) if trait in shape]
            text = annotated("float", bounds, notes)
        else:
            raise SystemExit(f"{name}: this generator does not know the type {kind}")
        if "[" not in text:
            return text
        self.aliases[self.names[name]] = text
        return self.names[name]

    # --- operations -----------------------------------------------------------------------------------------------

    def _operation(self, name: str) -> str:
        operation = self.model["operations"][name]
        sides = []
        for side, argument in (("input", "request"), ("output", "response")):
            reference = operation.get(side)
            if side == "input" and reference and self.shapes[reference["shape"]].get("sensitive"):
                raise SystemExit(f"{name}: this generator does not know inputs that are sensitive as a whole")
            sides.append((side, self.names[reference["shape"]] if reference else "Shape"))
            if reference and (bindings := self._bindings(reference["shape"])):
                sides.append((argument, bindings))
        if wrapper := operation.get("output", {}).get("resultWrapper"):
            sides.append(("wrapper", literal(wrapper)))
        if namespace := self.model["metadata"].get("xmlNamespace"):
            sides.append(("namespace", literal(namespace)))
        return (
            f"    {literal(name)}: Shapes(\n"
            + "".join(f"        {key}={value},\n" for key, value in sides)
            + "    ),\n"
        )

    def _bindings(self, name: str) -> str:
        shape = self.shapes[name]
        bound: dict[str, list[tuple[str, str]]] = {}
        single: dict[str, str] = {}
        for attribute, wire, member in self._members(name):
            location = member.get("location")
            if location == "statusCode":
                single["status"] = literal(attribute)
            elif location in BINDING_FIELDS:
                bound.setdefault(BINDING_FIELDS[location], []).append((attribute, member.get("locationName", wire)))
            elif location is not None:
                raise SystemExit(f"{name}.{wire}: this generator does not know the location {location}")
            if shape.get("payload") == wire:
                single["payload"] = literal(attribute)
        fields = {**{key: literal(tuple(pairs)) for key, pairs in bound.items()}, **single}
        return f"Bindings({', '.join(f'{key}={fields[key]}' for key in sorted(fields))})" if fields else ""


def references(shape: Model) -> Iterator[Model]:
    """Every reference from ``shape`` to another shape."""
    yield from shape.get("members", {}).values()
    for key in ("member", "key", "value"):
        if key in shape:
            yield shape[key]


def lengths(shape: Model) -> list[str]:
    """Length constraints: Unicode characters of a string, bytes of a blob, entries of a list or map."""
    found = [f"min_length={shape['min']}"] if shape.get("min") else []
    return found + ([f"max_length={shape['max']}"] if "max" in shape else [])


def pattern(name: str, shape: Model) -> tuple[list[str], dict[str, object]]:
    """The constraint that msgspec checks for the shape's pattern, or the note for the walk that does."""
    if "pattern" not in shape:
        return [], {}
    try:
        text, needs_regex = translate(shape["pattern"])
    except ValueError as error:
        raise SystemExit(f"{name}: {error}") from None
    return ([], {"unicode_pattern": text}) if needs_regex else ([f"pattern={literal(text)}"], {})


def annotated(base: str, constraints: Sequence[str], notes: Mapping[str, object] = MappingProxyType({})) -> str:
    """``base`` with constraints that msgspec checks and notes that it carries along."""
    if notes:
        constraints = [*constraints, f"extra={{{', '.join(f'{key!r}: {literal(notes[key])}' for key in notes)}}}"]
    return f"Annotated[{base}, Meta({', '.join(constraints)})]" if constraints else base
