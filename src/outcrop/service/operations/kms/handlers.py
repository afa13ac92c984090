"""KMS's operations, by the names of its service model."""

from __future__ import annotations

from outcrop.service.operations.base import Handler

HANDLERS: dict[str, Handler] = {}
