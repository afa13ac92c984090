"""From a raw path to an endpoint, and to the error shape that fits the path."""

from __future__ import annotations

from collections.abc import Callable

from outcrop.service.access.table import require_complete
from outcrop.service.endpoints import (
    VENDOR,
    VENDOR_BELOW,
    VENDOR_FAULTS,
    Endpoint,
    aws_endpoints,
    aws_fault,
    json_rpc_fault,
)
from outcrop.service.http import RawRequest, Reply
from outcrop.service.wire.errors import AwsError
from outcrop.service.wire.router import Match, Router, target_headers


class Routes:
    """All endpoints of the service. ``InvariantError`` where one is built and no permission is known for it."""

    def __init__(self) -> None:
        self._router = Router()
        self._aws = aws_endpoints()
        every = (*self._aws.values(), *VENDOR.values(), *VENDOR_BELOW.values())
        require_complete(endpoint.name for endpoint in every if endpoint.built)

    def find(self, request: RawRequest) -> tuple[Endpoint, Match | None]:
        """What answers ``request``, with the labels of its path; ``NoRoute`` where nothing does."""
        vendor = VENDOR.get((request.method, request.raw_path))
        if vendor is None:
            folder, slash, name = request.raw_path.rpartition(b"/")
            vendor = VENDOR_BELOW.get((request.method, folder + slash)) if name else None
        if vendor is not None:
            return vendor, None
        match = self._router.match(request.method, request.raw_path, request.raw_query, request.headers, request.body)
        return self._aws[(match.operation.service, match.operation.name)], match

    def fault(self, request: RawRequest) -> Callable[[AwsError, str], Reply]:
        """The error shape for a request that reached no endpoint."""
        for prefix, fault in VENDOR_FAULTS.items():
            if request.raw_path.startswith(prefix):
                return fault
        if request.raw_path == b"/" and target_headers(request.headers):
            return json_rpc_fault
        return aws_fault
