"""An operation's input as it may be written down: sensitive members masked, content left out.

``request_parameters`` is what the audit trail records of a request: names as CloudTrail writes them (first letter in
lower case), members that the service model calls sensitive replaced by CloudTrail's own mask, blobs and texts above
``TEXT_CHARS_MAX`` left out. Inputs of services that carry prompts, documents or model bodies are cut to the members in
``PUBLIC``: the models mark few of those sensitive, and no length tells a secret prompt from an identifier.

Not covered: a secret that a caller puts where the model expects none (a password in a description or a tag), and the
inputs of the Anthropic and OpenAI surfaces, which are not structures of a service model.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, get_args, get_origin

import msgspec

from outcrop.service.wire.base import members_of, note, split
from outcrop.service.wire.model import Operation
from outcrop.service.wire.text import write_moment

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

MASK = "HIDDEN_DUE_TO_SECURITY_REASONS"
TEXT_CHARS_MAX = 32_768
"""The longest policy document that AWS takes, a key policy's (KMS Developer Guide, "Quotas")."""

_GUARDRAIL = ("guardrailConfig", "guardrailIdentifier", "guardrailVersion")
PUBLIC: Mapping[str, frozenset[str]] = {
    "bedrock-agent-runtime": frozenset(),
    "bedrock-runtime": frozenset(
        {*_GUARDRAIL, "accept", "contentType", "modelId", "performanceConfigLatency", "serviceTier"}
    ),
    "sagemaker-runtime": frozenset(
        {"Accept", "ContentType", "EndpointName", "InferenceComponentName", "InferenceId", "TargetModel"}
    ),
}
"""For services whose inputs are content: the only members that may be written down, by their names in the model."""


def request_parameters(operation: Operation, value: msgspec.Struct) -> dict[str, Json]:
    """What may be recorded of ``value``, the input of ``operation``."""
    return redacted(value, PUBLIC.get(operation.service))


def redacted(value: msgspec.Struct, only: frozenset[str] | None = None) -> dict[str, Json]:
    """``value`` as JSON data without what is sensitive; with ``only``, cut to these of its members."""
    found: dict[str, Json] = {}
    for member in members_of(type(value)):
        entry = getattr(value, member.attribute)
        if entry is None or (only is not None and member.wire not in only):
            continue
        shown = _shown(entry, member.annotation)
        if shown is not None:
            found[member.wire[:1].lower() + member.wire[1:]] = shown
    return found


def sensitive_members(structure: type[msgspec.Struct]) -> frozenset[str]:
    """The attributes of a structure that its service model calls sensitive."""
    return frozenset(member.attribute for member in members_of(structure) if _is_sensitive(member.annotation))


def _is_sensitive(annotation: Any) -> bool:
    return bool(note(split(annotation)[1], "sensitive"))


def _shown(value: Any, annotation: Any) -> Json:
    """``value`` as it may be seen; ``None`` for what is left out."""
    if _is_sensitive(annotation):
        return MASK
    kind, _ = split(annotation)
    if isinstance(value, msgspec.Struct):
        return redacted(value)
    if isinstance(value, list):
        item = get_args(kind)[0] if get_origin(kind) is list else Any
        return [shown for entry in value if (shown := _shown(entry, item)) is not None]
    if isinstance(value, dict):
        key_type, entry_type = get_args(kind) if get_origin(kind) is dict else (Any, Any)
        if _is_sensitive(key_type):
            return MASK
        kept = {str(key): _shown(entry, entry_type) for key, entry in value.items()}
        return {key: shown for key, shown in kept.items() if shown is not None}
    if isinstance(value, datetime):
        return str(write_moment(value, "iso8601"))
    if isinstance(value, str):
        return value if len(value) <= TEXT_CHARS_MAX else None
    if isinstance(value, bool | int | float):
        return value
    return None
