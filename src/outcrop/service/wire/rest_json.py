"""The rest-json protocol: labels, query, headers and a JSON or raw body to a typed input, and a typed output back.

Members are bound as https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html says. Unknown members of the body
are ignored and the last of duplicate keys counts, as in AWS; ``null`` is the same as absent where a member may be
absent. Bodies are refused when they nest deeper than ``DEPTH_MAX`` or hold more than ``CONTAINERS_MAX`` lists and
objects, whatever the shape. Not covered: request compression, host prefixes, ``httpChecksum``, input event streams.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn, get_args, get_origin

import msgspec
from msgspec.structs import asdict

from outcrop.base.errors import check
from outcrop.service.wire import eventstream
from outcrop.service.wire.base import BadValue, HeaderList, Member, Reply, members_of
from outcrop.service.wire.complaints import bad_value, constraint_broken, explain, unreadable
from outcrop.service.wire.errors import serialization
from outcrop.service.wire.form import pairs
from outcrop.service.wire.model import Operation, Shapes
from outcrop.service.wire.text import read_text, split_header, write_text
from outcrop.service.wire.trees import reader_of, writer_of

DEPTH_MAX = 200
CONTAINERS_MAX = 1_000_000

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_FORBIDDEN_IN_HEADER = re.compile(r"[\x00\r\n]")


class JsonBody:
    """Reads and writes JSON of one type."""

    def __init__(self, operation: Operation, annotation: Any) -> None:
        self._operation = operation
        self._annotation = annotation
        self._reader = reader_of(annotation)
        self._writer = writer_of(annotation)
        self._decoder = msgspec.json.Decoder(Any if self._reader else annotation)

    def read(self, body: bytes) -> Any:
        """The typed value; an ``AwsError`` for anything else."""
        try:
            if not body.isascii():
                body.decode("utf-8")
            _check_nesting(body)
            value = self._decoder.decode(body)
            if self._reader is not None:
                value = msgspec.convert(self._reader(value, ""), self._annotation)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadValue) as error:
            self._refuse(error)
        return value

    def write(self, value: Any) -> bytes:
        """``value`` as JSON."""
        return msgspec.json.encode(value if self._writer is None else self._writer(value))

    def _refuse(self, error: Exception) -> NoReturn:
        if isinstance(error, msgspec.ValidationError):
            raise explain(self._operation, self._annotation, error) from None
        if isinstance(error, BadValue):
            raise bad_value(self._operation, error) from None
        if isinstance(error, RecursionError):
            raise unreadable(self._operation, "", f"JSON is nested deeper than {DEPTH_MAX} levels") from None
        if isinstance(error, UnicodeDecodeError):
            raise unreadable(self._operation, "", "JSON is malformed: invalid UTF-8") from None
        raise serialization(self._operation, f"{error} in the request body") from None


class RestJsonCodec:
    """One operation's codec. Compiled once: which member travels where is settled when it is made."""

    def __init__(self, operation: Operation, shapes: Shapes) -> None:
        self.operation = operation
        self._input = shapes.input
        self._request = shapes.request
        self._response = shapes.response
        self._outputs = {member.attribute: member for member in members_of(shapes.output)}
        self._compile_input(shapes)
        self._compile_output(shapes)

    # --- requests -------------------------------------------------------------------------------------------------

    def decode(self, labels: Mapping[str, str], raw_query: bytes, headers: HeaderList, body: bytes) -> msgspec.Struct:
        if self._whole is not None:
            whole: msgspec.Struct = self._whole.read(body or b"{}")
            return whole
        values = self._head_values(labels, raw_query, headers, body)
        if self._payload is not None:
            if body:
                values[self._request.payload] = self._payload.read(body)
            elif self._payload_required:
                raise constraint_broken(self.operation, f".{self._payload_required}", "Member must not be null")
        elif self._body is not None:
            values |= asdict(self._body.read(body or b"{}"))
        return self._input(**values)

    def _compile_input(self, shapes: Shapes) -> None:
        bound = self._request
        members = {member.attribute: member for member in members_of(shapes.input)}
        self._labels = [(name, members[attribute]) for attribute, name in bound.labels]
        self._query = [(name, members[attribute]) for attribute, name in bound.query]
        self._headers = [(name.lower().encode(), members[attribute]) for attribute, name in bound.headers]
        self._prefixes = [(name.lower().encode(), members[attribute]) for attribute, name in bound.prefixes]
        head = [member for _, member in (*self._labels, *self._query, *self._headers, *self._prefixes)]
        payload = members.get(bound.payload)
        self._raw_payload = payload if payload is not None and payload.kind in (bytes, str) else None
        self._payload = None
        if payload is not None and self._raw_payload is None:
            self._payload = JsonBody(self.operation, payload.annotation)
        self._payload_required = payload.wire if payload is not None and payload.required else ""
        if self._raw_payload is not None:
            head.append(self._raw_payload)
        self._head = _subset("Head", head) if head else None
        self._head_reader = reader_of(self._head) if head else None
        rest = [] if payload is not None else [m for m in members.values() if m not in head]
        self._whole = JsonBody(self.operation, shapes.input) if rest and not head else None
        self._body = JsonBody(self.operation, _subset("Body", rest)) if rest else None

    def _head_values(
        self, labels: Mapping[str, str], raw_query: bytes, headers: HeaderList, body: bytes
    ) -> dict[str, Any]:
        """The values of the members outside the body, by attribute, checked."""
        if self._head is None:
            return {}
        try:
            found = self._head_found(labels, raw_query, headers)
            if self._raw_payload is not None and (body or self._raw_payload.required):
                found[self._raw_payload.wire] = body if self._raw_payload.kind is bytes else body.decode("utf-8")
            if self._head_reader is not None:
                found = self._head_reader(found, "")
            return asdict(msgspec.convert(found, self._head))
        except msgspec.ValidationError as error:
            raise explain(self.operation, self._head, error) from None
        except BadValue as error:
            raise bad_value(self.operation, error) from None
        except ValueError as error:
            raise serialization(self.operation, f"The request cannot be read: {error}.") from None

    def _head_found(self, labels: Mapping[str, str], raw_query: bytes, headers: HeaderList) -> dict[str, Any]:
        found = {
            member.wire: read_text(labels[name], member.annotation, f".{member.wire}") for name, member in self._labels
        }
        if self._query and raw_query:
            given: dict[str, list[str]] = {}
            for name, value in pairs(raw_query):
                given.setdefault(name, []).append(value)
            bound = {name for name, _ in self._query}
            for name, member in self._query:
                if get_origin(member.kind) is dict:
                    found[member.wire] = _query_map({k: v for k, v in given.items() if k not in bound}, member)
                elif name in given:
                    found[member.wire] = _query_value(given[name], member)
        if self._headers or self._prefixes:
            sent: dict[bytes, bytes] = {}
            for key, content in headers:
                sent[key] = sent[key] + b", " + content if key in sent else content
            for key, member in self._headers:
                if key in sent:
                    found[member.wire] = _header_value(sent[key].decode("utf-8"), member)
            for prefix, member in self._prefixes:
                found[member.wire] = {
                    key[len(prefix) :].decode("ascii"): content.decode("utf-8")
                    for key, content in sent.items()
                    if key.startswith(prefix)
                }
        return found

    # --- responses ------------------------------------------------------------------------------------------------

    def encode(self, output: msgspec.Struct, request_id: str) -> Reply:
        bound = self._response
        headers = []
        for attribute, name in bound.headers:
            value = getattr(output, attribute)
            if value is not None:
                headers.append(_header(name, write_text(value, self._outputs[attribute].annotation)))
        for attribute, prefix in bound.prefixes:
            headers += [_header(prefix + key, value) for key, value in (getattr(output, attribute) or {}).items()]
        status = getattr(output, bound.status) if bound.status else None
        status = self.operation.success_status if status is None else status
        content_type, body = self._encode_body(output)
        if content_type and status not in (204, 304) and all(name != b"content-type" for name, _ in headers):
            headers.append((b"content-type", content_type))
        return status, headers, body

    def _compile_output(self, shapes: Shapes) -> None:
        bound = self._response
        elsewhere = {attribute for attribute, _ in (*bound.headers, *bound.prefixes)} | {bound.status, bound.payload}
        self._body_outputs = [member for name, member in self._outputs.items() if name not in elsewhere]
        whole = len(self._body_outputs) == len(self._outputs)
        payload = self._outputs.get(bound.payload)
        kept = shapes.output if whole else _subset("Body", self._body_outputs)
        self._output_type = None if whole else kept
        self._output_body = JsonBody(self.operation, payload.annotation if payload is not None else kept)

    def _encode_body(self, output: msgspec.Struct) -> tuple[bytes, bytes]:
        """Content type and bytes of the body."""
        if self.operation.streaming:
            return eventstream.CONTENT_TYPE, b""
        if self._response.payload:
            value = getattr(output, self._response.payload)
            if value is None:
                return b"", b""
            if isinstance(value, bytes):
                return b"application/octet-stream", value
            if isinstance(value, str) and self._outputs[self._response.payload].kind is not Any:
                return b"text/plain", value.encode()
            return b"application/json", self._output_body.write(value)
        if self.operation.success_status == 204:
            return b"", b""
        if self._output_type is not None:
            output = self._output_type(**{m.attribute: getattr(output, m.attribute) for m in self._body_outputs})
        return b"application/json", self._output_body.write(output)


