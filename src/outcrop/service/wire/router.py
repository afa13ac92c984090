"""Which operation a request names, found on the raw path.

The path is taken as it came: segments are split before anything is decoded, so ``%2F`` stays inside a label, a colon
may come raw or as ``%3A``, and a trailing slash is a segment of its own. Labels are percent-decoded exactly once.
Literal segments beat labels. Where two services share a method and a path, the host name decides, then the
``api/SERVICE`` token of the AWS SDK for JavaScript's user agent, then the kind of ARN in the path.
Operations of the json protocol are found by the header ``X-Amz-Target`` of a ``POST`` to ``/``, those of the query
protocol by ``Action`` and ``Version`` in the query string or in the form body of a request to ``/``. An action without
a version is found where one service has it, or where host, user agent or credential scope name one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from outcrop.base.errors import check
from outcrop.service.wire.errors import no_route, serialization
from outcrop.service.wire.form import percent_decode, query_action
from outcrop.service.wire.generated.operations import OPERATIONS
from outcrop.service.wire.model import Operation

HeaderList = Sequence[tuple[bytes, bytes]]

# Bedrock's tag operations exist twice with one path; the agent runtime's tags are those of sessions
# (the pattern of its TaggableResourcesArn).
_RESOURCE_OWNER = {"session": "bedrock-agent-runtime"}

_CREDENTIAL_SERVICE = re.compile(rb"/([a-z0-9-]+)/aws4_request")
_SDK_SERVICE = re.compile(rb"\bapi/([a-z0-9_-]+)#")


@dataclass(frozen=True, slots=True)
class Match:
    """An operation and the labels of its path, decoded."""

    operation: Operation
    labels: dict[str, str]


@dataclass(slots=True)
class _Route:
    operation: Operation
    labels: tuple[tuple[str, int], ...]
    greedy: str = ""
    greedy_at: int = 0


@dataclass(slots=True)
class _Node:
    """One segment of the tree: routes that end here by method, literal children, the label child, greedy routes."""

    ends: dict[str, list[_Route]] = field(default_factory=dict)
    literals: dict[bytes, _Node] = field(default_factory=dict)
    label: _Node | None = None
    greedy: dict[str, list[_Route]] = field(default_factory=dict)


class Router:
    """A segment tree over operations; ``match`` costs one dictionary look-up per segment."""

    def __init__(self, operations: Iterable[Operation] = tuple(OPERATIONS.values())) -> None:
        self._root = _Node()
        self._actions: dict[str, list[Operation]] = {}
        self._targets: dict[bytes, Operation] = {}
        self._target_services: dict[bytes, str] = {}
        for operation in operations:
            if operation.protocol == "query":
                rivals = self._actions.setdefault(operation.name, [])
                check(
                    all(rival.api_version != operation.api_version for rival in rivals),
                    f"the action {operation.name} is found by its version {operation.api_version}",
                )
                rivals.append(operation)
            elif operation.protocol == "json":
                prefix = operation.target_prefix.encode("ascii")
                self._targets[prefix + b"." + operation.name.encode("ascii")] = operation
                self._target_services[prefix] = operation.service
            else:
                self._add(operation)

    def match(self, method: str, raw_path: bytes, raw_query: bytes, headers: HeaderList, body: bytes = b"") -> Match:
        """The operation that a request names; ``NoRoute`` where there is none.

        ``body`` is looked at only for a request to ``/``, whose query-protocol action may stand in its form.
        """
        segments = raw_path.split(b"/")
        if segments[0] or len(segments) < 2:
            raise no_route(method, raw_path)
        routes = self._find(self._root, segments, 1, method)
        if not routes:
            if raw_path == b"/" and method == "POST" and (targets := target_headers(headers)):
                return self._match_target(targets)
            if raw_path == b"/" and method in ("GET", "POST"):
                return self._match_action(method, raw_query, headers, body)
            raise no_route(method, raw_path)
        route = routes[0] if len(routes) == 1 else _choose(routes, segments, headers)
        return Match(route.operation, _labels(route, segments))

    def _add(self, operation: Operation) -> None:
        node = self._root
        labels: list[tuple[str, int]] = []
        for position, segment in enumerate(operation.uri.split("/")[1:], start=1):
            if segment.endswith("+}"):
                route = _Route(operation, tuple(labels), segment[1:-2], position)
                node.greedy.setdefault(operation.method, []).append(route)
                return
            if segment.startswith("{"):
                labels.append((segment[1:-1], position))
                node.label = node.label or _Node()
                node = node.label
            else:
                node = node.literals.setdefault(segment.encode("ascii"), _Node())
        node.ends.setdefault(operation.method, []).append(_Route(operation, tuple(labels)))

    def _find(self, node: _Node, segments: Sequence[bytes], position: int, method: str) -> list[_Route] | None:
        if position == len(segments):
            return node.ends.get(method)
        segment = segments[position]
        child = node.literals.get(segment)
        if child is not None and (routes := self._find(child, segments, position + 1, method)):
            return routes
        if segment and node.label is not None and (routes := self._find(node.label, segments, position + 1, method)):
            return routes
        return node.greedy.get(method) if segment else None

    def _match_target(self, targets: Sequence[bytes]) -> Match:
        target = targets[0]
        operation = self._targets.get(target) if len(targets) == 1 else None
        if operation is None:
            service = self._target_services.get(target.rpartition(b".")[0], "")
            raise no_route("POST", b"/ with X-Amz-Target " + target, service)
        return Match(operation, {})

    def _match_action(self, method: str, raw_query: bytes, headers: HeaderList, body: bytes) -> Match:
        action, version = query_action(raw_query, headers, body if method == "POST" else b"")
        if action is None:
            raise no_route(method, b"/")
        rivals = self._actions.get(action, [])
        found = [operation for operation in rivals if version in (None, operation.api_version)]
        if len(found) > 1:
            by_service = {operation.service: operation for operation in found}
            named = next((name for name in _named_services(raw_query, headers) if name in by_service), "")
            found = [by_service[named]] if named else []
        if len(found) != 1:
            asked = b"/?Action=" + action.encode("utf-8", "replace")
            if version is not None:
                asked += b"&Version=" + version.encode("utf-8", "replace")
            raise no_route(method, asked, next(iter(self._actions.values()))[0].service)
        return Match(found[0], {})


def target_headers(headers: HeaderList) -> list[bytes]:
    """All values of the header that names an operation of the json protocol."""
    return [value for name, value in headers if name == b"x-amz-target"]


def _named_services(raw_query: bytes, headers: HeaderList) -> Iterator[str]:
    """The services that a request names beside its action or path: in its host, user agent, credential scope."""
    for name, value in headers:
        if name in (b"host", b":authority"):
            yield value.split(b".", 1)[0].decode("latin-1").lower().removesuffix("-fips")
        elif name in (b"user-agent", b"x-amz-user-agent") and (sdk := _SDK_SERVICE.search(value.lower())):
            yield sdk[1].decode("ascii").replace("_", "-")
        elif name == b"authorization" and (scope := _CREDENTIAL_SERVICE.search(value)):
            yield scope[1].decode("ascii")
    if scope := _CREDENTIAL_SERVICE.search(raw_query.replace(b"%2F", b"/")):
        yield scope[1].decode("ascii")


def _choose(routes: list[_Route], segments: Sequence[bytes], headers: HeaderList) -> _Route:
    """One of several routes with the same method and path."""
    by_service = {route.operation.service: route for route in routes}
    for named in _named_services(b"", headers):
        if named in by_service:
            return by_service[named]
    resource = segments[routes[0].labels[-1][1]] if routes[0].labels else b""
    return by_service.get(_RESOURCE_OWNER.get(_resource_type(resource), ""), routes[0])


def _resource_type(segment: bytes) -> str:
    """What an ARN in a path names, such as ``session``; empty where the segment is no ARN."""
    try:
        parts = percent_decode(segment).split(":", 5)
    except ValueError:
        return ""
    return re.split(r"[:/]", parts[5])[0] if len(parts) == 6 and parts[0] == "arn" else ""


def _labels(route: _Route, segments: Sequence[bytes]) -> dict[str, str]:
    try:
        labels = {name: percent_decode(segments[position]) for name, position in route.labels}
        if route.greedy:
            labels[route.greedy] = "/".join(percent_decode(segment) for segment in segments[route.greedy_at :])
    except ValueError as error:
        raise serialization(route.operation, f"The path of the request cannot be read: {error}.") from None
    return labels
