"""The query protocol: form parameters to a typed input, a typed output to XML.

Structures nest with dots, lists as ``Name.member.N``, maps as ``Name.entry.N.key`` and ``.value``; see
https://smithy.io/2.0/aws/protocols/aws-query-protocol.html. Parameters may stand in the query string, in the form body
or in both; a parameter that is given twice is refused, and so is nesting deeper than ``DEPTH_MAX``.
Not covered: flattened lists, ``xmlAttribute``, the ec2 dialect; the generator refuses models that use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

import msgspec

from outcrop.service.wire.base import BadValue, HeaderList, Reply, is_structure, members_of, split
from outcrop.service.wire.complaints import bad_value, explain
from outcrop.service.wire.errors import serialization, xml_text
from outcrop.service.wire.form import query_pairs
from outcrop.service.wire.model import Operation, Shapes
from outcrop.service.wire.text import read_text, write_text
from outcrop.service.wire.trees import reader_of

DEPTH_MAX = 20

Tree = dict[str, Any]


class QueryCodec:
    """One operation's codec."""

    def __init__(self, operation: Operation, shapes: Shapes) -> None:
        self.operation = operation
        self._shapes = shapes
        self._reader = reader_of(shapes.input)

    def decode(self, labels: Mapping[str, str], raw_query: bytes, headers: HeaderList, body: bytes) -> msgspec.Struct:
        del labels
        try:
            tree = _tree(query_pairs(raw_query, headers, body))
            value = _read(tree, self._shapes.input, "")
            if self._reader is not None:
                value = self._reader(value, "")
            return msgspec.convert(value, self._shapes.input)
        except msgspec.ValidationError as error:
            raise explain(self.operation, self._shapes.input, error) from None
        except BadValue as error:
            raise bad_value(self.operation, error) from None
        except ValueError as error:
            raise serialization(self.operation, f"The request cannot be read: {error}.") from None

    def encode(self, output: msgspec.Struct, request_id: str) -> Reply:
        name = self.operation.name
        inside = _members(output)
        if self._shapes.wrapper:
            inside = f"<{self._shapes.wrapper}>{inside}</{self._shapes.wrapper}>"
        text = (
            f'<{name}Response xmlns="{self._shapes.namespace}">{inside}'
            f"<ResponseMetadata><RequestId>{xml_text(request_id)}</RequestId></ResponseMetadata></{name}Response>"
        )
        return self.operation.success_status, [(b"content-type", b"text/xml")], text.encode()


def _tree(found: list[tuple[str, str]]) -> Tree:
    """Parameters as nested dictionaries, split at the dots of their names."""
    tree: Tree = {}
    for name, value in found:
        *above, last = name.split(".")
        if len(above) >= DEPTH_MAX:
            raise ValueError(f"a parameter's name has more than {DEPTH_MAX} parts")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"the parameter {name[:200]!r} contradicts another")
        if last in node:
            raise ValueError(f"the parameter {name[:200]!r} is given twice")
        node[last] = value
    return tree


def _read(node: Any, annotation: Any, path: str) -> Any:
    """The part of the tree that belongs to one member, as plain values for ``msgspec.convert``."""
    kind, _ = split(annotation)
    if isinstance(node, dict):
        if is_structure(kind):
            known = {member.wire: member for member in members_of(kind)}
            return {
                name: _read(value, known[name].annotation, f"{path}.{name}")
                for name, value in node.items()
                if name in known
            }
        if get_origin(kind) is list:
            item = get_args(kind)[0]
            return [_read(entry, item, f"{path}[{i}]") for i, entry in enumerate(_numbered(node, "member", path))]
        if get_origin(kind) is dict:
            key, value = get_args(kind)
            return {
                _read(entry.get("key"), key, path): _read(entry.get("value"), value, f"{path}[...]")
                for entry in _numbered(node, "entry", path)
                if isinstance(entry, dict)
            }
        raise BadValue(path, "START_OBJECT can not be converted to the member's type")
    if node == "" and get_origin(kind) is list:
        return []
    return node if node is None else read_text(node, annotation, path)


def _numbered(node: Tree, name: str, path: str) -> list[Any]:
    """The entries ``name.1``, ``name.2``... of a list or map in the order of their numbers."""
    entries = node.get(name, {})
    if node.keys() != {name} or not isinstance(entries, dict) or not all(key.isdecimal() for key in entries):
        raise BadValue(path, f"Entries are not numbered as {name}.1, {name}.2")
    return [entries[key] for key in sorted(entries, key=int)]


def _members(value: msgspec.Struct) -> str:
    pieces = []
    for member in members_of(type(value)):
        found = getattr(value, member.attribute)
        if found is not None:
            pieces.append(_element(member.wire, found, member.annotation))
    return "".join(pieces)


def _element(name: str, value: Any, annotation: Any) -> str:
    kind, _ = split(annotation)
    if isinstance(value, msgspec.Struct):
        inside = _members(value)
    elif isinstance(value, list):
        inside = "".join(_element("member", item, get_args(kind)[0]) for item in value)
    elif isinstance(value, dict):
        key_type, value_type = get_args(kind)
        inside = "".join(
            f"<entry>{_element('key', key, key_type)}{_element('value', item, value_type)}</entry>"
            for key, item in value.items()
        )
    else:
        inside = xml_text(write_text(value, annotation))
    return f"<{name}>{inside}</{name}>"