def _subset(name: str, members: list[Member]) -> type[msgspec.Struct]:
    """A structure of some members of another, under the same wire names."""
    fields: list[Any] = [
        (m.attribute, m.annotation) if m.required else (m.attribute, m.annotation | None, None) for m in members
    ]
    renamed = {member.attribute: member.wire for member in members}
    return msgspec.defstruct(name, fields, rename=renamed, kw_only=True, omit_defaults=True)


def _query_value(given: list[str], member: Member) -> Any:
    path = f".{member.wire}"
    if get_origin(member.kind) is list:
        item = get_args(member.kind)[0]
        return [read_text(text, item, f"{path}[{i}]") for i, text in enumerate(given)]
    if len(given) > 1:
        raise BadValue(path, "More than one value stands in the query string")
    return read_text(given[0], member.annotation, path)


def _query_map(given: dict[str, list[str]], member: Member) -> dict[str, Any]:
    """All parameters that no other member takes; lists where the map's values are lists, else the first value."""
    takes_lists = get_origin(get_args(member.kind)[1]) is list
    return {name: values if takes_lists else values[0] for name, values in given.items()}


def _header_value(text: str, member: Member) -> Any:
    path = f".{member.wire}"
    if get_origin(member.kind) is list:
        item = get_args(member.kind)[0]
        return [read_text(part, item, f"{path}[{i}]") for i, part in enumerate(split_header(text, item))]
    return read_text(text, member.annotation, path)


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    check(_FORBIDDEN_IN_HEADER.search(name + value) is None, f"the response header {name!r} is one line")
    return name.lower().encode("ascii"), value.encode("utf-8")


def _check_nesting(body: bytes) -> None:
    """Refuse what would cost far more than its size; cheap for a body with few brackets."""
    containers = body.count(b"[") + body.count(b"{")
    if containers <= DEPTH_MAX:
        return
    if containers > CONTAINERS_MAX:
        raise BadValue("", f"JSON holds more than {CONTAINERS_MAX} lists and objects")
    depth = 0
    for byte in _STRING.sub(b"", body).translate(None, _NOT_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > DEPTH_MAX:
            raise BadValue("", f"JSON is nested deeper than {DEPTH_MAX} levels")
